"""What the provider says when it cannot, and that it goes on once it can."""

import base64
import contextlib
import json
import subprocess
import time

import pytest
from management import BALANCER, INFRASTRUCTURE, SECRET, bare_cluster, condition
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
NO_ANSWER = ("cannot be reached", "the connection broke")


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


def balanced(instance=None, **lxc):
    """A cluster's load balancer, with a difference."""
    instance = BALANCER["lxc"]["instanceSpec"] | (instance or {})
    return {"loadBalancer": {"lxc": BALANCER["lxc"] | {"instanceSpec": instance} | lxc}}


FAILED, ABORTED = "LoadBalancerProvisioningFailed", "LoadBalancerProvisioningAbortedReason"


@pytest.mark.parametrize(
    ("name", "reason", "text", "spec"),
    [
        ("no-image", FAILED, "no image nothing", balanced({"image": {"name": "nothing"}})),
        ("shorthand", FAILED, "no image capi:haproxy", balanced({"image": {"name": "capi:haproxy"}})),
        ("no-profile", FAILED, "no profile nothing", balanced({"profiles": ["nothing"]})),
        ("no-disk", FAILED, "root", balanced({"profiles": []})),
        ("no-field", FAILED, "no field .Nothing", balanced(customHAProxyConfigTemplate="{{ .Nothing }}")),
        ("nonsense", FAILED, "refuses its configuration", balanced(customHAProxyConfigTemplate="nonsense")),
        ("no-files", FAILED, "does not serve", balanced(customHAProxyConfigTemplate=TOO_MANY_FILES)),
        ("no-host", FAILED, "has to name the host", {"loadBalancer": {"external": {}}}),
        ("ovn", ABORTED, "this stand-in knows", {"loadBalancer": {"ovn": {"networkName": "x"}}}),
        ("node-patch", ABORTED, "patches no nodes", {"cloudProviderNodePatch": True}),
    ],
)
def test_a_load_balancer_that_cannot_be(made, name, reason, text, spec):
    with bare_cluster(made, name, **spec):
        print(made.kubernetes.tells("lxccluster", name, text, 120, reason=reason))


def test_no_identity(made):
    with bare_cluster(made, "noidentity", secretRef={"name": "later"}):
        assert "later" in made.kubernetes.tells("lxccluster", "noidentity", "there is no Secret")
        with secret(made, "later", **{"client-key": None}):
            made.kubernetes.tells("lxccluster", "noidentity", "lacks client-key")
        made.kubernetes.tells("lxccluster", "noidentity", "there is no Secret")
        # What was waited for is noticed when it is there, also by a cluster that is to go.
        with secret(made, "later"):
            made.kubernetes.wait("condition=Ready", "lxccluster/noidentity", seconds=60)
            made.delete("cluster", "noidentity")


@pytest.mark.parametrize("reference", [{"name": "never"}, None])
def test_a_cluster_without_an_identity_can_be_deleted(made, reference):
    made.bare_cluster("never", secretRef=reference)
    made.bare_machine("never", "never-1")
    for kind, name in (("lxccluster", "never"), ("lxcmachine", "never-1")):
        made.kubernetes.tells(kind, name, "Secret")
        assert "finalizers" not in made.kubernetes.get(kind, name)["metadata"]
    made.delete("cluster", "never", seconds=60)


def test_a_template_leaves_its_identity_to_the_class(made):
    """As the real provider's own class has it: a patch fills it in."""
    template = {"template": {"spec": {"loadBalancer": {"lxc": {}}}}}
    metadata = {"name": "unidentified"}
    made.kubernetes.apply({"apiVersion": INFRASTRUCTURE, "kind": "LXCClusterTemplate", "metadata": metadata, "spec": template})
    made.delete("lxcclustertemplate", "unidentified")


