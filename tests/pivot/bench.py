"""What the tests of the move do with the two clusters, and what must be the same after it."""

import contextlib
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

import places
from proxy import Stop
from suite import built
from throwaway.bundled import BUNDLE

NAMESPACE = "capi-clusters"
# What is looked at, by the paths of their groups.
KINDS = {
    "Cluster": "apis/cluster.x-k8s.io/v1beta2",
    "ClusterClass": "apis/cluster.x-k8s.io/v1beta2",
    "Machine": "apis/cluster.x-k8s.io/v1beta2",
    "MachineHealthCheck": "apis/cluster.x-k8s.io/v1beta2",
    "MachineDeployment": "apis/cluster.x-k8s.io/v1beta2",
    "KubeadmControlPlane": "apis/controlplane.cluster.x-k8s.io/v1beta2",
    "LXCMachineTemplate": "apis/infrastructure.cluster.x-k8s.io/v1alpha2",
    "Secret": "api/v1",
}
MOVES = "clusterctl.cluster.x-k8s.io/move"
MARK = "clusterctl.cluster.x-k8s.io/delete-for-move"
PAUSED = "cluster.x-k8s.io/paused"
# The directions, with the cluster that everything leaves and the one that it ends on.
BEGINS = {"to_management": "bootstrap", "to_bootstrap": "management"}
ENDS = {"to_management": "management", "to_bootstrap": "bootstrap"}


@dataclass
class Bench:
    """Two clusters with proxies in front of them."""

    lab: object
    folder: Path
    variables: dict
    clusters: dict
    proxies: dict
    gate: object
    undisturbed: tuple = None

    @property
    def staging(self):
        return self.folder / "opt" / "etc" / "pivot_clusterctl_move"

    @property
    def holder(self):
        """The side that has the Cluster."""
        (side,) = [side for side in self.proxies if self.objects(side, "Cluster")]
        return side

    @property
    def onward(self):
        """The direction in which everything can go from here."""
        return "to_management" if self.holder == "bootstrap" else "to_bootstrap"

    def objects(self, side, *kinds):
        found = []
        for kind in kinds or KINDS:
            plural = kind.lower() + ("es" if kind.endswith("s") else "s")
            found += [{"kind": kind} | it for it in self.proxies[side].list(f"/{KINDS[kind]}/namespaces/{NAMESPACE}/{plural}")]
        return found

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

    def record(self):
        """The writes of a move that nobody disturbs, and how it ended. It is made when it is first asked for."""
        if self.undisturbed is None:
            direction, before = self.onward, self.state()
            self.gate.arm(Stop("^never$"))
            done = self.finish(direction, before)
            self.undisturbed = places.record(self.gate.journal, BEGINS[direction]), done
            self.gate.disarm()
        return self.undisturbed

    def at(self, place, moment):
        """The fault that stops a move at a place."""
        writes, _ = self.record()
        direction = self.onward
        return place.stop(writes, moment, source=BEGINS[direction], target=ENDS[direction])

    def clean(self, instance):
        """Has the bootstrap cluster removed, whose instance this is, with a kubeconfig that may go, too."""
        kubeconfig = self.folder / "opt" / "bootstrap.kubeconfig"
        shutil.copy(self.proxies["bootstrap"].kubeconfig, kubeconfig)
        options = {
            "opt_root": str(self.folder / "opt"),
            "bootstrap_kubeconfig_path": str(kubeconfig),
            "target_kubeconfig_path": str(self.proxies["management"].kubeconfig),
            "project": self.lab.project,
            "instance_name": instance,
        }
        return Step(options, step="cleanup_bootstrap").result()

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
                os.killpg(child, signal.SIGKILL)
            self.gate.disarm()
            return step.result()
        step.kill(group=how == "all")
        self.gate.disarm()
        return None

    def killed_after(self, direction, seconds):
        """Starts a move and kills it with clusterctl after so long, unless it has ended before."""
        step = self.start(direction)
        time.sleep(seconds)
        step.kill()

    def finish(self, direction, before):
        """The same command again, and nothing else."""
        done = self.run(direction)
        assert not done.get("failed"), done
        assert self.state() == before
        self.is_settled(direction)
        return done

    def refused(self, direction, code, words, **more):
        """A move that touches nothing, and says why and what to do."""
        self.gate.arm(Stop("^never$"))
        result = self.run(direction, **more)
        assert result.get("code") == code and result["hints"], result
        assert words in json.dumps(result), result
        assert self.gate.journal == []
        return result

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

    def state(self, side=None):
        """Whatever must be the same before and after, on a side or wherever it is."""
        told = {}
        for found in self.objects(side or self.holder):
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
        for found in self.objects(end, "Cluster", "ClusterClass"):
            annotations = found["metadata"].get("annotations", {})
            assert not found["spec"].get("paused"), found["metadata"]["name"]
            assert MARK not in annotations and PAUSED not in annotations, annotations
        assert [it["metadata"]["name"] for it in self.objects(other) if it["kind"] != "Secret"] == []
        self.clusters[end].wait("condition=Available", "clusters", "--all", seconds=60)


class Step:
    """A run of a step."""

    def __init__(self, options, check=False, step="pivot_clusterctl_move"):
        self._folder = Path(tempfile.mkdtemp(prefix="k8slab-pivot-"))
        arguments = self._folder / "args"
        arguments.touch(mode=0o600)
        internal = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self._folder)}
        arguments.write_text(json.dumps(options | internal))
        self.process = subprocess.Popen(
            [built(step), arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def kill(self, group=True):
        """With clusterctl, or so that clusterctl goes on without it."""
        # Held first, so that it neither starts another nor sees how this one ends.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)
        children = self.clusterctl() if group else []
        self.process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        self.process.communicate()
        shutil.rmtree(self._folder)

    def clusterctl(self):
        """The process of clusterctl that it has started, which leads a group of its own."""
        children = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True).stdout.split()
        return [int(child) for child in children]

    def result(self):
        stdout, stderr = self.process.communicate(timeout=600)
        shutil.rmtree(self._folder, ignore_errors=True)
        assert stderr == "", stderr
        return json.loads(stdout)
