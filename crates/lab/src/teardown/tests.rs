use super::*;

fn of(name: &str) -> ClusterName {
    ClusterName::new("capi-clusters", name)
}

fn instance(cluster: &str, number: u8) -> Instance {
    Instance { name: format!("{cluster}-{number}"), of: Of::Cluster(of(cluster)) }
}

fn shared(name: &str, users: &[&str]) -> Shared {
    Shared { name: name.into(), is_ours: true, users: users.iter().map(|user| (*user).to_owned()).collect() }
}

/// A finished lab: the management cluster owns itself and two workload clusters, of which one's name begins as the other's.
fn lab() -> Seen {
    let clusters = ["mgmt-1", "lab", "lab-2"];
    Seen {
        instances: clusters.iter().flat_map(|cluster| [instance(cluster, 0), instance(cluster, 1)]).collect(),
        management: Api::Answers,
        objects: clusters.iter().map(|cluster| (of(cluster), Owner::Management)).collect(),
        releases: vec![(of("lab"), "lab".into()), (of("lab"), "lab-class".into()), (of("lab-2"), "lab-2".into())],
        classes: vec![(of("lab"), "lab-class".into(), vec!["ClusterClass lab-1".into(), "LXCClusterTemplate lab-1-infra".into()])],
        ports: clusters.iter().map(|cluster| (of(cluster), IpAddr::from([10, 77, 0, 1]))).collect(),
        kubeconfigs: clusters.iter().map(|cluster| (of(cluster), PathBuf::from(format!("/etc/{cluster}")))).collect(),
        pivot_files: vec!["/etc/pivot".into()],
        phase: Some("cleaned".into()),
        substrate: Substrate {
            project: Some(shared(
                "capi-lab",
                &[
                    "/1.0/instances/lab-0?project=capi-lab",
                    "/1.0/profiles/default?project=capi-lab",
                    "/1.0/images/aa?project=capi-lab",
                ],
            )),
            images: vec![Image { fingerprint: "aa".into(), is_ours: true }],
            profiles: vec![Profile { name: "default".into(), is_ours: false }, Profile { name: "capi-base".into(), is_ours: true }],
            trust: vec!["cc".into()],
            identities: vec!["dd".into()],
            groups: vec!["k8slab-capi-lab".into()],
            keys: vec!["/etc/keys".into()],
            listener: Some("10.77.0.1:8443".into()),
            network: Some(shared("capi-int", &["/1.0/profiles/capi-base?project=capi-lab"])),
            pool: Some(shared("capi-fast", &["/1.0/images/aa", "/1.0/storage-pools/capi-fast/volumes/image/aa?target=x"])),
            foreign_forwards: Vec::new(),
        },
        ..Seen::default()
    }
}

/// A lab before the pivot: the bootstrap cluster owns a management cluster that is in the making.
fn before_pivot() -> Seen {
    let mut seen = lab();
    seen.instances.retain(|instance| instance.of == Of::Cluster(of("mgmt-1")));
    seen.instances.push(Instance { name: "capi-bootstrap-0".into(), of: Of::Bootstrap });
    (seen.management, seen.bootstrap) = (Api::Silent("connection refused".into()), Api::Answers);
    seen.objects = vec![(of("mgmt-1"), Owner::Bootstrap)];
    (seen.ports, seen.kubeconfigs, seen.releases, seen.classes) = Default::default();
    seen.bootstrap_files = vec!["/etc/bootstrap".into()];
    seen.phase = Some("bootstrapped".into());
    seen
}

fn said(scope: &Scope, seen: &Seen, force: bool) -> String {
    match plan(scope, &of("mgmt-1"), seen, force) {
        Err(doubt) => doubt.code().to_owned(),
        Ok(plan) => {
            let removals = plan.removals.iter().map(ToString::to_string);
            let kept = plan.kept.iter().map(|kept| format!("KEEP {}: {}", kept.what, kept.why));
            removals.chain(kept).collect::<Vec<_>>().join("\n")
        }
    }
}

fn bent(mut seen: Seen, bend: impl Fn(&mut Seen)) -> Seen {
    bend(&mut seen);
    seen
}

