"""What the tests of the move do with the two clusters, and what must be the same after it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from proxy import Stop
from suite import built
from throwaway.bundled import BUNDLE

NAMESPACE = "capi-clusters"
KINDS = "clusters,clusterclasses,machines,machinedeployments,kubeadmcontrolplanes,lxcmachinetemplates,secrets"
MOVES = "clusterctl.cluster.x-k8s.io/move"
MARK = "clusterctl.cluster.x-k8s.io/delete-for-move"
PAUSED = "cluster.x-k8s.io/paused"
# The directions, with the cluster that everything leaves and the one that it ends on.
BEGINS = {"to_management": "bootstrap", "to_bootstrap": "management"}
ENDS = {"to_management": "management", "to_bootstrap": "bootstrap"}
# What a move looks like, and the write at which it is stopped then: the nth of its pattern, before or after it reaches the API server.
# The copy makes the first pause and the first end of it; the move pauses once more.
ROWS = [
    ("ready", r"SOURCE PATCH .*/clusters/", "before", 3),
    ("source-paused", r"SOURCE PATCH .*/clusters/", "after", 3),
    ("source-paused", r"SOURCE PATCH .*/clusterclasses/", "before", 3),
    ("source-paused", r"TARGET POST ", "before", 1),
    ("begun", r"TARGET POST .*/clusterclasses", "after", 1),
    ("split", r"TARGET POST .*/clusters$", "after", 1),
    ("begun", r"TARGET POST .*/machines$", "before", 1),
    ("created", r"SOURCE PATCH .*", "before", 7),
    ("emptying", r"SOURCE DELETE .*", "before", 1),
    ("emptying", r"SOURCE DELETE .*", "after", 1),
    ("emptying", r"SOURCE DELETE .*/machines/", "before", 1),
    ("emptying", r"SOURCE DELETE .*/clusters/", "after", 1),
    ("clusters-gone", r"SOURCE DELETE .*/clusterclasses/", "before", 1),
    ("target-paused", r"TARGET PATCH .*/clusterclasses/", "before", 2),
    ("resuming", r"TARGET PATCH .*/clusters/", "before", 2),
    ("finished", r"TARGET PATCH .*/clusters/", "after", 2),
]


@dataclass
class Bench:
    """Two clusters with proxies in front of them."""

    lab: object
    folder: Path
    variables: dict
    clusters: dict
    proxies: dict
    gate: object

    @property
    def staging(self):
        return self.folder / "opt" / "etc" / "pivot_clusterctl_move"

    @property
    def holder(self):
        """The side that has the Cluster."""
        (side,) = [side for side, cluster in self.clusters.items() if self._has_cluster(cluster)]
        return side

    @property
    def onward(self):
        """The direction in which everything can go from here."""
        return "to_management" if self.holder == "bootstrap" else "to_bootstrap"

    def _has_cluster(self, cluster):
        found = cluster.run("get", "crd", "clusters.cluster.x-k8s.io", "--ignore-not-found", "--output=name")
        return bool(found) and bool(cluster.get("clusters")["items"])

    def options(self, direction, **more):
        return {
            "direction": direction,
            "opt_root": str(self.folder / "opt"),
            "bootstrap_kubeconfig_path": str(self.proxies["bootstrap"].kubeconfig),
            "target_kubeconfig_path": str(self.proxies["management"].kubeconfig),
            "bundle": str(BUNDLE),
            "project": self.lab.project,
        } | more

    def start(self, direction, check=False, **more):
        return Step(self.options(direction, **more), check)

    def run(self, direction, check=False, **more):
        started = time.monotonic()
        result = self.start(direction, check, **more).result()
        result["seconds"] = time.monotonic() - started
        return result

    def stop(self, direction, pattern, moment, nth=1, **more):
        pattern = pattern.replace("SOURCE", BEGINS[direction]).replace("TARGET", ENDS[direction])
        return Stop(pattern, moment, nth, **more)

    def killed(self, direction, fault, how="all"):
        """Starts a move and kills it there: the step with clusterctl, or one of the two."""
        self.gate.arm(fault)
        step = self.start(direction)
        if not self.gate.stopped.wait(180):
            told = step.result()
            raise AssertionError("\n".join([f"the move never came to {fault}", str(told), *map(str, self.gate.journal)]))
        if how == "clusterctl":
            for child in step.clusterctl():
                os.kill(child, signal.SIGKILL)
            self.gate.disarm()
            return step.result()
        step.kill(group=how == "all")
        self.gate.disarm()
        return None

    def finish(self, direction, before):
        """The same command again, and nothing else."""
        done = self.run(direction)
        assert not done.get("failed"), done
        assert self.state() == before
        self.is_settled(direction)
        return done

    def clusterctl(self, *arguments):
        """clusterctl alone, as a person would run it."""
        program = self.folder / "opt" / "bin" / "clusterctl"
        config = self.staging / "clusterctl.yaml"
        environment = os.environ | {"CLUSTERCTL_DISABLE_VERSIONCHECK": "true", "HOME": str(self.folder), "NO_PROXY": "127.0.0.1"}
        return subprocess.Popen(
            [program, "move", *arguments, "--config", config], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def instances(self):
        found = self.lab.lxd.get("instances", recursion=1, project=self.lab.project)
        return {it["name"]: it["config"]["volatile.uuid"] for it in found if it["config"].get("user.cluster-name") == "mgmt-1"}

    def state(self):
        """Whatever must be the same before and after, wherever it is."""
        told = {}
        for found in self.clusters[self.holder].get(KINDS)["items"]:
            metadata = found["metadata"]
            if found["kind"] == "Secret" and not metadata.get("ownerReferences") and MOVES not in metadata.get("labels", {}):
                continue
            told[f"{found['kind']} {metadata['name']}"] = {
                "annotations": {name: value for name, value in metadata.get("annotations", {}).items() if "k8slab" in name},
                "providerID": found.get("spec", {}).get("providerID"),
                "secret": hashlib.sha256(json.dumps(found.get("data"), sort_keys=True).encode()).hexdigest(),
            }
        return told, self.instances()

    def is_settled(self, direction):
        """What a person would look at: nothing is paused, marked, left behind or open."""
        end = ENDS[direction]
        (other,) = set(ENDS.values()) - {end}
        assert self.holder == end
        assert not (self.staging / "open").exists()
        for found in self.clusters[end].get("clusters,clusterclasses")["items"]:
            annotations = found["metadata"].get("annotations", {})
            assert not found["spec"].get("paused"), found["metadata"]["name"]
            assert MARK not in annotations and PAUSED not in annotations, annotations
        left = self.clusters[other].get(KINDS)["items"]
        assert [it["metadata"]["name"] for it in left if it["kind"] != "Secret"] == []
        self.clusters[end].wait("condition=Available", "cluster/mgmt-1", seconds=60)


class Step:
    """A run of the step, with all its processes in a group of their own."""

    def __init__(self, options, check=False):
        self._folder = Path(tempfile.mkdtemp(prefix="k8slab-pivot-"))
        arguments = self._folder / "args"
        arguments.touch(mode=0o600)
        internal = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self._folder)}
        arguments.write_text(json.dumps(options | internal))
        self.process = subprocess.Popen(
            [built("pivot_clusterctl_move"), arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def kill(self, group=True):
        """With clusterctl, or so that clusterctl goes on without it."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.communicate()
        shutil.rmtree(self._folder)

    def clusterctl(self):
        """The process of clusterctl that it has started."""
        children = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True).stdout.split()
        return [int(child) for child in children]

    def result(self):
        stdout, stderr = self.process.communicate(timeout=600)
        shutil.rmtree(self._folder, ignore_errors=True)
        assert stderr == "", stderr
        return json.loads(stdout)
