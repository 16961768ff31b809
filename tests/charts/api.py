"""An API server that knows some objects, for what charts ask of a cluster while they are rendered."""

import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import yaml

# Group and version, kind, resource, and whether it is in a namespace.
KINDS = [
    ("v1", "Namespace", "namespaces", False),
    ("v1", "Node", "nodes", False),
    ("v1", "Secret", "secrets", True),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False),
    ("bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfigTemplate", "kubeadmconfigtemplates", True),
    ("cluster.x-k8s.io/v1beta2", "Cluster", "clusters", True),
    ("cluster.x-k8s.io/v1beta2", "ClusterClass", "clusterclasses", True),
    ("clusterctl.cluster.x-k8s.io/v1alpha3", "Provider", "providers", True),
    ("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlaneTemplate", "kubeadmcontrolplanetemplates", True),
    ("infrastructure.cluster.x-k8s.io/v1alpha2", "LXCClusterTemplate", "lxcclustertemplates", True),
    ("infrastructure.cluster.x-k8s.io/v1alpha2", "LXCMachineTemplate", "lxcmachinetemplates", True),
    ("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools", True),
    ("metallb.io/v1beta1", "L2Advertisement", "l2advertisements", True),
]


@contextlib.contextmanager
def serving(objects, folder, version="v1.35.0"):
    """The kubeconfig of a cluster with these objects."""
    paths = answers(objects, version)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = paths.get(self.path.split("?")[0])
            body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config(server.server_port)))
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()


def config(port):
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
    }


def answers(objects, version):
    """What is at each path."""
    groups = {}
    paths = {"/version": {"gitVersion": version, "major": "1", "minor": version.split(".")[1]}}
    for group_version, kind, resource, namespaced in KINDS:
        core = group_version == "v1"
        root = "/api/v1" if core else f"/apis/{group_version}"
        listed = paths.setdefault(root, {"kind": "APIResourceList", "groupVersion": group_version, "resources": []})
        verbs = ["get", "list"]
        listed["resources"].append({"name": resource, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": verbs})
        if not core:
            groups[group_version.split("/")[0]] = group_version
        found = [item for item in objects if (item["apiVersion"], item["kind"]) == (group_version, kind)]
        for place in {item["metadata"].get("namespace") for item in found} | {"somewhere"} if namespaced else ():
            inside = [item for item in found if item["metadata"].get("namespace") == place]
            paths[f"{root}/namespaces/{place}/{resource}"] = listing(group_version, kind, inside)
        paths[f"{root}/{resource}"] = listing(group_version, kind, found)
        for item in found:
            paths[f"{root}/{resource}/{item['metadata']['name']}"] = item
    paths["/api"] = {"kind": "APIVersions", "versions": ["v1"]}
    paths["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(*item) for item in groups.items()]}
    return paths


def listing(group_version, kind, items):
    return {"apiVersion": group_version, "kind": f"{kind}List", "metadata": {}, "items": items}


def group(name, group_version):
    version = {"groupVersion": group_version, "version": group_version.split("/")[1]}
    return {"name": name, "versions": [version], "preferredVersion": version}
