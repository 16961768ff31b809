//! `cluster_publish` against every LXD. The scripted one carries no packets: there the step does its work, and then has to say that
//! nothing answers.

#![allow(clippy::expect_used, clippy::panic)]

mod packets;

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU8, Ordering};

use contract::{Docker, Kubernetes, Lxd, Outcome, Step, Substrate, listen_inside};
use contract::{program, trial};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    publishes_at_both_families,
    leaves_forwards_of_others_alone,
    refuses_a_port_that_is_taken,
    says_when_docker_drops,
    needs_a_load_balancer,
    reads_the_port_of_the_cluster,
    obeys_the_project,
    needs_lxd,
    names_bad_options,
);

const CLUSTERS: &str = "/apis/cluster.x-k8s.io/v1beta2/clusters";
const NAMESPACE: &str = "lab";
const CLUSTER: &str = "mgmt-1";
const PORT: u16 = 25060;

/// A project with room for load balancers, and the cluster that holds their Clusters.
struct Site<'a> {
    lxd: &'a Lxd,
    substrate: Substrate<'a>,
    management: Kubernetes,
    folder: TempDir,
}

impl<'a> Site<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        static SITES: AtomicU8 = AtomicU8::new(1);
        let substrate = Substrate::for_instances(lxd);
        if lxd.scripted().is_some() {
            // Where the step looks for what nothing serves: at this machine, and at once.
            let gateway = format!("127.{}.{}.1/24", 192 + std::process::id() % 60, SITES.fetch_add(1, Ordering::Relaxed));
            let network = format!("/1.0/networks/{}", lxd.network_name(0));
            lxd.rest().write("PATCH", &network, &json!({"config": {"ipv4.address": gateway}}));
        }
        let site = Self {
            substrate,
            management: Kubernetes::start(&[CLUSTERS]),
            folder: TempDir::with_prefix("publish-").expect("make a folder for kubeconfigs"),
            lxd,
        };
        fs::write(site.kubeconfig(), site.management.kubeconfig()).expect("write the kubeconfig");
        site.register(CLUSTER, &json!({}));
        site
    }

    fn kubeconfig(&self) -> std::path::PathBuf {
        self.folder.path().join("management.kubeconfig")
    }

    /// The Cluster object.
    fn register(&self, cluster: &str, annotations: &Value) {
        self.management.put(&format!("/api/v1/namespaces/{NAMESPACE}"), json!({"apiVersion": "v1", "kind": "Namespace"}));
        let object = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"annotations": annotations}});
        self.management.put(&format!("/apis/cluster.x-k8s.io/v1beta2/namespaces/{NAMESPACE}/clusters/{cluster}"), object);
    }

    /// A load balancer as the infrastructure provider makes it.
    fn balancer(&self, cluster: &str, name: &str) {
        let config = json!({
            "user.cluster-name": cluster, "user.cluster-namespace": NAMESPACE, "user.cluster-role": "loadbalancer",
        });
        let body = json!({
            "name": name, "config": config, "profiles": ["capi-base", "capi-bootstrap"], "source": {"type": "image", "alias": "tiny"},
        });
        self.substrate.write("POST", "instances", &body);
        self.substrate.write("PUT", &format!("instances/{name}/state"), &json!({"action": "start", "timeout": 30}));
    }

    fn remove(&self, name: &str) {
        self.substrate.write("PUT", &format!("instances/{name}/state"), &json!({"action": "stop", "force": true, "timeout": 30}));
        self.substrate.write("DELETE", &format!("instances/{name}"), &Value::Null);
    }

    /// An API server behind a load balancer, with its kubeconfig kept as Cluster API keeps it.
    fn serve(&self, cluster: &str, balancer: &str, names: &[&str]) -> Kubernetes {
        let process = self.substrate.get(&format!("instances/{balancer}/state"))["pid"].as_i64().expect("the instance's process");
        let api = Kubernetes::start_on(listen_inside(process, "[::]:6443"), names, &[]);
        self.keep_kubeconfig(cluster, &api);
        api
    }

    fn keep_kubeconfig(&self, cluster: &str, api: &Kubernetes) {
        // Cluster API's own names no server name.
        let text = api.kubeconfig().replace(",\"tls-server-name\":\"kubernetes.default.svc\"", "");
        self.management.put_secret(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{cluster}-kubeconfig"), "value", &text);
    }

    fn step_of(&self, cluster: &str) -> Step {
        let patience = if self.lxd.scripted().is_some() { 1 } else { 30 };
        self.lxd.step("cluster_publish").args(json!({
            "name": cluster, "namespace": NAMESPACE, "project": self.lxd.name("p"), "wait_timeout": patience,
            "internal_network_name": self.network(), "kubeconfig_path": self.kubeconfig(),
        }))
    }

    fn step(&self) -> Step {
        self.step_of(CLUSTER)
    }

    fn absent(&self) -> Step {
        self.step().args(json!({"state": "absent"}))
    }

    fn network(&self) -> String {
        self.lxd.network_name(0)
    }

    /// The network's own addresses, which are published on where no other is given.
    fn gateways(&self) -> [String; 2] {
        let network = self.lxd.rest().get(&format!("/1.0/networks/{}", self.network()));
        let address = |key: &str| network["config"][key].as_str().and_then(|cidr| cidr.split('/').next()).map(str::to_owned);
        ["ipv4.address", "ipv6.address"].map(|key| address(key).expect("an address of the network"))
    }

    fn forwards(&self) -> Vec<Value> {
        self.lxd.forwards(&self.network())
    }

    /// Every port that is forwarded, as `port description target`.
    fn ports(&self) -> Vec<String> {
        let text = |port: &Value, field: &str| port[field].as_str().unwrap_or_default().to_owned();
        let forwards = self.forwards();
        let ports = forwards.iter().flat_map(|forward| forward["ports"].as_array().into_iter().flatten());
        ports.map(|port| format!("{} {}", text(port, "listen_port"), text(port, "description"))).collect()
    }

    fn mark(&self, cluster: &str) -> String {
        format!("k8slab: API of {}/{NAMESPACE}/{cluster}", self.lxd.name("p"))
    }

    /// Runs the step where the API answers, and where nothing can.
    fn publish(&self, step: &Step) -> Outcome {
        let outcome = step.run();
        if self.lxd.scripted().is_some() {
            return outcome.expect_code("PUBLISHED_API_SILENT").expect_words("https://");
        }
        outcome.expect_changed()
    }

    /// Somebody else's forward of the first address, or of another one.
    fn foreign_forward(&self, network: &str, address: &str, port: &str, target: &str) {
        let body = json!({
            "listen_address": address,
            "ports": [{"protocol": "tcp", "listen_port": port, "target_port": "80", "target_address": target}],
        });
        self.lxd.rest().write("POST", &format!("/1.0/networks/{network}/forwards"), &body);
    }

    fn neighbour(&self) -> String {
        self.gateways()[0].rsplit_once('.').map(|(subnet, _)| format!("{subnet}.77")).expect("an IPv4 address")
    }
}

