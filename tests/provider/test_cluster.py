"""One control plane and one worker, from their manifests to their end."""

from throwaway.wait import eventually

# A machine with other things to do takes longer than the bench's.
INITIALIZED = 120
REGISTERED = 150
PORT = 8053


def test_a_cluster_comes_up(made, cluster):
    print(
        f"control plane initialised {cluster.initialized:.1f} s, worker registered {cluster.registered:.1f} s, "
        f"nodes ready {cluster.ready:.1f} s after the manifests"
    )
    assert cluster.initialized < INITIALIZED
    assert cluster.registered < REGISTERED
    assert made.count("c1") == {"control-plane": 1, "worker": 1, "loadbalancer": 1}
    assert made.instances("c1")["loadbalancer"] == ["c1-deb12-lb"]
    made.kubernetes.wait("condition=Available", "cluster/c1", seconds=120)


def test_nodes_are_their_machines(made, cluster):
    nodes = {node["metadata"]["name"]: node for node in cluster.api.get("nodes")["items"]}
    machines = made.kubernetes.get("lxcmachines")["items"]
    assert {machine["metadata"]["name"] for machine in machines} == set(nodes)
    for machine in machines:
        node = nodes[machine["metadata"]["name"]]
        assert machine["spec"]["providerID"] == node["spec"]["providerID"] == f"lxc:///{machine['metadata']['name']}"
        addresses = {address["address"] for address in machine["status"]["addresses"] if address["type"] == "InternalIP"}
        # The other ones are on the external bridge, or kubelet was not told of them.
        assert {address["address"] for address in node["status"]["addresses"] if address["type"] == "InternalIP"} <= addresses
        assert len(node["spec"]["podCIDRs"]) == 2


def test_pods_reach_pods_and_services_by_both_families(made, cluster):
    (image,) = {
        container["image"]
        for pod in cluster.api.get("pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns")["items"]
        for container in pod["spec"]["containers"]
    }
    selector = {"app": "target"}
    target = {"name": "target", "image": image, "args": [f"-dns.port={PORT}"]}
    metadata = {"name": "target", "namespace": "default"}
    cluster.api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": selector},
                    "spec": {"containers": [target], "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": selector, "ports": [{"port": PORT}], "ipFamilyPolicy": "RequireDualStack"},
        },
    )
    cluster.api.run("--namespace=default", "rollout", "status", "daemonset/target", "--timeout=120s")
    pods = cluster.api.get("pods", "--namespace=default", "--selector=app=target")["items"]
    service = cluster.api.get("service", "target", "--namespace=default")
    assert len({pod["spec"]["nodeName"] for pod in pods}) == len(pods) == 2
    targets = [address["ip"] for pod in pods for address in pod["status"]["podIPs"]] + service["spec"]["clusterIPs"]
    assert len(targets) == 6 and sum(":" in target for target in targets) == 3
    for pod in pods:
        for target in targets:
            # From within the pod's own network.
            process = f'$(pgrep --oldest --full -- "-dns.port={PORT}")'
            knock = f'nsenter --target "{process}" --net timeout 5 bash -c "</dev/tcp/{target}/{PORT}"'
            node = pod["spec"]["nodeName"]
            assert eventually(lambda node=node, knock=knock: made.inside(node, "bash", "-c", knock) == 0, 30) is True, (node, target)


def test_a_worker_more_and_a_worker_less(made, cluster):
    for count in (2, 1):
        made.kubernetes.run("scale", "machinedeployment/c1-workers", f"--replicas={count}")
        assert eventually(lambda count=count: made.count("c1")["worker"] == count, 120) is True
        assert eventually(lambda count=count: len(cluster.api.get("nodes")["items"]) == count + 1, 120) is True


def test_an_instance_that_is_gone_is_told(made, cluster):
    (worker,) = made.instances("c1")["worker"]
    made.lab.lxd.put(f"instances/{worker}/state", {"action": "stop", "force": True}, project=made.lab.project)
    made.kubernetes.tells("lxcmachine", worker, "is Stopped")
    made.lab.lxd.delete(f"instances/{worker}", project=made.lab.project)
    made.kubernetes.tells("lxcmachine", worker, "is gone", reason="InstanceDeleted")

    # Cluster API mirrors what the older contract says of an instance into its own older conditions, and into no others.
    def mirrored():
        held = made.kubernetes.get("machine", worker)["status"]["deprecated"]["v1beta1"]["conditions"]
        (ready,) = (condition for condition in held if condition["type"] == "InfrastructureReady")
        return (ready["status"], ready.get("reason")) == ("False", "InstanceDeleted") or ready

    assert eventually(mirrored, 60) is True
    made.delete("machine", worker)
    assert eventually(lambda: made.count("c1").get("worker") == 1, 120) is True


def test_a_load_balancer_that_is_restarted_serves_again(made, cluster):
    """Also where its addresses come one by one, and the one that everybody knows comes last."""
    (balancer,) = made.instances("c1")["loadbalancer"]
    made.lab.lxd.put(f"instances/{balancer}/state", {"action": "restart", "force": True}, project=made.lab.project)
    nodes = lambda: cluster.api.tries("get", "nodes")  # noqa: E731
    assert eventually(lambda: nodes() or "no answer", 60) is True
    made.kubernetes.wait("condition=Ready", "lxccluster/c1", seconds=30)
