"""Labs of both isolations on every server, each with the certificate that the step made for it."""

from dataclasses import dataclass

import pytest
from identity import Identity
from image import archive
from place import Place
from servers import server as open_server
from throwaway.lab import Lab

ROLES = ["lxd_project", "lxd_network_int_managed", "lxd_profiles", "bootstrap_capn_secret"]
# LXD 5.0 refuses raw.lxc and linux.kernel_modules in the profiles of a restricted project without it.
LOWLEVEL = {"restricted.virtual-machines.lowlevel": "allow"}


def pytest_addoption(parser):
    parser.addoption("--server", action="append", help="lxd, incus, or a unix socket")


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        servers = metafunc.config.getoption("--server") or ["lxd", "incus"]
        metafunc.parametrize("server", servers, scope="session", indirect=True)
    if "lab" in metafunc.fixturenames:
        metafunc.parametrize("lab", ["strict", "reference"], scope="session", indirect=True)


@pytest.fixture(scope="session")
def server(request):
    with open_server(request.param) as server:
        yield server


@dataclass
class Confined:
    """A lab, what the step says of its certificate, and the certificate in use."""

    lab: Lab
    isolation: str
    server: object
    facts: dict
    identity: Identity
    # Another project, without restrictions.
    elsewhere: str

    @property
    def admin(self):
        return self.lab.lxd

    def own(self):
        return Place(self, self.lab.project)

    def unconfined(self):
        return Place(self, self.elsewhere)


@pytest.fixture(scope="session")
def lab(request, tmp_path_factory, ansible, server):
    admin, isolation = server.admin, request.param
    lab = Lab.throw_away(admin, prefix="k8slab-denial")
    elsewhere = f"{lab.name}-elsewhere"
    folder = tmp_path_factory.mktemp("opt")
    variables = lab.variables | {
        "k8s_lab_lxd_socket_path": str(admin.socket),
        "k8s_lab_opt_root": str(folder),
        "k8s_lab_isolation": isolation,
        "lxd_project_extra_restrictions": LOWLEVEL if isolation == "reference" else {},
        "bootstrap_capn_secret_trust_name": lab.name,
        "bootstrap_capn_secret_lxd_https_bind_address": server.address,
        # The certificate is all that is wanted; there is no cluster to carry it.
        "bootstrap_capn_secret_namespaces": [],
    }
    try:
        # The step would look for what it is to lie on on this machine.
        admin.post("storage-pools", {"name": lab.pool, "driver": "dir"})
        played = ansible.play(roles=[f"k8slab.capi.{role}" for role in ROLES], variables=variables)
        facts = played.steps["bootstrap_capn_secret"]
        admin.post("projects", {"name": elsewhere, "config": {"features.networks": "false"}})
        identity = Identity(facts["https_address"], folder / "etc/bootstrap_capn_secret", admin.get("")["environment"]["certificate"])
        yield Confined(lab, isolation, server, facts, identity, elsewhere)
    finally:
        admin.delete(f"projects/{elsewhere}")
        lab.destroy()


class Instance:
    """One that the certificate has made and started, as the certificate reaches it."""

    def __init__(self, confined, name):
        self.name = name
        self._identity = confined.identity
        self._project = confined.lab.project

    def _path(self, part):
        return f"instances/{self.name}/{part}".rstrip("/")

    def read(self, part):
        return self._identity.read(self._path(part), project=self._project)

    def post(self, part, body):
        return self._identity.post(self._path(part), body, project=self._project)

    def put(self, part, body):
        return self._identity.put(self._path(part), body, project=self._project)

    def patch(self, part, body):
        return self._identity.patch(self._path(part), body, project=self._project)

    def remove(self):
        self._identity.remove(self._path(""), project=self._project)

    def transfer(self, method, part, body=None):
        separator = "&" if "?" in part else "?"
        return self._identity.transfer(method, f"{self._path(part)}{separator}project={self._project}", body)


@pytest.fixture(scope="session")
def instance(lab):
    project = lab.lab.project
    fingerprint = lab.admin.upload_image(archive(), project)["fingerprint"]
    body = {
        "name": "node",
        "source": {"type": "image", "fingerprint": fingerprint},
        # Within a container there are too few ids for one that has them all.
        "config": {"security.idmap.isolated": "true"},
        # The other one of the reference's shape asks for kernel modules that this machine may lack.
        "profiles": ["capi-base", "capi-bootstrap"] if lab.isolation == "strict" else ["capi-base"],
    }
    lab.identity.post("instances", body, project=project)
    instance = Instance(lab, "node")
    instance.put("state", {"action": "start"})
    yield instance
    instance.put("state", {"action": "stop", "force": True})
    instance.remove()
    assert lab.admin.get("instances", project=project) == []