fn publishes_at_both_families(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "mgmt-1-a1b2c-lb");
    // One whose name begins alike, and one that is no load balancer.
    site.balancer("mgmt-10", "mgmt-10-a1b2c-lb");
    let [ipv4, ipv6] = site.gateways();
    if lxd.scripted().is_some() {
        lxd.relay().reset();
        let foreseen = site.step().check().expect_changed();
        assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "check mode writes nothing");
        assert_eq!(foreseen.diff().len(), 2, "{:#}", foreseen.json);
        site.publish(&site.step());
    } else {
        let _api = site.serve(CLUSTER, "mgmt-1-a1b2c-lb", &[]);
        let made = trial::foresees_and_does(lxd, &site.step());
        assert_eq!((&made.json["port"], &made.json["mode"]), (&json!(PORT), &json!("forward")));
        assert_eq!(made.json["load_balancer"]["name"], "mgmt-1-a1b2c-lb");
        assert_eq!(made.json["published"][0]["url"], format!("https://{ipv4}:{PORT}"));
        assert_eq!(made.json["published"][1]["url"], format!("https://[{ipv6}]:{PORT}"));
        assert_eq!(made.json["published"][0]["verified"], true);
        trial::changes_nothing(lxd, &site.step());
    }
    let own = format!("{PORT} {}", site.mark(CLUSTER));
    assert_eq!(site.ports(), [own.as_str(), own.as_str()]);
    for forward in site.forwards() {
        assert_eq!(forward["config"]["user.k8slab.role"], "api");
        assert_eq!(forward["ports"][0]["target_port"], "6443");
    }
    trial::foresees_and_does(lxd, &site.absent());
    assert_eq!(site.forwards(), Vec::<Value>::new(), "a forward that nothing is left of goes");
    trial::changes_nothing(lxd, &site.absent());
}

