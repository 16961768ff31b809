"""What the provider says when it cannot, and that it goes on once it can."""

import base64
import contextlib
import json
import subprocess
import time

import pytest
from management import BALANCER, SECRET
from throwaway.wait import eventually

# haproxy cannot have as many files open as this.
TOO_MANY_FILES = """global
  ulimit-n 1000000000

frontend control-plane
  mode tcp
  timeout client 10s
  bind :::{{ .FrontendControlPlanePort }} v4v6
"""
SECONDS_AWAY = 30
WORDLESS = ("LxdUnreachable", "LxdConnectionLost")


@contextlib.contextmanager
def bare_cluster(made, name, **spec):
    made.bare_cluster(name, **spec)
    try:
        yield
    finally:
        made.kubernetes.run("delete", "cluster", name, "--ignore-not-found", "--timeout=120s")
        assert made.found(name) == {}


@pytest.fixture(scope="module")
def outside(made):
    """A cluster whose load balancer is somebody else's: what machines need to be there."""
    endpoint = {"host": str(made.lab.ipv4[1]), "port": 6443}
    with bare_cluster(made, "outside", loadBalancer={"external": {}}, controlPlaneEndpoint=endpoint):
        made.kubernetes.wait("condition=InfrastructureReady", "cluster/outside", seconds=60)
        yield "outside"


@contextlib.contextmanager
def secret(made, name, **change):
    """The identity with something changed."""
    data = {key: base64.b64decode(value).decode() for key, value in made.kubernetes.get("secret", SECRET)["data"].items()}
    data = {key: value for key, value in (data | change).items() if value is not None}
    made.kubernetes.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
    try:
        yield data
    finally:
        made.delete("secret", name)


