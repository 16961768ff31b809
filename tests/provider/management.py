"""The management cluster of a throw-away lab, and the clusters that are made by it."""

import base64
import contextlib
import json
import ssl
import subprocess
import tarfile
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from urllib.request import Request, urlopen

import yaml
import zstandard
from throwaway.bundled import BUNDLE
from throwaway.wait import eventually

NAMESPACE = "capi-clusters"
SECRET = "incus-identity"
CORE = "cluster.x-k8s.io/v1beta2"
INFRASTRUCTURE = "infrastructure.cluster.x-k8s.io/v1alpha2"
# Both families, as the class of the lab's clusters has it; the provider's own default is IPv4 alone.
HAPROXY = Path("charts/capi-cluster-class/files/haproxy.cfg").read_text()
BALANCER = {"lxc": {"instanceSpec": {"profiles": ["capi-base"], "image": {"name": "haproxy"}}, "customHAProxyConfigTemplate": HAPROXY}}
# Of Kubernetes, the newest last.
RELEASES = sorted(
    instance["version"]
    for instance in tomllib.loads(Path("bundle/modules.toml").read_text())["instances"]
    if instance["alias"].startswith("kubeadm/")
)
MANIFEST = Path(__file__).with_name("cluster.yaml")


def condition(found, kind="Ready"):
    """What is said of an object; of contract v1beta1, whatever it has of v1beta2 as well."""
    status = found.get("status", {})
    held = status.get("conditions", []) + status.get("v1beta2", {}).get("conditions", [])
    return next((condition for condition in held if condition["type"] == kind), {})


@contextlib.contextmanager
def room_for_instances():
    """What the step base_system sets: all instances of a host share the kernel's inotify instances, and each systemd takes some."""
    limit, wanted = Path("/proc/sys/fs/inotify/max_user_instances"), 1024
    found = int(limit.read_text())
    limit.write_text(str(max(found, wanted)))
    try:
        yield
    finally:
        limit.write_text(str(found))


class Kubernetes:
    """A cluster's API, by kubectl."""

    def __init__(self, kubectl, kubeconfig, namespace=None):
        self.kubeconfig = kubeconfig
        self._command = [kubectl, "--kubeconfig", kubeconfig, *(["--namespace", namespace] if namespace else [])]

    def run(self, *arguments, text=None):
        done = subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stderr}"
        return done.stdout

    def tries(self, *arguments):
        """Whether a command succeeds within a few seconds."""
        return subprocess.run([*self._command, "--request-timeout=3s", *arguments], capture_output=True).returncode == 0

    def get(self, *arguments):
        return json.loads(self.run("get", *arguments, "--output=json"))

    def apply(self, *objects):
        self.run("apply", "--filename=-", text=yaml.safe_dump_all(objects))

    def patch(self, kind, name, change):
        self.run("patch", kind, name, "--type=merge", "--patch", json.dumps(change))

    def wait(self, condition, *what, seconds):
        self.run("wait", f"--for={condition}", *what, f"--timeout={seconds}s")

    def tells(self, kind, name, text, seconds=60, reason=None):
        """Waits until an object tells what is wrong with it, and gives all that it tells. A missing image, profile or quota has no reason
        of its own, so it is known by what the message says."""

        def told():
            held = condition(self.get(kind, name))
            return held if text in held.get("message", "") and held["status"] == "False" else None

        held = eventually(lambda: told() and True or self.get(kind, name).get("status"), seconds)
        assert held is True, held
        held = told() or {}
        assert reason in (None, held.get("reason")), held
        return held.get("message", "")


