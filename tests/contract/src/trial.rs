//! What every step has to stand, whatever it is about.

use serde_json::{Value, json};

use crate::{Impostor, Lxd, Outcome, Speech, Step};

/// Runs the step in check mode and for real: the first has to foresee what the second does, and to leave no trace.
pub fn foresees_and_does(lxd: &Lxd, step: &Step) -> Outcome {
    lxd.relay().reset();
    let before = lxd.snapshot();
    let foreseen = step.check().expect_changed();
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "check mode writes nothing");
    assert_same(&before, &lxd.snapshot(), "check mode leaves no trace");
    let done = step.run().expect_changed();
    assert_same(&json!(foreseen.diff()), &json!(done.diff()), "check mode foresees what a run does");
    assert_eq!(changed_stages(&foreseen), changed_stages(&done), "check mode foresees which stages change something");
    assert!(!lxd.relay().writes().is_empty(), "a change is a write");
    done
}

/// Two states are alike; if not, only what differs is shown.
pub fn assert_same(before: &Value, after: &Value, why: &str) {
    let mut differences = Vec::new();
    compare("", before, after, &mut differences);
    assert!(differences.is_empty(), "{why}; it differs:\n{}", differences.join("\n"));
}

fn compare(place: &str, before: &Value, after: &Value, differences: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                compare(&format!("{place}/{key}"), &before[key], &after[key], differences);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{place}/{index}"), old, new, differences);
            }
        }
        _ if before != after => differences.push(format!("{place}: {before} -> {after}")),
        _ => {}
    }
}

fn changed_stages(outcome: &Outcome) -> Vec<Value> {
    let stages = outcome.json["stages"].as_array().into_iter().flatten();
    stages.filter(|stage| stage["changed"] == true).map(|stage| stage["name"].clone()).collect()
}

/// Runs the step where nothing is to do.
pub fn changes_nothing(lxd: &Lxd, step: &Step) -> Outcome {
    lxd.relay().reset();
    let before = lxd.snapshot();
    step.check().expect_unchanged();
    let outcome = step.run().expect_unchanged();
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "nothing to do, so nothing is written");
    assert_same(&before, &lxd.snapshot(), "nothing to do, so nothing is done");
    outcome
}

/// Lets somebody change what the step has made; the step notices, and puts it right.
pub fn repairs(lxd: &Lxd, step: &Step, damage: &[(&str, &str, Value)]) -> Outcome {
    for (method, path, body) in damage {
        lxd.rest().write(method, path, body);
    }
    let repaired = foresees_and_does(lxd, step);
    changes_nothing(lxd, step);
    repaired
}

/// Where no LXD is, or something else is, or it may not be used.
pub fn needs_lxd(lxd: &Lxd, step: &Step) {
    let nowhere = step.clone().args(json!({"lxd_socket_path": "/nowhere/unix.socket"}));
    nowhere.run().expect_code("LXD_UNREACHABLE").expect_words("/nowhere/unix.socket");
    let foreseen = nowhere.check().expect_changed();
    assert!(!foreseen.deferred().is_empty(), "check mode says what it could not look at: {:#}", foreseen.json);
    for speech in [Speech::WebPage, Speech::OtherJson, Speech::Untrusted, Speech::Banner] {
        let impostor = Impostor::start(speech);
        for outcome in [step.clone().socket(impostor.socket()).run(), step.clone().socket(impostor.socket()).check()] {
            outcome.expect_code("LXD_UNEXPECTED_ANSWER").expect_words(&impostor.socket().display().to_string());
        }
    }
    let mute = Impostor::start(Speech::Nothing);
    step.clone().socket(mute.socket()).run().expect_code("LXD_CONNECTION_LOST");
    // Neither the relay's folder nor the socket in it is open to others.
    let stranger = step.clone().user(NOBODY);
    stranger.run().expect_code("LXD_UNREACHABLE").expect_words("ermission denied").expect_words("become: true");
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
}

const NOBODY: u32 = 65_534;