def pair(folder, name):
    """A certificate and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    key.touch(mode=0o600)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate.read_text(), key.read_text()


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("ImageNotFound", {"loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["capi-base"], "image": {"name": "nothing"}}}}}),
        ("ProfileNotFound", {"loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["nothing"]}}}}),
        ("NoRootDisk", {"loadBalancer": {"lxc": {}}}),
        ("TemplateInvalid", {"loadBalancer": {"lxc": {**BALANCER["lxc"], "customHAProxyConfigTemplate": "{{ .Nothing }}"}}}),
        ("LoadBalancerConfigurationRefused", {"loadBalancer": {"lxc": {**BALANCER["lxc"], "customHAProxyConfigTemplate": "nonsense"}}}),
        ("LoadBalancerReloadFailed", {"loadBalancer": {"lxc": {**BALANCER["lxc"], "customHAProxyConfigTemplate": TOO_MANY_FILES}}}),
        ("EndpointMissing", {"loadBalancer": {"external": {}}}),
        ("LoadBalancerUnsupported", {"loadBalancer": {"ovn": {"networkName": "x"}}}),
        ("NodePatchUnsupported", {"cloudProviderNodePatch": True}),
    ],
)
def test_a_load_balancer_that_cannot_be(made, reason, spec):
    name = reason.lower()
    with bare_cluster(made, name, **spec):
        print(made.kubernetes.tells("lxccluster", name, reason, 120))


def test_no_identity(made):
    with bare_cluster(made, "noidentity", secretRef={"name": "later"}):
        assert "later" in made.kubernetes.tells("lxccluster", "noidentity", "IdentityMissing")
        with secret(made, "later", **{"client-key": None}):
            assert "lacks client-key" in made.kubernetes.tells("lxccluster", "noidentity", "IdentityIncomplete")
        made.kubernetes.tells("lxccluster", "noidentity", "IdentityMissing")
        # What was waited for is noticed when it is there, also by a cluster that is to go.
        with secret(made, "later"):
            made.kubernetes.wait("condition=Ready", "lxccluster/noidentity", seconds=60)
            made.delete("cluster", "noidentity")


def test_an_identity_for_another_server(made, tmp_path):
    certificate, _ = pair(tmp_path, "another-server")
    with secret(made, "another", **{"server-crt": certificate}), bare_cluster(made, "another", secretRef={"name": "another"}):
        made.kubernetes.tells("lxccluster", "another", "IdentityForAnotherServer")
        # Without an identity nothing can be deleted either.
        made.kubernetes.patch("lxccluster", "another", {"spec": {"secretRef": {"name": SECRET}}})


def test_an_identity_that_is_revoked_in_the_middle(made, tmp_path):
    lxd, name = made.lab.lxd, f"{made.lab.name}-revoked"
    certificate, key = pair(tmp_path, name)
    body = "".join(line for line in certificate.splitlines() if "-----" not in line)
    entry = {"type": "client", "name": name, "certificate": body, "restricted": True, "projects": [made.lab.project]}
    fingerprint = lambda: next(  # noqa: E731
        (known["fingerprint"] for known in lxd.get("certificates", recursion=1) if known["name"] == name), None
    )
    lxd.post("certificates", entry)
    try:
        identity = secret(made, "revoked", **{"client-crt": certificate, "client-key": key})
        with identity, bare_cluster(made, "revoked", secretRef={"name": "revoked"}):
            assert eventually(lambda: len(made.found("revoked")) == 1) is True
            lxd.delete(f"certificates/{fingerprint()}")
            made.kubernetes.run("annotate", "lxccluster", "revoked", "look=again")
            made.kubernetes.tells("lxccluster", "revoked", "IdentityNotTrusted")
            lxd.post("certificates", entry)
            made.kubernetes.wait("condition=Ready", "lxccluster/revoked", seconds=120)
    finally:
        if fingerprint():
            lxd.delete(f"certificates/{fingerprint()}")


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("InvalidDevice", {"devices": ["eth1"]}),
        ("VersionMissing", {"image": {"name": "kubeadm/VERSION"}}),
        ("UnsupportedInstanceType", {"instanceType": "kind"}),
        ("ImageNotFound", {"image": {"name": "nothing"}}),
        ("ProfileNotFound", {"profiles": ["capi-base", "nothing"]}),
        ("LxdRestrictionLowlevel", {"config": {"raw.lxc": "lxc.apparmor.profile=unconfined"}}),
    ],
)
def test_a_machine_that_cannot_be(made, outside, reason, spec):
    name = f"m-{reason.lower()}"
    made.bare_machine(outside, name, **spec)
    print(made.kubernetes.tells("lxcmachine", name, reason))
    made.delete("machine", name)
    assert made.instance(name) is None


def test_machines_that_are_made_at_once_have_ids_of_their_own(made, outside):
    names = [f"twin-{number}" for number in range(6)]
    for name in names:
        made.bare_machine(outside, name, profiles=["capi-base", "capi-worker"])
    for name in names:
        made.kubernetes.wait("condition=Ready", f"lxcmachine/{name}", seconds=120)
    ids = {made.instance(name)["config"]["volatile.idmap.base"] for name in names}
    assert len(ids) == len(names), ids
    for name in names:
        made.delete("machine", name)


def test_a_quota(made, outside):
    lxd, project = made.lab.lxd, f"projects/{made.lab.project}"
    count = len(lxd.get("instances", project=made.lab.project))
    before = {key: lxd.get(project)[key] for key in ("description", "config")}
    lxd.put(project, before | {"config": before["config"] | {"limits.instances": str(count)}})
    try:
        made.bare_machine(outside, "quota")
        made.kubernetes.tells("lxcmachine", "quota", "QuotaReached")
    finally:
        lxd.put(project, before)
    made.kubernetes.wait("condition=Ready", "lxcmachine/quota", seconds=90)
    made.delete("machine", "quota")


def test_an_instance_that_is_not_ours(made, outside):
    lxd, project = made.lab.lxd, made.lab.project
    source = {"type": "image", "alias": "haproxy"}
    lxd.post("instances", {"name": "taken", "profiles": ["capi-base"], "source": source}, project=project)
    try:
        before = made.instance("taken")
        made.bare_machine(outside, "taken")
        made.kubernetes.tells("lxcmachine", "taken", "InstanceNameTaken")
        made.delete("machine", "taken")
        assert made.instance("taken") == before
    finally:
        lxd.delete("instances/taken", project=project)


def test_an_instance_that_stops_by_itself(made, outside):
    # Without an interface, as the kernel alone would give it an address before it ends.
    ends = {"config": {"environment.SYSTEMD_PROC_CMDLINE": "systemd.unit=poweroff.target"}, "devices": ["eth0,type=none"]}
    made.bare_machine(outside, "stops", **ends)
    print(made.kubernetes.tells("lxcmachine", "stops", "InstanceStops"))
    made.delete("machine", "stops")
    assert made.instance("stops") is None


def test_bootstrap_data_that_changes(made, outside):
    made.bare_machine(outside, "bootstrap")
    made.kubernetes.wait("condition=Ready", "lxcmachine/bootstrap", seconds=90)
    before = made.instance("bootstrap")
    made.kubernetes.patch("secret", "bootstrap", {"stringData": {"value": "#cloud-config\nruncmd: [poweroff]\n"}})
    told = lambda: made.kubernetes.reason("lxcmachine", "bootstrap")  # noqa: E731
    assert eventually(lambda: told()[0] == "BootstrapDataChanged" or told()) is True
    assert "only a new machine" in told()[1]
    assert made.instance("bootstrap")["config"] == before["config"]
    made.delete("machine", "bootstrap")
    assert made.instance("bootstrap") is None


def test_lxd_that_is_away_in_the_middle(made, outside):
    """For half a minute nothing that is sent to LXD arrives."""
    rule = ["INPUT", "-d", str(made.lab.ipv4[1]), "-p", "tcp", "--dport", "8443", "-j", "DROP"]
    subprocess.run(["iptables", "--wait", "-I", *rule], check=True)
    started = time.monotonic()
    try:
        made.bare_machine(outside, "away")
        # A question that was under way is given up first.
        told = eventually(lambda: (told := made.kubernetes.reason("lxcmachine", "away"))[0] in WORDLESS or told, SECONDS_AWAY)
        time.sleep(max(0, started + SECONDS_AWAY - time.monotonic()))
    finally:
        subprocess.run(["iptables", "--wait", "-D", *rule], check=True)
    assert told is True, told
    made.kubernetes.wait("condition=Ready", "lxcmachine/away", seconds=90)
    made.delete("machine", "away")


def test_a_cluster_that_is_deleted_while_it_is_created(made):
    made.create("short", workers=1)
    assert eventually(lambda: len(made.found("short")) > 1, 120) is True
    made.delete("cluster", "short", seconds=180)
    assert made.found("short") == {}
    left = made.kubernetes.get("lxcmachines,machines,lxcclusters", "--selector=cluster.x-k8s.io/cluster-name=short")["items"]
    assert left == [], json.dumps(left)
