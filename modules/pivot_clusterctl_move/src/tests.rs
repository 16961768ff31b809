use cluster::DynamicObject;
use converge::Section as _;
use pivot::{
    Copy, Manifest, Object, Open, Side, Sides, Stage,
    graph::Moving as Kinds,
    object::{CORE, MARK, PAUSED},
};
use serde_json::{Value, json};

use super::*;
use crate::copying::Live;

/// A Cluster, its class and a machine, from which a kind can be left out, or which can be paused.
fn side(uid: &str, kinds: &[&str], paused: bool) -> Side {
    let object = |kind: &str, spec: Value, owners: Value| {
        let metadata =
            json!({"name": "mgmt-1", "namespace": "capi-clusters", "uid": format!("{uid}-{kind}"), "ownerReferences": owners});
        let whole = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "metadata": metadata, "spec": spec});
        let mut object = Object::of(&serde_json::from_value::<DynamicObject>(whole).unwrap()).unwrap();
        object.paused = paused && kind != "Machine";
        object
    };
    let owner = json!([{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": format!("{uid}-Cluster")}]);
    let objects = [
        object("ClusterClass", json!({}), json!([])),
        object("Cluster", json!({"topology": {"classRef": {"name": "mgmt-1"}}}), json!([])),
        object("Machine", json!({"providerID": "lxc:///a"}), owner),
    ];
    let head = |kind: &str| ((CORE.to_owned(), kind.to_owned()), true);
    let moving = Kinds { kinds: [head("Cluster"), head("ClusterClass")].into() };
    let wanted = objects.into_iter().filter(|object| kinds.contains(&object.key.kind.as_str()));
    Side::of(&format!("https://{uid}:6443"), uid, wanted, &moving)
}

const ALL: [&str; 3] = ["ClusterClass", "Cluster", "Machine"];

/// The same, whose Cluster a person has paused.
fn by_hand(mut side: Side) -> Side {
    side.objects.values_mut().filter(|object| object.key.is_cluster()).for_each(|object| {
        object.paused = true;
        object.paused_by = Some("kubectl-patch".into());
    });
    side
}

fn copy() -> Copy {
    let source = side("s", &ALL, false);
    let manifest = Manifest {
        direction: Direction::ToManagement,
        namespace: "capi-clusters".into(),
        source: "s".into(),
        target: "t".into(),
        instances: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    Copy { manifest, objects: source.objects }
}

fn found(copy: Copy) -> Found {
    Found::Whole(Box::new(copy))
}

fn live(stage: Option<Stage>, copy: Found, source: Side, target: Side) -> Live {
    let open = stage.map(|stage| Open { direction: Direction::ToManagement, namespace: "capi-clusters".into(), stage });
    Live { open, copy, sides: Sides { source, target }, ..Live::default() }
}

fn said<T: std::fmt::Display>(plan: Result<Vec<T>, Failure>) -> String {
    match plan {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.code.to_owned(),
    }
}

#[test]
fn a_copy_is_made_of_a_whole_source_that_nobody_has_paused() {
    let step = PivotClusterctlMove::default();
    let clusters = Clusters::of(&step);
    let source = |paused| side("s", &ALL, paused);
    let target = |kinds: &[&str]| side("t", kinds, true);
    let folder = "/opt/capi-lab/etc/pivot_clusterctl_move/to_management";
    let (made, lost) = (format!("copy 3 objects to {folder}"), "PIVOT_COPY_LOST".to_owned());
    let let_go = format!(
        "un-pause ClusterClass capi-clusters/mgmt-1 on the source; un-pause Cluster capi-clusters/mgmt-1 on the source; {made}"
    );
    let mut marked = source(true);
    marked.objects.values_mut().for_each(|object| drop(object.annotations.insert(MARK.into(), String::new())));
    let (mut changed, mut damaged) = (source(false), live(None, Found::Nothing, source(false), target(&[])));
    changed.objects.values_mut().for_each(|object| object.digest = "another".into());
    damaged.unready = vec!["a node is not ready".into()];
    let (none, copied, copying, moving) = (None, Some(Stage::Copied), Some(Stage::Copying), Some(Stage::Moving));
    for (case, live, expected) in [
        ("no cluster could be looked at yet", Live::default(), format!("copy 0 objects to {folder}")),
        ("the target has taken over", Live { is_finished: true, ..Live::default() }, String::new()),
        ("never copied", live(none, Found::Nothing, source(false), target(&[])), made.clone()),
        ("copied", live(copied, found(copy()), source(false), target(&[])), String::new()),
        ("copied, then changed", live(copied, found(copy()), changed.clone(), target(&[])), made.clone()),
        ("killed in the copy", live(copying, Found::Nothing, source(true), target(&[])), let_go.clone()),
        (
            "a copy refused, then paused by somebody",
            live(copying, Found::Nothing, by_hand(source(false)), target(&[])),
            "PIVOT_PAUSED_BY_HAND".into(),
        ),
        ("killed in a copy of what is being emptied", live(copying, Found::Nothing, marked.clone(), target(&ALL)), lost.clone()),
        (
            "killed in a copy of what has lost something",
            live(copying, Found::Nothing, side("s", &["ClusterClass", "Cluster"], true), target(&ALL)),
            lost.clone(),
        ),
        ("killed in a copy made anew", live(copying, Found::Nothing, source(true), target(&["ClusterClass", "Cluster"])), let_go),
        ("paused by somebody", live(none, Found::Nothing, source(true), target(&[])), "PIVOT_PAUSED_BY_HAND".into()),
        (
            "changed and paused after the copy",
            live(
                copied,
                found(copy()),
                {
                    let mut it = changed.clone();
                    it.objects.values_mut().for_each(|object| object.paused = true);
                    it
                },
                target(&[]),
            ),
            "PIVOT_PAUSED_BY_HAND".into(),
        ),
        (
            "a copy of another move",
            live(
                none,
                found(Copy { manifest: Manifest { target: "x".into(), ..copy().manifest }, ..copy() }),
                source(false),
                target(&[]),
            ),
            made.clone(),
        ),
        ("moving", live(moving, found(copy()), source(true), target(&["ClusterClass"])), String::new()),
        ("moving, changed since", live(moving, found(copy()), changed.clone(), target(&["ClusterClass"])), made.clone()),
        ("half-deleted", live(moving, found(copy()), side("s", &["Cluster"], true), target(&ALL)), String::new()),
        ("moving, the copy gone", live(moving, Found::Nothing, source(true), target(&ALL)), lost.clone()),
        (
            "moving, changed since, and paused by somebody",
            live(moving, found(copy()), by_hand(changed), target(&["ClusterClass"])),
            "PIVOT_PAUSED_BY_HAND".into(),
        ),
        ("moving, the copy damaged", live(moving, Found::Damaged("cut".into()), source(true), target(&ALL)), lost.clone()),
        ("on both sides, nothing written down", live(none, Found::Nothing, source(false), target(&ALL)), lost.clone()),
        ("marked, nothing written down", live(none, Found::Nothing, marked, target(&[])), lost.clone()),
        (
            "no Cluster anywhere",
            live(none, Found::Nothing, side("s", &["ClusterClass"], false), target(&[])),
            "PIVOT_NO_CLUSTER".into(),
        ),
        ("not ready", damaged, "PIVOT_NOT_READY".into()),
    ] {
        assert_eq!(said(Copying(&clusters).plan(&live)), expected, "{case}");
    }
    let back = Open { direction: Direction::ToBootstrap, namespace: "capi-clusters".into(), stage: Stage::Moving };
    let other = Live { open: Some(back), sides: Sides { source: source(false), target: target(&[]) }, ..Live::default() };
    assert_eq!(said(Copying(&clusters).plan(&other)), "PIVOT_OTHER_DIRECTION");
}

#[test]
fn a_move_is_planned_by_what_is_seen() {
    let step = PivotClusterctlMove::default();
    let source = |paused| side("s", &ALL, paused);
    let target = |kinds: &[&str]| side("t", kinds, true);
    let (copied, moving) = (Some(Stage::Copied), Some(Stage::Moving));
    let (class, cluster) = ("ClusterClass capi-clusters/mgmt-1", "Cluster capi-clusters/mgmt-1");
    for (case, live, expected, signature) in [
        ("the target has taken over", Live { is_finished: true, ..Live::default() }, String::new(), Some(Signature::Finished)),
        (
            "the copy is only planned",
            live(None, Found::Nothing, source(false), target(&[])),
            "run clusterctl move".into(),
            Some(Signature::Ready),
        ),
        ("copied", live(copied, found(copy()), source(false), target(&[])), "run clusterctl move".into(), Some(Signature::Ready)),
        ("paused by somebody since", live(copied, found(copy()), source(true), target(&[])), "PIVOT_PAUSED_BY_HAND".into(), None),
        (
            "paused by the move",
            live(moving, found(copy()), source(true), target(&[])),
            format!("un-pause {class} on the source; un-pause {cluster} on the source; run clusterctl move"),
            Some(Signature::SourcePaused),
        ),
        (
            "paused by somebody before the move has paused anything",
            live(moving, found(copy()), by_hand(source(false)), target(&[])),
            "PIVOT_PAUSED_BY_HAND".into(),
            None,
        ),
        (
            "paused by somebody when much was there",
            live(moving, found(copy()), by_hand(source(true)), target(&ALL)),
            "PIVOT_PAUSED_BY_HAND".into(),
            None,
        ),
        (
            "paused by somebody, and about to be deleted",
            live(moving, found(copy()), by_hand(side("s", &["Cluster"], true)), target(&ALL)),
            format!(
                "delete {cluster} from the source, its instance left alone; un-pause {class} on the target; un-pause {cluster} on the target"
            ),
            Some(Signature::Emptying),
        ),
        (
            "emptied, and paused by somebody on the target",
            live(moving, found(copy()), side("s", &[], true), by_hand(side("t", &ALL, false))),
            "PIVOT_PAUSED_BY_HAND".into(),
            None,
        ),
        (
            "emptied",
            live(moving, found(copy()), side("s", &[], true), target(&ALL)),
            format!("un-pause {class} on the target; un-pause {cluster} on the target"),
            Some(Signature::TargetPaused),
        ),
        ("lost", live(moving, found(copy()), side("s", &["Cluster"], true), target(&["Cluster"])), "PIVOT_FOREIGN".into(), None),
    ] {
        let clusters = Clusters::of(&step);
        assert_eq!(said(Moving(&clusters).plan(&live)), expected, "{case}");
        assert_eq!(clusters.began_as(), signature, "{case}");
    }
}

#[test]
fn a_foreign_state_is_told_with_what_to_look_at() {
    let step = PivotClusterctlMove::default();
    let clusters = Clusters::of(&step);
    let live = live(Some(Stage::Moving), found(copy()), side("s", &["Cluster"], true), side("t", &["Cluster"], true));
    let Err(failure) = Moving(&clusters).plan(&live) else { panic!("nothing is known to be right here") };
    let detail = failure.detail.unwrap();
    assert!(detail.contains("source https://s:6443: 1 of the copy's 3 objects"), "{detail}");
    assert!(detail.contains("target: lacks: ClusterClass capi-clusters/mgmt-1, Machine capi-clusters/mgmt-1"), "{detail}");
    assert!(
        failure.hints[0].contains("kubectl --kubeconfig /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig"),
        "{:?}",
        failure.hints
    );
}

#[test]
fn what_a_person_has_paused_is_told_with_who_and_how_it_ends() {
    let step = PivotClusterctlMove::default();
    let clusters = Clusters::of(&step);
    let mut target = by_hand(side("t", &ALL, false));
    for class in target.objects.values_mut().filter(|object| object.key.is_class()) {
        class.paused = true;
        class.annotations.insert(PAUSED.into(), String::new());
        class.paused_by = Some("argocd".into());
    }
    let live = live(Some(Stage::Moving), found(copy()), side("s", &[], true), target);
    let Err(failure) = Moving(&clusters).plan(&live) else { panic!("somebody has paused it") };
    for words in [
        "ClusterClass capi-clusters/mgmt-1 on the target is paused by argocd",
        "Cluster capi-clusters/mgmt-1 on the target is paused by kubectl-patch",
    ] {
        assert!(failure.msg.contains(words), "{}", failure.msg);
    }
    let kubectl = "kubectl --kubeconfig /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig --namespace capi-clusters";
    for command in [
        format!("`{kubectl} annotate clusterclass mgmt-1 cluster.x-k8s.io/paused-`"),
        format!("`{kubectl} patch cluster mgmt-1 --type merge --patch '{{\"spec\":{{\"paused\":null}}}}'`"),
    ] {
        assert!(failure.hints[0].contains(&command), "{:?}", failure.hints);
    }
}