fn leaves_forwards_of_others_alone(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let _api = lxd.scripted().is_none().then(|| site.serve(CLUSTER, "lb", &[]));
    let [ipv4, _] = site.gateways();
    site.foreign_forward(&site.network(), &ipv4, "8080", &site.neighbour());
    let before = site.forwards();
    let outcome = site.publish(&site.step());
    if lxd.scripted().is_none() {
        assert_eq!(outcome.json["foreign_forwards"], json!([format!("{ipv4}:8080/tcp to {}", site.neighbour())]));
        assert!(outcome.json["warnings"].to_string().contains("8080"), "{:#}", outcome.json);
    }
    let own = format!("{PORT} {}", site.mark(CLUSTER));
    assert_eq!(site.ports(), ["8080 ".to_owned(), own.clone(), own]);
    trial::foresees_and_does(lxd, &site.absent());
    assert_eq!(site.forwards(), before, "what was there before is there as it was");
}

fn says_when_docker_drops(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    // Without one nothing answers: that run fails, and says what may be the reason.
    let _api = lxd.scripted().is_none().then(|| site.serve(CLUSTER, "lb", &[]));
    let docker = Docker::start();
    let step = docker.host(site.step());
    for outcome in [step.check(), step.run()] {
        let warnings = outcome.json["warnings"].to_string();
        assert!(warnings.contains("FORWARD chain to DROP"), "{:#}", outcome.json);
    }
}

fn refuses_a_port_that_is_taken(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let [ipv4, _] = site.gateways();
    let step = site.step();
    let refused = |words: &str, step: &Step| {
        lxd.relay().reset();
        for outcome in [step.check(), step.run()] {
            outcome.expect_code("PUBLISHED_PORT_TAKEN").expect_words(&format!("{NAMESPACE}/{CLUSTER}")).expect_words(words);
        }
        assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "before anything is made");
    };
    let listener = TcpListener::bind("0.0.0.0:0").expect("listen on this machine");
    let port = listener.local_addr().expect("where it listens").port();
    let comm = fs::read_to_string("/proc/self/comm").expect("the name of this program");
    refused(&format!("{}, which listens on 0.0.0.0:{port}", comm.trim()), &step.clone().args(json!({"port": port})));

    // A rule of the packet filter, as nft shows it.
    let programs = TempDir::with_prefix("programs-").expect("make a folder for a program");
    let rule = json!({"nftables": [
        {"chain": {"family": "ip", "table": "theirs", "name": "pre", "type": "nat", "hook": "prerouting"}},
        {"rule": {"family": "ip", "table": "theirs", "chain": "pre", "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": PORT}},
            {"dnat": {"addr": "10.0.0.2"}},
        ]}},
    ]});
    program::script(&programs.path().join("nft"), &format!("#!/bin/sh\necho '{rule}'\n"));
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap_or_default());
    refused("table ip theirs, chain pre", &step.clone().env("PATH", path));

    // A forward of somebody else's, in a range and on this network.
    site.foreign_forward(&site.network(), &ipv4, "25000-25100", &site.neighbour());
    refused(&format!("forward {ipv4} to {}", site.neighbour()), &step);
    lxd.rest().write("DELETE", &format!("/1.0/networks/{}/forwards/{ipv4}", site.network()), &Value::Null);

    // Another Cluster that is to be published there.
    site.register("rival", &json!({"k8s-lab.io/api-proxy-port": PORT.to_string()}));
    refused(&format!("cluster {NAMESPACE}/rival"), &step);
    site.register("rival", &json!({"k8s-lab.io/api-proxy-port": "20001"}));
    step.check().expect_changed();
}

