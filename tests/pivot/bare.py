"""An API server with etcd and nothing else: no node, no controller, no webhook. A move between two of them takes seconds, so that it can
be stopped at every one of its writes. What controllers would say of a Cluster that they reconcile, `Reconciler` says, and it notices
where they would have made a machine twice."""

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.client import HTTPException, HTTPSConnection
from urllib.request import urlopen

import yaml
from throwaway.bundled import BUNDLE

NAMESPACE = "capi-clusters"
TOKEN = "bench"
CORE, INFRASTRUCTURE = "cluster.x-k8s.io/v1beta2", "infrastructure.cluster.x-k8s.io/v1alpha2"
BOOTSTRAP, CONTROL_PLANE = "bootstrap.cluster.x-k8s.io/v1beta2", "controlplane.cluster.x-k8s.io/v1beta2"
DEPLOYMENTS = [
    ("cert-manager", "cert-manager"),
    ("cert-manager", "cert-manager-cainjector"),
    ("cert-manager", "cert-manager-webhook"),
    ("capi-system", "capi-controller-manager"),
    ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager"),
    ("capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-controller-manager"),
    ("capn-system", "capn-controller-manager"),
]
PROVIDERS = [
    ("capi-system", "cluster-api", "cluster-api", "CoreProvider", "v1.12.5"),
    ("capi-kubeadm-bootstrap-system", "bootstrap-kubeadm", "kubeadm", "BootstrapProvider", "v1.12.5"),
    ("capi-kubeadm-control-plane-system", "control-plane-kubeadm", "kubeadm", "ControlPlaneProvider", "v1.12.5"),
    ("capn-system", "infrastructure-incus", "incus", "InfrastructureProvider", "v0.8.5"),
]
INSTALLED = "clusterctl.cluster.x-k8s.io"
OF_CLUSTER = "cluster.x-k8s.io/cluster-name"
# How many each Cluster has.
MACHINES = {"mgmt-1": 2, "lab-default": 4}


class Refused(OSError):
    """An answer that is an error."""

    def __init__(self, method, path, status, content):
        super().__init__(f"{method} {path}: {status} {content[:1000]}")
        self.status = status


class Api:
    """What the tests themselves ask of it, over a connection for each thread."""

    def __init__(self, port, certificate):
        self._port = port
        self._context = ssl.create_default_context(cafile=certificate)
        self._own = threading.local()

    def ask(self, method, path, body=None, kind="application/json"):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        if not hasattr(self._own, "connection"):
            self._own.connection = HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=30)
        for is_last in (False, True):
            try:
                self._own.connection.request(method, path, data, headers)
                answer = self._own.connection.getresponse()
                content = answer.read()
                break
            except (HTTPException, OSError):
                # An idle connection is closed by the API server.
                self._own.connection.close()
                if is_last:
                    raise
        if answer.status >= 400:
            raise Refused(method, path, answer.status, content)
        return json.loads(content)

    @staticmethod
    def collection(found):
        version, kind = found["apiVersion"], found["kind"].lower()
        plural = kind + ("es" if kind.endswith("s") else "s")
        space = found["metadata"].get("namespace")
        return f"/{'apis' if '/' in version else 'api'}/{version}{f'/namespaces/{space}' if space else ''}/{plural}"

    def create(self, found):
        made = self.ask("POST", self.collection(found), found)
        if "status" in found:
            self.status(made, found["status"])
        return made

    def status(self, found, status):
        path = f"{self.collection(found)}/{found['metadata']['name']}/status"
        self.ask("PATCH", path, {"status": status}, "application/merge-patch+json")

    def list(self, version, kind):
        sample = {"apiVersion": version, "kind": kind, "metadata": {"namespace": NAMESPACE}}
        found = self.ask("GET", self.collection(sample))["items"]
        return [{"apiVersion": version, "kind": kind} | it for it in found]


