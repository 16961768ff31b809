use std::collections::BTreeMap;

use cluster::DynamicObject;
use serde_json::{Value, json};

use crate::{
    Act, Copy, Direction, Foreign, Instance, Key, Manifest, Object, Side, Sides, Signature, conditions,
    graph::{Graph, Moving},
    lost,
    object::{CORE, MARK, MOVES, PAUSED},
    unsettled,
};

const NAMESPACE: &str = "capi-clusters";
const LXC: &str = "infrastructure.cluster.x-k8s.io/v1alpha2";
const CORE_V1: &str = "cluster.x-k8s.io/v1beta2";

/// Kind and name, for short: `Cluster m`.
fn named<'a>(objects: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
    objects.into_iter().map(|key| format!("{} {}", key.kind, key.name)).collect()
}

fn object(api: &str, kind: &str, name: &str, owners: &[&str], more: &Value) -> Object {
    let owners: Vec<_> = owners.iter().map(|uid| json!({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": uid})).collect();
    let mut whole = json!({
        "apiVersion": api, "kind": kind, "spec": {},
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("{kind}-{name}"), "ownerReferences": owners,
            "annotations": {"own": "kept"}},
    });
    for (field, value) in more.as_object().unwrap() {
        whole.as_object_mut().unwrap().insert(field.clone(), value.clone());
    }
    if let Some(labels) = more.get("labels") {
        whole["metadata"]["labels"] = labels.clone();
    }
    Object::of(&serde_json::from_value::<DynamicObject>(whole).unwrap()).unwrap()
}

/// A Cluster of a class with one machine, its Secrets, and what nobody moves.
fn world() -> Vec<Object> {
    let nothing = json!({});
    vec![
        object(CORE_V1, "ClusterClass", "class", &[], &nothing),
        object(LXC, "LXCMachineTemplate", "class-worker", &["ClusterClass-class"], &nothing),
        object(LXC, "LXCClusterTemplate", "class", &["ClusterClass-class"], &nothing),
        object(CORE_V1, "Cluster", "m", &[], &json!({"spec": {"topology": {"classRef": {"name": "class"}}}})),
        object(LXC, "LXCCluster", "m", &["Cluster-m"], &nothing),
        object("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "m", &["Cluster-m"], &nothing),
        object(CORE_V1, "Machine", "m-0", &["KubeadmControlPlane-m"], &json!({"spec": {"providerID": "lxc:///m-0"}})),
        object(LXC, "LXCMachine", "m-0", &["Machine-m-0"], &nothing),
        object("v1", "Secret", "m-ca", &[], &json!({"data": {"k": "eA=="}, "labels": {"cluster.x-k8s.io/cluster-name": "m"}})),
        object("v1", "Secret", "incus-identity", &[], &json!({"labels": {MOVES: "true"}})),
        object("v1", "Secret", "other", &[], &nothing),
        object("v1", "ConfigMap", "kube-root-ca.crt", &[], &nothing),
    ]
}

fn moving() -> Moving {
    let kind = |name: &str| ((CORE.to_owned(), name.to_owned()), true);
    Moving { kinds: BTreeMap::from([kind("Cluster"), kind("ClusterClass")]) }
}

fn side(objects: Vec<Object>) -> Side {
    Side::of("https://10.77.0.5:6443", "uid", objects, &moving())
}

fn copied() -> BTreeMap<Key, Object> {
    side(world()).moved().map(|object| (object.key.clone(), object.clone())).collect()
}

/// What is done to a whole side, word by word: `paused` pauses class and Cluster, `only A B` and `without A` choose kinds,
/// `marked A` marks a kind, `changed A` has it say something else, `going A` lets one be deleted, `class-paused`, `cluster-paused`, `none` and `more A` speak for themselves.
fn bent(how: &str) -> Side {
    let mut objects = world();
    let mut words = how.split(' ').peekable();
    let pause = |objects: &mut Vec<Object>, kind: &str| {
        objects.iter_mut().filter(|object| object.key.is(kind)).for_each(|object| object.paused = true);
    };
    while let Some(word) = words.next() {
        match word {
            "" | "whole" => {}
            "none" => objects.retain(|object| object.key.name == "other"),
            "paused" => ["Cluster", "ClusterClass"].into_iter().for_each(|kind| pause(&mut objects, kind)),
            "cluster-paused" => pause(&mut objects, "Cluster"),
            "class-paused" => pause(&mut objects, "ClusterClass"),
            "only" => {
                let kinds: Vec<_> = words.by_ref().collect();
                objects.retain(|object| kinds.contains(&object.key.kind.as_str()));
            }
            "without" => {
                let kind = words.next().unwrap();
                objects.retain(|object| object.key.kind != kind);
            }
            "marked" => {
                let kind = words.next().unwrap();
                for object in objects.iter_mut().filter(|object| object.key.kind == kind) {
                    object.annotations = BTreeMap::from([(MARK.to_owned(), String::new())]);
                    object.paused = object.key.is_cluster();
                }
            }
            "changed" => {
                let kind = words.next().unwrap();
                objects.iter_mut().filter(|object| object.key.kind == kind).for_each(|object| object.digest = "new".into());
            }
            "going" => {
                let kind = words.next().unwrap();
                objects.iter_mut().filter(|object| object.key.kind == kind).for_each(|object| object.going = true);
            }
            "more" => {
                let kind = words.next().unwrap();
                objects.push(object(CORE_V1, kind, "more", &["Cluster-m"], &json!({})));
            }
            word => panic!("{word}"),
        }
    }
    side(objects)
}

fn sides(source: &str, target: &str) -> Sides {
    Sides { source: bent(source), target: Side { uid: "other".into(), ..bent(target) } }
}

fn acts(signature: Signature, sides: &Sides) -> Vec<String> {
    let short = |act: &Act| match act {
        Act::Unpause(place, handle) => format!("unpause {place} {}", handle.key.kind),
        Act::Pause(place, handle) => format!("pause {place} {}", handle.key.kind),
        Act::Move => "move".into(),
        Act::Restore => "restore".into(),
        Act::Delete(handle) => format!("delete {}", handle.key.kind),
        Act::Annotate(handle, _) => format!("annotate {}", handle.key.kind),
    };
    signature.continuation(&copied(), sides).iter().map(short).collect()
}

#[test]
fn what_clusterctl_moves_is_known() {
    let moved = copied();
    let left: Vec<_> = world().into_iter().filter(|object| !moved.contains_key(&object.key)).map(|object| object.key).collect();
    assert_eq!(named(&left), ["Secret other", "ConfigMap kube-root-ca.crt"]);
}

#[test]
fn leaves_go_first_then_the_cluster_and_its_class() {
    let moved = copied();
    let order = named(Graph::of(&moved).leaves_first());
    let place = |name: &str| order.iter().position(|found| found == name).unwrap();
    for (first, then) in [
        ("LXCMachine m-0", "Machine m-0"),
        ("Machine m-0", "KubeadmControlPlane m"),
        ("KubeadmControlPlane m", "Cluster m"),
        ("Secret m-ca", "Cluster m"),
        ("Cluster m", "ClusterClass class"),
        ("LXCMachineTemplate class-worker", "ClusterClass class"),
        ("Secret incus-identity", "ClusterClass class"),
    ] {
        assert!(place(first) < place(then), "{first} before {then}: {order:?}");
    }
}

/// Case, source, target, what it is, and the way on.
type Row = (&'static str, &'static str, &'static str, Signature, Vec<&'static str>);

const LET_GO: [&str; 3] = ["unpause source ClusterClass", "unpause source Cluster", "move"];
const RESUME: [&str; 2] = ["unpause target ClusterClass", "unpause target Cluster"];
const EMPTY: [&str; 10] = [
    "delete LXCMachine",
    "delete Machine",
    "delete KubeadmControlPlane",
    "delete LXCCluster",
    "delete Secret",
    "delete Secret",
    "delete Cluster",
    "delete LXCClusterTemplate",
    "delete LXCMachineTemplate",
    "delete ClusterClass",
];

fn empty_then(skipped: usize, more: &[&'static str]) -> Vec<&'static str> {
    [&EMPTY[skipped..], more].concat()
}

/// Until the first object is marked on the source.
fn not_emptied() -> Vec<Row> {
    use Signature::{Begun, Created, Ready, SourcePaused, Split};
    let partial = "paused only ClusterClass Secret Cluster LXCClusterTemplate";
    vec![
        ("before the pause", "whole", "none", Ready, vec!["move"]),
        ("Cluster paused, class not", "cluster-paused", "none", SourcePaused, vec!["unpause source Cluster", "move"]),
        ("both paused", "paused", "none", SourcePaused, LET_GO.to_vec()),
        ("one un-paused again", "class-paused", "none", SourcePaused, vec!["unpause source ClusterClass", "move"]),
        ("class on the target, no Cluster", "paused", "paused only ClusterClass Secret", Begun, LET_GO.to_vec()),
        ("the source un-paused for it", "whole", "paused only ClusterClass Secret", Begun, vec!["move"]),
        ("Cluster on the target, templates partial", "paused", partial, Split, [&["restore"][..], &EMPTY].concat()),
        ("Cluster on the target, no Machine yet", "paused", "paused without Machine", Begun, LET_GO.to_vec()),
        ("all created, none marked", "paused", "paused", Created, LET_GO.to_vec()),
        ("restored, stopped before its last un-pause", "paused", "cluster-paused", Created, LET_GO.to_vec()),
    ]
}

/// From the first mark to the end.
fn emptied() -> Vec<Row> {
    use Signature::{ClustersGone, Emptying, Finished, Restored, Resuming, TargetPaused};
    let with = |deleted: &[&'static str]| [deleted, &RESUME].concat();
    let last = "paused only Cluster ClusterClass marked Cluster";
    let unlike = "marked ClusterClass only ClusterClass";
    vec![
        ("first one marked", "paused marked LXCMachine", "paused", Emptying, empty_then(0, &RESUME)),
        ("first one being deleted", "paused marked LXCMachine going LXCMachine", "paused", Emptying, empty_then(0, &RESUME)),
        ("first one gone", "paused without LXCMachine", "paused", Emptying, empty_then(1, &RESUME)),
        ("only the Cluster left, marked", last, "paused", Emptying, with(&["delete Cluster", "delete ClusterClass"])),
        ("Cluster gone, class there", "class-paused only ClusterClass", "paused", ClustersGone, with(&["delete ClusterClass"])),
        ("class marked, so that it looks un-paused", unlike, "paused", ClustersGone, with(&["delete ClusterClass"])),
        (
            "moved again after that: the target's class has lost its annotations",
            "none",
            "cluster-paused marked ClusterClass",
            Resuming,
            vec!["annotate ClusterClass", "unpause target Cluster"],
        ),
        ("Secrets left over", "paused only Secret", "paused", ClustersGone, with(&["delete Secret", "delete Secret"])),
        ("all deleted", "none", "paused", TargetPaused, RESUME.to_vec()),
        ("between the two un-pauses", "none", "cluster-paused", Resuming, vec!["unpause target Cluster"]),
        ("restored from the copy, not yet deleted", "paused", "whole", Restored, empty_then(0, &[])),
        ("restored, half deleted", "paused without LXCMachine", "whole", Restored, empty_then(1, &[])),
        ("finished", "none", "whole", Finished, vec![]),
        ("finished, and scaled since", "none", "whole more Machine", Finished, vec![]),
    ]
}

/// Every row of what was measured, and what lies between two rows because a continuation was stopped, too.
#[test]
fn every_state_that_a_move_can_be_stopped_in_has_its_one_continuation() {
    let is_deletion = |act: &&String| act.starts_with("delete");
    for (case, source, target, signature, continuation) in not_emptied().into_iter().chain(emptied()) {
        let sides = sides(source, target);
        assert_eq!(Signature::of(&copied(), &sides), Ok(signature), "{case}");
        let (acts, wanted) = (acts(signature, &sides), continuation.into_iter().map(str::to_owned).collect::<Vec<_>>());
        // The order of deletions has a test of its own; they are all together.
        let split = |acts: &[String]| {
            let mut deleted: Vec<_> = acts.iter().filter(is_deletion).cloned().collect();
            deleted.sort();
            (deleted, acts.iter().filter(|act| !is_deletion(act)).cloned().collect::<Vec<_>>())
        };
        assert_eq!(split(&acts), split(&wanted), "{case}");
        let places = |acts: &[String]| acts.iter().map(|act| is_deletion(&act)).collect::<Vec<_>>();
        assert_eq!(places(&acts), places(&wanted), "{case}");
    }
}

#[test]
fn what_is_half_restored_pauses_the_source_before_anything_else() {
    let sides = sides("whole", "paused only ClusterClass Secret Cluster LXCClusterTemplate");
    assert_eq!(Signature::of(&copied(), &sides), Ok(Signature::Split));
    assert_eq!(acts(Signature::Split, &sides)[..3], ["pause source Cluster", "pause source ClusterClass", "restore"]);
}

#[test]
fn what_no_move_leaves_behind_is_left_alone_and_told() {
    for (case, source, target, words) in [
        ("the source un-paused half-deleted", "without LXCMachine", "paused", "the source reconciles although it has lost objects"),
        ("the target un-paused too early", "paused", "without Machine", "the target reconciles although it lacks objects"),
        ("both un-paused", "whole", "whole", "both clusters reconcile the same objects"),
        ("lost on both", "paused without Machine", "paused without Machine", "lost objects that the target does not have"),
        ("lost after the move", "none", "paused without Machine", "lost objects that the target does not have"),
        ("both wiped", "none", "none", "lost objects that the target does not have"),
        ("one more on the source", "paused more Machine", "paused", "the source has objects that were not there"),
        ("one more on the target", "paused", "paused without LXCMachine more Machine", "objects that nobody has moved there"),
        ("one more on a target that waits", "none", "paused more Machine", "objects that nobody has moved there"),
        (
            "changed on a half-deleted source",
            "paused without LXCMachine changed Secret",
            "paused",
            "were changed after they were copied",
        ),
        ("changed after the first mark", "paused marked Cluster changed Cluster", "paused", "were changed after they were copied"),
        ("changed beside a restored target", "paused changed Secret", "whole", "were changed after they were copied"),
    ] {
        let Err(Foreign { seen }) = Signature::of(&copied(), &sides(source, target)) else { panic!("{case}") };
        assert!(seen[0].contains(words), "{case}: {seen:?}");
        assert!(seen.iter().any(|line| line.starts_with("source https://10.77.0.5:6443: ")), "{case}: {seen:?}");
        assert!(seen.len() > 2, "{case}: {seen:?}");
    }
}

fn whole_copy() -> Copy {
    let manifest = Manifest {
        direction: Direction::ToManagement,
        namespace: NAMESPACE.into(),
        source: "uid".into(),
        target: "other".into(),
        instances: BTreeMap::from([("m-0".into(), "one".into()), ("m-lb".into(), "two".into())]),
        files: BTreeMap::new(),
    };
    Copy { manifest, objects: copied() }
}

#[test]
fn a_copy_is_of_a_source_until_that_says_something_else() {
    let copy = whole_copy();
    let changed = |change: fn(&mut Object)| {
        let mut objects = world();
        change(objects.iter_mut().find(|object| object.key.kind == "Machine").unwrap());
        side(objects)
    };
    for (case, source, expected) in [
        ("as it was", bent("whole"), true),
        ("paused", bent("paused"), true),
        ("one more", bent("more Machine"), false),
        ("one less", bent("without LXCMachine"), false),
        ("one made anew", changed(|machine| machine.uid = "new".into()), false),
        ("another content", changed(|machine| machine.digest = "new".into()), false),
        ("another annotation", changed(|machine| drop(machine.annotations.insert("a".into(), "b".into()))), false),
        ("another cluster", Side { uid: "third".into(), ..bent("whole") }, false),
    ] {
        assert_eq!(copy.is_of(&source), expected, "{case}");
    }
}

#[test]
fn a_target_has_taken_over_when_everything_is_as_before() {
    let copy = whole_copy();
    let instances = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, uuid)| ((*name).into(), (*uuid).into())).collect();
    let same = instances(&[("m-0", "one"), ("m-lb", "two")]);
    assert_eq!(unsettled(&copy, &sides("none", "whole"), &same), Vec::<String>::new());
    for (case, source, target, instances, words) in [
        (
            "a rest",
            "marked ClusterClass only ClusterClass",
            "whole",
            same.clone(),
            "ClusterClass capi-clusters/class is still on the source",
        ),
        ("paused", "none", "cluster-paused", same.clone(), "Cluster capi-clusters/m is paused on the target"),
        ("one less", "none", "without LXCMachine", same.clone(), "LXCMachine capi-clusters/m-0 is not on the target"),
        ("one more", "none", "whole more Machine", same.clone(), "Machine capi-clusters/more was not there before"),
        ("a mark", "none", "marked ClusterClass", same.clone(), "ClusterClass capi-clusters/class has lost its annotation own"),
        ("a class paused", "none", "class-paused", same.clone(), "ClusterClass capi-clusters/class is paused on the target"),
        ("an instance anew", "none", "whole", instances(&[("m-0", "new"), ("m-lb", "two")]), "instance m-0 was made anew"),
        ("an instance gone", "none", "whole", instances(&[("m-0", "one")]), "instance m-lb is gone"),
        (
            "an instance more",
            "none",
            "whole",
            instances(&[("m-0", "one"), ("m-1", "x"), ("m-lb", "two")]),
            "instance m-1 was not there before",
        ),
    ] {
        let lines = unsettled(&copy, &sides(source, target), &instances);
        assert!(lines.iter().any(|line| line == words), "{case}: {lines:?}");
    }
    let names: Vec<_> = conditions(copy.objects.keys()).iter().map(cluster::Condition::name).collect();
    assert_eq!(names, ["Cluster capi-clusters/m Available", "Machine capi-clusters/m-0 NodeReady"]);
}

#[test]
fn what_its_owner_has_deleted_is_not_lost() {
    let copy = whole_copy();
    let instance =
        |name: &str, cluster: &str, is_load_balancer| Instance { name: name.into(), cluster: cluster.into(), is_load_balancer };
    let both = || vec![instance("m-0", "m", false), instance("m-lb", "m", true)];
    for (case, target, instances, words) in [
        ("as it was moved", "whole", both(), ""),
        ("a Machine deleted with its instance", "whole without Machine without LXCMachine", vec![instance("m-lb", "m", true)], ""),
        ("Helm's records and templates", "whole without LXCMachineTemplate", both(), ""),
        ("a Machine lost", "whole without Machine", both(), "instance m-0 of Cluster m is there, and nothing"),
        ("another Cluster's load balancer", "whole", vec![instance("x-lb", "x", true)], "instance x-lb of Cluster x is there"),
        ("the authorities of a Cluster that is there", "whole without Secret", both(), "has no Secret capi-clusters/m-ca"),
        ("no Cluster", "none", vec![], "has no Cluster m"),
        ("paused", "cluster-paused", both(), "Cluster capi-clusters/m is paused"),
        ("a paused class", "class-paused", both(), "ClusterClass capi-clusters/class is paused"),
    ] {
        let lines = lost(&copy, &Side { uid: "other".into(), ..bent(target) }, "m", &instances);
        assert!(
            if words.is_empty() { lines.is_empty() } else { lines.iter().any(|line| line.contains(words)) },
            "{case}: {lines:?}"
        );
    }
    let elsewhere = lost(&copy, &bent("whole"), "m", &both());
    assert!(elsewhere[0].contains("is not the cluster that everything was moved to"), "{elsewhere:?}");
}

#[test]
fn an_annotation_of_a_pause_is_no_annotation_of_its_own() {
    let mut class = world().swap_remove(0);
    class.annotations.insert(PAUSED.into(), String::new());
    class.annotations.insert(MARK.into(), String::new());
    assert_eq!(class.own_annotations().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["own"]);
}

#[test]
fn what_may_be_kept_has_no_content() {
    let inventory = whole_copy().inventory().to_string();
    assert!(inventory.contains("lxc:///m-0") && inventory.contains("\"two\""), "{inventory}");
    assert!(!inventory.contains("eA=="), "{inventory}");
}
