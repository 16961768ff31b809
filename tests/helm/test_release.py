"""`helm_release` where Helm is real: what it records, how it fails, and how it goes on after it was killed."""

import json
import os
import signal
import subprocess

import pytest
from control_plane import until

KEPT = {"objects": ["kept"]}


def statuses(kubectl):
    records = kubectl.get("secrets", "--selector", "owner=helm")
    return [record["metadata"]["labels"]["status"] for record in records]


def uids(kubectl):
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in kubectl.get("configmaps")}


def helms(step):
    """The processes of this test's helm."""
    found = subprocess.run(["pgrep", "-f", f"^{step.options['helm_path']} .*--namespace {step.options['namespace']}"], capture_output=True, text=True)
    return [int(process) for process in found.stdout.split()]


def kill(processes):
    for process in processes:
        os.kill(process, signal.SIGKILL)


def killed(step, kubectl, status, made=None, with_step=True, **options):
    """Runs the step until the release has a status and a hook is there, then kills Helm, and the step with it."""
    running = step.start(**options)
    until(lambda: status in statuses(kubectl))
    until(lambda: made is None or made in kubectl("get", "jobs", "--output", "name"))
    until(lambda: helms(step))
    if with_step:
        running.kill()
    kill(helms(step))
    running.communicate()


def test_what_has_not_changed_costs_no_process(step, kubectl):
    values = {"objects": ["kept"], "number": 1}
    foreseen = step(check=True, values=values)
    assert foreseen["changed"] and not uids(kubectl)
    done = step(values=values)
    assert (done["changed"], done["release"]["revision"]) == (True, 1)
    assert foreseen["diff"] == done["diff"]
    again = {"number": 1.0, "objects": ["kept"]}
    assert step(values=again, helm_path="/nowhere")["changed"] is False
    assert step(values=values | {"number": 2}, helm_path="/nowhere")["code"] == "HELM_MISSING"
    subprocess.run([step.options["helm_path"], "rollback", "demo", "1", "--namespace", step.options["namespace"], "--kubeconfig",
                    step.options["kubeconfig_path"]], check=True, capture_output=True)
    assert step(values=values)["release"]["revision"] == 3, "what was done by hand is done again by the step"
    removed = step(state="absent")
    assert removed["changed"] and not uids(kubectl) and not statuses(kubectl)
    assert step(state="absent")["changed"] is False


@pytest.mark.parametrize("hook", ["post-install", "post-upgrade", "pre-upgrade"])
def test_a_killed_run_is_taken_up_and_every_object_stays(step, kubectl, hook):
    status = "pending-install" if hook == "post-install" else "pending-upgrade"
    if status == "pending-upgrade":
        step(values=KEPT)
    killed(step, kubectl, status, hook, values={"objects": ["kept", "gone"], "hooks": [hook]})
    before = uids(kubectl)["kept"]
    done = step(values=KEPT | {"text": "other"})
    assert done["changes"][0].startswith("roll release"), done
    after = uids(kubectl)
    assert after["kept"] == before and "gone" not in after
    assert step(values=KEPT | {"text": "other"})["changed"] is False


def test_killed_before_anything_was_made(step, kubectl):
    killed(step, kubectl, "pending-install", "pre-install", values=KEPT | {"hooks": ["pre-install"]})
    assert not uids(kubectl)
    done = step(values=KEPT)
    assert done["changes"][:2] == [
        f"uninstall release {step.options['namespace']}/demo, which a run left pending-install",
        f"install release {step.options['namespace']}/demo",
    ]
    assert set(uids(kubectl)) == {"kept"}


