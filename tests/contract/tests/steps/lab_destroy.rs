//! `lab_destroy` against every LXD, with plain instances that carry the keys which Cluster API's provider writes.

#![allow(clippy::expect_used, clippy::panic)]

use std::{fs, path::PathBuf};

use contract::trial::{self, Fault, assert_same};
use contract::{Kubernetes, Lxd, Outcome, SelfSigned, Step, Substrate};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    removes_one_workload_cluster,
    needs_no_management_cluster_that_is_dead,
    keeps_everything_on_a_doubt,
    does_without_an_owner_that_goes_too,
    leaves_alone_what_is_a_persons,
    takes_trust_back_and_no_other,
    removes_what_is_half_there,
    goes_on_where_a_killed_run_stopped,
    waits_for_lxd,
    names_bad_options,
);

const NAMESPACE: &str = "capi-clusters";
const CLUSTERS: &str = "/apis/cluster.x-k8s.io/v1beta2/clusters";
const MACHINES: &str = "/apis/cluster.x-k8s.io/v1beta2/machines";
const CLASSES: &str = "/apis/cluster.x-k8s.io/v1beta2/clusterclasses";
const TEMPLATES: &str = "/apis/infrastructure.cluster.x-k8s.io/v1alpha2/lxcclustertemplates";
const MANAGEMENT: &str = "mgmt-1";
const PHASE_KEY: &str = "user.k8slab.phase";

/// A lab: its substrate, and what the host has of its clusters.
struct Site<'a> {
    lxd: &'a Lxd,
    substrate: Substrate<'a>,
    opt: TempDir,
}

impl<'a> Site<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        let substrate = Substrate::for_instances(lxd);
        lxd.configure_project(PHASE_KEY, "cleaned");
        Self { substrate, opt: TempDir::with_prefix("lab-").expect("make a folder for the lab"), lxd }
    }

    fn step(&self, scope: &str) -> Step {
        self.lxd.step("lab_destroy").args(json!({
            "scope": scope, "project": self.lxd.name("p"), "internal_network_name": self.lxd.network_name(0),
            "storage_pool_name": self.lxd.name("p"), "opt_root": self.opt.path(), "timeout": 60,
        }))
    }

    fn workload(&self, name: &str) -> Step {
        self.step("workload").args(json!({"name": name}))
    }

    fn instance(&self, name: &str, config: &Value, runs: bool) {
        let body = json!({
            "name": name, "config": config, "profiles": ["capi-base", "capi-bootstrap"], "source": {"type": "image", "alias": "tiny"},
        });
        self.substrate.write("POST", "instances", &body);
        if runs {
            self.substrate.write("PUT", &format!("instances/{name}/state"), &json!({"action": "start", "timeout": 30}));
        }
    }

    /// A cluster of one instance, published, with its kubeconfig on the host.
    fn cluster(&self, name: &str, runs: bool) {
        let config = json!({"user.cluster-name": name, "user.cluster-namespace": NAMESPACE, "user.cluster-role": "control-plane"});
        self.instance(&format!("{name}-x1"), &config, runs);
        self.publish(name);
        for file in ["kubeconfig", "external.kubeconfig"] {
            self.keep(&format!("{name}.{file}"), "a key");
        }
    }

    fn keep(&self, file: &str, text: &str) {
        let path = self.kubeconfig(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder of the kubeconfigs");
        fs::write(path, text).expect("write a kubeconfig");
    }

    fn kubeconfig(&self, file: &str) -> PathBuf {
        self.opt.path().join("etc/clusters").join(NAMESPACE).join(file)
    }

    fn has_kubeconfig(&self, cluster: &str) -> bool {
        self.kubeconfig(&format!("{cluster}.kubeconfig")).exists()
    }

    /// The management cluster, whose API has these clusters.
    fn management(&self, clusters: &[&str]) -> Kubernetes {
        self.cluster(MANAGEMENT, true);
        let api = Kubernetes::start(&[CLUSTERS, MACHINES, CLASSES, TEMPLATES]);
        self.keep("mgmt-1.kubeconfig", &api.kubeconfig());
        for name in clusters.iter().chain([&MANAGEMENT]) {
            let object =
                json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"uid": format!("uid-of-{name}")}});
            api.put(&cluster_path(name), object);
        }
        api
    }

    /// A port of the first address of the network, as `cluster_publish` makes it.
    fn publish(&self, cluster: &str) {
        let (address, target) = self.address();
        let port = json!({
            "description": format!("k8slab: API of {}/{NAMESPACE}/{cluster}", self.lxd.name("p")), "protocol": "tcp",
            "listen_port": (20000 + self.ports().len()).to_string(), "target_port": "6443", "target_address": target,
        });
        let path = format!("/1.0/networks/{}/forwards", self.lxd.network_name(0));
        match self.lxd.forwards(&self.lxd.network_name(0)).into_iter().next() {
            None => {
                let body = json!({"listen_address": address, "config": {"user.k8slab.role": "api"}, "ports": [port]});
                self.lxd.rest().write("POST", &path, &body);
            }
            Some(mut forward) => {
                forward["ports"].as_array_mut().expect("a list of ports").push(port);
                let body = json!({"description": "", "config": forward["config"], "ports": forward["ports"]});
                self.lxd.rest().write("PUT", &format!("{path}/{address}"), &body);
            }
        }
    }

    fn address(&self) -> (String, String) {
        let network = self.lxd.rest().get(&format!("/1.0/networks/{}", self.lxd.network_name(0)));
        let own =
            network["config"]["ipv4.address"].as_str().and_then(|cidr| cidr.split('/').next()).expect("an address").to_owned();
        let target = own.rsplit_once('.').map(|(subnet, _)| format!("{subnet}.77")).expect("an IPv4 address");
        (own, target)
    }

    /// The clusters that are published.
    fn ports(&self) -> Vec<String> {
        let forwards = self.lxd.forwards(&self.lxd.network_name(0));
        let ports = forwards.iter().flat_map(|forward| forward["ports"].as_array().into_iter().flatten());
        let name = |port: &Value| port["description"].as_str().and_then(|text| text.rsplit('/').next()).map(str::to_owned);
        ports.filter_map(name).collect()
    }

    fn instances(&self) -> Vec<String> {
        let Value::Array(paths) = self.substrate.get("instances") else { return Vec::new() };
        let name = |path: &Value| path.as_str().and_then(|path| path.rsplit('/').next()?.split('?').next()).map(str::to_owned);
        let mut names: Vec<_> = paths.iter().filter_map(name).collect();
        names.sort();
        names
    }

    /// Nobody brought the tiny image with the lab's own step, so to the step it is somebody's.
    fn drop_image(&self) {
        let images = self.substrate.get("images");
        for path in images.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let fingerprint = path.rsplit('/').next().and_then(|end| end.split('?').next()).expect("a fingerprint");
            self.substrate.write("DELETE", &format!("images/{fingerprint}"), &Value::Null);
        }
    }
}

