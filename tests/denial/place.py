"""Where an act is tried, and what it needs there."""

import base64
import datetime
import itertools
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

SUBNET = {"ipv4.address": "192.0.2.1/24", "ipv4.nat": "false"}

_numbers = itertools.count()


class Place:
    """A project and a throw-away name. What bears this name is removed in the end, whoever made it."""

    def __init__(self, confined, project):
        self.admin = confined.admin
        self.project = project
        self.is_own = project == confined.lab.project
        self.other_project = confined.elsewhere if self.is_own else confined.lab.project
        # Names of interfaces are short.
        self.name = f"d{os.getpid()}x{next(_numbers)}"
        self.pool_of_the_lab = confined.lab.pool
        self._confined = confined
        self._config = {}
        self._others = []

    def body(self, config=None, devices=None):
        """An instance that holds nothing and obeys every restriction, unless what is given does not."""
        root = {"type": "disk", "path": "/", "pool": self.pool_of_the_lab}
        return {
            "name": self.name,
            "source": {"type": "none"},
            "profiles": [],
            "config": {"security.idmap.isolated": "true"} | (config or {}),
            "devices": {"root": root} | (devices or {}),
        }

    def make_instance(self, project=None):
        self.admin.post("instances", self.body(), project=project or self.project)

    def instance(self, project=None):
        return self.admin.get(f"instances/{self.name}", project=project or self.project)

    def make_volume(self, project):
        """Returns where volumes are."""
        volumes = f"storage-pools/{self.pool_of_the_lab}/volumes/custom"
        self.admin.post(volumes, {"name": self.name, "type": "custom"}, project=project)
        return volumes

    def make_profile(self, project=None):
        self.admin.post("profiles", {"name": self.name}, project=project or self.project)

    def profile(self, project=None):
        return self.admin.get(f"profiles/{self.name}", project=project or self.project)

    def make_network(self, config=None):
        config = {"ipv4.address": "none", "ipv6.address": "none"} | (config or {})
        self.admin.post("networks", {"name": self.name, "config": config})

    def network(self):
        return self.admin.get(f"networks/{self.name}")

    def network_of_the_lab(self):
        """Or one that is as good: with a subnet."""
        if self.is_own:
            return self._confined.lab.network
        self.make_network(SUBNET)
        return self.name

    def address_in(self, network):
        """One that nobody has."""
        own = self.admin.get(f"networks/{network}")["config"]["ipv4.address"]
        return own.rpartition(".")[0] + ".250"

    def take_back(self, path):
        self._others.append(path)

    def make_pool(self):
        self.admin.post("storage-pools", {"name": self.name, "driver": "dir"})

    def pool(self):
        return self.admin.get(f"storage-pools/{self.name}")

    def make_project(self, **config):
        self.admin.post("projects", {"name": self.name, "config": config})

    def own_project(self):
        return self.admin.get(f"projects/{self.name}")

    def restricted_project(self):
        """The lab's, or one of the same kind."""
        if self.is_own:
            return self.project
        self.make_project(restricted="true")
        return self.name

    def somebody(self):
        """A new certificate, as the trust store takes it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1))
        return base64.b64encode(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)).decode()

    def trust_somebody(self):
        body = {"type": "client", "name": self.name, "certificate": self.somebody(), "restricted": True, "projects": [self.project]}
        self.admin.post("certificates", body)

    def trusted(self):
        return next((entry for entry in self.admin.get("certificates", recursion=1) if entry["name"] == self.name), None)

    def certificate(self):
        """The fingerprint of the lab's certificate, or of one that is restricted alike."""
        if self.is_own:
            return self._confined.facts["fingerprint"]
        self.trust_somebody()
        return self.trusted()["fingerprint"]

    def put_back_config(self, key):
        self._config[key] = self.admin.get("")["config"].get(key, "")

    def clear(self):
        for path in self._others:
            self.admin.delete(path)
        for project in (self.project, self.other_project):
            for name in (self.name, f"{self.name}-copy"):
                self.admin.delete(f"instances/{name}", project=project)
                self.admin.delete(f"storage-pools/{self.pool_of_the_lab}/volumes/custom/{name}", project=project)
            self.admin.delete(f"profiles/{self.name}", project=project)
        for kind in ("projects", "networks", "storage-pools"):
            self.admin.delete(f"{kind}/{self.name}")
        if entry := self.trusted():
            self.admin.delete(f"certificates/{entry['fingerprint']}")
        if self._config:
            self.admin.patch("", {"config": self._config})
