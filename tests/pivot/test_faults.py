"""Faults of the two clusters themselves, before and in the middle of a move between two bare API servers: providers, webhooks, full
disks, an API server that is gone."""

import contextlib
import json
from http.client import HTTPException

import pytest
from bare import CORE, INSTALLED, NAMESPACE, PROVIDERS
from bench import BEGINS, ENDS
from places import named
from proxy import Stop

pytestmark = pytest.mark.sweep
MERGE = "application/merge-patch+json"
MIDDLE = {"SOURCE": ("a machine is deleted", "after"), "TARGET": ("a machine is created", "before")}


def provider(label):
    (space,) = [space for space, it, *_ in PROVIDERS if it == label]
    return f"/apis/{INSTALLED}/v1alpha3/namespaces/{space}/providers/{label}"


@contextlib.contextmanager
def changed(api, path, change, back):
    api.ask("PATCH", path, change, MERGE)
    try:
        yield
    finally:
        api.ask("PATCH", path, back, MERGE)


def test_a_target_that_lacks_a_provider_gets_it_first(bare):
    direction, before = bare.onward, bare.state()
    api, path = bare.apis[ENDS[direction]], provider("infrastructure-incus")
    found = api.ask("GET", path)
    api.ask("DELETE", path)
    bare.gate.arm(Stop("^never$"))
    planned = bare.run(direction, check=True)
    del found["metadata"]["resourceVersion"], found["metadata"]["uid"]
    api.ask("POST", path.rpartition("/")[0], found)
    meant = [change for change in planned["changes"] if change.startswith("run ")]
    assert meant == ["run clusterctl init for infrastructure-incus v0.8.5", "run clusterctl move"], planned
    assert bare.gate.journal == [] and bare.state() == before


def test_providers_that_are_older_than_the_sources_are_refused(bare):
    direction = bare.onward
    newer, own = {"version": "v1.99.0"}, {"version": "v1.12.5"}
    with changed(bare.apis[BEGINS[direction]], provider("cluster-api"), newer, own):
        bare.refused(direction, "PROVIDER_OLDER", "cluster-api v1.12.5 where the source has v1.99.0")
    with changed(bare.apis[ENDS[direction]], provider("cluster-api"), {"version": "v1.11.0"}, own):
        bare.refused(direction, "PROVIDER_VERSION_DRIFT", "cluster-api v1.11.0 instead of v1.12.5")


@contextlib.contextmanager
def arguments(api, told):
    """Cluster API's manager is told this, and is available again."""
    path = "/apis/apps/v1/namespaces/capi-system/deployments/capi-controller-manager"

    def tell(argument):
        container = {"name": "manager", "image": "none", "args": [argument, "--concurrency=1"]}
        made = api.ask("PATCH", path, {"spec": {"template": {"spec": {"containers": [container]}}}}, MERGE)
        api.ask("PATCH", f"{path}/status", {"status": {"observedGeneration": made["metadata"]["generation"]}}, MERGE)

    tell(told)
    try:
        yield
    finally:
        tell("--feature-gates=ClusterTopology=true")


def test_another_feature_gate_on_the_target_is_refused(bare):
    direction = bare.onward
    with arguments(bare.apis[ENDS[direction]], "--feature-gates=MachinePool=true,ClusterTopology=false"):
        words = "the feature gate ClusterTopology is false there and true on the source"
        bare.refused(direction, "PIVOT_NOT_READY", words)


