"""The hosts' own steps on a real host, which is then looked at past them."""

import json

import pytest

UPLINK = "ext0"
# The parameters of the whole machine are not a container's to set.
BASE = {"snapd_enabled": False, "sysctl_apply": False}
LXD = {"install_method": "distro", "ext_bridge_uplink": UPLINK}


def test_base_system_prepares_a_host_without_python(host, ansible):
    assert host.run("command -v python3 || echo none") == "none"
    plan = ansible.step("base_system", "--check", "--diff", **BASE)
    assert host.run("ls /opt") == ""
    done = ansible.step("base_system", "--diff", **BASE)
    assert done["changed"]
    assert plan["changes"] == done["changes"]
    assert plan["diff"] == done["diff"]

    for package in ("python3", "btrfs-progs", "xz-utils"):
        assert host.run(f"dpkg-query --show --showformat='${{Status}}' {package}") == "install ok installed"
    assert host.run("cat /etc/modules-load.d/overlay.conf") == "overlay"
    assert "net.ipv4.ip_forward = 1" in host.run("cat /etc/sysctl.d/60-k8slab-base-system.conf").splitlines()
    for folder in ("/opt/capi-lab", "/opt/capi-lab/bin", "/opt/capi-lab/etc"):
        assert host.run(f"stat --format='%F %U:%G %a' {folder}") == "directory root:root 755"

    assert not ansible.step("base_system", **BASE)["changed"]


def test_the_bundle_is_brought_with_its_manifest_last(host, ansible, tmp_path):
    files = {"bin/tool": "first", "images/some.tar": "layers"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "bin/stray").write_text("not listed")
    (tmp_path / "bundle.json").write_text(json.dumps({"files": [{"path": name} for name in files]}))

    assert ansible.brings(tmp_path, "--check") == [*files, "bundle.json"]
    assert host.run(f"ls {tmp_path} 2>/dev/null || echo none") == "none"
    assert ansible.brings(tmp_path) == [*files, "bundle.json"]
    assert host.run(f"cd {tmp_path}; cat bin/tool images/some.tar; stat --format=' %a %U' bin/tool; ls bin") == "firstlayers 755 root\ntool"
    assert ansible.brings(tmp_path) == []

    (tmp_path / "bin/tool").write_text("second")
    with (tmp_path / "bundle.json").open("a") as manifest:
        manifest.write("\n")
    assert ansible.brings(tmp_path) == ["bin/tool", "bundle.json"]
    assert host.run(f"cat {tmp_path}/bin/tool") == "second"


def test_a_parameter_that_is_not_the_containers(host, ansible):
    before = host.run("cat /proc/sys/vm/swappiness")
    failed = ansible.step("base_system", snapd_enabled=False, extra_sysctl={"vm.swappiness": int(before) + 1}, expect=2)
    assert failed["code"] == "SYSCTL_REFUSED"
    assert host.run("cat /proc/sys/vm/swappiness") == before
    ansible.step("base_system", **BASE)


def test_lxd_host_installs_lxd_and_makes_the_bridge(host, ansible):
    plan = ansible.step("lxd_host", "--check", "--diff", **LXD)
    assert host.run("ls /etc/systemd/network | grep ext6 || echo none") == "none"
    done = ansible.step("lxd_host", "--diff", **LXD)
    assert plan["changes"] == done["changes"]
    assert plan["diff"] == done["diff"]
    assert done["bridge"]["members"] == [UPLINK]

    assert '"auth":"trusted"' in host.run("curl --silent --unix-socket /var/lib/lxd/unix.socket http://lxd/1.0")
    bridge = "/sys/class/net/br-ext6"
    assert host.run(f"ls {bridge}/brif") == UPLINK
    for name, value in {"mtu": 1500, "bridge/multicast_snooping": 0, "bridge/stp_state": 0, "bridge/forward_delay": 0}.items():
        assert host.run(f"cat {bridge}/{name}") == str(value), name
    assert host.run("ip -oneline address show dev br-ext6") == ""
    assert host.run("networkctl --no-legend --no-pager list br-ext6").split()[-1] == "configured"

    assert not ansible.step("lxd_host", **LXD)["changed"]


@pytest.mark.parametrize(
    ("drift", "mended"),
    [
        ("echo 1 >/sys/class/net/br-ext6/bridge/multicast_snooping", "bridge br-ext6: multicast_snooping: 1 -> 0"),
        ("ip link set dev br-ext6 mtu 1400", "bridge br-ext6: mtu: 1400 -> 1500"),
        ("echo >/etc/systemd/network/30-br-ext6.network", "write /etc/systemd/network/30-br-ext6.network"),
        ("ip link delete dev br-ext6", f"join {UPLINK} to bridge br-ext6"),
    ],
)
def test_the_bridge_is_mended(host, ansible, drift, mended):
    host.run(drift)
    plan = ansible.step("lxd_host", "--check", **LXD)
    done = ansible.step("lxd_host", **LXD)
    assert mended in done["changes"]
    assert plan["changes"] == done["changes"]
    assert host.run("ls /sys/class/net/br-ext6/brif") == UPLINK
    assert not ansible.step("lxd_host", **LXD)["changed"]


def test_the_link_of_the_default_route_stays(host, ansible):
    addresses = host.run("ip -brief -4 address show dev eth0")
    failed = ansible.step("lxd_host", install_method="existing", ext_bridge_uplink="eth0", ext_bridge_name="br-other", expect=2)
    assert failed["code"] == "UPLINK_DEFAULT_ROUTE"
    assert host.run("ip -brief -4 address show dev eth0") == addresses
    assert host.run("ls /sys/class/net/br-other || echo none").endswith("none")


def test_a_bridge_without_networkd(host, ansible):
    host.run("ip link add other0 type veth peer name other0-peer")
    options = {
        "install_method": "existing",
        "ext_bridge_backend": "iproute2",
        "ext_bridge_name": "br-other",
        "ext_bridge_uplink": "other0",
    }
    plan = ansible.step("lxd_host", "--check", **options)
    done = ansible.step("lxd_host", **options)
    assert plan["changes"] == done["changes"]
    assert host.run("ls /sys/class/net/br-other/brif") == "other0"
    assert host.run("cat /sys/class/net/br-other/bridge/multicast_snooping") == "0"
    assert host.run("cat /proc/sys/net/ipv6/conf/other0/addr_gen_mode") == "1"
    assert host.run("ip -oneline address show dev br-other") == ""
    assert host.run("ls /etc/systemd/network | grep other || echo none") == "none"
    assert not ansible.step("lxd_host", **options)["changed"]

    # The kernel takes no delay below two seconds where there is a spanning tree.
    assert ansible.step("lxd_host", **options, ext_bridge_stp=True)["changed"]
    assert host.run("cat /sys/class/net/br-other/bridge/stp_state /sys/class/net/br-other/bridge/forward_delay") == "1\n200"
    assert not ansible.step("lxd_host", **options, ext_bridge_stp=True)["changed"]
