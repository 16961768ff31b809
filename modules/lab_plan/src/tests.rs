use ansible::Step as _;
use converge::Failure;

use super::*;

fn lab() -> LabPlan {
    let workload =
        |name: &str, range: &str| Cluster { vip_range: Some(range.into()), ..Cluster { name: name.into(), ..Cluster::default() } };
    LabPlan {
        external_ipv6_prefix: Some("2001:db8:42:100::/64".into()),
        management_cluster: Cluster {
            vip_range: Some("2001:db8:42:100::200-2001:db8:42:100::2ff".into()),
            ..Cluster::management()
        },
        workload_clusters: vec![
            workload("lab-default", "2001:db8:42:100::300-2001:db8:42:100::3ff"),
            workload("lab-other", "2001:db8:42:100::400/120"),
        ],
        ..LabPlan::default()
    }
}

fn said(failure: &Failure) -> String {
    format!("{} {}", failure.code, failure.detail.as_deref().unwrap_or(&failure.msg))
}

#[test]
fn what_does_not_go_together_is_refused() {
    type Bend = fn(&mut LabPlan);
    let cases: [(&str, Bend, &str); 17] = [
        ("as it is", |_| (), ""),
        ("no workload clusters", |lab| lab.workload_clusters.clear(), ""),
        (
            "the same network for two clusters' Pods",
            |lab| lab.workload_clusters[0].pod_cidrs = lab.management_cluster.pod_cidrs.clone(),
            "",
        ),
        (
            "nodes in the bootstrap cluster's Pods",
            |lab| lab.internal_ipv4_subnet = "10.42.0.0/24".into(),
            "ADDRESSES_OVERLAP network capi-int (10.42.0.0/24) and Pods of cluster bootstrap (10.42.0.0/16) have addresses in common",
        ),
        (
            "Services in Pods",
            |lab| lab.workload_clusters[1].service_cidrs[0] = "10.244.96.0/20".into(),
            "ADDRESSES_OVERLAP Pods of cluster lab-other (10.244.0.0/16) and Services of cluster lab-other (10.244.96.0/20) have addresses in common",
        ),
        (
            "Pods in the external prefix",
            |lab| lab.management_cluster.pod_cidrs[1] = "2001:db8:42:100::/56".into(),
            "ADDRESSES_OVERLAP the external prefix (2001:db8:42:100::/64) and Pods of cluster mgmt-1 (2001:db8:42:100::/56) have addresses in common",
        ),
        (
            "pools that meet",
            |lab| lab.workload_clusters[1].vip_range = Some("2001:DB8:42:100:0::3F0-2001:db8:42:100::4ff".into()),
            "POOL_UNFIT the pools of clusters lab-default (2001:db8:42:100::300-2001:db8:42:100::3ff) and lab-other (2001:db8:42:100::3f0-2001:db8:42:100::4ff) have addresses in common",
        ),
        (
            "a pool elsewhere",
            |lab| lab.external_ipv6_prefix = Some("2001:db8:42:101::/64".into()),
            "is not within the external prefix 2001:db8:42:101::/64",
        ),
        (
            "a pool that is given away",
            |lab| lab.external_reserved_ranges = vec!["2001:db8:42:100::2f0-2001:db8:42:100::2ff".into()],
            "POOL_UNFIT the pool 2001:db8:42:100::200-2001:db8:42:100::2ff of cluster mgmt-1 holds addresses of a reserved range",
        ),
        ("a pool without a prefix", |lab| lab.external_ipv6_prefix = None, "OPTION_INVALID"),
        (
            "a subnet that is too small",
            |lab| lab.internal_ipv4_subnet = "10.77.0.0/28".into(),
            "SUBNET_UNFIT network capi-int: 10.77.0.0/28 has room for 13 instances beside the host, and 14 are needed",
        ),
        (
            "no addresses by themselves",
            |lab| lab.internal_ipv6_subnet = "fd42:77:1::/80".into(),
            "SUBNET_UNFIT network capi-int: fd42:77:1::/80 is narrower than a /64",
        ),
        ("an even control plane", |lab| lab.workload_clusters[0].control_plane_count = 2, "OPTION_INVALID"),
        ("the same name", |lab| lab.workload_clusters[1].name = "lab-default".into(), "OPTION_INVALID"),
        (
            "the same port",
            |lab| lab.workload_clusters[1].port = Some(25060),
            "PORT_SHARED clusters mgmt-1 and lab-other would both be published at port 25060",
        ),
        ("one family", |lab| drop(lab.workload_clusters[0].pod_cidrs.pop()), "OPTION_INVALID"),
        ("families in the other order", |lab| lab.workload_clusters[0].service_cidrs.reverse(), "OPTION_INVALID"),
    ];
    for (case, bend, expected) in cases {
        let mut lab = lab();
        bend(&mut lab);
        let failure = lab.preflight().err();
        let words = failure.as_ref().map(said).unwrap_or_default();
        assert_eq!(words.is_empty(), expected.is_empty(), "{case}: {words}");
        assert!(words.contains(expected), "{case}: {words}");
    }
}