@pytest.mark.parametrize(("act", "hook", "status"), [("rollback", "post-rollback", "pending-rollback"), ("uninstall", "pre-delete", "uninstalling")])
def test_what_was_killed_by_hand_is_taken_up_too(step, kubectl, act, hook, status):
    step(values=KEPT | {"hooks": [hook]})
    step(values=KEPT)
    if act == "uninstall":
        step(values=KEPT | {"hooks": [hook]})
    before = uids(kubectl)
    arguments = ["demo", "1"] if act == "rollback" else ["demo"]
    by_hand = subprocess.Popen([step.options["helm_path"], act, *arguments, "--namespace", step.options["namespace"], "--kubeconfig",
                                step.options["kubeconfig_path"]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: status in statuses(kubectl) and hook in kubectl("get", "jobs", "--output", "name"))
    by_hand.kill()
    by_hand.wait()
    done = step(values=KEPT)
    assert done["changed"] and "code" not in done, done
    if act == "rollback":
        assert uids(kubectl) == before
    assert step(values=KEPT)["changed"] is False


def test_a_helm_that_outlived_its_step_is_waited_for(step, kubectl):
    running = step.start(values=KEPT | {"hooks": ["post-install"]}, timeout=5)
    until(lambda: "post-install" in kubectl("get", "jobs", "--output", "name"))
    running.kill()
    running.communicate()
    assert helms(step), "it still works"
    assert step(values=KEPT, timeout=1)["code"] == "RELEASE_BUSY"
    assert step(values=KEPT)["changed"] is True
    assert not helms(step)


def test_errors_say_what_is_wrong_and_no_secret(step, kubectl, chart):
    refused = step(values={"token": "HUNTER2"})
    assert (refused["code"], "'/token'" in refused["msg"]) == ("CHART_VALUES_REFUSED", True), refused
    assert "HUNTER2" not in json.dumps(refused)
    shown = step(values={"token": "hunter2"})
    assert shown["changed"] and "hunter2" not in json.dumps(shown)
    template = chart / "templates" / "more.yaml"
    for text, code in (
        ("{{ .Values.a.b.c", "CHART_BROKEN"),
        ('{{ fail "set cluster.name" }}', "CHART_REFUSES"),
        ("apiVersion: example.org/v1\nkind: Odd\nmetadata: {name: x}\n", "CHART_CRD_MISSING"),
    ):
        template.write_text(text)
        assert step()["code"] == code
    template.unlink()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: other\nversion: 1.0.0\n")
    assert step()["code"] == "RELEASE_OTHER_CHART"
    assert step(chart=str(chart / "nowhere"))["code"] == "CHART_NOT_FOUND"


def test_another_chart_shows_the_objects_that_differ(step, chart):
    step(values=KEPT)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 1.1.0\n")
    (chart / "templates" / "more.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n")
    diff = step(check=True, values=KEPT)["diff"][0]
    assert "ConfigMap more" in diff["after"] and "kept" not in diff["after"].split("values:")[0]


def test_a_failed_gate_is_told_by_its_check(step, kubectl):
    values = {"gate": True}
    running = step.start(values=values, tests=True)
    until(lambda: "gate" in kubectl("get", "pods", "--output", "name"))
    ended = {"exitCode": 1, "reason": "Error", "message": "TIMEOUT"}
    container = {"name": "dns-ipv6", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
    status = {"phase": "Failed", "initContainerStatuses": [container]}
    kubectl("patch", "pod", "gate", "--subresource=status", "--patch", json.dumps({"status": status}))
    failed = json.loads(running.communicate(timeout=120)[0])
    assert failed["code"] == "GATE_FAILED", failed
    assert "check dns-ipv6 of Pod gate: Error: TIMEOUT" in failed["msg"]
    running = step.start(values=values, tests=True)
    until(lambda: not kubectl("get", "pod", "gate", "--output", "jsonpath={.status.initContainerStatuses}", check=False)
          and "gate" in kubectl("get", "pods", "--output", "name"))
    kubectl("patch", "pod", "gate", "--subresource=status", "--patch", json.dumps({"status": {"phase": "Succeeded"}}))
    passed = json.loads(running.communicate(timeout=120)[0])
    assert passed["release"]["tests_passed"] is True, passed
    assert passed["changes"] == [f"run the tests of release {step.options['namespace']}/demo"]
    assert step(values=values, tests=True, helm_path="/nowhere")["changed"] is False


def test_a_workload_that_does_not_come_is_named(step):
    failed = step(values={"web": True}, timeout=3)
    assert (failed["code"], "web" in failed["msg"]) == ("WAIT_TIMEOUT", True), failed
    assert step(values={"web": True}, wait=False)["changed"] is False


def test_fields_that_came_with_a_move_are_taken_over(step, kubectl):
    step(values=KEPT)
    moved = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"text": "moved"}}

    def owned_by(manager):
        kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "--filename=-", input=json.dumps(moved))

    owned_by("clusterctl")
    assert "code" not in step(values=KEPT | {"text": "ours"})
    assert kubectl.get("configmaps")[0]["data"]["text"] == "ours"


def test_helm_waits_while_a_pivot_is_open(step, tmp_path):
    record = tmp_path / "opt" / "etc" / "pivot_clusterctl_move" / "open"
    record.parent.mkdir(parents=True)
    record.touch()
    assert step(values=KEPT)["code"] == "PIVOT_OPEN"
    record.unlink()
    assert step(values=KEPT)["changed"] is True
    record.touch()
    assert step(values=KEPT)["changed"] is False


def test_labels_are_on_the_record_and_go_again(step, kubectl):
    label = "clusterctl.cluster.x-k8s.io/move"
    step(values=KEPT, labels={label: ""})
    records = kubectl.get("secrets", "--selector", "owner=helm")
    assert records[-1]["metadata"]["labels"][label] == ""
    assert step(values=KEPT, labels={label: ""})["changed"] is False
    step(values=KEPT)
    records = kubectl.get("secrets", "--selector", "owner=helm,status=deployed")
    assert label not in records[-1]["metadata"]["labels"]
