//! Clusters: a way to the control plane.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use lxd::{Client, Instance, Server};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{API_PORT, Endpoint, FailureDomain, HaproxyBalancer, Image, Initialization, LXCCluster, LXCClusterStatus, LoadBalancer},
    balancer,
    capi::{self, CLUSTER_LABEL, Cluster, Machine},
    conditions::{self, Verdict},
    context::{Context, Error},
    deed::Deed,
    instance::{self, Invalid, Owner, Role, Source},
    reconcile::{self, Edit, Managed, Step},
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
struct Subject<'a> {
    object: &'a LXCCluster,
    namespace: String,
    cluster: &'a str,
    /// The name of the load balancer's instance.
    balancer: String,
    leaving: &'a [String],
}

/// What LXD knows.
#[derive(Clone, Default)]
struct Seen {
    server: Server,
    members: Vec<String>,
    instance: Option<Instance>,
    addresses: Vec<String>,
    /// What a new load balancer would need and LXD lacks.
    lacking: Option<Verdict>,
    /// Running control plane machines, each with its address.
    control_plane: BTreeMap<String, String>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
enum Next {
    Do(Deed),
    Serve(Serving),
    Step(Step<Report>),
}

/// What haproxy is to serve, and where.
#[derive(Debug, PartialEq)]
struct Serving {
    configuration: String,
    address: String,
    port: u16,
}

/// What is to be said of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    paused: bool,
    verdict: Option<Verdict>,
    provisioned: bool,
    backends: Option<Vec<String>>,
    failure_domains: Vec<String>,
}

impl Managed for LXCCluster {
    type Status = LXCClusterStatus;
    type Report = Report;

    fn published(&self) -> Option<&LXCClusterStatus> {
        self.status.as_ref()
    }

    fn status(&self, report: &Report, now: Timestamp) -> LXCClusterStatus {
        let mut status = self.status.clone().unwrap_or_default();
        let generation = self.metadata.generation;
        conditions::tell(
            &mut status.conditions,
            conditions::LOAD_BALANCER,
            report.paused,
            report.verdict.as_ref(),
            generation,
            now,
        );
        if report.provisioned {
            status.initialization = Some(Initialization { provisioned: true });
            let domain = |name: &String| FailureDomain { name: name.clone(), control_plane: true };
            status.failure_domains = report.failure_domains.iter().map(domain).collect();
            status.backends.clone_from(&report.backends);
        }
        status
    }

    async fn step(&mut self, context: &Context) -> Result<Step<Report>, Error> {
        let objects = Objects::read(self, context).await?;
        let subject = match gate(&objects) {
            Ok(subject) => subject,
            Err(step) => return Ok(step),
        };
        let client = context.identities.connect(&subject.namespace, &subject.object.spec.secret_ref.name).await?;
        match plan(&subject, &Seen::read(&subject, &client).await?) {
            Next::Step(step) => Ok(step),
            Next::Do(deed) => reconcile::perform(self, &deed, &client, &subject.balancer, context).await,
            Next::Serve(Serving { configuration, address, port }) => {
                balancer::serve(&client, &subject.balancer, &configuration, &address, port).await?;
                Ok(Step::Again)
            }
        }
    }
}

