"""The bundle's images, without any lab."""

import json
import subprocess
from pathlib import PurePath

import pytest
from throwaway.bundled import BUNDLE

FILTERS = {"nft", "xtables-legacy-multi", "xtables-nft-multi"}
NODES = [
    entry
    for entry in json.loads((BUNDLE / "bundle.json").read_text())["files"]
    if entry["role"] == "instance-image" and entry["name"].startswith("kubeadm/")
]


def test_there_is_a_node_image():
    assert NODES


@pytest.fixture(scope="module", params=NODES, ids=lambda node: node["name"])
def files(request):
    """What lies in a node's file system and in those of the container images that it carries."""
    image = BUNDLE / request.param["path"]
    listed = subprocess.run(["unsquashfs", "-l", image], capture_output=True, text=True, check=True).stdout
    return {PurePath(line) for line in listed.splitlines() if line.startswith("squashfs-root/")}


def test_whatever_filters_packets_knows_the_names_of_protocols(files):
    systems = {file.parents[2] for file in files if file.name in FILTERS and file.parent.name == "sbin" and file.parents[1].name == "usr"}
    # The node itself, kube-proxy's image and a pod network's.
    assert len(systems) >= 3
    assert not [system for system in systems if system / "etc/protocols" not in files]
