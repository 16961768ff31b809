//! Why k3s ends again and again.

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

impl Cause {
    /// The reason that a journal tells; the last one if it tells several.
    pub(crate) fn told_by(journal: &str) -> Option<&'static Self> {
        let of_line = |line: &str| {
            let line = line.to_lowercase();
            CAUSES.iter().find(|cause| cause.words.iter().all(|word| line.contains(word)))
        };
        journal.lines().rev().find_map(of_line)
    }
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
            assert_eq!(Cause::told_by(journal).map_or("", |cause| cause.code), expected, "{journal}");
        }
    }
}