fn cluster_path(name: &str) -> String {
    format!("/apis/cluster.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/clusters/{name}")
}

/// The paths of the class that the release of a cluster has made, and of its template.
fn class_paths(cluster: &str) -> [String; 2] {
    let path =
        |kind: &str| kind.rsplit_once('/').map(|(group, plural)| format!("{group}/namespaces/{NAMESPACE}/{plural}/{cluster}-1"));
    [CLASSES, TEMPLATES].map(|kind| path(kind).expect("a group and a plural"))
}

/// The class of a cluster, as its release has made it and Helm has kept it.
fn put_class(api: &Kubernetes, cluster: &str) {
    let (group, name) = ("infrastructure.cluster.x-k8s.io/v1alpha2", format!("{cluster}-1"));
    let metadata = |kind: &str| json!({"uid": format!("{kind}-of-{cluster}"), "annotations": {"meta.helm.sh/release-name": format!("{cluster}-class")}});
    let template = json!({"apiVersion": group, "kind": "LXCClusterTemplate", "name": name});
    let [class, own] = class_paths(cluster);
    api.put(
        &class,
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "ClusterClass", "metadata": metadata("class"),
            "spec": {"infrastructure": {"templateRef": template}},
        }),
    );
    api.put(&own, json!({"apiVersion": group, "kind": "LXCClusterTemplate", "metadata": metadata("template")}));
}

fn kept(outcome: &Outcome) -> Vec<String> {
    let kept = outcome.json["kept"].as_array().into_iter().flatten();
    kept.map(|kept| format!("{}: {}", kept["what"].as_str().unwrap_or_default(), kept["why"].as_str().unwrap_or_default()))
        .collect()
}

