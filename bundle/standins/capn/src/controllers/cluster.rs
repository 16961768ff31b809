//! Clusters: a way to the control plane.
//!
//! Nothing is promised before there is an identity for LXD: the finalizer comes after it, so that a cluster without one can be deleted.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use lxd::{Client, Instance};
use serde_json::{Value, json};

use super::{
    context::{Context, Error},
    reconcile::{self, Edit, Managed, Step},
};
use crate::{
    api::{
        API_PORT, Endpoint, HaproxyBalancer, LXCCluster, LXCClusterStatus, LoadBalancer,
        conditions::{self, Cause, ConditionState, Contract, Observation},
        core::{self, CLUSTER_LABEL, Cluster, Machine},
    },
    infrastructure::{
        action::InstanceAction,
        image::ImageSource,
        instance::{self, Owner, Role},
        load_balancer,
    },
};

/// What Kubernetes knows.
#[derive(Clone)]
struct Objects {
    object: LXCCluster,
    cluster: Option<Cluster>,
    /// The instances of the machines that are on their way out.
    leaving: Vec<String>,
}

/// A cluster of which Kubernetes knows enough for LXD to be asked.
struct Scope<'a> {
    object: &'a LXCCluster,
    namespace: String,
    cluster: &'a str,
    /// The name of the load balancer's instance.
    balancer: String,
    leaving: &'a [String],
}

/// What LXD knows.
#[derive(Clone, Default)]
struct Observed {
    /// The server is a cluster, so that an instance can be placed.
    clustered: bool,
    instance: Option<Instance>,
    addresses: Vec<String>,
    /// What a new load balancer would need and LXD lacks.
    missing: Option<String>,
    /// Running control plane machines, each with its address.
    control_plane: BTreeMap<String, String>,
    /// When to look again for addresses of the load balancer, and of a machine of the control plane.
    balancer_is_late: Option<Duration>,
    machine_is_late: Option<Duration>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
enum Next {
    Act(InstanceAction),
    /// Have haproxy serve a configuration, which is tried at an address.
    Serve {
        configuration: String,
        address: String,
    },
    Step(Step<Report>),
}

/// What is to be said of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    paused: bool,
    state: Option<ConditionState>,
    provisioned: bool,
    backends: Option<Vec<String>>,
}

impl Managed for LXCCluster {
    type Status = LXCClusterStatus;
    type Report = Report;

    fn published(&self) -> Option<&LXCClusterStatus> {
        self.status.as_ref()
    }

    fn status(&self, report: &Report, contract: Contract, now: Timestamp) -> LXCClusterStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let Report { paused, provisioned, .. } = *report;
        let seen = Observation { paused, provisioned, state: report.state.as_ref(), generation: self.metadata.generation };
        status.contract.tell(contract, &conditions::LOAD_BALANCER, &seen, now);
        if provisioned {
            status.backends.clone_from(&report.backends);
        }
        status
    }

    async fn step(&mut self, context: &Context) -> Result<Step<Report>, Error> {
        let objects = Objects::read(self, context).await?;
        let scope = match scope(&objects) {
            Ok(scope) => scope,
            Err(step) => return Ok(step),
        };
        let client = context.identities.connect(&scope.namespace, scope.object.spec.secret_ref.as_ref()).await?;
        match plan(&scope, &Observed::read(&scope, &client).await?) {
            Next::Step(step) => Ok(step),
            Next::Act(action) => reconcile::perform(self, &action, &client, &scope.balancer, context).await,
            Next::Serve { configuration, address } => {
                load_balancer::serve(&client, &scope.balancer, &configuration, &address).await?;
                Ok(Step::Again)
            }
        }
    }
}

impl Objects {
    async fn read(object: &LXCCluster, context: &Context) -> Result<Self, kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let Some(name) = core::owner::<Cluster>(&object.metadata) else {
            return Ok(Self { object: object.clone(), cluster: None, leaving: Vec::new() });
        };
        let cluster = context.api::<Cluster>(&namespace).get_opt(name).await?;
        let of_cluster = ListParams::default().labels(&format!("{CLUSTER_LABEL}={name}"));
        let machines = context.api::<Machine>(&namespace).list(&of_cluster).await?.items.into_iter();
        // Its API server fails as soon as its etcd is no member, which is long before its LXCMachine goes.
        let leaving = machines.filter(|machine| machine.metadata.deletion_timestamp.is_some());
        let leaving = leaving.map(|machine| machine.spec.infrastructure_ref.name).collect();
        Ok(Self { object: object.clone(), cluster, leaving })
    }
}