@pytest.mark.parametrize("key", ["cluster.x-k8s.io/paused", "cluster.x-k8s.io/managed-by"])
def test_what_somebody_else_looks_after_is_left_alone(made, outside, key):
    made.kubernetes.run("annotate", "lxccluster", outside, f"{key}=")
    try:
        before = made.kubernetes.get("lxccluster", outside)["status"]
        if key.endswith("paused"):
            paused = lambda: condition(made.kubernetes.get("lxccluster", outside), "Paused").get("status")  # noqa: E731
            assert eventually(lambda: paused() == "True" or paused(), 30) is True
        else:
            made.kubernetes.patch("lxccluster", outside, {"spec": {"loadBalancer": {"external": None, "ovn": {}}}})
            # Whoever sees to this has seen that as well.
            made.bare_machine(outside, "beside")
            made.kubernetes.wait("condition=Ready", "lxcmachine/beside", seconds=90)
            made.delete("machine", "beside")
            assert made.kubernetes.get("lxccluster", outside)["status"] == before
    finally:
        made.kubernetes.patch("lxccluster", outside, {"spec": {"loadBalancer": {"external": {}, "ovn": None}}})
        made.kubernetes.run("annotate", "lxccluster", outside, f"{key}-")
    made.kubernetes.wait("condition=Ready", f"lxccluster/{outside}", seconds=30)


def test_an_identity_for_another_server(made, tmp_path):
    certificate, _ = pair(tmp_path, "another-server")
    with secret(made, "another", **{"server-crt": certificate}), bare_cluster(made, "another", secretRef={"name": "another"}):
        made.kubernetes.tells("lxccluster", "another", "look at the Secret")
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
            made.kubernetes.tells("lxccluster", "revoked", "look at the Secret")
            lxd.post("certificates", entry)
            made.kubernetes.wait("condition=Ready", "lxccluster/revoked", seconds=120)
    finally:
        if fingerprint():
            lxd.delete(f"certificates/{fingerprint()}")


@pytest.mark.parametrize(
    ("name", "reason", "text", "spec"),
    [
        ("device", "InstanceProvisioningAborted", "the device `eth1`", {"devices": ["eth1"]}),
        ("version", "InstanceProvisioningAborted", "the Machine has no version", {"image": {"name": "kubeadm/VERSION"}}),
        ("shorthand", "InstanceProvisioningAborted", "begins with a shorthand", {"image": {"name": "mine:haproxy"}}),
        ("kind", "InstanceProvisioningAborted", "of type `kind`", {"instanceType": "kind"}),
        ("image", "InstanceProvisioningFailed", "no image nothing", {"image": {"name": "nothing"}}),
        ("profile", "InstanceProvisioningFailed", "no profile nothing", {"profiles": ["capi-base", "nothing"]}),
        ("lowlevel", "InstanceProvisioningFailed", "raw.lxc", {"config": {"raw.lxc": "lxc.apparmor.profile=unconfined"}}),
    ],
)
def test_a_machine_that_cannot_be(made, outside, name, reason, text, spec):
    name = f"m-{name}"
    made.bare_machine(outside, name, **spec)
    print(made.kubernetes.tells("lxcmachine", name, text, reason=reason))
    made.delete("machine", name)
    assert made.instance(name) is None


def test_an_instance_is_what_is_written_for_its_machine(made, outside):
    made.bare_machine(
        outside,
        "written",
        config={"cloud-init.user-data": "#cloud-config\n# mine\n", "user.cluster-name": "mine"},
        devices=["eth1,type=nic,nictype=bridged", f"eth1,parent={made.lab.bridge}"],
        # There is no cluster of servers, so this says nothing.
        target="elsewhere",
    )
    made.kubernetes.wait("condition=Ready", "lxcmachine/written", seconds=90)
    instance = made.instance("written")
    assert instance["config"]["cloud-init.user-data"].endswith("# mine\n")
    assert instance["config"]["user.cluster-name"] == outside
    assert instance["devices"]["eth1"] == {"type": "nic", "nictype": "bridged", "parent": made.lab.bridge}
    assert made.inside("written", "test", "-x", "/opt/cluster-api/install-kubeadm.sh") == 0
    made.delete("machine", "written")


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
        made.kubernetes.tells("lxcmachine", "quota", "Reached maximum", reason="InstanceProvisioningFailed")
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
        made.kubernetes.tells("lxcmachine", "taken", "that is not of cluster")
        made.delete("machine", "taken")
        assert made.instance("taken") == before
    finally:
        lxd.delete("instances/taken", project=project)


