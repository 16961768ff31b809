//! Work that outlives the request that asked for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Model;
use super::answer::{Answer, Outcome, Refusal};
use super::request::Call;

/// The time between a request's acceptance and the carrying out, so that a client that does not wait is found out.
const OPERATION_TIME: Duration = Duration::from_millis(20);
/// LXD forgets an operation this long after it ended.
const RETENTION: Duration = Duration::from_secs(5);

/// What an operation does; it returns the operation's metadata.
pub(super) type Job = Box<dyn FnOnce(&mut Model) -> Result<Value, Refusal> + Send>;

pub(super) struct Operation {
    description: &'static str,
    resources: Value,
    /// None once it has been carried out.
    job: Option<Job>,
    /// When it is carried out, then when it was.
    at: Instant,
    result: Option<Result<Value, String>>,
}

impl Operation {
    fn view(&self, id: &str) -> Value {
        let (status, code, metadata, error) = match &self.result {
            None => ("Running", 103, &Value::Null, ""),
            Some(Ok(metadata)) => ("Success", 200, metadata, ""),
            Some(Err(error)) => ("Failure", 400, &Value::Null, error.as_str()),
        };
        json!({
            "id": id, "class": "task", "description": self.description,
            "created_at": super::EPOCH, "updated_at": super::EPOCH,
            "status": status, "status_code": code, "resources": self.resources, "metadata": metadata,
            "may_cancel": false, "err": error, "location": "none",
        })
    }
}

#[derive(Default)]
pub(super) struct Operations {
    by_id: BTreeMap<String, Operation>,
    started: u64,
}

impl Model {
    /// Accepts work.
    pub(super) fn operate(&mut self, description: &'static str, resources: Value, job: Job) -> Answer {
        self.operations.started += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.operations.started);
        let operation = Operation { description, resources, job: Some(job), at: Instant::now() + OPERATION_TIME, result: None };
        let answer = Answer::Operation { path: format!("/1.0/operations/{id}"), operation: operation.view(&id) };
        self.operations.by_id.insert(id, operation);
        answer
    }

    /// Does work before it answers, or in an operation where newer servers do so.
    pub(super) fn carry_out(&mut self, description: &'static str, resources: Value, done: Answer, job: Job) -> Outcome {
        if self.personality.is_async() {
            return Ok(self.operate(description, resources, job));
        }
        job(self).map(|_| done)
    }

    /// Carries out the operations whose time has come, and forgets the old ones.
    pub(super) fn advance(&mut self, now: Instant) {
        let due: Vec<String> = self
            .operations
            .by_id
            .iter()
            .filter(|(_, operation)| operation.job.is_some() && operation.at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let Some(job) = self.operations.by_id.get_mut(&id).and_then(|operation| operation.job.take()) else { continue };
            let result = job(self).map_err(|refusal| refusal.message);
            if let Some(operation) = self.operations.by_id.get_mut(&id) {
                operation.result = Some(result);
                operation.at = now;
            }
        }
        self.operations.by_id.retain(|_, operation| operation.result.is_none() || operation.at + RETENTION > now);
    }

    /// The operation, and when it will be carried out if it has not been.
    pub(super) fn operation(&self, id: &str) -> Result<(Value, Option<Instant>), Refusal> {
        let operation = self.operations.by_id.get(id).ok_or_else(|| Refusal::not_found("Operation not found"))?;
        Ok((operation.view(id), operation.job.is_some().then_some(operation.at)))
    }

    pub(super) fn list_operations(&self, call: &Call) -> Answer {
        let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (id, operation) in &self.operations.by_id {
            let status = match operation.result {
                None => "running",
                Some(Ok(_)) => "success",
                Some(Err(_)) => "failure",
            };
            let entry = if call.recursive() { operation.view(id) } else { json!(format!("/1.0/operations/{id}")) };
            lists.entry(status).or_default().push(entry);
        }
        Answer::Read(json!(lists))
    }
}
