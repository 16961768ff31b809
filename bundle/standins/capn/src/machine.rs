//! Machines: one instance each.

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use lxd::{Client, Instance, Server};
use serde_json::{Value, json};

use crate::{
    api::{Image, Initialization, LXCCluster, LXCMachine, LXCMachineStatus, LoadBalancer, MachineAddress},
    capi::{self, Cluster, Machine},
    conditions::{self, Verdict},
    context::{Context, Error},
    deed::Deed,
    instance::{self, Invalid, Owner, Role, Source, USER_DATA_KEY},
    reconcile::{self, Edit, Managed, Step},
};

/// The image of a machine that names none.
const DEFAULT_IMAGE: &str = "capi:kubeadm/VERSION";

/// What Kubernetes knows.
#[derive(Clone)]
struct Objects {
    object: LXCMachine,
    machine: Option<Machine>,
    cluster: Option<Cluster>,
    infrastructure: Option<LXCCluster>,
    bootstrap: Option<Bootstrap>,
}

/// What the machine does when it starts first.
#[derive(Clone, Default)]
struct Bootstrap {
    format: String,
    data: String,
}

/// A machine of which Kubernetes knows enough for LXD to be asked.
struct Subject<'a> {
    object: &'a LXCMachine,
    name: String,
    namespace: String,
    cluster: &'a str,
    infrastructure: &'a LXCCluster,
    purpose: Purpose<'a>,
}

/// What is to become of it.
enum Purpose<'a> {
    Run { machine: &'a Machine, bootstrap: Option<&'a Bootstrap> },
    Go,
}

/// What LXD knows.
#[derive(Clone, Default)]
struct Seen {
    server: Server,
    instance: Option<Instance>,
    addresses: Vec<String>,
    /// What a new instance would need and LXD lacks.
    lacking: Option<Verdict>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Have Cluster API wait for us before it ends the machine, or wait no longer.
    Hold(bool),
    Do(Deed),
    Step(Step<Report>),
}

/// What is to be said of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    paused: bool,
    verdict: Option<Verdict>,
    provisioned: bool,
    addresses: Vec<String>,
    location: Option<String>,
}

impl Managed for LXCMachine {
    type Status = LXCMachineStatus;
    type Report = Report;

    fn published(&self) -> Option<&LXCMachineStatus> {
        self.status.as_ref()
    }

    fn status(&self, report: &Report, now: Timestamp) -> LXCMachineStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let generation = self.metadata.generation;
        conditions::tell(&mut status.conditions, conditions::INSTANCE, report.paused, report.verdict.as_ref(), generation, now);
        if report.provisioned {
            status.initialization = Some(Initialization { provisioned: true });
            let ip = |address: &String| MachineAddress { kind: "InternalIP".to_owned(), address: address.clone() };
            let host = MachineAddress { kind: "Hostname".to_owned(), address: self.name_any() };
            status.addresses = report.addresses.iter().map(ip).chain([host]).collect();
            status.failure_domain.clone_from(&report.location);
        }
        status
    }

    async fn step(&mut self, context: &Context) -> Result<Step<Report>, Error> {
        let objects = Objects::read(self, context).await?;
        let subject = match gate(&objects) {
            Ok(subject) => subject,
            Err(step) => return Ok(step),
        };
        let client = context.identities.connect(&subject.namespace, &subject.infrastructure.spec.secret_ref.name).await?;
        match plan(&subject, &Seen::read(&subject, &client).await?) {
            Next::Hold(hold) => {
                if let Some(machine) = &objects.machine {
                    let annotations = json!({capi::HOLD_ANNOTATION: hold.then_some("")});
                    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
                    let machines = context.api::<Machine>(&subject.namespace);
                    machines.patch(&machine.name_any(), &PatchParams::default(), &patch).await?;
                }
                Ok(Step::Again)
            }
            Next::Step(step) => Ok(step),
            Next::Do(deed) => reconcile::perform(self, &deed, &client, &subject.name, context).await,
        }
    }
}

impl Objects {
    async fn read(object: &LXCMachine, context: &Context) -> Result<Self, kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let machine = match capi::owner::<Machine>(&object.metadata) {
            Some(name) => context.api::<Machine>(&namespace).get_opt(name).await?,
            None => None,
        };
        // The label stays when the Machine is gone.
        let name = machine.as_ref().map(|machine| machine.spec.cluster_name.as_str()).or(capi::cluster_label(&object.metadata));
        let cluster = match name {
            Some(name) => context.api::<Cluster>(&namespace).get_opt(name).await?,
            None => None,
        };
        let infrastructure = match cluster.as_ref().and_then(|cluster| cluster.spec.infrastructure_ref.as_ref()) {
            Some(reference) => context.api::<LXCCluster>(&namespace).get_opt(&reference.name).await?,
            None => None,
        };
        let bootstrap = match machine.as_ref().and_then(|machine| machine.spec.bootstrap.data_secret_name.as_ref()) {
            Some(name) => context.api::<Secret>(&namespace).get_opt(name).await?.map(|secret| Bootstrap::of(&secret)),
            None => None,
        };
        Ok(Self { object: object.clone(), machine, cluster, infrastructure, bootstrap })
    }
}