impl Objects {
    async fn read(object: &LXCCluster, context: &Context) -> Result<Self, kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let Some(name) = capi::owner::<Cluster>(&object.metadata) else {
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

/// Whether there is something to do in LXD; if not, what comes first.
fn gate(objects: &Objects) -> Result<Subject<'_>, Step<Report>> {
    let object = &objects.object;
    let (goes, finalized) = (object.metadata.deletion_timestamp.is_some(), reconcile::is_finalized(object));
    if capi::is_externally_managed(&object.metadata) || goes && !finalized {
        return Err(Step::Rest(None));
    }
    let Some(cluster) = &objects.cluster else {
        return Err(Step::Rest(Some(Report::from(Verdict::no("WaitingForOwner", "no Cluster owns this object yet")))));
    };
    if capi::is_paused(cluster, &object.metadata) {
        return Err(Step::Rest(Some(Report { paused: true, ..Report::default() })));
    }
    if !finalized {
        return Err(Step::Edit(Edit::AddFinalizer));
    }
    let namespace = object.namespace().unwrap_or_default();
    let balancer = balancer::name(&object.name_any(), &namespace);
    Ok(Subject {
        object,
        balancer,
        namespace,
        cluster: cluster.metadata.name.as_deref().unwrap_or_default(),
        leaving: &objects.leaving,
    })
}

impl Subject<'_> {
    fn owner(&self) -> Owner<'_> {
        Owner { cluster: self.cluster, namespace: &self.namespace }
    }

    fn goes(&self) -> bool {
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

    fn port(&self) -> i32 {
        let given = self.object.spec.control_plane_endpoint.as_ref().map(|endpoint| endpoint.port);
        given.filter(|port| *port > 0).unwrap_or(API_PORT)
    }
}

fn source(haproxy: &HaproxyBalancer, server: &Server) -> Result<Source, Invalid> {
    let mut image = haproxy.instance_spec.image.clone();
    if image.is_empty() {
        image = Image { name: balancer::IMAGE.to_owned(), ..image };
    }
    Source::of(&image, None, server)
}

#[derive(Deserialize)]
struct Member {
    server_name: String,
}

impl Seen {
    async fn read(subject: &Subject<'_>, client: &Client) -> Result<Self, lxd::Error> {
        let mut seen = Self { server: client.server().clone(), ..Self::default() };
        if client.server().environment.server_clustered {
            let members: Vec<Member> = client.get("cluster/members?recursion=1").await?.object;
            seen.members = members.into_iter().map(|member| member.server_name).collect();
        }
        let Some(haproxy) = subject.haproxy() else { return Ok(seen) };
        seen.instance = instance::find(client, &subject.balancer).await?;
        match &seen.instance {
            Some(instance) if instance.status == "Running" => {
                seen.addresses = instance::addresses_of(client, &subject.balancer).await?;
            }
            Some(_) => {}
            None => {
                let source = source(haproxy, client.server());
                seen.lacking = instance::lacking(client, source.ok().as_ref(), &haproxy.instance_spec.profiles).await?;
            }
        }
        let machines = client.list::<Instance>().await?.into_iter();
        let machines =
            machines.filter(|instance| instance.status == "Running" && subject.owner().has(&instance.config, Role::ControlPlane));
        for machine in machines {
            let addresses = instance::addresses_of(client, &machine.name).await?;
            seen.control_plane.extend(addresses.into_iter().next().map(|address| (machine.name, address)));
        }
        Ok(seen)
    }
}

/// What comes next.
fn plan(subject: &Subject<'_>, seen: &Seen) -> Next {
    let rest = |verdict| Next::Step(Step::Rest(Some(Report::from(verdict))));
    if subject.goes() {
        return go(subject, seen);
    }
    if subject.object.spec.cloud_provider_node_patch {
        let instead = "this stand-in patches no nodes: give kubelet its provider-id, which is lxc:/// and the machine's name";
        return rest(Verdict::no("NodePatchUnsupported", instead));
    }
    let ready = || Report { provisioned: true, failure_domains: seen.members.clone(), ..Report::from(Verdict::yes("Provisioned")) };
    match &subject.object.spec.load_balancer {
        LoadBalancer::Lxc(haproxy) => run(subject, haproxy, seen, ready()),
        LoadBalancer::External(_) if subject.endpoint().is_some() => Next::Step(Step::Rest(Some(ready()))),
        LoadBalancer::External(_) => {
            rest(Verdict::no("EndpointMissing", "with loadBalancer.external, spec.controlPlaneEndpoint has to name the host"))
        }
        _ => rest(Verdict::no("LoadBalancerUnsupported", "this stand-in knows loadBalancer.lxc and loadBalancer.external")),
    }
}

