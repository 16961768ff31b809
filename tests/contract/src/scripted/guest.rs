//! What is inside an instance: files, and the few programs that steps run there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::Model;
use super::answer::{Answer, Outcome, Refusal};
use super::request::Call;

/// How programs inside instances behave.
#[derive(Clone, Debug, Default)]
pub struct Guests {
    /// The address of every instance, instead of one from its network.
    pub address: Option<Ipv4Addr>,
    /// Instances get no IPv6 addresses.
    pub ipv4_only: bool,
    /// No name resolves.
    pub without_names: bool,
    /// What a service writes into the journal before it ends, again and again; none: it runs.
    pub crash: Option<String>,
    /// What a service writes when it runs: path and content.
    pub output: Option<(String, String)>,
}

/// The inside of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    files: BTreeMap<String, File>,
    /// What commands have written, by the name of the log.
    logs: BTreeMap<String, String>,
    /// Seconds that have passed inside.
    clock: u32,
    /// How often services have been started.
    starts: u32,
}

#[derive(Clone, Debug)]
struct File {
    content: Bytes,
    mode: String,
    kind: &'static str,
    modified: u32,
}

impl Guest {
    /// What is kept in memory goes with the power.
    pub(super) fn power_off(&mut self) {
        self.files.retain(|path, _| !path.starts_with("/run/"));
    }

    fn put(&mut self, path: &str, kind: &'static str, mode: &str, content: Bytes) {
        self.clock += 1;
        // The mode of a file that is there is not changed by writing it.
        let mode = self.files.get(path).map_or(mode, |file| &file.mode).to_owned();
        self.files.insert(path.to_owned(), File { content, mode, kind, modified: self.clock });
    }

    fn link(&mut self, path: &str, target: &str) {
        self.put(path, "symlink", "0777", Bytes::from(target.to_owned()));
    }

    fn has_folder(&self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        // What every system has.
        folder.matches('/').count() < 2
            || ["/etc/systemd/system", "/etc/default"].contains(&folder)
            || self.files.contains_key(folder)
    }

    fn rename(&mut self, pairs: &[(&str, &str)]) -> (i64, String) {
        for (from, to) in pairs {
            let Some(file) = self.files.remove(*from) else { return (1, String::new()) };
            self.files.insert((*to).to_owned(), file);
        }
        (0, String::new())
    }

    fn run(&mut self, command: &[&str], guests: &Guests) -> Result<(i64, String), Refusal> {
        let link = |name: &str| format!("/run/systemd/units/invocation:{name}.service");
        let said = |text: &str| Ok((0, text.to_owned()));
        match command {
            ["mv", "-f", "-T", from, to] => Ok(self.rename(&[(from, to)])),
            ["sh", "-c", _, "publish", from, to, next, last] => Ok(self.rename(&[(from, to), (next, last)])),
            ["getent", "ahosts", _] => Ok((if guests.without_names { 2 } else { 0 }, String::new())),
            [program, "--version"] if self.files.contains_key(*program) => said(&words(&self.files[*program].content)),
            ["systemctl", "daemon-reload"] => said(""),
            ["systemctl", "enable", name] => {
                self.link(&format!("/etc/systemd/system/multi-user.target.wants/{name}.service"), "unit");
                said("")
            }
            ["systemctl", "--no-block", "start" | "restart", name] => {
                self.starts += 1;
                self.files.remove(&link(name));
                if guests.crash.is_none() {
                    self.link(&link(name), &format!("/run/systemd/units/{}", self.starts));
                    if let Some((path, content)) = &guests.output {
                        self.put(path, "file", "0600", Bytes::from(content.clone()));
                    }
                }
                said("")
            }
            ["systemctl", "show", "--property=InvocationID", "--value", _] => Ok((0, self.starts.to_string())),
            ["systemctl", "show", ..] => said("NRestarts=3\nActiveState=activating\nSubState=auto-restart\n"),
            ["journalctl", ..] => said(guests.crash.as_deref().unwrap_or_default()),
            _ => Err(Refusal::internal("Command not found")),
        }
    }
}

