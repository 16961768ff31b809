"""What happens to clusters in the course of their lives. Takes minutes."""

import json
import random
import signal
import subprocess
import time

import pytest
from management import NAMESPACE, RELEASES, Asked, Kubernetes, manager_program
from throwaway.bundled import BUNDLE
from throwaway.wait import eventually

pytestmark = pytest.mark.long

KILLS = 30
# Seconds that a manager lives at most before it is killed.
LIFE = 2.5


def machines(kubernetes, cluster, *selectors):
    selector = ",".join([f"cluster.x-k8s.io/cluster-name={cluster}", *selectors])
    return {found["metadata"]["name"]: found for found in kubernetes.get("machines", f"--selector={selector}")["items"]}


def control_plane(kubernetes, cluster):
    return machines(kubernetes, cluster, "cluster.x-k8s.io/control-plane")


def has_become(made, api, cluster, control_planes, workers, release):
    """Whether a cluster is so many machines of one version, and its nodes are ready; otherwise what there is."""
    want = {"control-plane": control_planes, "worker": workers, "loadbalancer": 1}
    nodes = api.get("nodes")["items"]
    ready = [
        node["status"]["nodeInfo"]["kubeletVersion"]
        for node in nodes
        if any(held["type"] == "Ready" and held["status"] == "True" for held in node["status"]["conditions"])
    ]
    there = made.count(cluster)
    return (there == want and ready == [release] * (control_planes + workers)) or (there, ready, len(nodes))


@pytest.fixture(scope="module")
def large(made):
    """Three control planes and two workers of the older version."""
    try:
        started = time.monotonic()
        made.create("large", control_planes=3, workers=2, release=RELEASES[0])
        made.kubernetes.wait("condition=ControlPlaneInitialized", "cluster/large", seconds=300)
        api = made.workload("large")
        made.connect(api)
        grown = eventually(lambda: has_become(made, api, "large", 3, 2, RELEASES[0]), 600)
        assert grown is True, grown
        print(f"three control planes and two workers: {time.monotonic() - started:.1f} s")
        yield api
    finally:
        started = time.monotonic()
        made.delete("cluster", "large", seconds=300)
        print(f"deleted: {time.monotonic() - started:.1f} s")
    assert made.found("large") == {}


def test_a_control_plane_machine_is_replaced(made, large):
    before = control_plane(made.kubernetes, "large")
    gone = sorted(before)[0]
    started = time.monotonic()
    with Asked(large.kubeconfig) as asked:
        made.delete("machine", gone, seconds=300)
        replaced = eventually(lambda: has_become(made, large, "large", 3, 2, RELEASES[0]), 300)
    assert replaced is True, replaced
    print(f"replaced after {time.monotonic() - started:.1f} s; {asked}")
    after = control_plane(made.kubernetes, "large")
    assert gone not in after and len(set(after) & set(before)) == 2
    assert made.instance(gone) is None


def test_a_rolling_upgrade_is_not_noticed(made, large):
    assert len(RELEASES) == 2, RELEASES
    old, new = RELEASES
    before = set(made.found("large"))
    started = time.monotonic()
    with Asked(large.kubeconfig) as asked:
        made.kubernetes.patch("kubeadmcontrolplane", "large", {"spec": {"version": new}})

        def is_upgraded():
            return {found["spec"]["version"] for found in control_plane(made.kubernetes, "large").values()} == {new}

        upgraded = eventually(is_upgraded, 600)
        assert upgraded is True
        made.kubernetes.patch("machinedeployment", "large-workers", {"spec": {"template": {"spec": {"version": new}}}})
        upgraded = eventually(lambda: has_become(made, large, "large", 3, 2, new), 600)
    print(f"from {old} to {new} in {time.monotonic() - started:.1f} s; {asked}")
    assert upgraded is True, upgraded
    assert asked.count > Asked.RATE and len(asked.failures) <= 2
    # Only the load balancer is what it was.
    assert before & set(made.found("large")) == set(made.instances("large")["loadbalancer"])


def test_it_becomes_smaller(made, large):
    started = time.monotonic()
    made.kubernetes.run("scale", "kubeadmcontrolplane/large", "--replicas=1")
    made.kubernetes.run("scale", "machinedeployment/large-workers", "--replicas=1")
    smaller = eventually(lambda: has_become(made, large, "large", 1, 1, RELEASES[-1]), 300)
    assert smaller is True, smaller
    print(f"one of each after {time.monotonic() - started:.1f} s")