fn removes_one_workload_cluster(lxd: &Lxd) {
    let site = Site::new(lxd);
    let api = site.management(&["lab", "lab-2"]);
    for cluster in ["lab", "lab-2"] {
        site.cluster(cluster, false);
        put_class(&api, cluster);
    }
    let foreseen = site.workload("lab").check().expect_changed();
    assert_eq!(api.writes(), Vec::<String>::new(), "check mode deletes nothing");
    assert_eq!(site.instances(), ["lab-2-x1", "lab-x1", "mgmt-1-x1"]);
    let done = site.workload("lab").run().expect_changed();
    assert_same(&json!(foreseen.diff()), &json!(done.diff()), "check mode foresees what a run does");
    assert_eq!(done.json["changes"][0], "delete cluster capi-clusters/lab by the management cluster");
    assert_eq!(done.json["changes"][1], "delete ClusterClass lab-1, LXCClusterTemplate lab-1 of cluster capi-clusters/lab");
    let [class, template] = class_paths("lab");
    assert_eq!(api.writes(), [cluster_path("lab"), class, template].map(|path| format!("DELETE {path}")));
    // Nothing answers as the infrastructure provider here, so the instance is one that it has left.
    assert_eq!(site.instances(), ["lab-2-x1", "mgmt-1-x1"]);
    assert_eq!(site.ports(), ["mgmt-1", "lab-2"]);
    assert_eq!(["lab", "lab-2", MANAGEMENT].map(|cluster| site.has_kubeconfig(cluster)), [false, true, true]);
    trial::changes_nothing(lxd, &site.workload("lab"));
    site.workload(MANAGEMENT).run().expect_code("DESTROY_NO_WORKLOAD");

    let done = site.step("management").run().expect_changed();
    assert_eq!(done.json["changes"][0], "delete cluster capi-clusters/lab-2 by the management cluster");
    assert_eq!((site.instances(), site.ports()), (Vec::new(), Vec::new()));
    assert!(!site.has_kubeconfig(MANAGEMENT) && !site.has_kubeconfig("lab-2"));
    assert_eq!(api.writes().len(), 4, "the management cluster does not delete itself: {:?}", api.writes());
    trial::changes_nothing(lxd, &site.step("management"));
}

fn needs_no_management_cluster_that_is_dead(lxd: &Lxd) {
    let site = Site::new(lxd);
    for cluster in ["lab", "lab-2"] {
        site.cluster(cluster, cluster == "lab");
    }
    // Its load balancer alone carries no cluster.
    let config = json!({"user.cluster-name": MANAGEMENT, "user.cluster-namespace": NAMESPACE, "user.cluster-role": "loadbalancer"});
    site.instance("mgmt-1-lb", &config, true);
    site.keep("mgmt-1.kubeconfig", &Kubernetes::start(&[]).kubeconfig());
    trial::foresees_and_does(lxd, &site.workload("lab"));
    assert_eq!(site.instances(), ["lab-2-x1", "mgmt-1-lb"]);
    trial::changes_nothing(lxd, &site.workload("lab"));
    trial::foresees_and_does(lxd, &site.step("clusters"));
    assert_eq!((site.instances(), site.ports()), (Vec::new(), Vec::new()));
    assert!(!site.has_kubeconfig(MANAGEMENT));
    trial::changes_nothing(lxd, &site.step("clusters"));
}

fn keeps_everything_on_a_doubt(lxd: &Lxd) {
    let site = Site::new(lxd);
    drop(site.management(&["lab"]));
    site.cluster("lab", false);
    let hurried = |step: Step| step.args(json!({"timeout": 5}));
    for step in [hurried(site.workload("lab")), hurried(site.step("workloads"))] {
        for outcome in [step.run(), step.check()] {
            outcome.expect_code("DESTROY_OWNER_SILENT").expect_words("capi-clusters/lab").expect_words("scope: management");
        }
    }
    site.substrate.write("PUT", "instances/mgmt-1-x1/state", &json!({"action": "stop", "force": true, "timeout": 30}));
    site.workload("lab").run().expect_code("DESTROY_OWNER_SILENT").expect_words("mgmt-1-x1 is Stopped");
    assert_eq!((site.instances().len(), site.ports().len(), site.has_kubeconfig("lab")), (2, 2, true), "nothing is removed");

    site.workload("lab").args(json!({"force": true})).run().expect_changed();
    assert_eq!((site.instances(), site.ports()), (vec!["mgmt-1-x1".to_owned()], vec![MANAGEMENT.to_owned()]));
    let said = site.step("clusters").run().expect_changed().json.to_string();
    assert!(!said.contains("certificate-authority-data"), "no secret is told");
    assert_eq!(site.instances(), Vec::<String>::new());
}

