use converge::{Change as _, Explain as _, Section as _};
use helm::record::{ChartRecord, Hook, Info, LastRun};
use serde_json::json;

use super::*;
use crate::release::{Act, Live};

fn step() -> HelmRelease {
    HelmRelease {
        name: "web".into(),
        namespace: "ns".into(),
        chart: Some("oci://registry/demo:1.0.0".into()),
        values: BTreeMap::from([("replicas".into(), json!(2))]),
        kubeconfig_path: "/kubeconfig".into(),
        ..HelmRelease::default()
    }
}

/// The description of a revision that the step made.
fn own(step: &HelmRelease) -> String {
    helm::Inputs {
        chart: format!("{} ", step.chart.clone().unwrap()),
        values: step.values.clone().into_iter().collect(),
        labels: step.labels.clone(),
    }
    .description()
}

/// A release whose last revision is the third.
fn live(status: &str, description: &str) -> Live {
    let status = serde_json::from_value(json!(status)).unwrap();
    let chart: ChartRecord = serde_json::from_value(json!({"metadata": {"name": "demo", "version": "0.9.0"}})).unwrap();
    let record = helm::Record {
        revision: 3,
        info: Info { status, description: description.into() },
        chart,
        config: json!({"replicas": 1}).as_object().unwrap().clone(),
        ..helm::Record::default()
    };
    let revision = helm::Revision { number: 3, status, is_rolled_out: true, ..helm::Revision::default() };
    Live { history: vec![revision], last: Some(record), ..Live::default() }
}

fn with_test(mut live: Live, event: &str, phase: &str) -> Live {
    let last_run = LastRun { phase: phase.into() };
    live.last.as_mut().unwrap().hooks.push(Hook { name: "gate".into(), events: vec![event.into()], last_run, ..Hook::default() });
    live
}

fn planned(step: &HelmRelease, live: &Live) -> String {
    match Section::new(step).and_then(|section| section.plan(live)) {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").replace("release ns/web", "it"),
        Err(failure) => failure.code.to_owned(),
    }
}

#[test]
fn plans() {
    let plain = step();
    let own = own(&plain);
    let tested = HelmRelease { tests: true, ..step() };
    let patient = |status| live(status, "Preparing upgrade");
    let not_rolled_out = || {
        let mut live = live("deployed", &own);
        live.history[0].is_rolled_out = false;
        live
    };
    let absent = HelmRelease { state: State::Absent, ..step() };
    let removed = Live { history: live("uninstalled", "").history, ..Live::default() };
    let upgraded = "upgrade it from revision 3; wait until it is rolled out";
    for (case, step, live, expected) in [
        ("not there", &plain, Live::default(), "install it; wait until it is rolled out"),
        ("as it should be", &plain, live("deployed", &own), ""),
        ("made by hand", &plain, live("deployed", "Upgrade complete"), upgraded),
        ("of other inputs", &plain, live("deployed", &own.replace("sha256:", "sha256:0")), upgraded),
        ("failed, whatever it was of", &plain, live("failed", &own), upgraded),
        ("removed, and its record kept", &plain, removed.clone(), "install it; wait until it is rolled out"),
        ("killed before it was rolled out", &plain, not_rolled_out(), "wait until it is rolled out"),
        ("that does not matter", &HelmRelease { wait: false, ..step() }, not_rolled_out(), ""),
        (
            "killed in an upgrade",
            &plain,
            patient("pending-upgrade"),
            "roll it back to its own revision 3, which a run left pending-upgrade; upgrade it from revision 3; wait until it is rolled out",
        ),
        (
            "killed in a hook before the first objects",
            &plain,
            with_test(patient("pending-install"), "pre-install", "Running"),
            "uninstall it, which a run left pending-install; install it; wait until it is rolled out",
        ),
        ("tests that have not run", &tested, with_test(live("deployed", &own), "test", ""), "run the tests of it"),
        ("tests that failed", &tested, with_test(live("deployed", &own), "test", "Failed"), "run the tests of it"),
        ("tests that have passed", &tested, with_test(live("deployed", &own), "test", "Succeeded"), ""),
        ("no tests", &tested, live("deployed", &own), ""),
        (
            "another revision is tested anew",
            &tested,
            with_test(live("deployed", "x"), "test", "Succeeded"),
            "upgrade it from revision 3; wait until it is rolled out; run the tests of it",
        ),
        ("to be removed", &absent, live("deployed", &own), "uninstall it"),
        ("removed before", &absent, removed, ""),
        ("never there", &absent, Live::default(), ""),
        ("while a pivot is open", &plain, Live { pivot_is_open: true, ..live("deployed", "x") }, "PIVOT_OPEN"),
        ("nothing to do while a pivot is open", &plain, Live { pivot_is_open: true, ..live("deployed", &own) }, ""),
    ] {
        assert_eq!(planned(step, &live), expected, "{case}");
    }
}