@contextlib.contextmanager
def deaf(api, plural):
    """A webhook for the creation of a kind, which does not serve."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rule = {"apiGroups": [CORE.split("/")[0]], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [plural]}
    webhook = {
        "name": "deaf.k8slab.example", "clientConfig": {"url": "https://127.0.0.1:9/"}, "rules": [rule], "failurePolicy": "Fail",
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
    }  # fmt: skip
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    api.ask("POST", path, kind | {"metadata": {"name": "deaf"}, "webhooks": [webhook]})
    try:
        yield
    finally:
        api.ask("DELETE", f"{path}/deaf")


def test_a_webhook_of_the_target_that_does_not_serve_stops_the_move_and_loses_nothing(bare):
    direction, before = bare.onward, bare.state()
    with deaf(bare.apis[ENDS[direction]], "machines"):
        stopped = bare.run(direction)
    print(f"{stopped['seconds']:.1f} s: {stopped.get('code')} {stopped.get('msg')} {stopped.get('hints')}")
    assert stopped.get("code") == "PIVOT_STOPPED" and "in the state begun" in stopped["msg"], stopped
    assert stopped["hints"] and "deaf.k8slab.example" in json.dumps(stopped), stopped
    bare.finish(direction, before)


def test_a_controller_of_the_target_that_is_not_there_is_waited_for(bare):
    direction, before = bare.onward, bare.state()
    api, path = bare.apis[ENDS[direction]], "/apis/apps/v1/namespaces/capn-system/deployments/capn-controller-manager"
    conditions = api.ask("GET", path)["status"]["conditions"]
    gone = [it | {"status": "False", "message": "it does not come up"} for it in conditions]
    with changed(api, f"{path}/status", {"status": {"conditions": gone}}, {"status": {"conditions": conditions}}):
        bare.gate.arm(Stop("^never$"))
        stopped = bare.run(direction, wait_timeout=3)
        assert stopped.get("failed") and "capn-controller-manager" in json.dumps(stopped), stopped
        assert bare.gate.journal == []
    bare.finish(direction, before)


@pytest.mark.parametrize("side", MIDDLE)
def test_an_etcd_without_space_stops_the_move_and_loses_nothing(bare, side):
    name, moment = MIDDLE[side]
    fault = bare.at(named(name), moment)
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    full = bare.bare[(BEGINS if side == "SOURCE" else ENDS)[direction]]
    full.fill(True)
    try:
        stopped = bare.run(direction)
    finally:
        full.fill(False)
    print(f"{stopped['seconds']:.1f} s: {stopped.get('code')} {stopped.get('msg')} {stopped.get('hints')}")
    assert stopped.get("failed") and stopped["hints"], stopped
    assert "database space exceeded" in json.dumps(stopped), stopped
    bare.finish(direction, before)


@pytest.mark.parametrize("side", MIDDLE)
def test_an_api_server_that_is_gone_is_named_and_one_that_is_back_is_used(bare, side):
    name, moment = MIDDLE[side]
    fault = bare.at(named(name), moment)
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    gone = bare.bare[(BEGINS if side == "SOURCE" else ENDS)[direction]]
    for program in ("kube-apiserver", "etcd"):
        gone.end(program)
    stopped = bare.run(direction)
    for program in ("etcd", "kube-apiserver"):
        gone.begin(program)
    gone.await_ready()
    print(f"{stopped['seconds']:.1f} s: {stopped.get('code')} {stopped.get('msg')} {stopped.get('hints')}")
    assert stopped.get("failed") and f"it is the {side.lower()} by the kubeconfig" in json.dumps(stopped["hints"]), stopped
    bare.finish(direction, before)


@pytest.mark.parametrize("side", MIDDLE)
def test_an_api_server_that_is_started_anew_in_the_middle_costs_a_run_at_most(bare, side):
    name, moment = MIDDLE[side]
    fault = bare.at(named(name), moment)
    direction, before = bare.onward, bare.state()
    bare.gate.arm(fault)
    step = bare.start(direction)
    assert bare.gate.stopped.wait(180)
    again = bare.bare[(BEGINS if side == "SOURCE" else ENDS)[direction]]
    again.end("kube-apiserver")
    again.begin("kube-apiserver")
    bare.gate.disarm()
    result = step.result()
    again.await_ready()
    print(f"{result.get('code')} {result.get('msg')}")
    assert not result.get("failed") or result["hints"], result
    bare.finish(direction, before)


def split(bare):
    """A Cluster on the target, and a template of its class not: which comes first is chance."""
    fault = bare.at(named("the Cluster gets its fields"), "after")
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    api = bare.apis[ENDS[direction]]
    path = f"/apis/infrastructure.cluster.x-k8s.io/v1alpha2/namespaces/{NAMESPACE}/lxcmachinetemplates/lab-worker"
    with contextlib.suppress(OSError, HTTPException):
        api.ask("DELETE", path)
    return direction, before


@pytest.mark.parametrize("pattern", ["TARGET POST .*/machines$", "TARGET PATCH .*/clusters/"])
def test_a_kill_inside_of_from_directory_is_finished_by_the_same_command(bare, pattern):
    direction, before = split(bare)
    bare.killed(direction, bare.stop(direction, pattern, "after"))
    done = bare.finish(direction, before)
    print(f"`{done['signature']}`, finished in {done['seconds']:.1f} s")


def test_what_was_restored_and_killed_before_the_source_was_emptied_is_finished(bare):
    direction, before = split(bare)
    bare.killed(direction, bare.stop(direction, "SOURCE DELETE .*/machines/", "before"))
    done = bare.finish(direction, before)
    assert done["signature"] == "restored", done
