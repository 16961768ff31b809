"""Cluster API learns of infrastructure by its older contract, which the real provider keeps, and by its present one."""

import contextlib
import subprocess

import pytest
import yaml
from management import Kubernetes, bare_cluster, manager_program

OLDER, PRESENT = "v1beta1", "v1beta2"
NAMESPACE, DEPLOYMENT = "--namespace=capn-system", "capn-controller-manager"


@contextlib.contextmanager
def kept(made, folder, contract):
    """The provider keeps this contract."""
    given = container(made.kubernetes.get(NAMESPACE, "deployment", DEPLOYMENT))
    if contract != OLDER:
        keep(made, folder, contract, given, OLDER)
    try:
        yield
    finally:
        if contract != OLDER:
            keep(made, folder, OLDER, given, contract)


def container(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def keep(made, folder, contract, given, before):
    command = [manager_program(folder), "manifest", f"--image={given['image']}", f"--contract={contract}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    components = list(yaml.safe_load_all(printed))
    for component in components:
        if component["kind"] == "Deployment":
            # What the step that installs it has set stays.
            own = [argument for argument in container(component)["args"] if not argument.startswith("--concurrency")]
            container(component)["args"] = own + [argument for argument in given["args"] if argument.startswith("--concurrency")]
        if component["kind"] == "CustomResourceDefinition":
            made.kubernetes.run("label", "crd", component["metadata"]["name"], f"cluster.x-k8s.io/{before}-")
    # They name their own namespaces.
    everywhere = Kubernetes(made.kubectl, made.kubernetes.kubeconfig)
    everywhere.run("apply", "--server-side", "--force-conflicts", "--filename=-", text=yaml.safe_dump_all(components))
    made.kubernetes.run(NAMESPACE, "rollout", "status", f"deployment/{DEPLOYMENT}", "--timeout=60s")


@pytest.mark.parametrize("contract", [OLDER, PRESENT])
def test_infrastructure_is_ready_by_either_contract(made, tmp_path, contract):
    name, kubernetes = f"by-{contract}", made.kubernetes
    external = {"loadBalancer": {"external": {}}, "controlPlaneEndpoint": {"host": str(made.lab.ipv4[1]), "port": 6443}}
    with kept(made, tmp_path, contract), bare_cluster(made, name, **external):
        kubernetes.wait("condition=InfrastructureReady", f"cluster/{name}", seconds=60)
        made.bare_machine(name, f"{name}-1")
        kubernetes.wait("condition=InfrastructureReady", f"machine/{name}-1", seconds=90)
        status = kubernetes.get("lxcmachine", f"{name}-1")["status"]
        assert (status.get("ready", False), "initialization" in status) == (contract == OLDER, contract == PRESENT)
        assert [address["type"] for address in status["addresses"]][:3] == ["Hostname", "InternalIP", "ExternalIP"]
        (ready,) = (held for held in status["conditions"] if held["type"] == "Ready")
        assert ("reason" in ready) == (contract == PRESENT)
        made.delete("machine", f"{name}-1")


def test_the_manager_makes_as_many_containers_at_once_as_the_server_can(made):
    version = made.lab.lxd.get("")["environment"]["server_version"]
    arguments = container(made.kubernetes.get(NAMESPACE, "deployment", DEPLOYMENT))["args"]
    assert "--concurrency=1" in arguments or not version.startswith("5.0"), (version, arguments)
