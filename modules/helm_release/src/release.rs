//! The release.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use cluster::{Condition, Kubeconfig, clusterctl};
use converge::{Failure, Wait};
use helm::{
    Chart, Error as HelmError, Helm, Hold, Inputs, Record, Recovery, Release, Revision, Secrets, Source, Status, Target, Upgrade,
    gate,
};
use lab::lifecycle::PivotOpen;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{HelmRelease, ReleaseFacts, State, TakeOver, error::Error};

/// How long webhooks that are only just starting may take, beyond what one run of Helm's may.
const WEBHOOKS: Duration = Duration::from_secs(60);

pub(crate) struct Section<'a> {
    step: &'a HelmRelease,
    source: Option<Source>,
    /// The wanted chart, where it is at hand.
    chart: Option<Chart>,
    inputs: Inputs,
    description: String,
    release: OnceCell<Release>,
    hold: OnceCell<Hold>,
    /// As it was looked at last.
    seen: RefCell<Live>,
}

/// A release, as Helm's records tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Live {
    pub history: Vec<Revision>,
    /// The last revision, unless there is none or it was removed.
    pub last: Option<Record>,
    /// The revision that there was before an unfinished one.
    pub deployed: Option<Record>,
    pub pivot_is_open: bool,
    /// Of a chart that is another one for the same values: the objects that differ, before and after.
    pub objects: Option<(Value, Value)>,
}

/// A thing to do.
#[derive(Debug)]
pub(crate) struct Change {
    pub release: String,
    pub act: Act,
    pub before: Value,
    pub after: Value,
}

#[derive(Debug)]
pub(crate) enum Act {
    Recover(Recovery, Status),
    Install,
    Upgrade(u64),
    RollOut,
    Test,
    Uninstall { is_whole: bool },
}

impl<'a> Section<'a> {
    pub fn new(step: &'a HelmRelease) -> Result<Self, Failure> {
        let wanted = step.chart.as_ref().filter(|_| step.state == State::Present);
        let source = wanted.map(|chart| Source::parse(chart)).transpose()?;
        let chart = source.as_ref().map(Source::read).transpose()?.flatten();
        if let (Some(chart), Some(version)) = (&chart, &step.version)
            && chart.version != *version
        {
            let (chart, live) = (chart.name.clone(), chart.version.clone());
            return Err(Error::ChartVersion { chart, live, wanted: version.clone() }.into());
        }
        let reference = || format!("{} {}", step.chart.as_deref().unwrap_or_default(), step.version.as_deref().unwrap_or_default());
        let inputs = Inputs {
            chart: chart.as_ref().map_or_else(reference, Chart::digest),
            values: step.values.clone().into_iter().collect(),
            labels: step.labels.clone(),
        };
        let description = inputs.description();
        let (release, hold, seen) = (OnceCell::new(), OnceCell::new(), RefCell::default());
        Ok(Self { step, source, chart, inputs, description, release, hold, seen })
    }