class Bare:
    """The two processes, and the kubeconfig of the administrator."""

    def __init__(self, name, folder):
        self.folder = folder / name
        self.folder.mkdir()
        for program in ("etcd", "kube-apiserver"):
            # kubectl of the bundle is all of Kubernetes' programs.
            (self.folder / program).symlink_to(BUNDLE / "bin" / "kubectl")
        self._processes, self._commands = {}, {}
        etcd, peer, port = _ports(3)
        self._certificate, key = self.folder / "server.crt", self.folder / "server.key"
        names = "subjectAltName=IP:127.0.0.1,DNS:kubernetes.default.svc"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2", "-addext", names,
                      "-keyout", key, "-out", self._certificate)  # fmt: skip
        (self.folder / "tokens").write_text(f'"{TOKEN}",bench,bench,"system:masters"\n')
        self._etcd = url = f"http://127.0.0.1:{etcd}"
        self._start("etcd", f"--data-dir={self.folder}/db", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                    f"--listen-peer-urls=http://127.0.0.1:{peer}", "--unsafe-no-fsync", "--log-level=error")  # fmt: skip
        self._start("kube-apiserver", f"--etcd-servers={url}", f"--secure-port={port}", "--bind-address=127.0.0.1",
                    f"--tls-cert-file={self._certificate}", f"--tls-private-key-file={key}", f"--token-auth-file={self.folder}/tokens",
                    "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.96.0.0/16",
                    "--service-account-issuer=https://kubernetes", f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}", f"--cert-dir={self.folder}/certs")  # fmt: skip
        self.server = f"https://127.0.0.1:{port}"
        self.api = Api(port, self._certificate)
        self.kubeconfig = self.folder / "kubeconfig"
        cluster = {"server": self.server, "certificate-authority-data": base64.b64encode(self._certificate.read_bytes()).decode()}
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": name, "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": TOKEN}}], "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }))  # fmt: skip

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def _start(self, program, *arguments):
        self._commands[program] = [self.folder / program, *arguments]
        self.begin(program)

    def begin(self, program):
        with (self.folder / f"{program}.log").open("a") as log:
            process = subprocess.Popen(self._commands[program], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._processes[program] = process

    def end(self, program):
        process = self._processes[program]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for program in reversed(self._processes):
            self.end(program)

    def fill(self, is_full):
        """Has etcd refuse every write for want of space, or take them again."""
        ask = lambda what, body: json.load(urlopen(f"{self._etcd}/v3/maintenance/{what}", json.dumps(body).encode()))  # noqa: E731
        member = ask("status", {})["header"]["member_id"]
        ask("alarm", {"action": "ACTIVATE" if is_full else "DEACTIVATE", "memberID": member, "alarm": "NOSPACE"})

    def await_ready(self):
        deadline = time.monotonic() + 180
        while True:
            try:
                self.api.ask("GET", "/api/v1/namespaces/kube-system")
                return
            except (OSError, HTTPException) as error:
                assert time.monotonic() < deadline, error
                time.sleep(0.5)

    def install(self, definitions):
        """Cluster API as far as clusterctl looks at it: kinds, inventory, and Deployments that say that they are there."""
        self.await_ready()
        for definition in definitions:
            self.api.create(definition)
        for space in {space for space, _ in DEPLOYMENTS} | {NAMESPACE}:
            self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        ready = [_condition("Ready")]
        self.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}, "status": {"conditions": ready}})
        for space, name in DEPLOYMENTS:
            labels = {"app": name}
            # Nobody rolls a Deployment out here, so it has what LXD 5.0 needs from the start.
            container = {"name": "manager", "image": "none", "args": ["--feature-gates=ClusterTopology=true", "--concurrency=1"]}
            spec = {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            }
            status = {"observedGeneration": 1, "conditions": [_condition("Available")]}
            self.api.create(_object("apps/v1", "Deployment", name, space, spec=spec, status=status))
        for space, label, name, kind, version in PROVIDERS:
            labels = {INSTALLED: "", "cluster.x-k8s.io/provider": label, f"{INSTALLED}/core": "inventory"}
            entry = {"providerName": name, "type": kind, "version": version, "watchedNamespace": ""}
            self._eventually(_object("clusterctl.cluster.x-k8s.io/v1alpha3", "Provider", label, space, labels=labels) | entry)

    def _eventually(self, found):
        """A kind is served a little later than it is defined."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.api.create(found)
            except Refused as error:
                assert error.status == 404 and time.monotonic() < deadline, error
                time.sleep(0.5)

    def populate(self, world):
        """A class, or a Cluster of it, as its controllers would have made it."""
        uids = {}
        for found in world:
            for owner in found["metadata"].get("ownerReferences", []):
                owner["uid"] = uids[owner["kind"], owner["name"]]
            made = self._eventually(found)
            uids[made["kind"], made["metadata"]["name"]] = made["metadata"]["uid"]


class Reconciler(threading.Thread):
    """Says what controllers would say of a Cluster that is not paused, and notices what they would have made anew."""

    def __init__(self, sides):
        super().__init__(daemon=True)
        self._sides = sides
        self._over = threading.Event()
        self._is_expected = False
        self.made_twice = []

    def expect_trouble(self):
        """A test itself does what would have a machine made twice."""
        self._is_expected = True

    def forget_trouble(self):
        self._is_expected = False

    def run(self):
        while not self._over.wait(0.05):
            for name, bare in self._sides.items():
                with contextlib.suppress(OSError, HTTPException):
                    self._look(name, bare.api)

    def close(self):
        self._over.set()
        self.join()

    def _look(self, name, api):
        for cluster in api.list(CORE, "Cluster"):
            if cluster["spec"].get("paused") or cluster["metadata"].get("deletionTimestamp"):
                continue
            own = cluster["metadata"]["name"]
            machines = self._of(api, CORE, "Machine", own)
            whole = len(machines) == MACHINES[own]
            whole = whole and self._of(api, CONTROL_PLANE, "KubeadmControlPlane", own) and self._of(api, CORE, "MachineSet", own)
            again = [it for it in api.list(CORE, "Cluster") if it["metadata"]["name"] == own]
            if not whole and not self._is_expected and again and not again[0]["spec"].get("paused"):
                self.made_twice.append(f"{name}: Cluster {own} reconciles with {len(machines)} machines")
            if not _holds(cluster):
                api.status(cluster, _of_cluster(cluster["metadata"]["generation"]))
            for machine in machines:
                if not _holds(machine):
                    api.status(machine, _of_machine(machine["metadata"]["name"]))

    @staticmethod
    def _of(api, version, kind, cluster):
        return [it for it in api.list(version, kind) if it["metadata"]["labels"][OF_CLUSTER] == cluster]


def definitions():
    """The kinds of Cluster API and of the provider, as clusterctl would install them, without what needs a webhook."""
    found = []
    for path in sorted((BUNDLE / "providers").glob("*/*/*components.yaml")):
        text = path.read_text()
        for part in text.split("\n---\n"):
            if "kind: CustomResourceDefinition" not in part:
                continue
            definition = yaml.load(part, Loader=yaml.CSafeLoader)
            definition["spec"].pop("conversion", None)
            metadata = definition["metadata"]
            definition["metadata"] = {"name": metadata["name"], "labels": metadata.get("labels", {}) | {INSTALLED: ""}}
            definition.pop("status", None)
            found.append(definition)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found.append({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "providers.clusterctl.cluster.x-k8s.io", "labels": {INSTALLED: ""}},
        "spec": {
            "group": "clusterctl.cluster.x-k8s.io",
            "names": {"kind": "Provider", "listKind": "ProviderList", "plural": "providers", "singular": "provider"},
            "scope": "Namespaced",
            "versions": [{"name": "v1alpha3", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    })  # fmt: skip
    return found


def _ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _condition(kind):
    return {"type": kind, "status": "True", "reason": "Bench", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}


def _holds(found):
    wanted = "Available" if found["kind"] == "Cluster" else "NodeReady"
    seen = [it for it in found.get("status", {}).get("conditions", []) if it["type"] == wanted and it["status"] == "True"]
    return bool(seen) and found["status"].get("observedGeneration", 0) >= (found["metadata"]["generation"] if wanted == "Available" else 0)


def _of_cluster(generation):
    kinds = ("InfrastructureReady", "ControlPlaneInitialized", "Available")
    initialization = {"infrastructureProvisioned": True, "controlPlaneInitialized": True}
    return {"observedGeneration": generation, "initialization": initialization, "conditions": [_condition(kind) for kind in kinds]}


def _of_machine(name):
    return {"nodeRef": {"name": name}, "conditions": [_condition("NodeReady")]}


def _object(version, kind, name, space=NAMESPACE, owner=None, labels=None, **more):
    metadata = {"name": name, "namespace": space, "labels": labels or {}, "annotations": {"k8slab.example/kept": name}}
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": owner[0], "kind": owner[1], "name": owner[2], "controller": True}]
    if kind in ("Cluster", "Machine", "KubeadmControlPlane", "MachineSet", "LXCCluster", "LXCMachine"):
        metadata["finalizers"] = ["bench.k8slab.example/protected"]
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | more


CLASS = (CORE, "ClusterClass", "lab")
CONFIG = {"format": "cloud-config"}
SECRET_REF = {"secretRef": {"name": "incus-identity"}, "loadBalancer": {"lxc": {}}}


def _template(**said):
    return {"spec": {"template": {"spec": said}}}


def _of(version, kind, name):
    return {"apiGroup": version.split("/")[0], "kind": kind, "name": name}


def a_class():
    reference = lambda version, kind: {"templateRef": {"apiVersion": version, "kind": kind, "name": "lab"}}  # noqa: E731
    yield _object(*CLASS, spec={
        "infrastructure": reference(INFRASTRUCTURE, "LXCClusterTemplate"),
        "controlPlane": reference(CONTROL_PLANE, "KubeadmControlPlaneTemplate"),
    })  # fmt: skip
    yield _object(INFRASTRUCTURE, "LXCClusterTemplate", "lab", owner=CLASS, spec={"template": {"spec": SECRET_REF}})
    yield _object(CONTROL_PLANE, "KubeadmControlPlaneTemplate", "lab", owner=CLASS, **_template(kubeadmConfigSpec=CONFIG))
    for name in ("lab-control-plane", "lab-worker"):
        yield _object(INFRASTRUCTURE, "LXCMachineTemplate", name, owner=CLASS, **_template(instanceType="container"))
    yield _object(BOOTSTRAP, "KubeadmConfigTemplate", "lab-worker", owner=CLASS, **_template(**CONFIG))
    for revision in (1, 2):
        labels = {"owner": "helm", "name": "lab", "clusterctl.cluster.x-k8s.io/move": "true"}
        yield _secret(f"sh.helm.release.v1.lab.v{revision}", labels, "helm.sh/release.v1")
    yield _secret("incus-identity", {"clusterctl.cluster.x-k8s.io/move": "true"})
    yield _secret("unrelated", {})


def a_cluster(name, control_planes=1, is_watched=False):
    """One worker, and a MachineHealthCheck where it is watched."""
    cluster, control_plane = (CORE, "Cluster", name), (CONTROL_PLANE, "KubeadmControlPlane", name)
    belongs = {OF_CLUSTER: name}
    yield _object(*cluster, labels={"own": "label"}, status=_of_cluster(1), spec={
        "topology": {"classRef": {"name": "lab"}, "version": "v1.35.0"},
        "infrastructureRef": _of(INFRASTRUCTURE, "LXCCluster", name),
        "controlPlaneRef": _of(*control_plane),
    })  # fmt: skip
    yield _object(INFRASTRUCTURE, "LXCCluster", name, owner=cluster, labels=belongs, spec=SECRET_REF)
    machines = {"infrastructureRef": _of(INFRASTRUCTURE, "LXCMachineTemplate", f"{name}-cp")}
    yield _object(*control_plane, owner=cluster, labels=belongs,
                  spec={"version": "v1.35.0", "replicas": control_planes, "machineTemplate": {"spec": machines}})  # fmt: skip
    for template in (f"{name}-cp", f"{name}-md"):
        yield _object(INFRASTRUCTURE, "LXCMachineTemplate", template, owner=cluster, labels=belongs, **_template(instanceType="container"))
    yield _object(BOOTSTRAP, "KubeadmConfigTemplate", f"{name}-md", owner=cluster, labels=belongs, **_template(**CONFIG))
    spec = {
        "clusterName": name,
        "selector": {"matchLabels": belongs},
        "template": {
            "metadata": {"labels": belongs},
            "spec": {
                "clusterName": name,
                "bootstrap": {"configRef": _of(BOOTSTRAP, "KubeadmConfigTemplate", f"{name}-md")},
                "infrastructureRef": _of(INFRASTRUCTURE, "LXCMachineTemplate", f"{name}-md"),
            },
        },
    }
    deployment, machine_set = (CORE, "MachineDeployment", f"{name}-md"), (CORE, "MachineSet", f"{name}-md-a")
    yield _object(*deployment, owner=cluster, labels=belongs, spec=spec)
    yield _object(*machine_set, owner=deployment, labels=belongs, spec=spec)
    if is_watched:
        yield _object(CORE, "MachineHealthCheck", f"{name}-md", owner=cluster, labels=belongs,
                      spec={"clusterName": name, "selector": {"matchLabels": belongs}})  # fmt: skip
    for secret in (f"{name}-ca", f"{name}-etcd", f"{name}-kubeconfig"):
        yield _secret(secret, belongs, "cluster.x-k8s.io/secret", control_plane)
    owners = [(f"{name}-cp-{number}", control_plane) for number in range(control_planes)] + [(f"{name}-md-0", machine_set)]
    for own, owner in owners:
        machine = (CORE, "Machine", own)
        yield _object(*machine, owner=owner, labels=belongs, status=_of_machine(own), spec={
            "clusterName": name, "providerID": f"lxc:///{own}",
            "bootstrap": {"configRef": _of(BOOTSTRAP, "KubeadmConfig", own), "dataSecretName": own},
            "infrastructureRef": _of(INFRASTRUCTURE, "LXCMachine", own),
        })  # fmt: skip
        yield _object(BOOTSTRAP, "KubeadmConfig", own, owner=machine, labels=belongs, spec=CONFIG)
        yield _object(INFRASTRUCTURE, "LXCMachine", own, owner=machine, labels=belongs, spec={"providerID": f"lxc:///{own}"})
        yield _secret(own, belongs, "cluster.x-k8s.io/secret", (BOOTSTRAP, "KubeadmConfig", own))


def _secret(name, labels, kind="Opaque", owner=None):
    value = base64.b64encode(f"value of {name}".encode()).decode()
    return _object("v1", "Secret", name, owner=owner, labels=labels, type=kind, data={"value": value})