fn does_without_an_owner_that_goes_too(lxd: &Lxd) {
    let site = Site::new(lxd);
    let api = site.management(&["lab"]);
    site.cluster("lab", true);
    api.refuse_next_write(500, "no webhook answers");
    site.workload("lab").run().expect_code("CLUSTER_NOT_DELETED").expect_words("no webhook answers");
    assert_eq!((site.instances().len(), site.has_kubeconfig("lab")), (2, true), "its owner may still delete it");
    api.refuse_next_write(500, "no webhook answers");
    site.step("management").run().expect_changed();
    assert_eq!((site.instances(), site.ports()), (Vec::new(), Vec::new()));
    trial::changes_nothing(lxd, &site.step("management"));
}

fn leaves_alone_what_is_a_persons(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.cluster("lab", true);
    site.instance("lab-mine", &json!({"user.cluster-name": "lab"}), true);
    site.instance("capi-bootstrap-0", &json!({"user.k8slab.role": "bootstrap"}), false);
    site.drop_image();
    let done = site.step("all").run().expect_changed();
    let (project, network) = (lxd.name("p"), lxd.network_name(0));
    let expected = [
        format!("instance lab-mine in project {project}: it is not the lab's"),
        format!("project {project}: what is not the lab's is in it"),
        format!("network {network}: project {project} stays"),
        format!("storage pool {project}: project {project} stays"),
    ];
    assert_eq!(kept(&done), expected);
    assert_eq!(site.instances(), ["lab-mine"]);
    assert_eq!(site.substrate.get("instances/lab-mine")["status"], "Running");
    assert!(done.json["warnings"].to_string().contains("lab-mine"), "{:#}", done.json);
    let again = trial::changes_nothing(lxd, &site.step("all"));
    assert_eq!(kept(&again), expected);

    site.substrate.write("PUT", "instances/lab-mine/state", &json!({"action": "stop", "force": true, "timeout": 30}));
    site.substrate.write("DELETE", "instances/lab-mine", &Value::Null);
    trial::foresees_and_does(lxd, &site.step("all"));
    let left = lxd.snapshot();
    assert_eq!([&left["projects"], &left["networks"], &left["pools"]], [&json!([]), &json!([]), &json!([])], "{left:#}");
    trial::changes_nothing(lxd, &site.step("all"));
}

fn takes_trust_back_and_no_other(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.drop_image();
    let rest = lxd.rest();
    let is_fine_grained = rest.get("/1.0")["api_extensions"].to_string().contains("\"access_management_tls\"");
    let [ours, theirs] = ["ours", "theirs"].map(|name| SelfSigned::of(&lxd.name(name)).certificate);
    let path = format!("/1.0/projects/{}", lxd.name("p"));
    if is_fine_grained {
        let permission = |url: &str| json!({"entity_type": "project", "url": url, "entitlement": "operator"});
        let mark = "k8slab: may use the instances of the lab's project";
        for (group, description, permissions) in [
            ("ours", mark, vec![permission(&path)]),
            ("wider", mark, vec![permission(&path), permission("/1.0/projects/default")]),
            ("theirs", "of a person", vec![permission(&path)]),
        ] {
            let body = json!({"name": lxd.name(group), "description": description, "permissions": permissions});
            rest.write("POST", "/1.0/auth/groups", &body);
        }
        for (name, certificate, groups) in [("ours", &ours, vec!["ours"]), ("theirs", &theirs, vec!["ours", "theirs"])] {
            let groups: Vec<_> = groups.into_iter().map(|group| lxd.name(group)).collect();
            let body = json!({"name": lxd.name(name), "certificate": certificate, "groups": groups});
            rest.write("POST", "/1.0/auth/identities/tls", &body);
        }
    } else {
        let projects = [("ours", &ours, vec![lxd.name("p")]), ("theirs", &theirs, vec![lxd.name("p"), "default".into()])];
        for (name, certificate, projects) in projects {
            let certificate: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
            let body = json!({"name": lxd.name(name), "type": "client", "certificate": certificate, "restricted": true, "projects": projects});
            rest.write("POST", "/1.0/certificates", &body);
        }
    }
    trial::foresees_and_does(lxd, &site.step("all"));
    let names = |path: &str| -> Vec<String> {
        let listed = rest.get(path);
        let names = listed.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str());
        let prefix = lxd.name("");
        names.filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    if is_fine_grained {
        assert_eq!(names("/1.0/auth/identities/tls?recursion=1"), ["theirs"]);
        assert_eq!(names("/1.0/auth/groups?recursion=1"), ["theirs", "wider"]);
    } else {
        assert_eq!(names("/1.0/certificates?recursion=1"), ["theirs"]);
    }
    trial::changes_nothing(lxd, &site.step("all"));
}

