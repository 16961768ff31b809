//! Why k3s ends again and again.

use std::{
    cell::RefCell,
    convert::Infallible,
    future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ansible::{Failure, Wait};
use lxd::Client;

use crate::{BootstrapK3s, error::Error, service};

/// How often k3s may end for a reason that is not known: the first start of a slow machine sometimes takes two.
const PATIENCE: u32 = 3;

/// As much of the journal as a failure shows.
const JOURNAL_LINES: &str = "100";

/// A reason, the words by which k3s tells it, and what to do. All words must be in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub code: &'static str,
    words: &'static [&'static str],
    pub sentence: &'static str,
    pub hint: &'static str,
}

pub(crate) const UNKNOWN: Cause = Cause {
    code: "K3S_CRASH_LOOP",
    words: &[],
    sentence: "for a reason that is not known",
    hint: "the journal's last lines are in the detail; on the host, `lxc exec <instance> -- journalctl --unit k3s` has all",
};

const CAUSES: [Cause; 12] = [
    Cause {
        code: "K3S_NO_IPV6",
        words: &["no ipv6 address was found"],
        sentence: "the node has no IPv6 address",
        hint: "look whether the internal network hands out IPv6 addresses (lxd_network_int_managed)",
    },
    Cause {
        code: "K3S_NO_IPV6",
        words: &["lacks a global address"],
        sentence: "the node lacks a global address",
        hint: "look whether the internal network hands out addresses of both families (lxd_network_int_managed)",
    },
    Cause {
        code: "K3S_CCM_RACE",
        words: &["extension-apiserver-authentication", "forbidden"],
        sentence: "its cloud controller was started before it may read what it needs",
        hint: "look whether the unit still has --disable-cloud-controller; the step puts it there",
    },
    Cause {
        code: "K3S_NO_KMSG",
        words: &["/dev/kmsg"],
        sentence: "the kubelet misses /dev/kmsg",
        hint: "look whether the unit still has the feature gate KubeletInUserNamespace=true, or give the instance the device by a \
               profile (isolation: reference)",
    },
    Cause {
        code: "K3S_CONNTRACK",
        words: &["conntrack", "permission denied"],
        sentence: "kube-proxy may not set the size of the host's table of connections",
        hint: "load nf_conntrack on the host; base_system does it",
    },
    Cause {
        code: "K3S_CONNTRACK",
        words: &["conntrack", "no such file or directory"],
        sentence: "the host's kernel tracks no connections",
        hint: "load nf_conntrack on the host; base_system does it",
    },
    Cause {
        code: "K3S_OVERLAY",
        words: &["overlayfs", "snapshotter cannot be enabled"],
        sentence: "containerd cannot lay filesystems over each other",
        hint: "load overlay on the host; where the pool is ZFS older than 2.2, pass --snapshotter=native in extra_args",
    },
    Cause {
        code: "K3S_INOTIFY",
        words: &["too many open files"],
        sentence: "the host's limit of inotify instances or open files is reached",
        hint: "raise fs.inotify.max_user_instances on the host; base_system does it",
    },
    Cause {
        code: "K3S_TOKEN_CHANGED",
        words: &["bootstrap data already found", "different token"],
        sentence: "its data was made with another token",
        hint: "give the token of its first start again, or make the instance anew",
    },
    Cause {
        code: "K3S_FLAG_UNKNOWN",
        words: &["flag provided but not defined"],
        sentence: "it does not know one of its flags",
        hint: "look at extra_args: flags come and go with k3s' version",
    },
    Cause {
        code: "K3S_FLAG_UNKNOWN",
        words: &["does not know this flag"],
        sentence: "it does not know one of its flags",
        hint: "look at extra_args; the stand-in for k3s knows few flags",
    },
    Cause {
        code: "K3S_BINARY_UNUSABLE",
        words: &["exec format error"],
        sentence: "its program cannot be executed",
        hint: "fetch k3s again with binary_fetch",
    },
];