    /// What is told of a release.
    pub fn facts(&self, live: &Live) -> ReleaseFacts {
        let last = live.last.as_ref();
        ReleaseFacts {
            name: self.step.name.clone(),
            namespace: self.step.namespace.clone(),
            revision: last.map(|last| last.revision),
            chart: last.map(|last| last.chart_name().to_owned()),
            chart_version: last.map(|last| last.chart_version().to_owned()),
            tests_passed: last.filter(|last| last.tests().next().is_some()).map(Record::has_passed),
        }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.step.namespace, self.step.name)
    }

    async fn release(&self) -> Result<&Release, Failure> {
        let connect = async || -> Result<Release, cluster::Error> {
            let client = cluster::Client::connect(&Kubeconfig::read(&self.step.kubeconfig_path)?)?;
            Ok(Release::new(client, &self.step.namespace, &self.step.name))
        };
        Ok(self.release.get_or_try_init(connect).await?)
    }

    /// What must be done for the release to be there.
    fn converging(&self, live: &Live) -> Result<Vec<Act>, Failure> {
        let last = live.last.as_ref();
        if let (Some(last), Some(chart)) = (last, &self.chart)
            && last.chart_name() != chart.name
        {
            return Err(self.other_chart(last, chart).into());
        }
        let recovery = last.and_then(|last| Some(Act::Recover(Recovery::of(last)?, last.info.status)));
        let is_current = recovery.is_none() && self.is_current(live);
        let is_removed = matches!(recovery, Some(Act::Recover(Recovery::Uninstall, _)));
        let upgrade = (!is_current).then(|| last.filter(|_| !is_removed).map_or(Act::Install, |last| Act::Upgrade(last.revision)));
        let is_rolled_out = is_current && live.history.last().is_some_and(|last| last.is_rolled_out);
        let has_passed = is_current && last.is_some_and(Record::has_passed);
        let roll_out = (self.step.wait && !is_rolled_out).then_some(Act::RollOut);
        let test = (self.step.tests && !has_passed).then_some(Act::Test);
        Ok(recovery.into_iter().chain(upgrade).chain(roll_out).chain(test).collect())
    }

    /// The last revision was made of the same inputs, and Helm is done with it.
    fn is_current(&self, live: &Live) -> bool {
        let (Some(last), Some(revision)) = (&live.last, live.history.last()) else { return false };
        let is_labelled = self.step.labels.iter().all(|(label, value)| revision.labels.get(label) == Some(value));
        last.info.status == Status::Deployed && last.info.description == self.description && is_labelled
    }

    fn other_chart(&self, live: &Record, wanted: &Chart) -> Error {
        Error::OtherChart { release: self.label(), live: live.chart_name().to_owned(), wanted: wanted.name.clone() }
    }

    /// Both sides of an act, as a diff shows them.
    fn sides(&self, act: &Act, live: &Live) -> (Value, Value) {
        let secrets = self.secrets(live);
        let shown = |record: &Record| json!({"chart": format!("{} {}", record.chart_name(), record.chart_version()), "values": secrets.redact(&record.config)});
        let before = live.deployed.as_ref().or(live.last.as_ref());
        match act {
            Act::Recover(_, status) => (json!({"status": status.to_string()}), json!({"status": "recovered"})),
            Act::RollOut => (json!({"rolled_out": false}), json!({"rolled_out": true})),
            Act::Test => (json!({"tests_passed": false}), json!({"tests_passed": true})),
            Act::Uninstall { .. } => (before.map_or(Value::Null, shown), Value::Null),
            Act::Install | Act::Upgrade(_) => {
                let chart = match &self.chart {
                    Some(chart) => format!("{} {}", chart.name, chart.version),
                    None => self.inputs.chart.trim_end().to_owned(),
                };
                let mut after = json!({"chart": chart, "values": secrets.redact(&self.inputs.values)});
                let mut before = before.map_or(Value::Null, shown);
                if let Some((old, new)) = &live.objects {
                    before["objects"] = secrets.hide_in(old);
                    after["objects"] = secrets.hide_in(new);
                }
                (before, after)
            }
        }
    }

    fn secrets(&self, live: &Live) -> Secrets {
        let records = || live.last.iter().chain(&live.deployed);
        let schemas = records().map(Record::schema).chain(self.chart.as_ref().map(Chart::schema));
        let values: Vec<&Map<String, Value>> = records().map(|record| &record.config).chain([&self.inputs.values]).collect();
        Secrets::new(schemas.collect(), &values)
    }

    /// The right to work on the release. Whoever had to wait for it, or was overtaken before, has to look again.
    async fn hold(&self, release: &Release) -> Result<&Hold, Failure> {
        if let Some(hold) = self.hold.get() {
            return Ok(hold);
        }
        let (locks, label, server) = (self.step.locks(), self.label(), release.client().server());
        let take = async || Hold::take(&locks, server, &label, self.step.timeout()).await;
        let hold = self.hold.get_or_try_init(take).await?;
        let history = release.history().await?;
        if history != self.seen.borrow().history {
            return Err(HelmError::Overtaken { release: self.label() }.into());
        }
        Ok(hold)
    }

    fn target(&self, release: &Release) -> Target {
        Target {
            program: self.step.helm_path(),
            kubeconfig: self.step.kubeconfig_path.to_path_buf(),
            server: release.client().server().to_owned(),
            namespace: self.step.namespace.clone(),
            name: self.step.name.clone(),
            timeout: self.step.timeout(),
        }
    }

    async fn upgrade(&self, helm: &Helm<'_>, folder: &Path) -> Result<(), Failure> {
        let chart = self.place(helm, folder.join("chart")).await?;
        let live = self.seen.borrow().clone();
        let labels = self.labels(&live);
        let upgrade = |force_conflicts| Upgrade { force_conflicts, ..self.upgrading(&chart, &labels) };
        // Helm ends by itself before this does: given up from outside, it would have no time to leave things in order.
        let patience = self.step.timeout() * 2 + WEBHOOKS;
        let wait = Wait::for_condition(format!("release {}: every webhook answers", self.label()), patience);
        let attempt = async |force_conflicts: bool| -> Result<(), HelmError> {
            wait.until(async || match helm.upgrade(&upgrade(force_conflicts)).await {
                Err(error) if error.is_passing() => Ok(Err(error.to_string())),
                ended => ended.map(Ok),
            })
            .await
        };
        let ended = attempt(self.step.take_over == TakeOver::Always).await;
        let is_moved = |error: &HelmError| {
            let managers = error.managers();
            !managers.is_empty() && managers.iter().all(|manager| *manager == clusterctl::FIELD_MANAGER)
        };
        match ended {
            Err(error) if self.step.take_over == TakeOver::Moved && is_moved(&error) => Ok(attempt(true).await?),
            ended => Ok(ended?),
        }
    }

    /// What an upgrade is made of, as long as no other manager is in the way.
    fn upgrading<'b>(&'b self, chart: &'b Path, labels: &'b BTreeMap<String, Option<String>>) -> Upgrade<'b> {
        Upgrade {
            chart,
            values: &self.inputs.values,
            description: &self.description,
            labels,
            keep_history: self.step.keep_history,
            create_namespace: self.step.create_namespace,
            force_conflicts: false,
        }
    }

    /// The labels that are wanted, and those that go: Helm keeps the ones that it is not told of.
    fn labels(&self, live: &Live) -> BTreeMap<String, Option<String>> {
        let kept = live.history.last().into_iter().flat_map(|last| last.labels.keys());
        let gone = kept.map(|label| (label.clone(), None));
        gone.chain(self.step.labels.iter().map(|(label, value)| (label.clone(), Some(value.clone())))).collect()
    }

    /// The objects that differ because the chart is another one: where the values differ, those say enough.
    async fn foresee(&self, live: &Live) -> Result<Option<(Value, Value)>, Failure> {
        let Some(last) = &live.last else { return Ok(None) };
        let is_other_chart = last.info.status == Status::Deployed && last.config == self.inputs.values && !self.is_current(live);
        if !is_other_chart || self.step.state == State::Absent {
            return Ok(None);
        }
        let scratch = TempDir::with_prefix("k8slab-helm-").map_err(Error::Scratch)?;
        let (secrets, target) = (self.secrets(live), self.target(self.release().await?));
        let helm = Helm::new(&target, &secrets, scratch.path());
        let (chart, labels) = (self.place(&helm, scratch.path().join("chart")).await?, self.labels(live));
        let manifest = helm.foresee(&self.upgrading(&chart, &labels)).await?;
        Ok(Some(helm::differing(&last.manifest, &manifest)))
    }

    /// Puts the chart where Helm can read it.
    async fn place(&self, helm: &Helm<'_>, folder: PathBuf) -> Result<PathBuf, Failure> {
        match (&self.chart, &self.source) {
            (Some(chart), _) => {
                chart.write(&folder)?;
                Ok(folder)
            }
            (None, Some(Source::Remote(reference))) => {
                let archive = helm.pull(reference, self.step.version.as_deref(), &folder).await?;
                let chart = Source::Path(archive.clone()).read()?;
                if let (Some(last), Some(chart)) = (&self.seen.borrow().last, chart)
                    && last.chart_name() != chart.name
                {
                    return Err(self.other_chart(last, &chart).into());
                }
                Ok(archive)
            }
            _ => Err(HelmError::NoChart { chart: self.step.chart.clone().unwrap_or_default() }.into()),
        }
    }

    /// Waits until the workloads of the last revision run, and notes it.
    async fn roll_out(&self, release: &Release) -> Result<(), Failure> {
        let record = self.last_record(release).await?;
        let condition = |object: helm::Object| {
            let namespace = object.metadata.namespace.as_deref().unwrap_or(&self.step.namespace);
            Condition::rolled_out(&object.kind, namespace, &object.metadata.name)
        };
        let conditions: Vec<_> = helm::objects(&record.manifest).into_iter().filter_map(condition).collect();
        if !conditions.is_empty() {
            let what = format!("release {}: its workloads are rolled out", self.label());
            release.client().wait_for(&what, &conditions, self.step.timeout()).await?;
        }
        Ok(release.mark_rolled_out(record.revision).await?)
    }

    async fn test(&self, release: &Release, helm: &Helm<'_>) -> Result<(), Failure> {
        let ended = helm.test().await;
        let record = self.last_record(release).await;
        if let (Ok(record), true) = (&record, self.step.wait) {
            // Helm has written the record anew to note how the tests went. Without the mark, the next run looks once more.
            let marked = release.mark_rolled_out(record.revision).await;
            if ended.is_ok() {
                marked?;
            }
        }
        let Err(error) = ended else { return Ok(()) };
        // Why the tests failed is worth more than why their Pods cannot be looked at.
        let checks = match record {
            Ok(record) => gate::failed(release.client(), &self.step.namespace, &record).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        if checks.is_empty() {
            return Err(error.into());
        }
        Err(HelmError::Gate { release: self.label(), checks, words: error.to_string() }.into())
    }

    async fn last_record(&self, release: &Release) -> Result<Record, HelmError> {
        let last = release.history().await?.last().map(|last| last.number);
        release.record(last.ok_or_else(|| HelmError::Overtaken { release: self.label() })?).await
    }
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "release";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let release = self.release().await?;
        let history = release.history().await?;
        let (last, deployed) = release.standing(&history).await?;
        let mut live = Live { history, last, deployed, pivot_is_open: self.step.pivot_is_open(), objects: None };
        if !self.plan(&live)?.is_empty() {
            Helm::look(&self.step.helm_path())?;
            live.objects = self.foresee(&live).await?;
        }
        self.seen.replace(live.clone());
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let acts = match (self.step.state, &live.last) {
            (State::Present, _) => self.converging(live)?,
            (State::Absent, None) => Vec::new(),
            (State::Absent, Some(last)) => vec![Act::Uninstall { is_whole: Recovery::of(last).is_none() }],
        };
        if live.pivot_is_open && !acts.is_empty() {
            return Err(PivotOpen { refused: "Helm must not run" }.into());
        }
        let change = |act| {
            let (before, after) = self.sides(&act, live);
            Change { release: self.label(), act, before, after }
        };
        Ok(acts.into_iter().map(change).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let release = self.release().await?;
        let hold = self.hold(release).await?;
        let secrets = self.secrets(&self.seen.borrow());
        let target = self.target(release);
        let folder = hold.private_folder()?;
        let helm = Helm::new(&target, &secrets, folder.path());
        match &change.act {
            Act::Recover(Recovery::RollBack(revision), _) => Ok(helm.roll_back(*revision).await?),
            Act::Recover(Recovery::Uninstall, _) => Ok(helm.uninstall(false).await?),
            Act::Install | Act::Upgrade(_) => self.upgrade(&helm, folder.path()).await,
            Act::RollOut => self.roll_out(release).await,
            Act::Test => self.test(release, &helm).await,
            Act::Uninstall { is_whole } => Ok(helm.uninstall(*is_whole).await?),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release = &self.release;
        match &self.act {
            Act::Recover(Recovery::RollBack(revision), status) => {
                write!(f, "roll release {release} back to its own revision {revision}, which a run left {status}")
            }
            Act::Recover(Recovery::Uninstall, status) => write!(f, "uninstall release {release}, which a run left {status}"),
            Act::Install => write!(f, "install release {release}"),
            Act::Upgrade(revision) => write!(f, "upgrade release {release} from revision {revision}"),
            Act::RollOut => write!(f, "wait until release {release} is rolled out"),
            Act::Test => write!(f, "run the tests of release {release}"),
            Act::Uninstall { .. } => write!(f, "uninstall release {release}"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        format!("release {}", self.release)
    }

    fn before(&self) -> Value {
        self.before.clone()
    }

    fn after(&self) -> Value {
        self.after.clone()
    }
}
