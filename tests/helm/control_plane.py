"""A control plane without nodes: the bundle's etcd, API server and controllers, on loopback. Hooks that run in Pods never end on it."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import yaml
from suite import built
from throwaway.bundled import BUNDLE

CONTROLLERS = "deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,job-controller"


def bundled(name):
    """The path of a file of the bundle, by its name there."""
    files = json.loads((BUNDLE / "bundle.json").read_text())["files"]
    return next(BUNDLE / file["path"] for file in files if file["name"] == name)


class Kubectl:
    def __init__(self, kubeconfig, namespace):
        self.base = [bundled("kubectl"), "--kubeconfig", kubeconfig, "--namespace", namespace]

    def __call__(self, *arguments, check=True, **how):
        done = subprocess.run([*self.base, *arguments], capture_output=True, text=True, check=False, **how)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments):
        return json.loads(self("get", *arguments, "--output", "json"))["items"]


@contextlib.contextmanager
def running(folder):
    """Its kubeconfig."""
    certificates(folder)
    etcd, peer, api = (free_port() for _ in range(3))
    with contextlib.ExitStack() as programs:
        start = lambda name, *flags: programs.enter_context(program(folder, name, *flags))  # noqa: E731
        start("etcd", f"--listen-client-urls=http://127.0.0.1:{etcd}", f"--advertise-client-urls=http://127.0.0.1:{etcd}",
              f"--listen-peer-urls=http://127.0.0.1:{peer}", "--data-dir=data", "--unsafe-no-fsync")
        start("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}", f"--secure-port={api}", "--bind-address=127.0.0.1",
              "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--client-ca-file=ca.crt",
              "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=ca.key",
              "--service-account-signing-key-file=ca.key", "--authorization-mode=RBAC", "--allow-privileged",
              "--service-cluster-ip-range=10.96.0.0/16,fd42:77:3::/112",
              "--disable-admission-plugins=ServiceAccount")
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config(folder, api)))
        until(lambda: "ok" in Kubectl(kubeconfig, "default")("get", "--raw", "/readyz", check=False), 120)
        start("kube-controller-manager", "--kubeconfig=kubeconfig", f"--controllers={CONTROLLERS}", "--leader-elect=false",
              "--secure-port=0")
        yield kubeconfig


def written(folder, files):
    """The folder, with these files in it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def until(holds, seconds=30):
    """Waits for what cannot be watched from here."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def program(folder, name, *flags):
    """One of those that are one file, which are told apart by their names."""
    link = folder / name
    link.symlink_to(bundled("kubectl"))
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([link, *flags], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def certificates(folder):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")
    (folder / "names").write_text("subjectAltName=DNS:kubernetes.default.svc,IP:127.0.0.1\n")
    for name, subject in (("server", "/CN=server"), ("admin", "/O=system:masters/CN=admin")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", f"{name}.crt")


def config(folder, port):
    def data(name):
        return base64.b64encode((folder / name).read_bytes()).decode()

    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data("admin.crt"), "client-key-data": data("admin.key")}
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }


class Step:
    """A step's executable, called as Ansible calls it."""

    def __init__(self, folder, step="helm_release", **options):
        self.folder, self.step, self.options = folder, step, options

    def start(self, check=False, **options):
        mode = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_module_name": f"k8slab.capi.{self.step}"}
        arguments = self.folder / f"arguments-{os.urandom(4).hex()}"
        arguments.write_text(json.dumps(self.options | options | mode))
        return subprocess.Popen([built(self.step), arguments], stdout=subprocess.PIPE, text=True)

    def __call__(self, **options):
        return json.loads(self.start(**options).communicate(timeout=300)[0])
