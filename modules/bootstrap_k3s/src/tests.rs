use std::path::Path;

use converge::Explain as _;
use lxd::{FileInfo, FileKind};

use super::*;
use crate::{error::Error, files::File, install::LiveFile};

fn step(bend: impl FnOnce(&mut BootstrapK3s)) -> BootstrapK3s {
    let mut step = BootstrapK3s::default();
    bend(&mut step);
    step
}

fn info(mode: u32, modified: &str) -> FileInfo {
    FileInfo { kind: FileKind::File, user: 0, group: 0, mode, modified: modified.into() }
}

fn install(step: &BootstrapK3s) -> Install<'_> {
    Install { step, payloads: vec![Payload::binary("/usr/local/bin/k3s".into(), "/nowhere/k3s".into(), 0o755)] }
}

/// The instance as the step leaves it, bent.
fn live(step: &BootstrapK3s, bend: impl FnOnce(&mut install::Live)) -> install::Live {
    let mut live = install::Live::default();
    for File { path, mode, text, .. } in files::declare(step) {
        if let Some(text) = text {
            live.files.insert(path, LiveFile { info: info(mode, "2026"), text: text.expose().into() });
        }
    }
    let record = serde_json::from_value(serde_json::json!({
        "sha256": "c0ffee", "version": "v1.35.3+k3s1", "modified": "2026", "source": {"size": 1, "modified": 1},
    }));
    let placed = payload::Live { wanted: "c0ffee".into(), found: Some(info(0o755, "2026")), record: record.ok() };
    live.payloads.insert("/usr/local/bin/k3s".into(), placed);
    bend(&mut live);
    live
}

fn file<'a>(live: &'a mut install::Live, path: &str) -> &'a mut LiveFile {
    live.files.get_mut(path).unwrap()
}

fn placed(live: &mut install::Live) -> &mut payload::Live {
    live.payloads.get_mut("/usr/local/bin/k3s").unwrap()
}

