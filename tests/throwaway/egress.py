"""A network that leads to one lab and no further, and a count of what tried to go further."""

import json
import subprocess

# LXD runs its name servers as this user; nothing else on a lab's host sends anything as it.
NAME_SERVER_USER = "nobody"

INSIDE = """
table inet {name} {{
    chain output {{
        type filter hook output priority 0;
        oifname lo accept
        ip daddr {ipv4} accept
        ip6 daddr {{ {ipv6}, fe80::/10, ff00::/8 }} accept
{lent}
        counter reject
    }}
}}
"""

OUTSIDE = """
table inet {name} {{
    chain forward {{
        type filter hook forward priority -10;
        iifname {network} oifname != {network} counter reject
    }}
    chain output {{
        type filter hook output priority -10;
        meta skuid {user} oifname != {{ lo, {network} }} counter reject
    }}
}}
"""


class Cut:
    """What the lab's instances, its name server, and programs started by `command` send elsewhere is refused and counted."""

    def __init__(self, lab):
        self._lab = lab
        self._name = f"{lab.network}-cut"
        self._cable = f"{lab.network}c"
        self.command = ["ip", "netns", "exec", self._name]

    def __enter__(self):
        run("ip", "netns", "add", self._name)
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", self._lab.network, "netns", self._name)
        run("ip", "link", "set", self._cable, "up")
        for link in ("lo", self._lab.network):
            run(*self.command, "ip", "link", "set", link, "up")
        for subnet, own in ((self._lab.ipv4, 250), (self._lab.ipv6, 0xFFFA)):
            run(*self.command, "ip", "address", "add", f"{subnet[own]}/{subnet.prefixlen}", "dev", self._lab.network)
            run(*self.command, "ip", f"-{subnet.version}", "route", "add", "default", "via", str(subnet[1]))
        names = {
            "name": self._name,
            "network": self._lab.network,
            "ipv4": self._lab.ipv4,
            "ipv6": self._lab.ipv6,
            "user": NAME_SERVER_USER,
            "lent": accepting(self._lab.lent_listener),
        }
        run(*self.command, "nft", "--file", "-", input=INSIDE.format(**names))
        run("nft", "--file", "-", input=OUTSIDE.format(**names))
        return self

    def __exit__(self, *_):
        for command in (
            ["nft", "delete", "table", "inet", self._name],
            ["ip", "link", "delete", self._cable],
            ["ip", "netns", "delete", self._name],
        ):
            subprocess.run(command, check=False, capture_output=True)

    def connect(self):
        """Leads to the lab, once it has a network."""
        run("ip", "link", "set", self._cable, "master", self._lab.network)

    def attempts(self):
        """How many packets were refused, by where they came from."""
        inside, outside = self._counts(self.command), self._counts([])
        return {"steps": inside["output"], "instances": outside["forward"], "name server": outside["output"]}

    def _counts(self, where):
        listed = json.loads(run(*where, "nft", "--json", "list", "table", "inet", self._name))
        rules = [entry["rule"] for entry in listed["nftables"] if "rule" in entry]
        counters = [(rule["chain"], part["counter"]["packets"]) for rule in rules for part in rule["expr"] if "counter" in part]
        return dict(counters)


def accepting(listener):
    """The rule for LXD's address, where that is not one of the lab's."""
    if not listener:
        return ""
    host, _, port = listener.rpartition(":")
    family = "ip6" if host.startswith("[") else "ip"
    return f"        {family} daddr {host.strip('[]')} tcp dport {port} accept"


def run(*command, input=None):
    done = subprocess.run(list(map(str, command)), input=input, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
