"""Applied to a real API server, where a scripted peer does Cluster API's part."""

import json

from helm.control_plane import until
from root import kill


def test_applies_plans_changes_and_destroys(root, kubectl, cluster_api, tmp_path):
    name = root.variables["k8s_lab_workload_cluster_name"]
    published = tmp_path / "published"
    root.variables |= {
        "publish_command": f'echo "$CLUSTER_NAME $CLUSTER_NAMESPACE $API_PORT" >{published}; kubectl get cluster "$CLUSTER_NAME" -n "$CLUSTER_NAMESPACE"',
        "unpublish_command": f"rm {published}",
    }
    cluster_api()
    said = root.apply()
    assert "stand-in for hashicorp/helm" in said

    cluster = json.loads(kubectl("get", "cluster", name, "--output=json"))
    (classes,) = kubectl.get("clusterclasses", f"--selector=app.kubernetes.io/instance={name}-class")
    assert classes["metadata"]["name"] == cluster["spec"]["topology"]["classRef"]["name"] == root.output("cluster_class_name")
    port = root.output("api_proxy_port")
    assert cluster["metadata"]["annotations"]["k8s-lab.io/api-proxy-port"] == str(port)
    assert published.read_text().split() == [name, "capi-clusters", str(port)]
    assert set(root.output("helm_releases")) == {"capi_cluster_class", "capi_workload_cluster", "cni_calico", "metallb", "metallb_config"}
    (pool,) = kubectl.get("ipaddresspools", "--namespace=metallb-system")
    assert pool["spec"]["addresses"] == ["2001:db8:42:100::500-2001:db8:42:100::5ff"]

    root.is_done()

    # Nothing is unknown in a plan that changes the Cluster: the add-ons are looked at, and stay.
    said = root.apply(k8s_lab_workload_worker_count=2)
    assert "0 added, 1 changed, 0 destroyed" in said
    scaled = json.loads(kubectl("get", "cluster", name, "--output=json"))
    assert scaled["spec"]["topology"]["workers"]["machineDeployments"][0]["replicas"] == 2
    assert scaled["metadata"]["uid"] == cluster["metadata"]["uid"]
    root.is_done()

    root.destroy()
    assert root.resources == []
    assert not published.exists()
    assert nothing_is_left(kubectl, name)


def test_goes_on_after_it_was_killed_between_cluster_and_network(root, kubectl, cluster_api):
    name = root.variables["k8s_lab_workload_cluster_name"]
    process = root.start_apply()
    # It waits for the control plane, which nobody brings up.
    until(lambda: kubectl("get", "cluster", name, "--ignore-not-found", "--output=name"), 120)
    kill(process)
    uid = kubectl("get", "cluster", name, "--output=jsonpath={.metadata.uid}")
    assert "helm_release.cni_calico" not in root.resources

    cluster_api()
    root.apply()
    assert kubectl("get", "cluster", name, "--output=jsonpath={.metadata.uid}") == uid
    root.is_done()

    # The state is lost, and the cluster lives: it is taken over as it is.
    for state in root.folder.glob("*.tfstate*"):
        state.unlink()
    root.apply()
    assert kubectl("get", "cluster", name, "--output=jsonpath={.metadata.uid}") == uid
    root.is_done()
    root.destroy()
    assert nothing_is_left(kubectl, name)


def test_destroy_goes_on_after_it_was_killed(root, kubectl, cluster_api):
    name = root.variables["k8s_lab_workload_cluster_name"]
    cluster_api()
    root.apply()
    # As Cluster API's own finalizer, which is there until the machines are gone.
    kubectl("patch", "cluster", name, "--type=merge", '--patch={"metadata": {"finalizers": ["tests.k8slab.io/machines"]}}')
    process = root.start_destroy()
    until(lambda: kubectl("get", "cluster", name, "--output=jsonpath={.metadata.deletionTimestamp}"), 240)
    kill(process)
    assert root.resources

    # The Cluster goes meanwhile, and its Secret with it: Helm has nobody to ask about the releases there.
    kubectl("patch", "cluster", name, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
    kubectl("delete", "secret", f"{name}-kubeconfig")
    assert "cluster is not known" in " ".join(root("destroy", "-auto-approve", "-input=false", expect=1).split())
    root("state", "rm", *(f"module.workload_cluster.helm_release.{name}" for name in ("cni_calico", "metallb", "metallb_config")))
    root.destroy()
    assert root.resources == []
    assert nothing_is_left(kubectl, name)


def test_a_control_plane_that_does_not_come_is_told(root, kubectl, cluster_api):
    name = root.variables["k8s_lab_workload_cluster_name"]
    root.variables |= {"control_plane_timeout": 3}
    said = root("apply", "-auto-approve", "-input=false", expect=1)
    assert "timed out waiting for the condition" in said
    root.destroy()
    assert nothing_is_left(kubectl, name)


def nothing_is_left(kubectl, name):
    """Neither on the management cluster nor of the add-ons."""
    for kind in ("clusters", "clusterclasses"):
        assert [found["metadata"]["name"] for found in kubectl.get(kind) if found["metadata"]["name"].startswith(name)] == []
    releases = [found["metadata"]["labels"]["name"] for found in kubectl.get("secrets", "--all-namespaces", "--selector=owner=helm")]
    assert [release for release in releases if release.startswith((name, "cni-calico", "metallb"))] == []
    return True