@dataclass
class Management:
    lab: object
    folder: Path
    kubernetes: Kubernetes = None

    def __post_init__(self):
        self.kubectl = self.folder / "opt" / "bin" / "kubectl"
        self.clusterctl = self.folder / "opt" / "bin" / "clusterctl"
        self.clusterctl_config = self.folder / "clusterctl.yaml"
        self.kubernetes = Kubernetes(self.kubectl, self.folder / "artifacts" / "mgmt.kubeconfig", NAMESPACE)

    def found(self, cluster):
        """The instances of a cluster by name."""
        found = self.lab.lxd.get("instances", recursion=1, project=self.lab.project)
        return {instance["name"]: instance for instance in found if instance["config"].get("user.cluster-name") == cluster}

    def instances(self, cluster):
        """The names of a cluster's instances, by what they are for."""
        roles = {}
        for name, instance in sorted(self.found(cluster).items()):
            roles.setdefault(instance["config"]["user.cluster-role"], []).append(name)
        return roles

    def count(self, cluster):
        return {role: len(names) for role, names in self.instances(cluster).items()}

    def instance(self, name):
        return self.lab.lxd.get(f"instances/{name}", project=self.lab.project)

    def create(self, name, control_planes=1, workers=1, release=RELEASES[-1]):
        text = MANIFEST.read_text()
        values = {"NAME": name, "RELEASE": release, "CONTROL_PLANES": control_planes, "WORKERS": workers}
        for word, value in values.items():
            text = text.replace(word, str(value))
        objects = list(yaml.safe_load_all(text))
        for found in objects:
            if found["kind"] == "LXCCluster":
                found["spec"]["loadBalancer"] = BALANCER
        self.kubernetes.apply(*objects)

    def workload(self, name):
        """The API of a cluster that the provider made."""
        secret = self.kubernetes.get("secret", f"{name}-kubeconfig")
        kubeconfig = self.folder / f"{name}.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_bytes(base64.b64decode(secret["data"]["value"]))
        return Kubernetes(self.kubectl, kubeconfig)

    def connect(self, api):
        """Gives a cluster its network."""
        (manifest,) = (BUNDLE / "manifests" / "flannel").glob("*/flannel.yaml")
        api.apply(*yaml.safe_load_all(manifest.read_text()))

    def inside(self, instance, *command):
        """The exit code of a command in an instance."""
        body = {"command": command, "wait-for-websocket": False, "interactive": False}
        return self.lab.lxd.post(f"instances/{instance}/exec", body, project=self.lab.project)["return"]

    def bare_cluster(self, name, **spec):
        """A cluster that is nothing but infrastructure."""
        reference = {"apiGroup": INFRASTRUCTURE.split("/")[0], "kind": "LXCCluster", "name": name}
        common = {"secretRef": {"name": SECRET}, "loadBalancer": BALANCER, "skipDefaultKubeadmProfile": True, "unprivileged": True}
        spec = {key: value for key, value in (common | spec).items() if value is not None}
        self.kubernetes.apply(
            {"apiVersion": CORE, "kind": "Cluster", "metadata": {"name": name}, "spec": {"infrastructureRef": reference}},
            {"apiVersion": INFRASTRUCTURE, "kind": "LXCCluster", "metadata": {"name": name}, "spec": spec},
        )

    def bare_machine(self, cluster, name, **spec):
        """A machine that does what somebody wrote down for it: nothing."""
        labels = {"cluster.x-k8s.io/cluster-name": cluster}
        reference = {"apiGroup": INFRASTRUCTURE.split("/")[0], "kind": "LXCMachine", "name": name}
        machine = {"clusterName": cluster, "bootstrap": {"dataSecretName": name}, "infrastructureRef": reference}
        common = {"instanceType": "container", "profiles": ["capi-base"], "image": {"name": "haproxy"}}
        self.kubernetes.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "cluster.x-k8s.io/secret",
                "metadata": {"name": name, "labels": labels},
                "stringData": {"format": "cloud-config", "value": "#cloud-config\n"},
            },
            {"apiVersion": INFRASTRUCTURE, "kind": "LXCMachine", "metadata": {"name": name, "labels": labels}, "spec": common | spec},
            {"apiVersion": CORE, "kind": "Machine", "metadata": {"name": name, "labels": labels}, "spec": machine},
        )

    def delete(self, kind, name, seconds=120):
        self.kubernetes.run("delete", kind, name, f"--timeout={seconds}s")


@contextlib.contextmanager
def bare_cluster(made, name, **spec):
    """A cluster that is nothing but infrastructure, for as long as it is needed."""
    made.bare_cluster(name, **spec)
    try:
        yield
    finally:
        made.kubernetes.run("delete", "cluster", name, "--ignore-not-found", "--timeout=120s")
        assert made.found(name) == {}


def manager_program(folder):
    """The manager as the bundle's image has it."""
    program = folder / "manager"
    with tarfile.open(BUNDLE / "images" / "infrastructure-incus.tar") as image:
        (manifest,) = json.load(image.extractfile("manifest.json"))
        for layer in manifest["Layers"]:
            with zstandard.open(image.extractfile(layer)) as content, tarfile.open(fileobj=content, mode="r|") as files:
                found = next((file for file in files if file.name == program.name), None)
                if found:
                    program.write_bytes(files.extractfile(found).read())
                    break
    program.chmod(0o755)
    return program


class Asked:
    """Asks a cluster's API ten times a second for as long as it lasts, each time by a connection of its own."""

    RATE = 10
    PATIENCE = 5

    def __init__(self, kubeconfig):
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = cluster["server"]
        self._context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._context.load_cert_chain(pair.name)
        self._over = Event()
        self.failures = []
        self.count = 0

    def __str__(self):
        return "\n".join([f"{len(self.failures)} of {self.count} requests failed", *self.failures])

    def __enter__(self):
        self._pool = ThreadPoolExecutor(4 * self.RATE)
        self._thread = Thread(target=self._go_on)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._pool.shutdown()

    def _go_on(self):
        while not self._over.wait(1 / self.RATE):
            self._pool.submit(self._ask)

    def _ask(self):
        self.count += 1
        started = time.monotonic()
        try:
            request = Request(f"{self._address}/api/v1/namespaces/default")
            with urlopen(request, timeout=self.PATIENCE, context=self._context) as answer:
                answer.read()
        except OSError as error:
            self.failures.append(f"{time.strftime('%T')} after {time.monotonic() - started:.1f} s: {error}")
