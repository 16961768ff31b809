//! Machines: one instance each.
//!
//! A machine that is there is never changed; one that is gone is never made again. Cluster API replaces it.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use lxd::{Client, Config, Instance, Server};
use serde_json::{Value, json};

use super::{
    context::{Context, Error},
    reconcile::{self, Edit, Managed, Step},
};
use crate::{
    api::{
        LXCCluster, LXCMachine, LXCMachineStatus, LoadBalancer, MachineAddress,
        conditions::{self, Cause, ConditionState, Contract, Observation},
        core::{self, Cluster, Machine},
    },
    infrastructure::{
        action::{InstanceAction, SeedFile},
        image::ImageSource,
        instance::{self, Invalid, Owner, Role, USER_DATA_KEY},
    },
};

/// What ClusterClasses of the real provider call before kubeadm.
const INSTALL_KUBEADM: SeedFile = SeedFile {
    path: "/opt/cluster-api/install-kubeadm.sh",
    mode: 0o755,
    content: include_str!("../infrastructure/install-kubeadm.sh"),
};

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
struct Scope<'a> {
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
    Delete,
}

/// What LXD knows.
#[derive(Clone, Default)]
struct Observed {
    server: Server,
    instance: Option<Instance>,
    addresses: Vec<String>,
    /// When to look again for an address.
    is_late: Option<Duration>,
    /// What a new instance would need and LXD lacks.
    missing: Option<String>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Have Cluster API wait for us before it ends the machine, or wait no longer.
    Hook(bool),
    Act(InstanceAction),
    Step(Step<Report>),
}

/// What is to be said of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    paused: bool,
    state: Option<ConditionState>,
    provisioned: bool,
    addresses: Vec<String>,
}

impl Managed for LXCMachine {
    type Status = LXCMachineStatus;
    type Report = Report;

    fn published(&self) -> Option<&LXCMachineStatus> {
        self.status.as_ref()
    }

    fn status(&self, report: &Report, contract: Contract, now: Timestamp) -> LXCMachineStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let Report { paused, provisioned, .. } = *report;
        let seen = Observation { paused, provisioned, state: report.state.as_ref(), generation: self.metadata.generation };
        status.contract.tell(contract, &conditions::INSTANCE, &seen, now);
        if provisioned {
            let of = |kind: &str, address: &str| MachineAddress { kind: kind.to_owned(), address: address.to_owned() };
            // In the real provider's order: whoever wants an address has to look for its type.
            let by_both = report.addresses.iter().flat_map(|address| [of("InternalIP", address), of("ExternalIP", address)]);
            status.addresses = std::iter::once(of("Hostname", &self.name_any())).chain(by_both).collect();
        }
        status
    }

    async fn step(&mut self, context: &Context) -> Result<Step<Report>, Error> {
        let objects = Objects::read(self, context).await?;
        let scope = match scope(&objects) {
            Ok(scope) => scope,
            Err(step) => return Ok(step),
        };
        let client = context.identities.connect(&scope.namespace, scope.infrastructure.spec.secret_ref.as_ref()).await?;
        match plan(&scope, &Observed::read(&scope, &client).await?) {
            Next::Hook(present) => {
                if let Some(machine) = &objects.machine {
                    let annotations = json!({core::PRE_DRAIN_HOOK: present.then_some("")});
                    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
                    let machines = context.api::<Machine>(&scope.namespace);
                    machines.patch(&machine.name_any(), &PatchParams::default(), &patch).await?;
                }
                Ok(Step::Again)
            }
            Next::Step(step) => Ok(step),
            Next::Act(action) => reconcile::perform(self, &action, &client, &scope.name, context).await,
        }
    }
}

impl Objects {
    async fn read(object: &LXCMachine, context: &Context) -> Result<Self, kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let machine = match core::owner::<Machine>(&object.metadata) {
            Some(name) => context.api::<Machine>(&namespace).get_opt(name).await?,
            None => None,
        };
        // The label stays when the Machine is gone.
        let name = machine.as_ref().map(|machine| machine.spec.cluster_name.as_str()).or(core::cluster_label(&object.metadata));
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

/// The machine, if there is something to do in LXD; if not, what comes first.
fn scope(objects: &Objects) -> Result<Scope<'_>, Step<Report>> {
    let object = &objects.object;
    let wait = |reason, message: &str| Err(Step::Rest(Some(Report::from(ConditionState::new(Cause::Waiting(reason), message)))));
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    if is_deleted && !reconcile::is_finalized(object) {
        return Err(Step::Rest(None));
    }
    if !is_deleted && objects.machine.is_none() {
        return wait("WaitingForOwner", "no Machine owns this object yet");
    }
    let Some(cluster) = &objects.cluster else {
        return wait("WaitingForCluster", "there is no Cluster of this machine");
    };
    if core::is_paused(cluster, &object.metadata) {
        return Err(Step::Rest(Some(Report { paused: true, ..Report::default() })));
    }
    let Some(infrastructure) = &objects.infrastructure else {
        return wait(
            "WaitingForClusterInfrastructure",
            "there is no LXCCluster of this machine's Cluster, and so no identity for LXD",
        );
    };
    let purpose = match &objects.machine {
        Some(machine) if !is_deleted => Purpose::Run { machine, bootstrap: objects.bootstrap.as_ref() },
        _ => Purpose::Delete,
    };
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    Ok(Scope { object, name, namespace, cluster: cluster.metadata.name.as_deref().unwrap_or_default(), infrastructure, purpose })
}