/// What a program of [`crate::program`] says.
fn words(program: &[u8]) -> String {
    let text = String::from_utf8_lossy(program);
    text[text.find("k3s version").unwrap_or(text.len())..].trim_end_matches('\0').to_owned()
}

impl Model {
    pub(super) fn get_file(&self, name: &str, call: &Call) -> Outcome {
        let instance = self.instance(call.project(), name)?;
        let file = instance.guest.files.get(call.query("path").unwrap_or_default());
        let file = file.ok_or_else(|| Refusal::not_found("Not Found"))?;
        let modified =
            format!("2026-01-01 {:02}:{:02}:{:02} +0000 UTC", file.modified / 3600, file.modified / 60 % 60, file.modified % 60);
        Ok(Answer::GuestFile { content: file.content.clone(), mode: file.mode.clone(), kind: file.kind, modified })
    }

    pub(super) fn post_file(&mut self, name: &str, call: &Call) -> Outcome {
        let path = call.query("path").unwrap_or_default();
        let mode = call.header("x-lxd-mode").unwrap_or("0644");
        let guest = &mut self.instance_mut(call.project(), name)?.guest;
        if !guest.has_folder(path) {
            return Err(Refusal::not_found("Not Found"));
        }
        match call.header("x-lxd-type") {
            Some("directory") => guest.put(path, "directory", mode, Bytes::new()),
            _ => guest.put(path, "file", mode, call.body.clone()),
        }
        Ok(Answer::Done)
    }

    pub(super) fn delete_file(&mut self, name: &str, call: &Call) -> Outcome {
        let path = call.query("path").unwrap_or_default();
        let gone = self.instance_mut(call.project(), name)?.guest.files.remove(path);
        gone.map(|_| Answer::Done).ok_or_else(|| Refusal::not_found("Not Found"))
    }

    pub(super) fn exec(&mut self, name: &str, call: &Call) -> Outcome {
        let (project, name) = (call.project().to_owned(), name.to_owned());
        if !self.instance(&project, &name)?.is_running() {
            return Err(Refusal::bad_request("Instance is not running"));
        }
        let command = call.body("InstanceExecPost")?.texts("command")?.unwrap_or_default();
        let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
        Ok(self.operate(
            "Executing command",
            resources,
            Box::new(move |model| {
                let guests = model.guests.clone();
                let guest = &mut model.instance_mut(&project, &name)?.guest;
                let command: Vec<_> = command.iter().map(String::as_str).collect();
                let (code, stdout) = guest.run(&command, &guests)?;
                guest.logs.insert("exec_1.stdout".to_owned(), stdout);
                guest.logs.insert("exec_1.stderr".to_owned(), String::new());
                let log = |stream: &str| format!("/1.0/instances/{name}/logs/exec_1.{stream}");
                Ok(json!({"output": {"1": log("stdout"), "2": log("stderr")}, "return": code}))
            }),
        ))
    }

    pub(super) fn get_log(&self, name: &str, log: &str, call: &Call) -> Outcome {
        let instance = self.instance(call.project(), name)?;
        let own = (log == "lxc.log").then(|| format!("lxc {}_{name} ERROR    start - the scripted server's log\n", call.project()));
        let content = own.or_else(|| instance.guest.logs.get(log).cloned());
        let content = content.ok_or_else(|| Refusal::bad_request(format!("log file name {log} not valid")))?;
        Ok(Answer::File { content: content.into(), mode: "0600".to_owned() })
    }

    pub(super) fn delete_log(&mut self, name: &str, log: &str, call: &Call) -> Outcome {
        self.instance_mut(call.project(), name)?.guest.logs.remove(log);
        Ok(Answer::Read(Value::Null))
    }
}
