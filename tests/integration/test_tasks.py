"""A step as a task of somebody's own play, under the keywords that Ansible has for tasks."""

import pytest

SECRET = "not for anybody's eyes"


def project(lab, **options):
    return {"name": "Project", "k8slab.capi.lxd_project": {"name": lab.project} | options}


def test_a_result_can_be_registered(ansible, lab):
    shown = {"name": "Show", "ansible.builtin.debug": {"msg": "{{ made.project.created }} {{ made.changes | length }}"}}
    played = ansible.play(project(lab) | {"register": "made"}, shown)
    assert played.tasks[-1]["result"]["msg"] == "True 1"


def test_a_task_in_check_mode_changes_nothing(ansible, lab):
    played = ansible.play(project(lab) | {"check_mode": True, "diff": True})
    assert played.result["changes"] == [f"create project {lab.project}"]
    assert played.result["diff"][0]["before"] == ""
    assert lab.find_project() is None


def test_a_step_can_be_awaited_from_the_background(ansible, lab):
    played = ansible.play(project(lab) | {"async": 60, "poll": 1})
    assert played.steps["lxd_project"]["changed"] is True
    assert lab.find_project()["config"]["restricted"] == "true"


def test_a_step_can_be_collected_later(ansible, lab):
    started = project(lab) | {"async": 60, "poll": 0, "register": "started"}
    awaited = {
        "name": "Collect",
        "ansible.builtin.async_status": {"jid": "{{ started.ansible_job_id }}"},
        "register": "collected",
        "until": "collected is finished",
        "retries": 60,
        "delay": 1,
    }
    played = ansible.play(started, awaited)
    assert played.tasks[-1]["result"]["changes"] == [f"create project {lab.project}"]
    assert lab.find_project() is not None


def test_a_loop_runs_the_step_for_each_item(ansible, lab):
    values = ["block", "block", "allow"]
    looped = project(lab, extra_restrictions={"restricted.snapshots": "{{ item }}"}) | {"loop": values}
    played = ansible.play(looped)
    assert [item["changed"] for item in played.result["results"]] == [True, False, True]
    assert lab.find_project()["config"]["restricted.snapshots"] == "allow"


def test_no_log_hides_options_and_results(ansible, lab):
    played = ansible.play(project(lab, description=SECRET) | {"no_log": True}, options=["-vvv", "--diff"])
    assert SECRET not in played.stdout + played.stderr
    assert "censored" in played.result
    assert lab.find_project()["description"] == SECRET


def test_become_runs_the_step_as_somebody_else(ansible, lab):
    nobody = {"become": True, "become_user": "nobody", "become_method": "ansible.builtin.su", "become_flags": "-s /bin/sh"}
    played = ansible.play(project(lab) | nobody, expect=2)
    assert played.result["code"] == "LXD_UNREACHABLE"
    assert any("become: true" in hint for hint in played.result["hints"])
    assert lab.find_project() is None


def test_defaults_for_all_steps_reach_each(ansible, lab):
    task = {"name": "Project", "k8slab.capi.lxd_project": {}}
    ansible.play(task, module_defaults={"group/k8slab.capi.all": {"name": lab.project}})
    assert lab.find_project() is not None


def test_a_step_that_is_switched_off_does_nothing(ansible, lab):
    assert ansible.play(project(lab, enabled="no")).result["changed"] is False
    assert lab.find_project() is None


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"extra_restrictions": {"restricted.devices.proxy": "allow"}}, "OPTION_COLLISION", "restricted.devices.proxy"),
        ({"descripton": "x"}, "OPTION_UNKNOWN", "description"),
        ({"isolation": "loose"}, "OPTION_INVALID", "isolation"),
        ({"lxd_socket_path": "/nowhere/unix.socket"}, "LXD_UNREACHABLE", "/nowhere/unix.socket"),
        ({"extra_restrictions": {"restricted.no-such-thing": "block"}}, "LXD_REFUSED", "restricted.no-such-thing"),
    ],
)
def test_a_failure_says_what_it_is_and_what_to_try(ansible, lab, options, code, words):
    played = ansible.play(project(lab, **options), expect=2)
    failure = played.result
    assert failure["code"] == code
    assert words in failure["msg"] + "".join(failure["hints"])
    # What a person sees, not only what a machine can read.
    assert failure["msg"] in played.stdout + played.stderr
    assert f'"code": "{code}"' in played.stdout
    assert all(hint in played.stdout for hint in failure["hints"])
    assert lab.find_project() is None


def test_a_failure_can_be_rescued(ansible, lab):
    block = {
        "name": "Try",
        "block": [project(lab, isolation="loose")],
        "rescue": [{"name": "Show", "ansible.builtin.debug": {"msg": "{{ ansible_failed_result.code }}"}}],
    }
    assert ansible.play(block).tasks[-1]["result"]["msg"] == "OPTION_INVALID"


def test_two_tasks_at_once_make_one_project(ansible, lab):
    twins = [ansible.start([{"name": "Twin", "tasks": [project(lab)]}], None, ()) for _ in range(2)]
    for twin in twins:
        twin.end()
    assert ansible.play(project(lab)).result["changed"] is False
