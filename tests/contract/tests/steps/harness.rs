//! What the cases rely on: that a fault happens as asked for, and that the newer personality answers as newer servers do.

#![allow(clippy::expect_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use contract::{Personality, Relay, Rest, Scripted};
use serde_json::{Value, json};

/// What a client gets over one connection, byte by byte.
fn raw(relay: &Relay, method: &str, path: &str, body: &str) -> String {
    let mut connection = UnixStream::connect(relay.socket()).expect("connect to the relay");
    let length = body.len();
    write!(connection, "{method} {path} HTTP/1.1\r\nhost: lxd\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .expect("send the request");
    let mut answer = Vec::new();
    // A cut connection may end in an error; what came before counts.
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn pair() -> (Scripted, Relay, Rest) {
    let scripted = Scripted::start(Personality::Sync);
    let relay = Relay::start(scripted.socket());
    let rest = Rest::new(scripted.socket());
    (scripted, relay, rest)
}

const CREATE: &str = r#"{"name": "a"}"#;

fn is_there(rest: &Rest) -> bool {
    !rest.get("/1.0/projects/a").is_null()
}

#[test]
fn a_request_passes_and_is_written_down() {
    let (_scripted, relay, rest) = pair();
    assert!(raw(&relay, "POST", "/1.0/projects?x=y", CREATE).starts_with("HTTP/1.1 201 Created"));
    assert!(raw(&relay, "GET", "/1.0/projects/a", "").starts_with("HTTP/1.1 200 OK"));
    assert!(is_there(&rest));
    assert_eq!(relay.writes(), ["POST /1.0/projects"]);
    let requests = relay.requests();
    assert_eq!(
        (requests.len(), &*requests[0].query, &requests[0].body, requests[0].status),
        (2, "x=y", &json!({"name": "a"}), Some(201))
    );
    relay.reset();
    assert_eq!(relay.requests(), []);
}

#[test]
fn a_fault_happens_once_and_where_it_was_asked_for() {
    let (_scripted, relay, _rest) = pair();
    relay.on("GET", "/1.0/projects/*").nth(2).refuse(503, "not now");
    let statuses = ["/1.0/projects", "/1.0/projects/default", "/1.0/projects/default", "/1.0/projects/default"]
        .map(|path| raw(&relay, "GET", path, "")[9..12].to_owned());
    assert_eq!(statuses, ["200", "200", "503", "200"]);
}

#[test]
fn cuts_differ_in_what_lxd_has_done() {
    for (cut, done, answered) in [("before", false, false), ("after", true, false), ("within", true, true)] {
        let (_scripted, relay, rest) = pair();
        let trigger = relay.on_write();
        match cut {
            "before" => trigger.cut_before(),
            "after" => trigger.cut_after(),
            _ => trigger.cut_within(),
        }
        let answer = raw(&relay, "POST", "/1.0/projects", CREATE);
        assert_eq!((is_there(&rest), answer.contains("201 Created")), (done, answered), "{cut}: {answer}");
        assert!(!answer.contains("\"metadata\":null}"), "{cut}: the answer is not whole: {answer}");
    }
}

#[test]
fn a_held_request_waits_for_the_test() {
    for (release, done) in [(true, true), (false, false)] {
        let (_scripted, relay, rest) = pair();
        let held = relay.on_write().hold_before();
        thread::scope(|scope| {
            let answer = scope.spawn(|| raw(&relay, "POST", "/1.0/projects", CREATE));
            held.wait();
            assert!(!is_there(&rest));
            if release {
                held.release();
            } else {
                drop(held);
            }
            assert_eq!(answer.join().expect("the client").contains("201 Created"), done);
        });
        assert_eq!(is_there(&rest), done);
    }
    let (_scripted, relay, rest) = pair();
    let held = relay.on_write().hold_after();
    thread::scope(|scope| {
        let answer = scope.spawn(|| raw(&relay, "POST", "/1.0/projects", CREATE));
        held.wait();
        assert!(is_there(&rest), "LXD has done it, only the answer is held");
        held.release();
        assert!(answer.join().expect("the client").contains("201 Created"));
    });
}

#[test]
fn somebody_else_comes_first() {
    let (_scripted, relay, rest) = pair();
    relay.on_write().meanwhile(|rest| drop(rest.write("POST", "/1.0/projects", &json!({"name": "a"}))));
    assert!(raw(&relay, "POST", "/1.0/projects", CREATE).starts_with("HTTP/1.1 409"));
    assert!(is_there(&rest));
    assert_eq!(relay.writes(), ["POST /1.0/projects"], "what somebody else does is not the step's");
}

#[test]
fn an_accepted_operation_fails_without_lxd() {
    let (_scripted, relay, rest) = pair();
    relay.on_write().fail_operation("no space");
    let through = Rest::new(relay.socket());
    assert_eq!(through.try_write("POST", "/1.0/projects", &json!({"name": "a"})), Err("no space".to_owned()));
    assert!(!is_there(&rest));
}

#[test]
fn a_delay_is_one_and_other_speech_gets_through() {
    let (_scripted, relay, _rest) = pair();
    relay.on("GET", "/1.0").delay(Duration::from_millis(200));
    let start = Instant::now();
    assert!(raw(&relay, "GET", "/1.0", "").starts_with("HTTP/1.1 200"));
    assert!(start.elapsed() >= Duration::from_millis(200));
    relay.on("GET", "/1.0").say(502, "text/html", "<html>Bad Gateway</html>");
    let answer = raw(&relay, "GET", "/1.0", "");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.ends_with("<html>Bad Gateway</html>"), "{answer}");
}

/// What 6.8 and later do in operations: method, path and body of a request that works, of one that does not, and its error.
#[test]
fn the_newer_personality_does_it_in_operations() {
    let scripted = Scripted::start(Personality::Async);
    let rest = Rest::new(scripted.socket());
    let folder = tempfile::tempdir().expect("a folder for the pool");
    rest.write("POST", "/1.0/projects", &json!({"name": "a"}));
    rest.write("POST", "/1.0/profiles?project=a", &json!({"name": "p"}));
    let nic = json!({"x": {"type": "nic", "network": "nowhere"}});
    for (method, path, good, bad, error) in [
        (
            "POST",
            "/1.0/storage-pools",
            json!({"name": "s", "driver": "dir", "config": {"source": folder.path()}}),
            json!({"name": "t", "driver": "dir", "config": {"source": "/nowhere"}}),
            "Source path '/nowhere' doesn't exist",
        ),
        (
            "PATCH",
            "/1.0/storage-pools/s",
            json!({"config": {"user.a": "1"}}),
            json!({"config": {"source": "/elsewhere"}}),
            "Pool source cannot be changed when not in pending state",
        ),
        (
            "POST",
            "/1.0/networks",
            json!({"name": "n", "config": {"ipv4.address": "10.1.2.1/24"}}),
            json!({"name": "lo", "config": {"ipv4.address": "10.1.3.1/24"}}),
            "Network interface \"lo\" already exists",
        ),
        ("PUT", "/1.0/profiles/p?project=a", json!({}), json!({"devices": nic}), "Network not found"),
    ] {
        let finish = |body: &Value| {
            let answer = rest.call(method, path, Some(body));
            assert_eq!((answer.status, &answer.envelope["type"]), (202, &json!("async")), "{method} {path}");
            let operation = answer.envelope["operation"].as_str().unwrap_or_default();
            let running = rest.get("/1.0/operations")["running"].clone();
            assert_eq!(running, json!([operation]), "whoever reads on without waiting reads too early");
            rest.get(&format!("{operation}/wait?timeout=10"))
        };
        let failed = finish(&bad);
        let said = failed["err"].as_str().unwrap_or_default();
        assert!(failed["status_code"] == 400 && said.ends_with(error), "{method} {path}: {failed}");
        assert_eq!(finish(&good)["status_code"], 200, "{method} {path}");
    }
    assert_eq!(rest.get("/1.0/networks/n")["status"], "Created");
}

#[test]
fn the_newer_personality_merges() {
    let scripted = Scripted::start(Personality::Async);
    let rest = Rest::new(scripted.socket());
    rest.write("POST", "/1.0/projects", &json!({"name": "a", "config": {"user.a": "1", "features.networks.zones": "false"}}));
    rest.write("PATCH", "/1.0/projects/a", &json!({"config": {"user.b": "2", "user.dropped": true}}));
    let config = rest.get("/1.0/projects/a")["config"].clone();
    assert_eq!([&config["user.a"], &config["user.b"], &config["user.dropped"]], [&json!("1"), &json!("2"), &Value::Null]);
    rest.write("POST", "/1.0/profiles?project=a", &json!({"name": "p", "devices": {"x": {"type": "none"}}}));
    rest.write("PATCH", "/1.0/profiles/p?project=a", &json!({"devices": {"x": null}}));
    assert_eq!(rest.get("/1.0/profiles/p?project=a")["devices"], json!({}));
}