/// The cluster, if there is something to do in LXD; if not, what comes first.
fn scope(objects: &Objects) -> Result<Scope<'_>, Step<Report>> {
    let object = &objects.object;
    let finalized = reconcile::is_finalized(object);
    if core::is_externally_managed(&object.metadata) || object.metadata.deletion_timestamp.is_some() && !finalized {
        return Err(Step::Rest(None));
    }
    let Some(cluster) = &objects.cluster else {
        let waiting = Cause::Waiting("WaitingForOwner");
        return Err(Step::Rest(Some(Report::from(ConditionState::new(waiting, "no Cluster owns this object yet")))));
    };
    if core::is_paused(cluster, &object.metadata) {
        return Err(Step::Rest(Some(Report { paused: true, ..Report::default() })));
    }
    let namespace = object.namespace().unwrap_or_default();
    Ok(Scope {
        object,
        balancer: load_balancer::name(&object.name_any(), &namespace),
        namespace,
        cluster: cluster.metadata.name.as_deref().unwrap_or_default(),
        leaving: &objects.leaving,
    })
}

impl Scope<'_> {
    fn owner(&self) -> Owner<'_> {
        Owner { cluster: self.cluster, namespace: &self.namespace }
    }

    fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// The load balancer that is the provider's to make, if it is.
    fn haproxy(&self) -> Option<&HaproxyBalancer> {
        match &self.object.spec.load_balancer {
            LoadBalancer::Lxc(haproxy) => Some(haproxy),
            _ => None,
        }
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.object.spec.control_plane_endpoint.as_ref().filter(|endpoint| !endpoint.host.is_empty())
    }

    /// What LXD makes the load balancer of.
    fn body(&self, haproxy: &HaproxyBalancer) -> Value {
        let spec = &haproxy.instance_spec;
        let mut body = json!({
            "name": self.balancer,
            "type": "container",
            "profiles": spec.profiles,
            "config": self.owner().marks(Role::LoadBalancer, None),
            "source": ImageSource::of_load_balancer(&spec.image).body(),
        });
        if !spec.flavor.is_empty() {
            body["instance_type"] = json!(spec.flavor);
        }
        body
    }
}

impl Observed {
    async fn read(scope: &Scope<'_>, client: &Client) -> Result<Self, lxd::Error> {
        let now = Timestamp::now();
        let mut seen = Self { clustered: client.server().environment.server_clustered, ..Self::default() };
        let Some(haproxy) = scope.haproxy() else { return Ok(seen) };
        seen.instance = instance::find(client, &scope.balancer).await?;
        match &seen.instance {
            Some(instance) if instance.status == "Running" => {
                seen.addresses = instance::addresses_of(client, &scope.balancer).await?;
                seen.balancer_is_late = instance::look_again(instance, &seen.addresses, instance::LOAD_BALANCER_PATIENCE, now);
            }
            Some(_) => {}
            None if scope.is_deleted() => {}
            None => {
                let source = ImageSource::of_load_balancer(&haproxy.instance_spec.image);
                seen.missing = instance::missing(client, Some(&source), &haproxy.instance_spec.profiles).await?;
            }
        }
        if scope.is_deleted() {
            return Ok(seen);
        }
        let machines = client.list::<Instance>().await?.into_iter();
        let machines =
            machines.filter(|instance| instance.status == "Running" && scope.owner().has(&instance.config, Role::ControlPlane));
        for machine in machines {
            let addresses = instance::addresses_of(client, &machine.name).await?;
            let late = instance::look_again(&machine, &addresses, instance::MACHINE_PATIENCE, now);
            seen.machine_is_late = seen.machine_is_late.into_iter().chain(late).min();
            seen.control_plane.extend(addresses.into_iter().next().map(|address| (machine.name, address)));
        }
        Ok(seen)
    }
}

