use serde_json::json;

use super::*;

fn step() -> ClusterReady {
    ClusterReady { name: "mgmt-1".into(), kubeconfig_path: "/kubeconfig".into(), ..ClusterReady::default() }
}

fn asked(conditions: &[Condition]) -> String {
    conditions.iter().map(Condition::name).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_word_asks_whoever_knows() {
    let all = vec![
        Until::InfrastructureReady,
        Until::ControlPlaneInitialized,
        Until::ControlPlaneAvailable,
        Until::MachinesReady,
        Until::NodesRegistered,
        Until::NodesReady,
        Until::Available,
    ];
    let step = ClusterReady { until: all, ..step() };
    let cluster = "Cluster capi-clusters/mgmt-1";
    let ended = format!("{cluster} rollout ended; Machines of mgmt-1 up to date");
    assert_eq!(
        asked(&step.conditions(Counts::default())),
        format!(
            "{cluster} InfrastructureReady; {cluster} ControlPlaneInitialized; {cluster} ControlPlaneAvailable; Machines of mgmt-1 \
             Ready; Machines of mgmt-1 registered; Machines of mgmt-1 with nodes that are Ready; {cluster} Available; {ended}"
        )
    );
    let own = ClusterReady {
        cluster_kubeconfig_path: Some("/own".into()),
        deployments: vec![Workload { namespace: "kube-system".into(), name: "coredns".into() }],
        daemonsets: vec![Workload { namespace: "kube-system".into(), name: "kube-proxy".into() }],
        until: vec![Until::NodesReady],
        ..step
    };
    assert_eq!(asked(&own.conditions(Counts::default())), ended);
    let serves = ClusterReady { until: vec![Until::Available], ..own.clone() };
    assert!(!asked(&serves.conditions(Counts::default())).contains("rollout"), "a cluster may be used while it is upgraded");
    assert_eq!(
        asked(&own.own_conditions(Counts::default())),
        "Node (any) Ready; Deployment kube-system/coredns rolled out; DaemonSet kube-system/kube-proxy rolled out"
    );
}

#[test]
fn counts_are_the_clusters_unless_they_are_given() {
    let topology =
        json!({"spec": {"topology": {"controlPlane": {"replicas": 3}, "workers": {"machineDeployments": [{"replicas": 2}]}}}});
    let cluster = |data| resource::CLUSTER.object(Some("capi-clusters"), "mgmt-1", data);
    for (step, data, expected) in [
        (step(), topology.clone(), Some((3, 2))),
        (ClusterReady { worker_count: Some(1), ..step() }, topology, Some((3, 1))),
        (step(), json!({}), None),
        (ClusterReady { control_plane_count: Some(1), worker_count: Some(0), ..step() }, json!({}), Some((1, 0))),
    ] {
        let counts = step.counts(&cluster(data)).ok().map(|counts| (counts.control_plane, counts.workers));
        assert_eq!(counts, expected);
    }
}

#[test]
fn what_is_missing_is_named() {
    let coredns = Workload { namespace: "kube-system".into(), name: "coredns".into() };
    for (step, expected) in [(step(), ""), (ClusterReady { deployments: vec![coredns], ..step() }, "OPTION_MISSING")] {
        assert_eq!(step.preflight().err().map_or("", |failure| failure.code), expected);
    }
}