const LAB: &str = "delete cluster capi-clusters/lab by the management cluster
uninstall release capi-clusters/lab
uninstall release capi-clusters/lab-class
delete ClusterClass lab-1, LXCClusterTemplate lab-1-infra of cluster capi-clusters/lab
publish the API of capi-clusters/lab no longer at 10.77.0.1
remove /etc/lab";

const BY_LXD: &str = "delete instances lab-0, lab-1 of cluster capi-clusters/lab
publish the API of capi-clusters/lab no longer at 10.77.0.1
remove /etc/lab
delete instances lab-2-0, lab-2-1 of cluster capi-clusters/lab-2
publish the API of capi-clusters/lab-2 no longer at 10.77.0.1
remove /etc/lab-2";

const REMAINS_OF_ALL: &str = "publish the API of capi-clusters/lab no longer at 10.77.0.1
remove /etc/lab
publish the API of capi-clusters/lab-2 no longer at 10.77.0.1
remove /etc/lab-2
publish the API of capi-clusters/mgmt-1 no longer at 10.77.0.1
remove /etc/mgmt-1
remove /etc/pivot";

const CLUSTERS: &str = "delete clusters capi-clusters/lab, capi-clusters/lab-2 by the management cluster
delete instances mgmt-1-0, mgmt-1-1 of cluster capi-clusters/mgmt-1";

const PHASE: &str = "forget how far the lab in project capi-lab has come";

const TRUST: &str = "trust certificate cc no longer
trust identity dd no longer
delete group k8slab-capi-lab
remove /etc/keys";

#[test]
fn clusters_go_with_what_they_leave() {
    let workload = |name: &str| Scope::Workload(of(name));
    let silent = || {
        bent(lab(), |seen| {
            (seen.management, seen.objects) = (Api::Silent("refused".into()), Vec::new());
            (seen.releases, seen.classes) = Default::default();
        })
    };
    let dead = || {
        bent(lab(), |seen| {
            (seen.management, seen.objects) = (Api::Gone, Vec::new());
            (seen.releases, seen.classes) = Default::default();
            seen.instances.retain(|instance| instance.of != Of::Cluster(of("mgmt-1")));
        })
    };
    let twins = LAB.replace("lab by", "lab, capi-clusters/lab-2 by").replace("delete cluster ", "delete clusters ");
    let second =
        "\nuninstall release capi-clusters/lab-2\npublish the API of capi-clusters/lab-2 no longer at 10.77.0.1\nremove /etc/lab-2";
    for (case, scope, seen, force, expected) in [
        ("one whose name another begins with", workload("lab"), lab(), false, LAB.to_owned()),
        ("one that nobody knows", workload("la"), lab(), false, String::new()),
        ("the management cluster is none", workload("mgmt-1"), lab(), false, "DESTROY_NO_WORKLOAD".into()),
        ("all workload clusters", Scope::Workloads, lab(), false, twins + second),
        ("the management cluster", Scope::Management, lab(), false, format!("{CLUSTERS}\n{REMAINS_OF_ALL}\n{PHASE}")),
        ("it does not answer", workload("lab"), silent(), false, "DESTROY_OWNER_SILENT".into()),
        ("it does not answer, and nobody minds", Scope::Workloads, silent(), true, BY_LXD.to_owned()),
        ("it is dead", Scope::Workloads, dead(), false, BY_LXD.to_owned()),
        (
            "it does not answer and goes",
            Scope::Management,
            silent(),
            false,
            format!(
                "delete instances mgmt-1-0, mgmt-1-1 of cluster capi-clusters/mgmt-1\n{BY_LXD}\n{}\n{PHASE}",
                REMAINS_OF_ALL
                    .split_once("lab-2\n")
                    .map(|(_, rest)| rest.split_once("lab-2\n").map_or(rest, |(_, rest)| rest))
                    .unwrap()
            ),
        ),
        (
            "a Cluster whose instances are gone",
            workload("lab"),
            bent(lab(), |seen| seen.instances.retain(|instance| instance.of != Of::Cluster(of("lab")))),
            false,
            LAB.to_owned(),
        ),
        (
            "instances without a Cluster",
            workload("lab"),
            bent(lab(), |seen| seen.objects.retain(|(cluster, _)| *cluster != of("lab"))),
            false,
            LAB.replace(
                "delete cluster capi-clusters/lab by the management cluster",
                "delete instances lab-0, lab-1 of cluster capi-clusters/lab",
            ),
        ),
        ("a move under way", workload("lab"), bent(lab(), |seen| seen.is_pivot_open = true), false, "DESTROY_PIVOT_OPEN".into()),
        ("nothing there", Scope::Clusters, Seen::default(), false, String::new()),
    ] {
        assert_eq!(said(&scope, &seen, force), expected, "{case}");
    }
}