/// Options that no step takes.
pub fn names_bad_options(lxd: &Lxd, step: &Step, cases: &[(Value, &str, &str)]) {
    for (options, code, words) in cases {
        for outcome in [step.clone().args(options.clone()).run(), step.clone().args(options.clone()).check()] {
            outcome.expect_code(code).expect_words(words);
        }
    }
    assert_eq!(lxd.relay().requests(), Vec::new(), "a step with bad options does not even look");
}

/// What may go wrong at one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks, and LXD never sees the request.
    CutBefore,
    /// LXD does it, and the connection breaks before the answer.
    CutAfter,
    /// LXD does it, and the connection breaks in the middle of the answer.
    CutWithin,
    /// LXD refuses it.
    Refused,
    /// LXD accepts it, and its operation fails.
    OperationFails,
    /// The step is killed before LXD sees the request.
    KilledBefore,
    /// LXD does it, and the step is killed before it gets the answer.
    KilledAfter,
}

impl Fault {
    /// Everything that may happen to a write.
    pub const ALL: &[Self] = &[
        Self::CutBefore,
        Self::CutAfter,
        Self::CutWithin,
        Self::Refused,
        Self::OperationFails,
        Self::KilledBefore,
        Self::KilledAfter,
    ];
}

/// Lets each fault happen at each write of a run. The run has to fail as is said of it; the next one has to end where an undisturbed one
/// ends. `start_over` brings LXD back to where the step has everything to do.
pub fn goes_on_after_faults(lxd: &Lxd, step: &Step, faults: &[Fault], start_over: impl Fn(&Lxd)) {
    start_over(lxd);
    lxd.relay().reset();
    step.run().expect_changed();
    let writes = lxd.relay().writes();
    lxd.settle();
    let undisturbed = lxd.lasting();
    for (fault, (place, write)) in faults.iter().flat_map(|fault| writes.iter().enumerate().map(move |write| (*fault, write))) {
        start_over(lxd);
        lxd.relay().reset();
        suffer(lxd, step, fault, place + 1);
        lxd.relay().reset();
        step.run().ok();
        lxd.settle();
        assert_same(&undisturbed, &lxd.lasting(), &format!("{fault:?} at {write}, and run again"));
        changes_nothing(lxd, step);
    }
}

fn suffer(lxd: &Lxd, step: &Step, fault: Fault, nth: usize) {
    const REASON: &str = "no space left on device";
    let trigger = lxd.relay().on_write().nth(nth);
    match fault {
        Fault::CutBefore => trigger.cut_before(),
        Fault::CutAfter => trigger.cut_after(),
        Fault::CutWithin => trigger.cut_within(),
        Fault::Refused => trigger.refuse(500, REASON),
        Fault::OperationFails => trigger.fail_operation(REASON),
        Fault::KilledBefore | Fault::KilledAfter => {
            let held = if fault == Fault::KilledBefore { trigger.hold_before() } else { trigger.hold_after() };
            let running = step.spawn();
            held.wait();
            running.kill();
            return;
        }
    }
    let outcome = step.run();
    if matches!(fault, Fault::CutAfter | Fault::CutWithin) && !outcome.failed() {
        // It has looked again and seen that it was done.
        return;
    }
    assert!(outcome.failed(), "{fault:?} is a failure: {:#}", outcome.json);
    match fault {
        // A step may know a better code than that LXD refused, but not a better reason.
        Fault::Refused | Fault::OperationFails => outcome.expect_words(REASON),
        _ => outcome.expect_code("LXD_CONNECTION_LOST"),
    };
}

/// Two runs at the same time: both end well or one says that the other was there, and the next finds nothing to do.
pub fn stands_a_twin(lxd: &Lxd, step: &Step, start_over: impl Fn(&Lxd)) {
    for _ in 0..3 {
        start_over(lxd);
        let twins = [step.spawn(), step.spawn()];
        for outcome in twins.map(crate::Running::wait) {
            assert!(!outcome.failed(), "a twin failed: {:#}", outcome.json);
        }
        changes_nothing(lxd, step);
    }
}