fn plan(step: &BootstrapK3s, live: &install::Live) -> String {
    let changes = install(step).plan(live).unwrap();
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_node_among_the_clusters_own_addresses_is_refused_before_anything_is_placed() {
    let step = step(|_| ());
    for (network, code) in [
        ("10.77.0.5/24", None),
        ("10.42.0.5/24", Some("ADDRESSES_OVERLAP")),
        ("10.43.7.5/16", Some("ADDRESSES_OVERLAP")),
        ("fd42:77:42::5/64", Some("ADDRESSES_OVERLAP")),
    ] {
        let live = install::Live { networks: vec![network.parse().unwrap()], ..install::Live::default() };
        assert_eq!(install(&step).plan(&live).err().map(|failure| failure.code), code, "{network}");
    }
}

const UNIT: &str = "/etc/systemd/system/k3s.service";

#[test]
fn plans() {
    let plain = step(|_| ());
    let secret = step(|step| {
        step.token = Some(Secret::from("hunter2".to_owned()));
        step.registries = Some(Secret::from("mirrors: {}".to_owned()));
    });
    for (case, step, live, expected) in [
        (
            "nothing there",
            &plain,
            install::Live::default(),
            "place /usr/local/bin/k3s; write /etc/default/k3s; write /usr/local/sbin/k3s-server-launcher; \
             write /etc/systemd/system/k3s.service",
        ),
        ("as desired", &plain, live(&plain, |_| ()), ""),
        ("as desired, with secrets", &secret, live(&secret, |_| ()), ""),
        (
            "secrets are new",
            &secret,
            live(&plain, |_| ()),
            "write /etc/rancher/k3s/token; write /etc/rancher/k3s/registries.yaml; write /etc/systemd/system/k3s.service",
        ),
        (
            "secrets are no longer wanted",
            &plain,
            live(&secret, |_| ()),
            "remove /etc/rancher/k3s/token; remove /etc/rancher/k3s/registries.yaml; write /etc/systemd/system/k3s.service",
        ),
        (
            "registries of somebody else",
            &plain,
            live(&secret, |live| {
                live.files.remove(flags::TOKEN);
                file(live, "/etc/rancher/k3s/registries.yaml").text = "mirrors: {}".into();
                file(live, UNIT).text = files::declare(&plain).pop().unwrap().text.unwrap().expose().into();
            }),
            "",
        ),
        ("the token is gone", &secret, live(&secret, |live| drop(live.files.remove(flags::TOKEN))), "write /etc/rancher/k3s/token"),
        (
            "the unit was edited",
            &plain,
            live(&plain, |live| file(live, UNIT).text += "Nice=5\n"),
            "write /etc/systemd/system/k3s.service",
        ),
        (
            "the unit has another mode",
            &plain,
            live(&plain, |live| file(live, UNIT).info.mode = 0o600),
            "write /etc/systemd/system/k3s.service",
        ),
        (
            "the unit is another's",
            &plain,
            live(&plain, |live| file(live, UNIT).info.user = 1000),
            "write /etc/systemd/system/k3s.service",
        ),
        (
            "the unit is a link",
            &plain,
            live(&plain, |live| file(live, UNIT).info.kind = FileKind::Symlink),
            "write /etc/systemd/system/k3s.service",
        ),
        ("k3s is gone", &plain, live(&plain, |live| placed(live).found = None), "place /usr/local/bin/k3s"),
        (
            "k3s cannot be executed",
            &plain,
            live(&plain, |live| placed(live).found = Some(info(0o644, "2026"))),
            "place /usr/local/bin/k3s",
        ),
        (
            "k3s was written by somebody else",
            &plain,
            live(&plain, |live| placed(live).found = Some(info(0o755, "2027"))),
            "place /usr/local/bin/k3s",
        ),
        ("nothing says what k3s is", &plain, live(&plain, |live| placed(live).record = None), "place /usr/local/bin/k3s"),
        ("the host has another k3s", &plain, live(&plain, |live| placed(live).wanted = "decaf".into()), "place /usr/local/bin/k3s"),
    ] {
        assert_eq!(plan(step, &live), expected, "{case}");
    }
}

#[test]
fn the_unit_has_the_flags_and_no_secret() {
    let step = step(|step| {
        step.token = Some(Secret::from("hunter2".to_owned()));
        step.environment.insert("HTTPS_PROXY".into(), Secret::from("http://user:\"x\"@proxy".to_owned()));
        step.tls_san = vec!["lab.example.org".into()];
        step.extra_kubelet_feature_gates = vec!["GracefulNodeShutdown=false".into()];
        step.extra_disable_components = vec!["metrics-server".into()];
        step.extra_args = vec!["--node-label=a b=$HOME%".into()];
    });
    let text = |path: &str| files::declare(&step).into_iter().find(|file| file.path == path).unwrap().text.unwrap();
    let unit = text(UNIT);
    for line in [
        "EnvironmentFile=-/etc/default/k3s\n",
        "ExecStart=/usr/local/sbin/k3s-server-launcher \\\n    --write-kubeconfig-mode=0600 \\\n",
        "    --disable-cloud-controller \\\n",
        "    --kubelet-arg=feature-gates=KubeletInUserNamespace=true,GracefulNodeShutdown=false \\\n",
        "    --cluster-cidr=10.42.0.0/16,fd42:77:42::/56 \\\n",
        "    --service-cidr=10.43.0.0/16,fd42:77:43::/112 \\\n",
        "    --cluster-dns=10.43.0.10,fd42:77:43::a \\\n",
        "    --disable=traefik \\\n    --disable=servicelb \\\n    --disable=metrics-server \\\n",
        "    --tls-san=lab.example.org \\\n    --token-file=/etc/rancher/k3s/token \\\n    \"--node-label=a b=$$HOME%%\"\n",
        "Type=notify\n",
        "KillMode=process\n",
    ] {
        assert!(unit.expose().contains(line), "no {line:?} in:\n{}", unit.expose());
    }
    assert_eq!(text("/etc/default/k3s").expose(), "# Written by k8slab.capi.\nHTTPS_PROXY=\"http://user:\\\"x\\\"@proxy\"\n");
    assert_eq!(text(flags::TOKEN).expose(), "hunter2\n");
    let shown = plan_as_shown(&step);
    assert!(!shown.contains("hunter2") && !shown.contains("@proxy"), "{shown}");
}

/// The launcher itself, with an `ip` that knows one interface and a k3s that says what it was given.
#[test]
fn no_proxy_leads_to_the_cluster_itself() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    program(
        "ip",
        r#"case "$*" in
        *"-4 address"*) echo "5: eth0 inet 10.77.0.5/24 scope global eth0" ;;
        *"-6 address"*) echo "5: eth0 inet6 fd42:77:1::5/64 scope global" ;;
        *"-4 route"*) echo "default via 10.77.0.1 proto dhcp"; echo "10.77.0.0/24 proto kernel scope link src 10.77.0.5" ;;
        *"-6 route"*) echo "fd42:77:1::/64 proto ra metric 100"; echo "fe80::/64 proto kernel"; echo "default via fe80::1" ;;
        esac"#,
    );
    let k3s = program("k3s", r#"echo "${NO_PROXY:-none} ${no_proxy:-none}""#);
    let own = "localhost,127.0.0.0/8,::1,.svc,.cluster.local,10.42.0.0/16,fd42:77:42::/56,10.43.0.0/16,fd42:77:43::/112,\
               10.77.0.0/24,fd42:77:1::/64";
    for (case, variables, expected) in [
        ("no proxy", vec![("X", "y")], "none none".to_owned()),
        ("a proxy", vec![("HTTPS_PROXY", "http://proxy")], format!("{own} {own}")),
        ("in small letters", vec![("https_proxy", "http://proxy")], format!("{own} {own}")),
        (
            "what the user adds",
            vec![("HTTP_PROXY", "http://proxy"), ("NO_PROXY", ".example.org")],
            format!(".example.org,{own} .example.org,{own}"),
        ),
    ] {
        let step = step(|step| {
            step.container_bin_path = converge::AbsolutePath::new(k3s.to_str().unwrap()).unwrap();
            step.environment =
                variables.iter().map(|(name, value)| ((*name).to_owned(), Secret::from((*value).to_owned()))).collect();
        });
        let files = files::declare(&step);
        let text = files.iter().find(|file| file.path == "/usr/local/sbin/k3s-server-launcher").unwrap().text.clone().unwrap();
        let launcher = folder.path().join("launcher");
        std::fs::write(&launcher, text.expose()).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new("sh");
        command.arg(&launcher).env("PATH", path).env_remove("NO_PROXY").env_remove("no_proxy").envs(variables);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{case}: {output:?}");
    }
}