impl Scope<'_> {
    fn owner(&self) -> Owner<'_> {
        Owner { cluster: self.cluster, namespace: &self.namespace }
    }

    fn is_ours(&self, instance: &Instance) -> bool {
        [Role::ControlPlane, Role::Worker].iter().any(|role| self.owner().has(&instance.config, *role))
    }

    fn source(&self, machine: &Machine, server: &Server) -> Result<ImageSource, Invalid> {
        ImageSource::of_machine(&self.object.spec.image, machine.spec.version.as_deref(), server)
    }

    /// What LXD makes the instance of. What is written for the machine is stronger than the provider's own, but for what the instance
    /// is known by.
    fn body(&self, machine: &Machine, bootstrap: &Bootstrap, server: &Server) -> Result<Value, Invalid> {
        let spec = &self.object.spec;
        if spec.instance_type == "kind" {
            return Err(Invalid::Kind(spec.instance_type.clone()));
        }
        if bootstrap.format != "cloud-config" {
            return Err(Invalid::Format(bootstrap.format.clone()));
        }
        let kind = if spec.instance_type.is_empty() { instance::CONTAINER } else { &spec.instance_type };
        let mut config = Config::from([(USER_DATA_KEY.to_owned(), bootstrap.data.clone())]);
        let mut devices = lxd::Devices::new();
        if kind == instance::CONTAINER && !self.infrastructure.spec.skip_default_kubeadm_profile {
            let profile = instance::kubeadm_profile(self.infrastructure.spec.unprivileged);
            config.extend(profile.0);
            devices.extend(profile.1);
        }
        config.extend(spec.config.clone());
        let role = if machine.is_control_plane() { Role::ControlPlane } else { Role::Worker };
        config.extend(self.owner().marks(role, machine.metadata.name.as_deref()));
        devices.extend(instance::devices(&spec.devices)?);
        let source = self.source(machine, server)?.body();
        let mut body = json!({"name": self.name, "type": kind, "profiles": spec.profiles, "config": config, "devices": devices, "source": source});
        if !spec.flavor.is_empty() {
            body["instance_type"] = json!(spec.flavor);
        }
        Ok(body)
    }

    /// Whether Cluster API is to wait from now on, or no longer. The API server fails once its etcd is no member, which Cluster API
    /// sees to as soon as the machine is deleted; so that waits until the load balancer sends nobody there.
    fn hook(&self, machine: &Machine) -> Option<bool> {
        let is_balanced = machine.is_control_plane() && matches!(self.infrastructure.spec.load_balancer, LoadBalancer::Lxc(_));
        let is_deleted = machine.metadata.deletion_timestamp.is_some();
        let wanted = if is_deleted { machine.has_hook() && self.is_served() } else { is_balanced };
        (wanted != machine.has_hook()).then_some(wanted)
    }

    /// The load balancer may still send requests to the machine.
    fn is_served(&self) -> bool {
        let Some(status) = &self.infrastructure.status else { return false };
        let listed = status.backends.iter().flatten().any(|backend| *backend == self.name);
        // A load balancer that is broken or deleted itself is not waited for.
        let works = status.contract.holds(conditions::READY);
        listed && works && self.infrastructure.metadata.deletion_timestamp.is_none()
    }
}

impl Observed {
    async fn read(scope: &Scope<'_>, client: &Client) -> Result<Self, lxd::Error> {
        let mut seen = Self { server: client.server().clone(), ..Self::default() };
        seen.instance = instance::find(client, &scope.name).await?;
        match (&seen.instance, &scope.purpose) {
            (Some(instance), Purpose::Run { .. }) if instance.status == "Running" => {
                seen.addresses = instance::addresses_of(client, &scope.name).await?;
                seen.is_late = instance::look_again(instance, &seen.addresses, instance::MACHINE_PATIENCE, Timestamp::now());
            }
            (None, Purpose::Run { machine, .. }) => {
                let source = scope.source(machine, client.server()).ok();
                seen.missing = instance::missing(client, source.as_ref(), &scope.object.spec.profiles).await?;
            }
            _ => {}
        }
        Ok(seen)
    }
}