#[test]
fn labels_are_part_of_it() {
    let labels = BTreeMap::from([("clusterctl.cluster.x-k8s.io/move".to_owned(), String::new())]);
    let step = HelmRelease { labels: labels.clone(), ..step() };
    let mut live = live("deployed", &own(&step));
    assert!(planned(&step, &live).starts_with("upgrade"), "the label was taken off");
    live.history[0].labels = labels;
    assert_eq!(planned(&step, &live), "");
}

#[test]
fn charts_at_hand_are_held_to_their_names_and_versions() {
    let folder = std::env::temp_dir().join(format!("k8slab-chart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "name: other\nversion: 1.0.0\n").unwrap();
    let step = HelmRelease { chart: Some(folder.display().to_string()), ..step() };
    assert_eq!(planned(&step, &live("deployed", "x")), "RELEASE_OTHER_CHART");
    assert_eq!(planned(&HelmRelease { version: Some("2.0.0".into()), ..step.clone() }, &Live::default()), "CHART_VERSION");
    assert!(planned(&HelmRelease { version: Some("1.0.0".into()), ..step }, &Live::default()).starts_with("install"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn both_sides_are_shown_and_no_secret() {
    let schema = "eyJwcm9wZXJ0aWVzIjogeyJ0b2tlbiI6IHsid3JpdGVPbmx5IjogdHJ1ZX19fQ==";
    let mut live = live("deployed", "by hand");
    let record = live.last.as_mut().unwrap();
    record.chart = serde_json::from_value(json!({"metadata": {"name": "demo", "version": "0.9.0"}, "schema": schema})).unwrap();
    record.config = json!({"token": "hunter2", "replicas": 1}).as_object().unwrap().clone();
    let step =
        HelmRelease { values: BTreeMap::from([("token".into(), json!("hunter3")), ("replicas".into(), json!(2))]), ..step() };
    let changes = Section::new(&step).unwrap().plan(&live).unwrap();
    assert!(matches!(changes[0].act, Act::Upgrade(3)));
    let (before, after) = (changes[0].before(), changes[0].after());
    assert_eq!((&before["chart"], &before["values"]["replicas"]), (&json!("demo 0.9.0"), &json!(1)));
    assert_eq!((&after["chart"], &after["values"]["replicas"]), (&json!("oci://registry/demo:1.0.0"), &json!(2)));
    let shown = format!("{before} {after}");
    assert!(!shown.contains("hunter") && shown.contains("<redacted:"), "{shown}");
}

#[test]
fn what_is_missing_or_could_change_its_meaning_is_refused() {
    for (case, step, expected) in [
        ("all there", step(), ""),
        ("no chart", HelmRelease { chart: None, ..step() }, "OPTION_MISSING"),
        ("no chart is needed to remove", HelmRelease { chart: None, state: State::Absent, ..step() }, ""),
        ("a reference of no version", HelmRelease { chart: Some("oci://registry:5000/demo".into()), ..step() }, "OPTION_INVALID"),
        (
            "a reference with its version",
            HelmRelease { chart: Some("oci://registry:5000/demo".into()), version: Some("1.0.0".into()), ..step() },
            "",
        ),
        ("a digest", HelmRelease { chart: Some("oci://registry/demo@sha256:abc".into()), ..step() }, ""),
    ] {
        assert_eq!(step.preflight().err().map_or("", |failure| failure.code), expected, "{case}");
    }
    assert_eq!(helm::Error::Overtaken { release: "x".into() }.code(), "RELEASE_CHANGED_MEANWHILE");
}