fn run(subject: &Subject<'_>, haproxy: &HaproxyBalancer, seen: &Seen, ready: Report) -> Next {
    let name = &subject.balancer;
    let rest = |verdict| Next::Step(Step::Rest(Some(Report::from(verdict))));
    let mut staying = seen.control_plane.clone();
    staying.retain(|machine, _| !subject.leaving.contains(machine));
    // Cluster API drains even the last one through here. It may go whenever it likes, so it is not reported.
    let backends = if staying.is_empty() { &seen.control_plane } else { &staying };
    let custom = haproxy.custom_haproxy_config_template.as_deref();
    let configuration = match balancer::configuration(custom, subject.port(), backends, !haproxy.disable_healthz_check) {
        Ok(configuration) => configuration,
        Err(error) => return rest(Verdict::no("TemplateInvalid", format!("customHAProxyConfigTemplate: {error}"))),
    };
    let Some(instance) = &seen.instance else {
        if let Some(lacking) = &seen.lacking {
            return rest(lacking.clone());
        }
        return match body(subject, haproxy, &seen.server) {
            Ok(body) => Next::Do(Deed::Create {
                body,
                target: Some(haproxy.instance_spec.target.clone()).filter(|target| !target.is_empty()),
            }),
            Err(invalid) => rest(Verdict::no(invalid.reason(), invalid.to_string())),
        };
    };
    if !subject.owner().has(&instance.config, Role::LoadBalancer) {
        let message = format!(
            "there is an instance {name} that is no load balancer of cluster {} in namespace {}",
            subject.cluster, subject.namespace
        );
        return rest(Verdict::no("InstanceNameTaken", message));
    }
    if instance.status != "Running" {
        return Next::Do(Deed::Start);
    }
    let Some(first) = seen.addresses.first() else { return Next::Do(Deed::AwaitAddress) };
    if let Some(lost) = subject
        .endpoint()
        .filter(|endpoint| endpoint.host.parse::<std::net::IpAddr>().is_ok() && !seen.addresses.contains(&endpoint.host))
    {
        let message = format!(
            "the load balancer {name} has the addresses {}, and the control plane is at {} for good",
            seen.addresses.join(", "),
            lost.host
        );
        return rest(Verdict::no("EndpointLost", message));
    }
    if instance.config.get(balancer::SERVED_KEY) != Some(&balancer::digest(&configuration)) {
        let address = subject.endpoint().map_or(first, |endpoint| &endpoint.host).clone();
        return Next::Serve(Serving { configuration, address, port: u16::try_from(subject.port()).unwrap_or_default() });
    }
    if subject.endpoint().is_none() {
        let endpoint = Endpoint { host: first.clone(), port: subject.port() };
        return Next::Step(Step::Edit(Edit::Merge(json!({"spec": {"controlPlaneEndpoint": endpoint}}))));
    }
    Next::Step(Step::Rest(Some(Report { backends: Some(staying.into_keys().collect()), ..ready })))
}

fn body(subject: &Subject<'_>, haproxy: &HaproxyBalancer, server: &Server) -> Result<Value, Invalid> {
    let spec = &haproxy.instance_spec;
    let mut body = json!({
        "name": subject.balancer,
        "type": "container",
        "profiles": spec.profiles,
        "config": subject.owner().marks(Role::LoadBalancer, None),
        "source": source(haproxy, server)?.body(),
    });
    if !spec.flavor.is_empty() {
        body["instance_type"] = json!(spec.flavor);
    }
    Ok(body)
}

fn go(subject: &Subject<'_>, seen: &Seen) -> Next {
    match &seen.instance {
        Some(instance) if subject.owner().has(&instance.config, Role::LoadBalancer) => {
            Next::Do(if instance.status == "Stopped" { Deed::Delete } else { Deed::Stop })
        }
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