/// What comes next.
fn plan(scope: &Scope<'_>, seen: &Observed) -> Next {
    match &scope.purpose {
        Purpose::Run { .. } if !reconcile::is_finalized(scope.object) => Next::Step(Step::Edit(Edit::AddFinalizer)),
        Purpose::Run { machine, bootstrap } => run(scope, machine, *bootstrap, seen),
        Purpose::Delete => delete(scope, seen),
    }
}

fn run(scope: &Scope<'_>, machine: &Machine, bootstrap: Option<&Bootstrap>, seen: &Observed) -> Next {
    if let Some(present) = scope.hook(machine) {
        return Next::Hook(present);
    }
    let name = &scope.name;
    let rest = |cause, message: String| Next::Step(Step::Rest(Some(Report::from(ConditionState::new(cause, message)))));
    let identified = scope.object.spec.provider_id.is_some();
    let Some(instance) = &seen.instance else {
        if identified {
            let message = format!("the instance {name} is gone; this machine has to be replaced");
            return rest(Cause::Lost("InstanceDeleted"), message);
        }
        return create(scope, machine, bootstrap, seen);
    };
    if !scope.is_ours(instance) {
        let Scope { cluster, namespace, .. } = scope;
        return rest(
            Cause::Failed,
            format!("there is an instance {name} that is not of cluster {cluster} in namespace {namespace}"),
        );
    }
    match (instance.status.as_str(), identified) {
        ("Running", _) => {}
        // Whoever stopped it may have had a reason, and the Node says what is to be done about it.
        (status, true) => {
            let message = format!("the instance {name} is {status}; `lxc start {name}` starts it");
            return rest(Cause::Lost("InstanceNotRunning"), message);
        }
        // LXD writes files into containers alone.
        ("Stopped", false) if instance.kind == instance::CONTAINER => {
            return Next::Act(InstanceAction::Seed(INSTALL_KUBEADM));
        }
        _ => return Next::Act(InstanceAction::Start),
    }
    if seen.addresses.is_empty() {
        return Next::Act(InstanceAction::AwaitAddress(None));
    }
    if !identified {
        return Next::Step(Step::Edit(Edit::Merge(json!({"spec": {"providerID": format!("lxc:///{name}")}}))));
    }
    let addresses = seen.addresses.clone();
    let report = Report { provisioned: true, addresses, ..Report::from(ConditionState::provisioned()) };
    Next::Step(match seen.is_late {
        Some(pause) => Step::RestFor(pause, report),
        None => Step::Rest(Some(report)),
    })
}

fn create(scope: &Scope<'_>, machine: &Machine, bootstrap: Option<&Bootstrap>, seen: &Observed) -> Next {
    let rest = |cause, message: String| Next::Step(Step::Rest(Some(Report::from(ConditionState::new(cause, message)))));
    let infrastructure = scope.infrastructure.status.as_ref();
    if !infrastructure.is_some_and(|status| status.contract.is_provisioned()) {
        let message = "the cluster's infrastructure is not provisioned yet".to_owned();
        return rest(Cause::Waiting("WaitingForClusterInfrastructure"), message);
    }
    let Some(bootstrap) = bootstrap else {
        let message = "the bootstrap provider has not said yet what the machine is to do".to_owned();
        return rest(Cause::Waiting("WaitingForBootstrapData"), message);
    };
    match scope.body(machine, bootstrap, &seen.server) {
        Err(invalid) => rest(Cause::Aborted, format!("{invalid}; this machine has to be replaced")),
        Ok(_) if let Some(missing) = &seen.missing => rest(Cause::Failed, missing.clone()),
        Ok(body) => {
            let target = Some(&scope.object.spec.target);
            let target = target.filter(|target| seen.server.environment.server_clustered && !target.is_empty());
            Next::Act(InstanceAction::Create { body, target: target.cloned() })
        }
    }
}

fn delete(scope: &Scope<'_>, seen: &Observed) -> Next {
    match &seen.instance {
        Some(instance) if scope.is_ours(instance) => match instance.status.as_str() {
            "Stopped" => Next::Act(InstanceAction::Delete),
            _ if scope.is_served() => {
                let message = "the load balancer still sends requests to this machine";
                Next::Step(Step::Rest(Some(Report::from(ConditionState::new(Cause::Waiting("Deleting"), message)))))
            }
            _ => Next::Act(InstanceAction::Stop),
        },
        _ => Next::Step(Step::Edit(Edit::RemoveFinalizer)),
    }
}

impl From<ConditionState> for Report {
    fn from(state: ConditionState) -> Self {
        Self { state: Some(state), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
