//! The scripted LXD is worth something only as far as it behaves like the real one. Here both get the same requests.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;

use contract::{Backend, Lxd};
use serde_json::{Value, json};

/// One request of the comparison: method, path and body.
type Request = (&'static str, String, Value);

/// Sends the requests to both and compares what a client can tell apart: status, kind of envelope, names of fields, error text.
fn compare(requests: impl Fn(&Lxd) -> Vec<Request>) {
    compare_prepared(|_| (), requests);
}

/// [`compare`], after something that is taken to work; what it returns lives until the end.
fn compare_prepared<T>(prepare: impl Fn(&Lxd) -> T, requests: impl Fn(&Lxd) -> Vec<Request>) {
    let (scripted, real) = (Lxd::open(Backend::ScriptedSync), Lxd::open(Backend::Real));
    let _prepared = (prepare(&scripted), prepare(&real));
    let names = |lxd: &Lxd, text: String| {
        let text = text.replace(&lxd.name(""), "NAME-").replace(&lxd.network_name(0), "net0");
        // LXD names any one of the changed keys.
        match text.split_once("when changing \"") {
            Some((before, after)) => format!("{before}when changing KEY{}", after.split_once('"').map_or(after, |(_, rest)| rest)),
            None => text,
        }
    };
    for (ours, theirs) in requests(&scripted).into_iter().zip(requests(&real)) {
        let said = |lxd: &Lxd, (method, path, body): &Request| {
            let answer = lxd.rest().call(method, path, (!body.is_null()).then_some(body));
            let mut seen = json!({
                "status": answer.status, "type": answer.envelope["type"], "fields": fields(&answer.envelope),
                "etag": answer.etag.is_some(), "error": names(lxd, answer.error().to_owned()),
            });
            match answer.envelope["operation"].as_str() {
                Some("") | None => seen["metadata"] = json!(fields(answer.metadata())),
                Some(operation) => {
                    let done = lxd.rest().call("GET", &format!("{operation}/wait?timeout=60"), None);
                    seen["operation"] = json!({
                        "status": done.status, "fields": fields(done.metadata()), "result": done.metadata()["status"],
                        "code": done.metadata()["status_code"],
                        "err": names(lxd, done.metadata()["err"].as_str().unwrap_or_default().to_owned()),
                    });
                }
            }
            seen
        };
        assert_eq!(said(&scripted, &ours), said(&real, &theirs), "{} {} {}", theirs.0, theirs.1, theirs.2);
    }
}

/// The names of an object's fields; of a list, those of any of its objects.
fn fields(value: &Value) -> BTreeSet<&String> {
    match value {
        Value::Object(fields) => fields.keys().collect(),
        Value::Array(items) => items.iter().flat_map(fields).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn projects() {
    compare(|lxd| {
        let name = lxd.name("a");
        let path = format!("/1.0/projects/{name}");
        let project = |config: Value| json!({"name": name, "description": "d", "config": config});
        let restricted = |key: &str, value: &str| json!({"config": {key: value}});
        vec![
            ("GET", "/1.0/nothing".into(), Value::Null),
            ("GET", path.clone(), Value::Null),
            ("PATCH", path.clone(), json!({})),
            ("PUT", path.clone(), json!({})),
            ("DELETE", path.clone(), Value::Null),
            ("POST", "/1.0/projects".into(), json!({"name": ""})),
            ("POST", "/1.0/projects".into(), json!({"name": "a b"})),
            ("POST", "/1.0/projects".into(), json!([])),
            ("POST", "/1.0/projects".into(), project(json!({"nonsense": "x"}))),
            ("POST", "/1.0/projects".into(), project(json!({"restricted": "maybe"}))),
            ("POST", "/1.0/projects".into(), project(json!({"restricted": true}))),
            ("POST", "/1.0/projects".into(), project(json!({"features.networks.zones": "false"}))),
            ("POST", "/1.0/projects".into(), project(json!({"features.networks": "false", "user.owner": "x"}))),
            ("POST", "/1.0/projects".into(), project(json!({}))),
            ("GET", path.clone(), Value::Null),
            ("GET", "/1.0/projects".into(), Value::Null),
            ("GET", "/1.0/projects?recursion=1".into(), Value::Null),
            ("PATCH", path.clone(), restricted("restricted.containers.nesting", "perhaps")),
            ("PATCH", path.clone(), restricted("restricted.containers.privilege", "perhaps")),
            ("PATCH", path.clone(), restricted("restricted.containers.interception", "perhaps")),
            ("PATCH", path.clone(), restricted("restricted.devices.nic", "perhaps")),
            ("PATCH", path.clone(), restricted("restricted.devices.disk.paths", "boot")),
            ("PATCH", path.clone(), restricted("limits.instances", "many")),
            ("PATCH", path.clone(), json!({"config": {"restricted": true}})),
            ("POST", format!("/1.0/profiles?project={name}"), json!({"name": "p"})),
            (
                "PUT",
                path.clone(),
                json!({"config": {"features.images": "false", "features.profiles": "true", "features.storage.volumes": "true", "features.networks": "false"}}),
            ),
            (
                "PUT",
                path.clone(),
                json!({"config": {"features.images": "true", "features.profiles": "true", "features.storage.volumes": "true", "features.networks": "true"}}),
            ),
            ("DELETE", path.clone(), Value::Null),
            ("DELETE", "/1.0/projects/default".into(), Value::Null),
            ("DELETE", format!("/1.0/profiles/default?project={name}"), Value::Null),
            ("DELETE", format!("/1.0/profiles/p?project={name}"), Value::Null),
            ("DELETE", format!("/1.0/profiles/p?project={name}"), Value::Null),
            ("DELETE", path.clone(), Value::Null),
        ]
    });
}

/// The config of an object, where it matters what is kept and what is lost.
#[test]
fn what_a_write_keeps() {
    let kept = |backend: Backend| {
        let lxd = Lxd::open(backend);
        let name = lxd.name("a");
        let network = lxd.network_name(0);
        let (ipv4, ipv6) = lxd.subnet();
        let source = tempfile::tempdir().expect("a folder for the pool");
        let project = format!("/1.0/projects/{name}");
        let pool = format!("/1.0/storage-pools/{name}");
        let bridge = format!("/1.0/networks/{network}");
        let profile = format!("/1.0/profiles/p?project={name}");
        let mut kept = Vec::new();
        let mut look = |path: &str| {
            let object = lxd.rest().get(path);
            let known = ["source", "ipv4.address", "ipv6.address"];
            let mut config = object["config"].as_object().cloned().unwrap_or_default();
            config.retain(|key, _| !known.contains(&key.as_str()));
            kept.push(json!([config, object["description"], object["devices"], object["status"], object["managed"]]));
        };
        lxd.rest().write(
            "POST",
            "/1.0/projects",
            &json!({"name": name, "description": "d", "config": {"user.a": "1", "features.networks": "false"}}),
        );
        look(&project);
        lxd.rest().write(
            "POST",
            &format!("/1.0/profiles?project={name}"),
            &json!({"name": "p", "description": "d", "config": {"user.a": "1"}, "devices": {"x": {"type": "none"}}}),
        );
        lxd.rest().write("PATCH", &profile, &json!({"config": {"user.b": "2"}}));
        look(&profile);
        lxd.rest().write("PUT", &profile, &json!({"config": {"user.c": "3"}}));
        look(&profile);
        lxd.rest().write("DELETE", &profile, &Value::Null);
        lxd.rest().write("PATCH", &project, &json!({"config": {"user.b": "2"}}));
        look(&project);
        lxd.rest().write("PUT", &project, &json!({"config": {"user.c": "", "user.d": "4"}}));
        look(&project);
        lxd.rest().write(
            "POST",
            "/1.0/storage-pools",
            &json!({"name": name, "driver": "dir", "description": "d", "config": {"source": source.path(), "user.a": "1"}}),
        );
        look(&pool);
        lxd.rest().write("PATCH", &pool, &json!({"config": {"user.b": "2"}}));
        look(&pool);
        lxd.rest().write("POST", "/1.0/networks", &json!({"name": network, "type": "bridge", "description": "d", "config": {"ipv4.address": ipv4, "ipv6.address": ipv6, "user.a": "1"}}));
        look(&bridge);
        lxd.rest().write("PATCH", &bridge, &json!({"config": {"user.b": "2"}}));
        look(&bridge);
        lxd.rest().write("PUT", &bridge, &json!({"description": "e", "config": {"ipv4.address": ipv4, "user.c": "3"}}));
        look(&bridge);
        kept
    };
    assert_eq!(kept(Backend::ScriptedSync), kept(Backend::Real));
}

#[test]
fn pools() {
    let source = tempfile::tempdir().expect("a folder for the pool");
    let folder = |lxd: &Lxd| {
        let folder = source.path().join(lxd.name(""));
        std::fs::create_dir_all(&folder).expect("a folder for the pool");
        folder
    };
    compare(|lxd| {
        let name = lxd.name("a");
        let path = format!("/1.0/storage-pools/{name}");
        let create = |driver: &str, config: Value| {
            ("POST", "/1.0/storage-pools".to_owned(), json!({"name": name, "driver": driver, "config": config}))
        };
        vec![
            ("GET", path.clone(), Value::Null),
            ("PATCH", path.clone(), json!({})),
            ("DELETE", path.clone(), Value::Null),
            create("", json!({})),
            create("nothing", json!({})),
            create("dir", json!({"nonsense": "x"})),
            create("dir", json!({"source": "/nowhere/at/all"})),
            create("dir", json!({"source": folder(lxd)})),
            create("dir", json!({"source": folder(lxd)})),
            ("GET", path.clone(), Value::Null),
            ("PATCH", path.clone(), json!({"config": {"nonsense": "x"}})),
            ("PATCH", path.clone(), json!({"config": {"btrfs.mount_options": "x"}})),
            ("PATCH", path.clone(), json!({"config": {"source": "/elsewhere"}})),
            ("PATCH", path.clone(), json!({"config": {"user.a": true}})),
            ("PUT", path.clone(), json!({"config": {"user.a": "1"}})),
            ("DELETE", path.clone(), Value::Null),
        ]
    });
}

#[test]
fn networks() {
    compare(|lxd| {
        let name = lxd.network_name(0);
        let (ipv4, ipv6) = lxd.subnet();
        let path = format!("/1.0/networks/{name}");
        let create = |name: &str, kind: &str, config: Value| {
            ("POST", "/1.0/networks".to_owned(), json!({"name": name, "type": kind, "config": config}))
        };
        vec![
            ("GET", path.clone(), Value::Null),
            ("PATCH", path.clone(), json!({})),
            ("DELETE", path.clone(), Value::Null),
            ("GET", "/1.0/networks/lo".into(), Value::Null),
            ("PATCH", "/1.0/networks/lo".into(), json!({"config": {"user.a": "1"}})),
            ("DELETE", "/1.0/networks/lo".into(), Value::Null),
            create("", "bridge", json!({})),
            create("a-name-too-long-for-it", "bridge", json!({})),
            create(&name, "nothing", json!({})),
            create("lo", "bridge", json!({"ipv4.address": ipv4, "ipv6.address": "none"})),
            create(&name, "bridge", json!({"ipv4.address": ipv4, "ipv6.address": "none", "nonsense": "x"})),
            create(&name, "bridge", json!({"ipv4.address": "10.1.2.3", "ipv6.address": "none"})),
            create(&name, "bridge", json!({"ipv4.address": ipv4, "ipv4.nat": "maybe"})),
            create(&name, "bridge", json!({"ipv4.address": ipv4, "ipv6.address": ipv6})),
            create(&name, "bridge", json!({"ipv4.address": ipv4, "ipv6.address": ipv6})),
            ("GET", path.clone(), Value::Null),
            ("GET", format!("{path}?project={}", lxd.name("nowhere")), Value::Null),
            ("PATCH", path.clone(), json!({"config": {"nonsense": "x"}})),
            ("PATCH", path.clone(), json!({"config": {"ipv4.dhcp": "perhaps"}})),
            ("DELETE", path.clone(), Value::Null),
        ]
    });
}

#[test]
fn profiles_of_a_restricted_project() {
    compare(|lxd| {
        let name = lxd.name("a");
        let project = format!("/1.0/projects/{name}");
        let profiles = format!("/1.0/profiles?project={name}");
        let path = format!("/1.0/profiles/p?project={name}");
        let features = json!({"features.images": "true", "features.networks": "false", "features.profiles": "true", "features.storage.volumes": "true", "restricted": "true"});
        let allowing = |extra: Value| {
            let mut config = features.clone();
            config.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            ("PUT", project.clone(), json!({"config": config}))
        };
        let mut requests = vec![
            ("GET", profiles.clone(), Value::Null),
            ("POST", "/1.0/projects".into(), json!({"name": name, "config": features})),
            ("GET", path.clone(), Value::Null),
            ("PUT", path.clone(), json!({})),
            ("PATCH", path.clone(), json!({})),
            ("POST", profiles.clone(), json!({"name": ""})),
            ("POST", profiles.clone(), json!({"name": "p", "config": {"nonsense": "x"}})),
            ("POST", profiles.clone(), json!({"name": "p", "config": {"security.nesting": "perhaps"}})),
            ("POST", profiles.clone(), json!({"name": "p", "config": {"security.nesting": true}})),
            ("POST", profiles.clone(), json!({"name": "p", "devices": {"x": {"type": "zzz"}}})),
            ("POST", profiles.clone(), json!({"name": "p", "devices": {"x": {"type": "nic"}}})),
            (
                "POST",
                profiles.clone(),
                json!({"name": "p", "devices": {"x": {"type": "nic", "nictype": "bridged", "parent": "b", "nonsense": "x"}}}),
            ),
            ("POST", profiles.clone(), json!({"name": "p", "devices": {"x": {"type": "nic", "network": "nowhere"}}})),
            ("POST", profiles.clone(), json!({"name": "p"})),
            ("POST", profiles.clone(), json!({"name": "p"})),
            ("GET", path.clone(), Value::Null),
            ("GET", format!("{profiles}&recursion=1"), Value::Null),
            ("PATCH", path.clone(), json!({"devices": {"x": null}})),
        ];
        let config = |key: &str, value: &str| ("PUT", path.clone(), json!({"config": {key: value}}));
        let device = |device: Value| ("PUT", path.clone(), json!({"devices": {"x": device}}));
        let restricted = |requests: &mut Vec<Request>| {
            requests.extend([
                config("security.nesting", "true"),
                config("security.privileged", "true"),
                config("security.idmap.isolated", "false"),
                config("security.syscalls.intercept.mknod", "true"),
                config("raw.lxc", "lxc.apparmor.profile=unconfined"),
                config("raw.idmap", "both 0 0"),
                config("linux.kernel_modules", "overlay"),
                config("boot.host_shutdown_timeout", "5"),
                config("limits.cpu", "1"),
                device(json!({"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"})),
                device(json!({"type": "unix-block", "source": "/dev/sda"})),
                device(json!({"type": "disk", "source": "/boot", "path": "/boot"})),
                device(json!({"type": "disk", "source": "/etc", "path": "/boot"})),
                device(json!({"type": "nic", "nictype": "bridged", "parent": "lo"})),
                device(json!({"type": "proxy", "listen": "tcp:127.0.0.1:1", "connect": "tcp:127.0.0.1:1"})),
                device(json!({"type": "gpu"})),
                device(json!({"type": "usb"})),
            ]);
        };
        restricted(&mut requests);
        requests.push(allowing(json!({
            "restricted.containers.nesting": "allow", "restricted.containers.privilege": "isolated",
            "restricted.containers.interception": "allow", "restricted.containers.lowlevel": "allow",
            "restricted.devices.disk": "allow", "restricted.devices.disk.paths": "/boot", "restricted.devices.unix-char": "allow",
            "restricted.devices.nic": "allow", "restricted.networks.access": "somewhere", "restricted.devices.proxy": "allow",
        })));
        restricted(&mut requests);
        requests.push(allowing(json!({"restricted.containers.nesting": "allow"})));
        requests.push(config("security.nesting", "true"));
        requests.push(allowing(json!({})));
        requests
    });
}

#[test]
fn instances() {
    let prepared = |lxd: &Lxd| {
        let name = lxd.name("a");
        let (network, (ipv4, ipv6)) = (lxd.network_name(0), lxd.subnet());
        let folder = tempfile::tempdir().expect("a folder for the pool");
        lxd.rest().write(
            "POST",
            "/1.0/storage-pools",
            &json!({"name": name, "driver": "dir", "config": {"source": folder.path()}}),
        );
        lxd.rest().write(
            "POST",
            "/1.0/networks",
            &json!({"name": network, "config": {"ipv4.address": ipv4, "ipv6.address": ipv6}}),
        );
        lxd.rest().write("POST", "/1.0/projects", &json!({"name": name, "config": {"features.networks": "false"}}));
        lxd.rest().write(
            "POST",
            &format!("/1.0/profiles?project={name}"),
            &json!({"name": "base", "devices": {
                "root": {"type": "disk", "path": "/", "pool": name}, "eth0": {"type": "nic", "network": network, "name": "eth0"},
            }}),
        );
        contract::image::import(lxd.rest(), &name, "tiny");
        folder
    };
    compare_prepared(prepared, |lxd| {
        let name = lxd.name("a");
        let instances = format!("/1.0/instances?project={name}");
        let at = |rest: &str| format!("/1.0/instances/i{rest}?project={name}");
        let create = |name: &str, source: Value, profiles: Value, config: Value| {
            let body = json!({"name": name, "source": source, "profiles": profiles, "config": config});
            ("POST", instances.clone(), body)
        };
        let tiny = || json!({"type": "image", "alias": "tiny"});
        let state = |action: &str| ("PUT", at("/state"), json!({"action": action, "timeout": 30, "force": true}));
        vec![
            ("GET", at(""), Value::Null),
            ("PUT", at(""), json!({})),
            ("DELETE", at(""), Value::Null),
            ("GET", format!("/1.0/images?project={name}&recursion=1"), Value::Null),
            ("GET", format!("/1.0/images/aliases/tiny?project={name}"), Value::Null),
            ("GET", format!("/1.0/images/aliases/nothing?project={name}"), Value::Null),
            create("i", json!({"type": "image", "alias": "nothing"}), json!(["base"]), json!({})),
            create("i", json!({"type": "image", "fingerprint": "abcdef"}), json!(["base"]), json!({})),
            create("i", tiny(), json!(["nothing"]), json!({})),
            create("i", tiny(), json!(["default"]), json!({})),
            create("i", tiny(), json!(["base"]), json!({"nonsense": "x"})),
            create("i_i", tiny(), json!(["base"]), json!({})),
            create("i", tiny(), json!(["base"]), json!({"user.a": "1"})),
            create("i", tiny(), json!(["base"]), json!({"user.a": "1"})),
            ("GET", instances.clone(), Value::Null),
            ("GET", format!("{instances}&recursion=1"), Value::Null),
            ("GET", at(""), Value::Null),
            ("GET", format!("{}&recursion=1", at("")), Value::Null),
            ("GET", at("/state"), Value::Null),
            state("dance"),
            state("stop"),
            state("start"),
            state("start"),
            ("GET", at("/state"), Value::Null),
            ("GET", at("/logs/nothing.log"), Value::Null),
            ("PATCH", at(""), json!({"description": "d", "config": {"user.b": "2"}})),
            ("PATCH", at(""), json!({"config": {"user.c": "3"}})),
            ("PATCH", at(""), json!({"config": {"nonsense": "x"}})),
            ("PATCH", at(""), json!({"devices": {"x": null}})),
            ("PUT", at(""), json!({"profiles": ["base"], "config": {"nonsense": "x"}})),
            ("PUT", at(""), json!({"profiles": ["base"], "config": {}})),
            ("PUT", at(""), json!({"profiles": ["nothing"], "config": {}})),
            ("DELETE", format!("/1.0/profiles/base?project={name}"), Value::Null),
            ("DELETE", format!("/1.0/storage-pools/{name}"), Value::Null),
            ("DELETE", format!("/1.0/networks/{}", lxd.network_name(0)), Value::Null),
            ("DELETE", at(""), Value::Null),
            state("restart"),
            state("stop"),
            ("DELETE", at(""), Value::Null),
            ("DELETE", at(""), Value::Null),
        ]
    });
}