def test_an_instance_that_stops_by_itself(made, outside):
    # Without an interface, as the kernel alone would give it an address before it ends.
    ends = {"config": {"environment.SYSTEMD_PROC_CMDLINE": "systemd.unit=poweroff.target"}, "devices": ["eth0,type=none"]}
    made.bare_machine(outside, "stops", **ends)
    print(made.kubernetes.tells("lxcmachine", "stops", "stops by itself"))
    made.delete("machine", "stops")
    assert made.instance("stops") is None


def test_bootstrap_data_that_changes(made, outside):
    made.bare_machine(outside, "bootstrap")
    made.kubernetes.wait("condition=Ready", "lxcmachine/bootstrap", seconds=90)
    before = made.instance("bootstrap")
    made.kubernetes.patch("secret", "bootstrap", {"stringData": {"value": "#cloud-config\nruncmd: [poweroff]\n"}})
    made.kubernetes.run("annotate", "lxcmachine", "bootstrap", "look=again")
    made.kubernetes.wait("condition=Ready", "lxcmachine/bootstrap", seconds=30)
    assert made.instance("bootstrap")["config"] == before["config"]
    made.delete("machine", "bootstrap")
    assert made.instance("bootstrap") is None


def test_lxd_that_is_away_in_the_middle(made, outside):
    """For half a minute nothing that this lab sends to LXD arrives."""
    port = (made.lab.lent_listener or ":8443").rpartition(":")[2]
    rule = ["INPUT", "-i", made.lab.network, "-p", "tcp", "--dport", port, "-j", "DROP"]
    subprocess.run(["iptables", "--wait", "-I", *rule], check=True)
    started = time.monotonic()
    try:
        made.bare_machine(outside, "away")
        # A question that was under way is given up first.
        message = lambda: condition(made.kubernetes.get("lxcmachine", "away")).get("message", "")  # noqa: E731
        told = eventually(lambda: any(words in message() for words in NO_ANSWER) or message(), SECONDS_AWAY)
        time.sleep(max(0, started + SECONDS_AWAY - time.monotonic()))
    finally:
        subprocess.run(["iptables", "--wait", "-D", *rule], check=True)
    assert told is True, told
    made.kubernetes.wait("condition=Ready", "lxcmachine/away", seconds=90)
    made.delete("machine", "away")


def test_several_clusters_at_once(made):
    """Each gets what is its own, and nothing is left of any."""
    names = [f"many-{number}" for number in range(3)]
    for name in names:
        made.bare_cluster(name)
    try:
        for name in names:
            made.kubernetes.wait("condition=InfrastructureReady", f"cluster/{name}", seconds=120)
        hosts = {made.kubernetes.get("lxccluster", name)["spec"]["controlPlaneEndpoint"]["host"] for name in names}
        assert len(hosts) == len(names), hosts
    finally:
        made.kubernetes.run("delete", "cluster", *names, "--timeout=120s")
    assert {name: made.found(name) for name in names} == {name: {} for name in names}


def test_a_cluster_that_is_deleted_while_it_is_created(made):
    made.create("short", workers=1)
    assert eventually(lambda: len(made.found("short")) > 1, 120) is True
    made.delete("cluster", "short", seconds=180)
    assert made.found("short") == {}
    left = made.kubernetes.get("lxcmachines,machines,lxcclusters", "--selector=cluster.x-k8s.io/cluster-name=short")["items"]
    assert left == [], json.dumps(left)