/// What comes next.
fn plan(scope: &Scope<'_>, seen: &Observed) -> Next {
    let rest = |cause, message: &str| Next::Step(Step::Rest(Some(Report::from(ConditionState::new(cause, message)))));
    if scope.is_deleted() {
        return delete(scope, seen);
    }
    if !reconcile::is_finalized(scope.object) {
        return Next::Step(Step::Edit(Edit::AddFinalizer));
    }
    if scope.object.spec.cloud_provider_node_patch {
        let instead = "this stand-in patches no nodes: give kubelet its provider-id, which is lxc:/// and the machine's name";
        return rest(Cause::Aborted, instead);
    }
    let ready = Report { provisioned: true, ..Report::from(ConditionState::provisioned()) };
    match &scope.object.spec.load_balancer {
        LoadBalancer::Lxc(haproxy) => run(scope, haproxy, seen, ready),
        LoadBalancer::External(_) if scope.endpoint().is_some() => Next::Step(Step::Rest(Some(ready))),
        LoadBalancer::External(_) => {
            rest(Cause::Failed, "with loadBalancer.external, spec.controlPlaneEndpoint has to name the host")
        }
        _ => rest(Cause::Aborted, "this stand-in knows loadBalancer.lxc and loadBalancer.external"),
    }
}

fn run(scope: &Scope<'_>, haproxy: &HaproxyBalancer, seen: &Observed, ready: Report) -> Next {
    let failed = |message: String| Next::Step(Step::Rest(Some(Report::from(ConditionState::new(Cause::Failed, message)))));
    let mut staying = seen.control_plane.clone();
    staying.retain(|machine, _| !scope.leaving.contains(machine));
    // Cluster API drains even the last one through here. It may go whenever it likes, so it is not reported.
    let backends = if staying.is_empty() { &seen.control_plane } else { &staying };
    let custom = haproxy.custom_haproxy_config_template.as_deref();
    let configuration = match load_balancer::configuration(custom, backends, !haproxy.disable_healthz_check) {
        Ok(configuration) => configuration,
        Err(error) => return failed(format!("customHAProxyConfigTemplate: {error}")),
    };
    let Some(instance) = &seen.instance else {
        if let Some(missing) = &seen.missing {
            return failed(missing.clone());
        }
        let target = Some(&haproxy.instance_spec.target).filter(|target| seen.clustered && !target.is_empty());
        return Next::Act(InstanceAction::Create { body: scope.body(haproxy), target: target.cloned() });
    };
    if !scope.owner().has(&instance.config, Role::LoadBalancer) {
        let Scope { balancer, cluster, namespace, .. } = scope;
        return failed(format!(
            "there is an instance {balancer} that is no load balancer of cluster {cluster} in namespace {namespace}"
        ));
    }
    if instance.status != "Running" {
        return Next::Act(InstanceAction::Start);
    }
    let known = scope.endpoint().map(|endpoint| &endpoint.host);
    let known_address = known.filter(|host| host.parse::<IpAddr>().is_ok());
    // After a restart the addresses come one by one, and LXD tells of none.
    if seen.addresses.is_empty() || known_address.is_some_and(|address| !seen.addresses.contains(address)) {
        return Next::Act(InstanceAction::AwaitAddress(known_address.cloned()));
    }
    let Some(address) = known.or(seen.addresses.first()) else {
        return Next::Act(InstanceAction::AwaitAddress(None));
    };
    if let (None, Some(pause)) = (known, seen.balancer_is_late) {
        // What clients know is never changed, and by itself it listens on IPv4 alone.
        let waiting = ConditionState::new(Cause::Waiting("CreatingInstance"), "the load balancer has no IPv4 address yet");
        return Next::Step(Step::RestFor(pause, Report::from(waiting)));
    }
    if instance.config.get(load_balancer::SERVED_KEY) != Some(&load_balancer::digest(&configuration)) {
        return Next::Serve { configuration, address: address.clone() };
    }
    if known.is_none() {
        let endpoint = Endpoint { host: address.clone(), port: API_PORT.into() };
        return Next::Step(Step::Edit(Edit::Merge(json!({"spec": {"controlPlaneEndpoint": endpoint}}))));
    }
    let report = Report { backends: Some(staying.into_keys().collect()), ..ready };
    Next::Step(match seen.machine_is_late {
        Some(pause) => Step::RestFor(pause, report),
        None => Step::Rest(Some(report)),
    })
}

fn delete(scope: &Scope<'_>, seen: &Observed) -> Next {
    match &seen.instance {
        Some(instance) if scope.owner().has(&instance.config, Role::LoadBalancer) => {
            Next::Act(if instance.status == "Stopped" { InstanceAction::Delete } else { InstanceAction::Stop })
        }
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