fn plan_as_shown(step: &BootstrapK3s) -> String {
    use converge::Change as _;
    let changes = install(step).plan(&install::Live::default()).unwrap();
    let shown = |change: &install::Change| format!("{} {} {}", change.object(), change.before(), change.after());
    changes.iter().map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_step_sets_itself_is_refused() {
    for (bend, code, words) in [
        (
            Box::new(|step: &mut BootstrapK3s| step.extra_args = vec!["--node-ip=10.0.0.1".into()])
                as Box<dyn Fn(&mut BootstrapK3s)>,
            "OPTION_COLLISION",
            "--node-ip",
        ),
        (Box::new(|step| step.extra_args = vec!["--disable".into(), "coredns".into()]), "OPTION_COLLISION", "--disable"),
        (Box::new(|step| step.extra_args = vec!["-t=x".into()]), "OPTION_COLLISION", "--token"),
        (Box::new(|step| step.extra_args = vec!["-kubelet-arg=v=5".into()]), "OPTION_COLLISION", "--kubelet-arg"),
        (
            Box::new(|step| step.extra_kubelet_feature_gates = vec!["KubeletInUserNamespace=false".into()]),
            "OPTION_COLLISION",
            "KubeletInUserNamespace",
        ),
        (Box::new(|step| step.extra_args = vec!["--https-listen-port=7443".into()]), "OPTION_INVALID", "--https-listen-port"),
        (Box::new(|step| step.extra_args = vec!["-d".into(), "/srv".into()]), "OPTION_INVALID", "--data-dir"),
        (Box::new(|step| step.extra_args = vec!["--write-kubeconfig=/x".into()]), "OPTION_INVALID", "--write-kubeconfig"),
        (
            Box::new(|step| drop(step.environment.insert("K3S_DATA_DIR".into(), Secret::default()))),
            "OPTION_INVALID",
            "K3S_DATA_DIR",
        ),
        (Box::new(|step| drop(step.environment.insert("K3S_TOKEN".into(), Secret::default()))), "OPTION_INVALID", "K3S_TOKEN"),
        (
            Box::new(|step| drop(step.environment.insert("X".into(), Secret::from("a\nb".to_owned())))),
            "OPTION_INVALID",
            "environment.X",
        ),
    ] {
        let failure = step(bend).preflight().unwrap_err();
        assert!(failure.code == code && failure.msg.contains(words), "{failure}");
    }
    step(|step| step.extra_args = vec!["--debug".into(), "--disable-kube-proxy".into()]).preflight().unwrap();
}

#[test]
fn k3s_that_is_not_what_was_verified_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k3s");
    assert_eq!(Payload::binary("/k3s".into(), path.clone(), 0o755).read_source().unwrap_err().code, "K3S_BINARY_UNREADABLE");
    copy_of_this_program(&path);
    let program = |path: &Path| Payload::binary("/k3s".into(), path.to_owned(), 0o755);
    let actual = program(&path).read_source().unwrap();
    std::fs::write(folder.path().join(".k3s.json"), serde_json::json!({"sha256": actual, "version": "v1"}).to_string()).unwrap();
    assert_eq!(program(&path).read_source().unwrap(), actual);
    std::fs::write(folder.path().join(".k3s.json"), r#"{"sha256": "00"}"#).unwrap();
    assert_eq!(program(&path).read_source().unwrap_err().code, "K3S_BINARY_DAMAGED");
    assert_eq!(Error::NoSource { path }.code(), "K3S_BINARY_MISSING");
}

/// An executable of this machine that is large enough.
fn copy_of_this_program(path: &Path) {
    std::fs::copy(std::env::current_exe().unwrap(), path).unwrap();
}