#[test]
fn routes_of_the_host_count() {
    let route = |network: &str, link: &str| Route { network: network.parse().unwrap(), link: link.into(), by_router: false };
    let mut lab = lab();
    lab.uplink_interface = Some("eth1".into());
    let fine = [("10.77.0.0/24", "capi-int"), ("2001:db8:42:100::/64", "eth1"), ("192.168.0.0/24", "eth0")];
    assert!(lab.plan(fine.map(|(network, link)| route(network, link)).into()).is_ok());
    let refused = lab.plan(vec![route("10.77.0.0/16", "eth0")]).unwrap_err();
    assert_eq!(
        said(&refused),
        "ADDRESSES_OVERLAP network capi-int (10.77.0.0/24) and the host's route over eth0 (10.77.0.0/16) have addresses in common"
    );
}

#[test]
fn what_follows_from_the_options_is_told() {
    let facts = lab().facts();
    assert_eq!(
        facts.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>(),
        ["mgmt-1", "lab-default", "lab-other"]
    );
    let mgmt = &facts.management_cluster;
    assert_eq!((mgmt.port, mgmt.purpose, mgmt.namespace.as_str()), (25060, Purpose::Management, "capi-clusters"));
    assert_eq!(mgmt.kubeconfig_path, "/opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig");
    assert_eq!((mgmt.node_image.as_str(), mgmt.load_balancer_image.as_str()), ("kubeadm/v1.35.0", "haproxy"));
    assert_eq!(facts.workload_clusters[0].port, 26818);
    assert_eq!(facts.instances, 14, "3 nodes of the one and 2 of the others, 2 more for each, and the bootstrap instance");
}

#[test]
fn a_version_that_the_bundle_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |alias: &str| {
        format!(
            r#"{{"path": "{alias}", "role": "instance-image", "name": "{alias}", "version": "1", "origin": "here", "sha256": "00", "fingerprint": "00"}}"#
        )
    };
    let manifest = |aliases: &[&str]| {
        let files: Vec<_> = aliases.iter().map(|alias| entry(alias)).collect();
        let text = format!(r#"{{"schema": 1, "source": "modules", "files": [{}]}}"#, files.join(", "));
        std::fs::write(folder.path().join("bundle.json"), text).unwrap();
    };
    let mut lab = lab();
    lab.bundle.bundle = AbsolutePath::new(folder.path().to_str().unwrap());
    let refused = |lab: &LabPlan| lab.refuse_missing_images().err().map(|failure| said(&failure)).unwrap_or_default();
    assert!(refused(&lab).starts_with("BUNDLE_MISSING"));
    manifest(&["kubeadm/v1.34.4", "kubeadm/v1.35.0", "haproxy"]);
    assert_eq!(refused(&lab), "");
    manifest(&["kubeadm/v1.34.4", "kubeadm/v1.35.0"]);
    assert!(refused(&lab).starts_with("IMAGE_NOT_IN_BUNDLE"));
    lab.workload_clusters[1].kubernetes_version = "v1.33.0".into();
    assert_eq!(
        refused(&lab),
        "VERSION_NOT_IN_BUNDLE the bundle has no image for nodes of cluster lab-other with Kubernetes v1.33.0; it has v1.34.4, v1.35.0"
    );
}