#[test]
fn the_bootstrap_cluster_takes_along_what_it_owns() {
    const BOTH: &str = "delete cluster capi-clusters/mgmt-1 by the bootstrap cluster
delete instance capi-bootstrap-0 of the bootstrap cluster
remove /etc/bootstrap
remove /etc/pivot
forget how far the lab in project capi-lab has come";
    let alone = "delete instance capi-bootstrap-0 of the bootstrap cluster\nremove /etc/bootstrap";
    let moved = || {
        bent(before_pivot(), |seen| {
            seen.objects = vec![(of("mgmt-1"), Owner::Management)];
            (seen.management, seen.phase) = (Api::Answers, Some("pivoted".into()));
        })
    };
    let stopped = |seen: &mut Seen| (seen.bootstrap, seen.objects) = (Api::Silent("it is stopped".into()), Vec::new());
    for (case, scope, seen, expected) in [
        ("before the pivot", Scope::Bootstrap, before_pivot(), BOTH),
        ("with everything", Scope::Clusters, before_pivot(), BOTH),
        ("after the pivot", Scope::Bootstrap, moved(), alone),
        (
            "after the pivot, and neither answers",
            Scope::Bootstrap,
            bent(moved(), |seen| (seen.management, seen.bootstrap) = (Api::Silent("x".into()), Api::Silent("y".into()))),
            alone,
        ),
        (
            "the management cluster alone, and nobody can be asked",
            Scope::Management,
            bent(before_pivot(), stopped),
            "DESTROY_OWNER_SILENT",
        ),
        (
            "stopped before the pivot",
            Scope::Bootstrap,
            bent(before_pivot(), stopped),
            "delete instances mgmt-1-0, mgmt-1-1 of cluster capi-clusters/mgmt-1
delete instance capi-bootstrap-0 of the bootstrap cluster
remove /etc/bootstrap
remove /etc/pivot
forget how far the lab in project capi-lab has come",
        ),
        (
            "a move under way, and both go",
            Scope::Clusters,
            bent(before_pivot(), |seen| seen.is_pivot_open = true),
            "delete instances mgmt-1-0, mgmt-1-1 of cluster capi-clusters/mgmt-1
delete instance capi-bootstrap-0 of the bootstrap cluster
remove /etc/bootstrap
remove /etc/pivot
forget how far the lab in project capi-lab has come",
        ),
    ] {
        assert_eq!(said(&scope, &seen, false), expected, "{case}");
    }
}