impl Bootstrap {
    fn of(secret: &Secret) -> Self {
        let value = |key| secret.data.as_ref()?.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
        Self { format: value("format").unwrap_or_else(|| "cloud-config".to_owned()), data: value("value").unwrap_or_default() }
    }
}

/// Whether there is something to do in LXD; if not, what comes first.
fn gate(objects: &Objects) -> Result<Subject<'_>, Step<Report>> {
    let object = &objects.object;
    let wait = |reason: &str, message: &str| Err(Step::Rest(Some(Report::from(Verdict::no(reason, message)))));
    let (goes, finalized) = (object.metadata.deletion_timestamp.is_some(), reconcile::is_finalized(object));
    if goes && !finalized {
        return Err(Step::Rest(None));
    }
    if !goes && objects.machine.is_none() {
        return wait("WaitingForOwner", "no Machine owns this object yet");
    }
    let Some(cluster) = &objects.cluster else {
        return wait("WaitingForCluster", "there is no Cluster of this machine");
    };
    if capi::is_paused(cluster, &object.metadata) {
        return Err(Step::Rest(Some(Report { paused: true, ..Report::default() })));
    }
    if !finalized {
        return Err(Step::Edit(Edit::AddFinalizer));
    }
    let Some(infrastructure) = &objects.infrastructure else {
        return wait(
            "WaitingForClusterInfrastructure",
            "there is no LXCCluster of this machine's Cluster, and so no identity for LXD",
        );
    };
    let purpose = match &objects.machine {
        Some(machine) if !goes => Purpose::Run { machine, bootstrap: objects.bootstrap.as_ref() },
        _ => Purpose::Go,
    };
    let provisioned =
        infrastructure.status.as_ref().and_then(|status| status.initialization.as_ref()).is_some_and(|now| now.provisioned);
    if !goes && !provisioned && object.spec.provider_id.is_none() {
        return wait("WaitingForClusterInfrastructure", "the cluster's infrastructure is not provisioned yet");
    }
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    Ok(Subject { object, name, namespace, cluster: cluster.metadata.name.as_deref().unwrap_or_default(), infrastructure, purpose })
}

impl Subject<'_> {
    fn owner(&self) -> Owner<'_> {
        Owner { cluster: self.cluster, namespace: &self.namespace }
    }

    fn is_ours(&self, instance: &Instance) -> bool {
        [Role::ControlPlane, Role::Worker].iter().any(|role| self.owner().has(&instance.config, *role))
    }

    fn image(&self) -> Image {
        let image = self.object.spec.image.clone();
        if image.is_empty() { Image { name: DEFAULT_IMAGE.to_owned(), ..image } } else { image }
    }

    /// What LXD makes the instance of.
    fn body(&self, machine: &Machine, bootstrap: &Bootstrap, server: &Server) -> Result<Value, Invalid> {
        let spec = &self.object.spec;
        if spec.instance_type == "kind" {
            return Err(Invalid::Kind(spec.instance_type.clone()));
        }
        if bootstrap.format != "cloud-config" {
            return Err(Invalid::Format(bootstrap.format.clone()));
        }
        let (mut config, mut devices) = match &self.infrastructure.spec {
            cluster if cluster.skip_default_kubeadm_profile => Default::default(),
            cluster => instance::kubeadm_profile(cluster.unprivileged),
        };
        let role = if machine.is_control_plane() { Role::ControlPlane } else { Role::Worker };
        config.extend(spec.config.clone());
        config.extend(self.owner().marks(role, machine.metadata.name.as_deref()));
        config.insert(USER_DATA_KEY.to_owned(), bootstrap.data.clone());
        devices.extend(instance::devices(&spec.devices)?);
        let source = Source::of(&self.image(), machine.spec.version.as_deref(), server)?;
        let kind = if spec.instance_type.is_empty() { "container" } else { &spec.instance_type };
        let mut body = json!({"name": self.name, "type": kind, "profiles": spec.profiles, "config": config, "devices": devices, "source": source.body()});
        if !spec.flavor.is_empty() {
            body["instance_type"] = json!(spec.flavor);
        }
        Ok(body)
    }

    /// Whether Cluster API is to wait from now on, or no longer. The API server fails once its etcd is no member, which Cluster API
    /// sees to as soon as the machine is to go; so that waits until the load balancer sends nobody there.
    fn hold(&self, machine: &Machine) -> Option<bool> {
        let is_balanced = machine.is_control_plane() && matches!(self.infrastructure.spec.load_balancer, LoadBalancer::Lxc(_));
        let goes = machine.metadata.deletion_timestamp.is_some();
        let wanted = if goes { machine.is_held() && self.is_served() } else { is_balanced };
        (wanted != machine.is_held()).then_some(wanted)
    }

    /// The load balancer may still send requests to the machine.
    fn is_served(&self) -> bool {
        let Some(status) = &self.infrastructure.status else { return false };
        let listed = status.backends.iter().flatten().any(|backend| *backend == self.name);
        // A load balancer that is broken or goes itself is not waited for.
        let works = conditions::holds(&status.conditions, conditions::LOAD_BALANCER);
        listed && works && self.infrastructure.metadata.deletion_timestamp.is_none()
    }
}