def provider_images(made, cluster):
    """Loads the images of Cluster API's providers into a cluster's nodes, as there is no registry."""
    nodes = made.instances(cluster)
    for node in nodes["control-plane"] + nodes["worker"]:
        for name in ("cert-manager", "cluster-api", "infrastructure-incus"):
            archive = BUNDLE / "images" / f"{name}.tar"
            subprocess.run(
                ["lxc", "exec", "--project", made.lab.project, f"local:{node}", "--"]
                + ["ctr", "--namespace", "k8s.io", "images", "import", "-"],
                stdin=archive.open("rb"),
                env={"LXD_DIR": str(made.lab.lxd.folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin", "HOME": "/root"},
                check=True,
                capture_output=True,
            )


def identities(made, kubernetes, cluster):
    """What has to be the same wherever a cluster is managed from."""
    kinds = "machines,lxcmachines,lxcclusters,kubeadmcontrolplanes,machinedeployments,machinesets"
    found = kubernetes.get(kinds, f"--selector=cluster.x-k8s.io/cluster-name={cluster}")["items"]
    objects = sorted((item["kind"], item["metadata"]["name"], item["spec"].get("providerID")) for item in found)
    return objects, {name: instance["created_at"] for name, instance in made.found(cluster).items()}


def test_a_cluster_moves_and_comes_back(made, cluster):
    """To itself: what Cluster API calls a pivot."""
    provider_images(made, "c1")

    def clusterctl(*arguments):
        command = [made.clusterctl, "--config", made.clusterctl_config, *arguments]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - started

    itself = Kubernetes(made.kubectl, cluster.api.kubeconfig, NAMESPACE)
    providers = ["--core=cluster-api", "--bootstrap=kubeadm", "--control-plane=kubeadm", "--infrastructure=incus"]
    seconds = clusterctl("init", "--kubeconfig", itself.kubeconfig, "--wait-providers", *providers)
    print(f"clusterctl init in the cluster itself: {seconds:.1f} s")
    before = identities(made, made.kubernetes, "c1")
    assert len(before[0]) >= 7
    itself.run("create", "namespace", NAMESPACE)
    for source, target in ((made.kubernetes, itself), (itself, made.kubernetes)):
        seconds = clusterctl("move", "--kubeconfig", source.kubeconfig, "--to-kubeconfig", target.kubeconfig, "--namespace", NAMESPACE)
        print(f"clusterctl move: {seconds:.1f} s")
        assert identities(made, target, "c1") == before
        # Whoever manages it now has looked at it, and it is as it should be.
        for kind in ("lxccluster/c1", *(f"lxcmachine/{name}" for name in machines(target, "c1")), "cluster/c1"):
            target.wait("condition=Available" if kind == "cluster/c1" else "condition=Ready", kind, seconds=120)
        assert identities(made, target, "c1") == before
        assert source.get("clusters")["items"] == []
    made.kubernetes.run("scale", "machinedeployment/c1-workers", "--replicas=2")
    assert eventually(lambda: made.count("c1")["worker"] == 2, 120) is True
    made.kubernetes.run("scale", "machinedeployment/c1-workers", "--replicas=1")
    assert eventually(lambda: made.count("c1")["worker"] == 1, 120) is True


def test_a_manager_that_is_killed_goes_on(made, cluster, tmp_path):
    """It makes a cluster whose name begins with that of another one, and neither touches the other's."""
    before = made.found("c1")
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    program = manager_program(tmp_path)
    environment = {"KUBECONFIG": str(made.kubernetes.kubeconfig)}
    deployment = ("--namespace=capn-system", "scale", "deployment/capn-controller-manager")
    made.kubernetes.run(*deployment, "--replicas=0")
    made.kubernetes.run("--namespace=capn-system", "wait", "--for=delete", "pods", "--all", "--timeout=60s")
    lives = []
    try:
        made.create("c1-b", workers=1)
        with (tmp_path / "log").open("w") as log:
            while len(lives) < KILLS:
                manager = subprocess.Popen([program, "run", "--health-port=0"], env=environment, stdout=log, stderr=log)
                try:
                    lives.append(moments.uniform(0.1, LIFE))
                    with pytest.raises(subprocess.TimeoutExpired):
                        manager.wait(lives[-1])
                finally:
                    manager.send_signal(signal.SIGKILL)
                    manager.wait()
    finally:
        made.kubernetes.run(*deployment, "--replicas=1")
    there = made.count("c1-b")
    print(f"killed {len(lives)} times in {sum(lives):.1f} s, seed {seed}; then there was {there}")
    made.kubernetes.wait("condition=ControlPlaneInitialized", "cluster/c1-b", seconds=300)
    want = {"control-plane": 1, "worker": 1, "loadbalancer": 1}
    assert eventually(lambda: made.count("c1-b") == want or made.count("c1-b"), 120) is True
    names = sorted(name for name in made.found("c1-b"))
    assert names == sorted([*machines(made.kubernetes, "c1-b"), *made.instances("c1-b")["loadbalancer"]])
    made.delete("cluster", "c1-b", seconds=180)
    assert made.found("c1-b") == {}
    created = lambda found: {name: instance["created_at"] for name, instance in found.items()}  # noqa: E731
    assert created(made.found("c1")) == created(before)