#[test]
fn what_is_not_the_labs_keeps_what_it_stands_on() {
    const SUBSTRATE: &str = "trust certificate cc no longer
trust identity dd no longer
delete group k8slab-capi-lab
remove /etc/keys
delete image aa
delete profile capi-base
delete project capi-lab
let LXD listen on 10.77.0.1:8443 no longer
delete network capi-int
delete storage pool capi-fast";
    let whole = format!("{CLUSTERS}\n{REMAINS_OF_ALL}\n{SUBSTRATE}");
    let kept = |foreign: &str| {
        format!(
            "{CLUSTERS}\n{REMAINS_OF_ALL}\n{PHASE}\n{TRUST}\nlet LXD listen on 10.77.0.1:8443 no longer\n{foreign}\n\
             KEEP network capi-int: project capi-lab stays\nKEEP storage pool capi-fast: project capi-lab stays"
        )
    };
    let joined = |user: &'static str| {
        bent(lab(), move |seen| seen.substrate.project.as_mut().unwrap().users.push(format!("{user}?project=capi-lab")))
    };
    let without = |line: &str| whole.replace(&format!("{line}\n"), "").replace(&format!("\n{line}"), "");
    for (case, seen, expected) in [
        ("nothing else", lab(), whole.clone()),
        (
            "a person's instance",
            bent(joined("/1.0/instances/mine"), |seen| {
                seen.instances.push(Instance { name: "mine".into(), of: Of::Somebody });
            }),
            kept(
                "KEEP instance mine in project capi-lab: it is not the lab's\nKEEP project capi-lab: what is not the lab's is in it",
            ),
        ),
        (
            "a person's volume",
            joined("/1.0/storage-pools/capi-fast/volumes/custom/data"),
            kept(
                "KEEP volume data on pool capi-fast in project capi-lab: it is not the lab's\n\
                 KEEP project capi-lab: what is not the lab's is in it",
            ),
        ),
        (
            "a project of another",
            bent(lab(), |seen| seen.substrate.project.as_mut().unwrap().is_ours = false),
            kept("KEEP project capi-lab: its description is not the lab's"),
        ),
        (
            "a network that others use",
            bent(lab(), |seen| seen.substrate.network.as_mut().unwrap().users.push("/1.0/instances/web".into())),
            without("delete network capi-int") + "\nKEEP network capi-int: instance web uses it",
        ),
        (
            "a network that forwards something else",
            bent(lab(), |seen| seen.substrate.foreign_forwards.push("192.0.2.1:80/tcp to 10.77.0.9".into())),
            without("delete network capi-int") + "\nKEEP network capi-int: it forwards 192.0.2.1:80/tcp to 10.77.0.9",
        ),
        (
            "a pool that others use",
            bent(lab(), |seen| {
                seen.substrate
                    .pool
                    .as_mut()
                    .unwrap()
                    .users
                    .push("/1.0/storage-pools/capi-fast/volumes/custom/data?project=web".into());
            }),
            without("delete storage pool capi-fast")
                + "\nKEEP storage pool capi-fast: volume data on pool capi-fast of project web uses it",
        ),
        (
            "a pool of another",
            bent(lab(), |seen| seen.substrate.pool.as_mut().unwrap().is_ours = false),
            without("delete storage pool capi-fast") + "\nKEEP storage pool capi-fast: its description is not the lab's",
        ),
        (
            "only a pool",
            Seen { substrate: Substrate { pool: Some(shared("capi-fast", &[])), ..Substrate::default() }, ..Seen::default() },
            "delete storage pool capi-fast".to_owned(),
        ),
    ] {
        assert_eq!(said(&Scope::All, &seen, false), expected, "{case}");
    }
}

#[test]
fn the_order_keeps_to_the_graph() {
    let whole: BTreeSet<_> = Part::ALL.into();
    let ordered = order(&whole);
    assert_eq!(ordered.len(), Part::ALL.len());
    for (at, part) in ordered.iter().enumerate() {
        for before in part.waits_for() {
            assert!(ordered[..at].contains(before), "{part:?} goes before {before:?}: {ordered:?}");
        }
    }
    let some = [Part::Pool, Part::Workloads].into();
    assert_eq!(order(&some), [Part::Workloads, Part::Pool], "what stays orders the others all the same");
}

#[test]
fn the_keys_say_whose_an_instance_is() {
    for (keys, expected) in [
        (&[("user.cluster-name", "a"), ("user.cluster-namespace", "b")][..], Of::Cluster(ClusterName::new("b", "a"))),
        (&[("user.cluster-name", "a")], Of::Somebody),
        (&[("user.k8slab.role", "bootstrap")], Of::Bootstrap),
        (&[("user.k8slab.role", "mine")], Of::Somebody),
        (&[], Of::Somebody),
    ] {
        let config = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(Of::by_keys(&config), expected, "{keys:?}");
    }
}