fn removes_what_is_half_there(lxd: &Lxd) {
    let site = Site::new(lxd);
    // Of one cluster only a kubeconfig, of another a port; no bootstrap instance, and its kubeconfig.
    site.keep("gone.kubeconfig", "a key");
    site.publish("gone-2");
    let bootstrap = site.opt.path().join("etc/bootstrap_clusterctl");
    fs::create_dir_all(&bootstrap).expect("make a folder");
    fs::write(bootstrap.join("bootstrap.kubeconfig"), "a key").expect("write the kubeconfig");
    trial::foresees_and_does(lxd, &site.step("clusters"));
    assert_eq!((site.ports(), site.has_kubeconfig("gone")), (Vec::new(), false));
    assert!(!bootstrap.join("bootstrap.kubeconfig").exists());
    // The pool is another's by its description, and the project is gone.
    let pool = format!("/1.0/storage-pools/{}", lxd.name("p"));
    lxd.rest().write("PATCH", &pool, &json!({"description": "mine"}));
    site.drop_image();
    let done = trial::foresees_and_does(lxd, &site.step("all"));
    assert_eq!(kept(&done), [format!("storage pool {}: its description is not the lab's", lxd.name("p"))]);
    let left = lxd.snapshot();
    assert_eq!([&left["projects"], &left["networks"]], [&json!([]), &json!([])], "{left:#}");
    let marked = site.step("all").args(json!({"descriptions": ["mine"]}));
    trial::foresees_and_does(lxd, &marked);
    assert_eq!(lxd.snapshot()["pools"], json!([]));
    trial::changes_nothing(lxd, &marked);
}

fn goes_on_where_a_killed_run_stopped(lxd: &Lxd) {
    let site = Site::new(lxd);
    trial::goes_on_after_faults(lxd, &site.step("clusters"), &[Fault::KilledBefore, Fault::KilledAfter, Fault::Refused], |lxd| {
        lxd.configure_project(PHASE_KEY, "cleaned");
        for cluster in ["lab", MANAGEMENT] {
            if !site.instances().contains(&format!("{cluster}-x1")) {
                let config = json!({
                    "user.cluster-name": cluster, "user.cluster-namespace": NAMESPACE, "user.cluster-role": "control-plane",
                });
                site.instance(&format!("{cluster}-x1"), &config, false);
            }
            if !site.ports().contains(&cluster.to_owned()) {
                site.publish(cluster);
            }
            site.keep(&format!("{cluster}.kubeconfig"), "a key");
        }
    });
    assert!(!site.has_kubeconfig("lab") && !site.has_kubeconfig(MANAGEMENT));
}

/// Connections break as they do when LXD is restarted, at each request that changes something; and LXD is away for a while.
fn waits_for_lxd(lxd: &Lxd) {
    let site = Site::new(lxd);
    for nth in 1..=3 {
        site.cluster("lab", true);
        lxd.relay().reset();
        lxd.relay().on_write().nth(nth).cut_before();
        lxd.relay().on_write().nth(nth + 1).cut_after();
        lxd.relay().on("GET", "/1.0/projects/*").nth(2).refuse(503, "LXD is starting up");
        site.step("clusters").run().expect_changed();
        assert_eq!((site.instances(), site.ports()), (Vec::new(), Vec::new()), "cut at {nth}");
        trial::changes_nothing(lxd, &site.step("clusters"));
    }
}

fn names_bad_options(lxd: &Lxd) {
    let step = lxd.step("lab_destroy");
    trial::names_bad_options(
        lxd,
        &step,
        &[
            (json!({}), "OPTION_MISSING", "name"),
            (json!({"scope": "everything"}), "OPTION_INVALID", "scope"),
            (json!({"scope": "workload"}), "OPTION_MISSING", "name"),
            (json!({"scope": "workload", "name": "Lab_1"}), "OPTION_INVALID", "name"),
            (json!({"scope": "all", "project": "../x"}), "OPTION_INVALID", "project"),
        ],
    );
    let nowhere = Step::new("lab_destroy").args(json!({"scope": "all", "lxd_socket_path": "/nowhere/unix.socket"}));
    nowhere.run().expect_code("LXD_UNREACHABLE").expect_words("/nowhere/unix.socket");
}