fn needs_a_load_balancer(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer("mgmt-10", "mgmt-1-lb");
    site.step().run().expect_code("LOAD_BALANCER_NOT_FOUND").expect_words(&format!("it has those of {NAMESPACE}/mgmt-10"));
    let foreseen = site.step().args(json!({"listen_addresses": ["192.0.2.10"]})).check().expect_changed();
    assert!(!foreseen.deferred().is_empty(), "{:#}", foreseen.json);
    site.balancer(CLUSTER, "one-lb");
    site.balancer(CLUSTER, "two-lb");
    site.step().run().expect_code("LOAD_BALANCER_AMBIGUOUS").expect_words("one-lb, two-lb");
    let nowhere = site.step().args(json!({"internal_network_name": lxd.network_name(7)}));
    site.remove("two-lb");
    nowhere.run().expect_code("NETWORK_NOT_FOUND").expect_words(&lxd.network_name(7));
    site.step_of("unknown").run().expect_code("CLUSTER_NOT_FOUND").expect_words("lab/unknown");
    let no_kubeconfig = site.step().args(json!({"kubeconfig_path": "/nowhere/kubeconfig", "listen_addresses": ["192.0.2.10"]}));
    assert!(!no_kubeconfig.check().expect_changed().deferred().is_empty());
    assert_eq!(site.forwards(), Vec::<Value>::new());
}

fn reads_the_port_of_the_cluster(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let port_of = |step: &Step| step.check().expect_changed().diff()[0]["after"].to_string();
    for (annotations, expected) in [(json!({}), "25060"), (json!({"k8s-lab.io/api-proxy-port": "20123"}), "20123")] {
        site.register(CLUSTER, &annotations);
        assert!(port_of(&site.step()).contains(expected), "{annotations}");
    }
    assert!(port_of(&site.step().args(json!({"port": 20124}))).contains("20124"), "an option wins");
    site.register(CLUSTER, &json!({"k8s-lab.io/api-proxy-port": "http"}));
    for outcome in [site.step().check(), site.step().run()] {
        outcome.expect_code("PORT_ANNOTATION_INVALID").expect_words("`http`");
    }
}

fn obeys_the_project(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let step = site.step().args(json!({"mode": "proxy", "listen_addresses": ["127.0.0.1"], "port": free_port()}));
    step.run().expect_code("LXD_RESTRICTION_PROXY").expect_words("network forward publishes");
    assert_eq!(site.substrate.get("instances/lb")["devices"], json!({}));
}

fn needs_lxd(lxd: &Lxd) {
    let step = lxd.step("cluster_publish").args(json!({"name": CLUSTER, "listen_addresses": ["192.0.2.10"]}));
    trial::needs_lxd(lxd, &step);
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("cluster_publish").args(json!({"name": CLUSTER})),
        &[
            (json!({"name": null}), "OPTION_MISSING", "name"),
            (json!({"port": 0}), "OPTION_INVALID", "port"),
            (json!({"port": 65536}), "OPTION_INVALID", "port"),
            (json!({"mode": "hook"}), "OPTION_INVALID", "forward, proxy"),
            (json!({"listen_addresses": ["127.0.0.1"]}), "OPTION_INVALID", "dead"),
            (json!({"listen_addresses": ["::"]}), "OPTION_INVALID", "dead"),
            (json!({"listen_addresses": ["lab.example.org"]}), "OPTION_INVALID", "not an address"),
            (json!({"listen_address": "192.0.2.10"}), "OPTION_UNKNOWN", "listen_addresses"),
        ],
    );
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
