# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.k8slab.capi.plugins.action import step

JOB = {"folder": "/tmp/k8slab-job-1", "attach": ["/tmp/k8slab-job-1/step", "--attach", "/tmp/k8slab-job-1"]}
DONE = {"changed": True, "stages": [{"name": "instance", "changed": True, "skipped": False, "seconds": 12.3}]}


class Host:
    """What the plugin reaches of a host: one answer for each command, in order, an exception standing for a cut connection."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.commands = []

    def execute(self, command, **_options):
        self.commands.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(text, rc=0, stderr=""):
    return {"rc": rc, "stdout": text, "stderr": stderr}


def news(*events, offset, result=None):
    told = [{"seconds": seconds, "stage": stage, "message": message} for seconds, stage, message in events]
    return answer(json.dumps({"events": told, "from": offset, "result": result}))


@pytest.fixture
def shown(monkeypatch):
    lines = []
    monkeypatch.setattr(step.display, "display", lambda line, **_options: lines.append(line))
    return lines


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while the plugin pauses."""
    now = [0.0]
    monkeypatch.setattr(step.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(step.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def ship(monkeypatch, tmp_path):
    def ship(*architectures):
        for architecture in architectures:
            (tmp_path / architecture).mkdir()

    monkeypatch.setattr(step, "EXECUTABLES", tmp_path)
    return ship


@pytest.fixture
def action(monkeypatch, ship):
    def action(host=None, module=None, transport="ssh", **task):
        defaults = {
            "action": "k8slab.capi.lxd_project",
            "args": {"name": "lab"},
            "async_val": 0,
            "check_mode": False,
            "delegate_to": None,
            "no_log": False,
        }
        connection = MagicMock(transport=transport, has_native_async=False)
        plugin = step.ActionModule(MagicMock(**defaults | task), connection, MagicMock(), MagicMock(), MagicMock(), MagicMock())
        monkeypatch.setattr(plugin, "_execute_module", MagicMock(return_value=module or {"changed": False}))
        monkeypatch.setattr(plugin, "_low_level_execute_command", (host or Host()).execute)
        return plugin

    ship("amd64")
    return action


def run(plugin, **task_vars):
    return plugin.run(task_vars={"inventory_hostname": "edge-1", **task_vars})


def started(plugin):
    """The module name and arguments of the one execution."""
    (call,) = plugin._execute_module.call_args_list
    return call.kwargs["module_name"], call.kwargs["module_args"]


def test_a_step_that_is_over_at_once_costs_one_execution(action):
    host = Host()
    plugin = action(host, module={"changed": True})
    assert run(plugin) == {"changed": True}
    assert started(plugin) == ("k8slab.capi.bin.amd64.lxd_project", {"name": "lab", "_k8slab_job": True})
    assert host.commands == []


def test_the_task_keeps_its_own_arguments(action):
    plugin = action()
    run(plugin)
    assert plugin._task.args == {"name": "lab"}


@pytest.mark.parametrize(
    ("task", "wrapped"),
    [({"check_mode": True}, False), ({"async_val": 30}, True)],
    ids=["check mode", "async"],
)
def test_no_job_where_nobody_would_attach(action, task, wrapped):
    plugin = action(**task)
    assert run(plugin) == {"changed": False}
    assert started(plugin) == ("k8slab.capi.bin.amd64.lxd_project", {"name": "lab"})
    assert plugin._execute_module.call_args.kwargs["wrap_async"] is wrapped


def test_a_module_may_be_called_by_its_short_name(action):
    plugin = action(action="lxd_project")
    run(plugin)
    assert started(plugin)[0] == "k8slab.capi.bin.amd64.lxd_project"


def test_a_job_is_followed_to_its_result(action, shown):
    host = Host(
        news((1.2, "image", "importing"), offset=40),
        news(offset=40),
        news((9.6, "instance", "waiting for an address"), (12.0, "", "done"), offset=95, result=DONE),
    )
    result = run(action(host, module={"changed": False, "_k8slab_job": JOB}))
    assert result == DONE
    attach = "/tmp/k8slab-job-1/step --attach /tmp/k8slab-job-1 --from"
    assert host.commands == [f"{attach} 0", f"{attach} 40", f"{attach} 40"]
    assert shown == [
        "[edge-1] 1 s, image: importing",
        "[edge-1] 10 s, instance: waiting for an address",
        "[edge-1] 12 s: done",
    ]


def test_an_answer_may_follow_the_words_of_a_login_shell(action):
    host = Host(answer('Welcome\n{"events": [], "from": 0, "result": {"changed": true}}\nlogout\n'))
    assert run(action(host, module={"_k8slab_job": JOB})) == {"changed": True}


def test_progress_names_the_delegate_and_stays_on_one_line(action, shown):
    host = Host(news((1, "image", "first\nsecond\x1b[31m"), offset=9, result=DONE))
    run(action(host, module={"_k8slab_job": JOB}, delegate_to="builder"))
    assert shown == ["[edge-1 -> builder] 1 s, image: first second [31m"]


def test_no_log_hides_progress(action, shown):
    host = Host(news((1, "image", "importing"), offset=9, result=DONE))
    assert run(action(host, module={"_k8slab_job": JOB}, no_log=True)) == DONE
    assert shown == []


def test_a_cut_connection_is_taken_up_where_it_broke(action, shown, clock):
    cut = AnsibleConnectionFailure("connection reset by peer")
    host = Host(news((1, "image", "importing"), offset=40), cut, cut, news(offset=40, result=DONE))
    plugin = action(host, module={"_k8slab_job": JOB})
    assert run(plugin) == DONE
    assert [command.rpartition(" ")[2] for command in host.commands] == ["0", "40", "40", "40"]
    assert plugin._connection.reset.call_count == 2
    assert clock == [3.0]


def test_a_connection_that_cannot_be_reset_is_still_retried(action, clock):
    host = Host(AnsibleConnectionFailure("gone"), AnsibleConnectionFailure("gone"), news(offset=0, result=DONE))
    plugin = action(host, module={"_k8slab_job": JOB})
    plugin._connection.reset.side_effect = [AttributeError("reset"), AnsibleConnectionFailure("gone")]
    assert run(plugin) == DONE


def test_a_connection_that_stays_away_leaves_the_job_named(action, clock):
    host = Host(*[AnsibleConnectionFailure("no route to host")] * 100)
    plugin = action(host, module={"_k8slab_job": JOB})
    plugin._cleanup_remote_tmp = True
    result = run(plugin)
    assert result["unreachable"] is True
    assert "failed" not in result
    assert result["code"] == "CONNECTION_LOST"
    assert JOB["folder"] in result["msg"]
    assert result["detail"] == "no route to host"
    assert any("--attach" in hint for hint in result["hints"])
    assert plugin._cleanup_remote_tmp is False
    assert step.RECONNECT_SECONDS - step.RECONNECT_PAUSE_SECONDS <= clock[0] <= step.RECONNECT_SECONDS


@pytest.mark.parametrize(
    "reply",
    [
        answer("", rc=127, stderr="sh: /tmp/k8slab-job-1/step: not found\n"),
        answer("{}", stderr="sh: /tmp/k8slab-job-1/step: not found\n"),
        answer('{"events": [', stderr="sh: /tmp/k8slab-job-1/step: not found\n"),
    ],
    ids=["no answer", "another answer", "half an answer"],
)
def test_a_lost_job_is_a_failure_of_its_own(action, reply):
    result = run(action(Host(reply), module={"_k8slab_job": JOB}))
    assert (result["failed"], result["code"]) == (True, "JOB_LOST")
    assert JOB["folder"] in result["msg"]
    assert result["detail"] == "sh: /tmp/k8slab-job-1/step: not found"


class TestArchitecture:
    def test_of_the_facts(self, action, ship):
        ship("arm64")
        plugin = action()
        run(plugin, ansible_facts={"architecture": "aarch64"})
        assert started(plugin)[0] == "k8slab.capi.bin.arm64.lxd_project"

    def test_of_a_delegate_is_not_that_of_the_host(self, action, ship):
        ship("arm64")
        plugin = action(delegate_to="builder")
        delegated = {"builder": {"ansible_facts": {"architecture": "aarch64"}}}
        run(plugin, ansible_facts={"architecture": "x86_64"}, ansible_delegated_vars=delegated)
        assert started(plugin)[0] == "k8slab.capi.bin.arm64.lxd_project"

    def test_of_a_local_connection(self, action, ship, monkeypatch):
        ship("arm64")
        monkeypatch.setattr(step.os, "uname", lambda: MagicMock(machine="aarch64"))
        plugin = action(transport="local")
        run(plugin)
        assert started(plugin)[0] == "k8slab.capi.bin.arm64.lxd_project"

    def test_is_asked_for_once_when_there_is_a_choice(self, action, ship):
        ship("arm64")
        host = Host(answer("aarch64\n"))
        plugin = action(host)
        run(plugin)
        assert host.commands == ["uname -m"]
        assert started(plugin)[0] == "k8slab.capi.bin.arm64.lxd_project"

    @pytest.mark.parametrize("machine", ["riscv64", "aarch64"])
    def test_without_an_executable_is_refused_before_anything_is_sent(self, action, machine):
        plugin = action()
        result = run(plugin, ansible_facts={"architecture": machine})
        assert (result["failed"], result["code"]) == (True, "ARCH_UNSUPPORTED")
        assert machine in result["msg"] and "amd64" in result["msg"]
        plugin._execute_module.assert_not_called()

    def test_that_the_only_executable_does_not_fit_is_explained(self, action):
        refused = {"failed": True, "rc": 126, "module_stdout": "", "module_stderr": "Exec format error"}
        result = run(action(Host(answer("aarch64\n")), module=refused))
        assert result["code"] == "ARCH_UNSUPPORTED"
        assert "aarch64" in result["msg"]

    def test_fits_but_the_folder_is_mounted_noexec(self, action):
        refused = {"failed": True, "rc": 126, "module_stdout": "", "module_stderr": "Permission denied"}
        result = run(action(Host(answer("x86_64\n")), module=refused))
        assert result["code"] == "REMOTE_TMP_NOEXEC"
        assert "ansible_remote_tmp" in result["hints"][0]

    def test_of_a_collection_without_executables(self, action, monkeypatch, tmp_path):
        (tmp_path / "empty").mkdir()
        monkeypatch.setattr(step, "EXECUTABLES", tmp_path / "empty")
        result = run(action(transport="local"))
        assert result["code"] == "ARCH_UNSUPPORTED"
        assert "make collection" in result["hints"][0]