impl Seen {
    async fn read(subject: &Subject<'_>, client: &Client) -> Result<Self, lxd::Error> {
        let mut seen = Self { server: client.server().clone(), ..Self::default() };
        seen.instance = instance::find(client, &subject.name).await?;
        match (&seen.instance, &subject.purpose) {
            (Some(instance), _) if instance.status == "Running" => {
                seen.addresses = instance::addresses_of(client, &subject.name).await?;
            }
            (None, Purpose::Run { machine, .. }) => {
                let source = Source::of(&subject.image(), machine.spec.version.as_deref(), client.server());
                seen.lacking = instance::lacking(client, source.ok().as_ref(), &subject.object.spec.profiles).await?;
            }
            _ => {}
        }
        Ok(seen)
    }
}

/// What comes next.
fn plan(subject: &Subject<'_>, seen: &Seen) -> Next {
    match &subject.purpose {
        Purpose::Run { machine, bootstrap } => run(subject, machine, *bootstrap, seen),
        Purpose::Go => go(subject, seen),
    }
}

fn run(subject: &Subject<'_>, machine: &Machine, bootstrap: Option<&Bootstrap>, seen: &Seen) -> Next {
    if let Some(hold) = subject.hold(machine) {
        return Next::Hold(hold);
    }
    let name = &subject.name;
    let rest = |verdict| Next::Step(Step::Rest(Some(Report::from(verdict))));
    let identified = subject.object.spec.provider_id.is_some();
    let Some(instance) = &seen.instance else {
        if identified {
            return rest(Verdict::no("InstanceDeleted", format!("the instance {name} is gone; this machine has to be replaced")));
        }
        let Some(bootstrap) = bootstrap else {
            return rest(Verdict::no(
                "WaitingForBootstrapData",
                "the bootstrap provider has not said yet what the machine is to do",
            ));
        };
        return match subject.body(machine, bootstrap, &seen.server) {
            Err(invalid) => rest(Verdict::no(invalid.reason(), format!("{invalid}; this machine has to be replaced"))),
            Ok(_) if let Some(lacking) = &seen.lacking => rest(lacking.clone()),
            Ok(body) => {
                let target =
                    Some(&subject.object.spec.target).filter(|target| !target.is_empty()).or(machine.spec.failure_domain.as_ref());
                Next::Do(Deed::Create { body, target: target.cloned() })
            }
        };
    };
    if !subject.is_ours(instance) {
        let message =
            format!("there is an instance {name} that is not of cluster {} in namespace {}", subject.cluster, subject.namespace);
        return rest(Verdict::no("InstanceNameTaken", message));
    }
    match (instance.status.as_str(), identified) {
        ("Running", _) => {}
        // Whoever stopped it may have had a reason, and the Node says what is to be done about it.
        (status, true) => {
            return rest(Verdict::no(
                "InstanceNotRunning",
                format!("the instance {name} is {status}; `lxc start {name}` starts it"),
            ));
        }
        _ => return Next::Do(Deed::Start),
    }
    if seen.addresses.is_empty() {
        return Next::Do(Deed::AwaitAddress);
    }
    if !identified {
        return Next::Step(Step::Edit(Edit::Merge(json!({"spec": {"providerID": format!("lxc:///{name}")}}))));
    }
    let changed = bootstrap.is_some_and(|bootstrap| instance.config.get(USER_DATA_KEY) != Some(&bootstrap.data));
    let verdict = if changed {
        let message = "the bootstrap data is not what the instance was made with; only a new machine will follow it";
        Verdict { message: message.to_owned(), ..Verdict::yes("BootstrapDataChanged") }
    } else {
        Verdict::yes("Provisioned")
    };
    let location = Some(&instance.location).filter(|location| !location.is_empty() && *location != "none").cloned();
    Next::Step(Step::Rest(Some(Report { provisioned: true, addresses: seen.addresses.clone(), location, ..Report::from(verdict) })))
}

fn go(subject: &Subject<'_>, seen: &Seen) -> Next {
    match &seen.instance {
        Some(instance) if subject.is_ours(instance) => match instance.status.as_str() {
            "Stopped" => Next::Do(Deed::Delete),
            _ if subject.is_served() => {
                let message = "the load balancer still sends requests to this machine";
                Next::Step(Step::Rest(Some(Report::from(Verdict::no("WaitingForLoadBalancer", message)))))
            }
            _ => Next::Do(Deed::Stop),
        },
        _ => Next::Step(Step::Edit(Edit::RemoveFinalizer)),
    }
}

impl From<Verdict> for Report {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