/// Returns once k3s has ended for good, or for a reason that will not go away.
pub(crate) async fn watch(step: &BootstrapK3s, since: SystemTime) -> Failure {
    match look_on(step, since).await {
        // Whoever waits for the node has the better words.
        Err(Error::Wait(_)) => future::pending().await,
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}

async fn look_on(step: &BootstrapK3s, since: SystemTime) -> Result<Infallible, Error> {
    let client = step.client().await?;
    let known = RefCell::new(None);
    let wait = Wait::for_condition(format!("{}: the end of k3s", step.instance_name), Duration::from_secs(step.ready_timeout));
    wait.until(async || {
        let now = service::running(&client, step).await?;
        let before = known.replace(now.clone());
        let ends = now.is_none() || before.is_some() && now != before;
        if ends { look_closer(&client, step, since).await.map(Err) } else { Ok(Err("k3s runs".to_owned())) }
    })
    .await
}

/// k3s has ended: fails if it will do so again, else says how often it has.
async fn look_closer(client: &Client, step: &BootstrapK3s, since: SystemTime) -> Result<String, Error> {
    let (instance, unit) = (step.instance_name.clone(), step.service_name.as_str());
    let status = client.instance_state(&instance).await?.status;
    if status != "Running" {
        return Err(Error::NotRunning { name: instance, status });
    }
    let show = ["systemctl", "show", "--property=NRestarts,ActiveState,SubState,Result,ExecMainStatus", unit];
    let state = service::run(client, &instance, &show).await?;
    let since = format!("--since=@{}", since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let lines = format!("--lines={JOURNAL_LINES}");
    // From a time on, journalctl gives the first lines, unless it gives the last one first.
    let journal = ["journalctl", "--no-pager", "--output=cat", "--reverse", "--unit", unit, &since, &lines];
    let journal = service::run(client, &instance, &journal).await?;
    let journal = journal.lines().rev().collect::<Vec<_>>().join("\n");
    let value = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let restarts: u32 = value("NRestarts").parse().unwrap_or_default();
    let is_over = restarts >= PATIENCE || ["failed", "inactive"].contains(&value("ActiveState"));
    match cause(&journal) {
        None if !is_over => Ok(format!("k3s was started again {restarts} times")),
        cause => {
            let detail = format!("{state}\n{journal}");
            Err(Error::Crashed { instance, cause: cause.unwrap_or(&UNKNOWN), detail })
        }
    }
}

/// The reason that a journal tells; the last one if it tells several.
fn cause(journal: &str) -> Option<&'static Cause> {
    let of_line = |line: &str| {
        let line = line.to_lowercase();
        CAUSES.iter().find(|cause| cause.words.iter().all(|word| line.contains(word)))
    };
    journal.lines().rev().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_tells_the_reason() {
        for (journal, expected) in [
            ("level=fatal msg=\"flannel exited: IPv6 was enabled but no IPv6 address was found on node\"", "K3S_NO_IPV6"),
            ("eth0 lacks a global address: IPv4 '10.77.0.5', IPv6 ''", "K3S_NO_IPV6"),
            (
                "Error: unable to load configmap based request-header-client-ca-file: configmaps \"extension-apiserver-authentication\" is \
                 forbidden: User \"k3s-cloud-controller-manager\" cannot get resource",
                "K3S_CCM_RACE",
            ),
            ("kubelet exited: open /dev/kmsg: no such file or directory", "K3S_NO_KMSG"),
            ("open /proc/sys/net/netfilter/nf_conntrack_max: permission denied", "K3S_CONNTRACK"),
            ("open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory", "K3S_CONNTRACK"),
            ("\"overlayfs\" snapshotter cannot be enabled for \"/var/lib/rancher/k3s/agent/containerd\"", "K3S_OVERLAY"),
            ("inotify_init: too many open files", "K3S_INOTIFY"),
            ("bootstrap data already found and encrypted with different token", "K3S_TOKEN_CHANGED"),
            ("flag provided but not defined: -flanel-backend", "K3S_FLAG_UNKNOWN"),
            ("k3s: --datastore-endpoint: the stand-in for k3s does not know this flag", "K3S_FLAG_UNKNOWN"),
            ("k3s-server-launcher: 20: exec: /usr/local/bin/k3s: Exec format error", "K3S_BINARY_UNUSABLE"),
            ("panic: something else", ""),
            ("conntrack is fine\nwrite x: permission denied", ""),
            ("open /dev/kmsg: no such file\nGot it after all\ninotify_init: too many open files\nexiting", "K3S_INOTIFY"),
            ("", ""),
        ] {
            assert_eq!(cause(journal).map_or("", |cause| cause.code), expected, "{journal}");
        }
    }
}
