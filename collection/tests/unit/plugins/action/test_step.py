# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
import signal
import subprocess
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.k8slab.capi.plugins.action import step
from ansible_collections.k8slab.capi.plugins.plugin_utils import executable

MARK = "k8slab-mark"
JOB = {"folder": "/tmp/k8slab-job-1", "attach": ["/tmp/k8slab-job-1/step", "--attach", "/tmp/k8slab-job-1"]}
DONE = {"changed": True, "stages": [{"name": "instance", "changed": True, "skipped": False, "seconds": 12.3}]}


class Host:
    """What the plugin reaches of a host: one answer for each command, in order, an exception standing for a cut connection."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.commands = []

    def execute(self, command, in_data=None, **_options):
        self.commands.append((in_data or command.encode()).decode(errors="replace"))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def answer(text, rc=0, stderr=""):
    return {"rc": rc, "stdout": text, "stderr": stderr}


def marked(value):
    return answer(f"{MARK}\n{json.dumps(value)}\n{MARK}\n")


def news(*events, offset, result=None):
    told = [{"seconds": seconds, "stage": stage, "message": message} for seconds, stage, message in events]
    return marked({"events": told, "from": offset, "result": result})


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
            (tmp_path / architecture / "lxd_project").write_text(architecture)

    monkeypatch.setattr(executable, "EXECUTABLES", tmp_path)
    return ship


@pytest.fixture
def action(monkeypatch, ship):
    """A plugin whose host answers to an execution with `module`, and then as `host` does."""

    def action(host=None, module=None, transport="ssh", has_pipelining=True, become=None, **task):
        defaults = {
            "action": "k8slab.capi.lxd_project",
            "args": {"name": "lab"},
            "async_val": 0,
            "check_mode": False,
            "delegate_to": None,
            "module_defaults": [],
            "no_log": False,
        }
        shell = MagicMock(SHELL_FAMILY="sh")
        shell.get_option.return_value = "~/.ansible/tmp"
        connection = MagicMock(transport=transport, has_native_async=False, has_pipelining=has_pipelining, become=become, _shell=shell)
        templar = MagicMock(template=lambda value: value)
        plugin = step.ActionModule(MagicMock(**defaults | task), connection, MagicMock(), MagicMock(), templar, MagicMock())
        plugin._mark = MARK
        plugin.ways = []

        def execute(**call):
            plugin.ways.append(plugin._way)
            res = module if isinstance(module, dict) and "stdout" in module else marked(module or {"changed": False})
            ended = plugin._ended(res)
            try:
                return json.loads(ended["stdout"].replace(MARK, ""))
            except ValueError:
                return {"failed": True, "rc": ended["rc"], "module_stdout": ended["stdout"]}

        monkeypatch.setattr(plugin, "_execute_module", MagicMock(side_effect=execute))
        monkeypatch.setattr(plugin, "_low_level_execute_command", (host or Host()).execute)
        return plugin

    ship("amd64")
    return action


def run(plugin, **task_vars):
    return plugin.run(task_vars={"inventory_hostname": "edge-1", **task_vars})


def started(plugin):
    """The module name and arguments of the last execution."""
    call = plugin._execute_module.call_args
    return call.kwargs["module_name"], call.kwargs["module_args"]


def test_a_step_that_is_over_at_once_costs_one_execution(action):
    host = Host()
    plugin = action(host, module={"changed": True})
    assert run(plugin) == {"changed": True}
    assert started(plugin) == ("k8slab.capi.bin.amd64.lxd_project", {"name": "lab", "_k8slab_job": True, "_k8slab_defaults": []})
    assert isinstance(*plugin.ways, executable.Kept)
    assert host.commands == []


def test_the_task_keeps_its_own_arguments(action):
    plugin = action()
    run(plugin)
    assert plugin._task.args == {"name": "lab"}


def test_what_defaults_for_all_steps_give_is_told(action):
    defaults = [{"group/k8slab.capi.all": {"project": "lab", "name": "lab", "socket": "/a"}}, {"k8slab.capi.lxd_project": {"own": 1}}]
    plugin = action(args={"name": "mine", "project": "lab", "socket": "/a", "own": 1}, module_defaults=defaults)
    run(plugin)
    assert started(plugin)[1]["_k8slab_defaults"] == ["project", "socket"]


@pytest.mark.parametrize(
    ("task", "wrapped"),
    [({"check_mode": True}, None), ({"async_val": 30}, True)],
    ids=["check mode", "async"],
)
def test_no_job_where_nobody_would_attach(action, task, wrapped):
    plugin = action(**task, module=answer('{"changed": false}') if wrapped else None)
    assert run(plugin) == {"changed": False}
    assert started(plugin)[1]["_k8slab_job"] is False
    assert plugin._execute_module.call_args.kwargs.get("wrap_async") is wrapped


class TestWay:
    """How a step reaches its host."""

    def test_in_place_on_a_local_connection(self, action, tmp_path):
        plugin = action(transport="local")
        run(plugin)
        (way,) = plugin.ways
        assert way.executable == tmp_path / "amd64" / "lxd_project"

    @pytest.mark.parametrize("become", ["su", "community.general.su"])
    def test_as_a_file_where_nothing_can_be_given_to_a_command(self, action, become):
        method = MagicMock()
        method.name = become
        for plugin in (action(become=method), action(has_pipelining=False)):
            run(plugin)
            assert plugin.ways == [None]

    def test_as_a_file_where_the_host_does_not_begin(self, action):
        plugin = action(module=answer("sudo: a terminal is required\n", rc=1))
        run(plugin)
        (way, other) = plugin.ways
        assert isinstance(way, executable.Kept) and other is None

    def test_once_more_after_the_executable_was_sent(self, action, tmp_path):
        (digest,) = executable.Kept({"amd64": tmp_path / "amd64" / "lxd_project"}, "~").files
        host = Host(answer(f"Welcome\n{MARK} kept\n"))
        plugin = action(host, module=answer(f"{MARK} send {digest}\n"))
        run(plugin)
        assert host.commands == ["amd64"]

    def test_never_after_a_step_has_begun(self, action):
        plugin = action(module=answer(f"{MARK}\n", rc=137))
        assert run(plugin)["failed"] is True
        assert len(plugin.ways) == 1


class TestScript:
    """The scripts, by the shell of this machine."""

    @pytest.fixture
    def shell(self, tmp_path):
        def shell(script, **options):
            done = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=False, env={"HOME": str(tmp_path), **os.environ}, **options)
            return done.stdout.decode()

        return shell

    @pytest.fixture
    def echo(self, tmp_path):
        path = tmp_path / "it's an executable"
        path.write_text('#!/bin/sh\necho "$2"; echo "$3"; cat; echo "$2"\n')
        path.chmod(0o755)
        return path

    def test_in_place_hands_everything_on_unchanged(self, shell, echo):
        text = '{"a": "$HOME `id` \\\\ \\" \'"}'
        assert executable.answer(shell(executable.InPlace(echo).script(MARK, ["-"], text)), MARK) == f"-\n{text}"

    def test_of_an_executable_that_is_not_there_has_not_begun(self, shell, tmp_path):
        with pytest.raises(executable.NotStarted):
            executable.answer(shell(executable.InPlace(tmp_path / "nothing").script(MARK, ["-"], "{}")), MARK)

    def test_kept_is_asked_for_taken_and_run(self, shell, echo, tmp_path):
        machine = os.uname().machine
        kept = executable.Kept({executable.ARCHITECTURES[machine]: echo}, f"{tmp_path}/far away")
        (digest,) = kept.files
        with pytest.raises(executable.NotSent, match=digest):
            executable.answer(shell(kept.script(MARK, ["-"], "{}")), MARK)
        taken = subprocess.run(kept.reception(MARK, digest), shell=True, input=echo.read_bytes(), capture_output=True, check=False)
        assert taken.stdout.decode() == f"{MARK} kept\n"
        assert executable.answer(shell(kept.script(MARK, ["-"], "{}")), MARK) == "-\n{}"

    def test_kept_takes_nothing_else(self, echo, tmp_path):
        kept = executable.Kept({"amd64": echo}, str(tmp_path))
        (digest,) = kept.files
        taken = subprocess.run(kept.reception(MARK, digest), shell=True, input=b"half of it", capture_output=True, check=False)
        assert taken.stdout.decode() == ""
        (folder,) = tmp_path.glob("k8slab-*")
        assert list(folder.iterdir()) == []

    def test_kept_knows_that_it_does_not_fit(self, shell, echo, tmp_path):
        with pytest.raises(executable.UnknownMachine, match=os.uname().machine):
            executable.answer(shell(executable.Kept({}, str(tmp_path)).script(MARK, ["-"], "{}")), MARK)


def test_a_module_may_be_called_by_its_short_name(action):
    plugin = action(action="lxd_project")
    run(plugin)
    assert started(plugin)[0] == "k8slab.capi.bin.amd64.lxd_project"


def test_a_job_is_followed_to_its_result(action, shown, clock):
    host = Host(
        news((1.2, "image", "importing"), offset=40),
        news(offset=40),
        news((9.6, "instance", "waiting for an address"), (12.0, "", "done"), offset=95, result=DONE),
    )
    result = run(action(host, module={"changed": False, "_k8slab_job": JOB}))
    assert result == DONE
    asked = [command.rpartition("exec ")[2] for command in host.commands]
    attach = f"./$file --mark {MARK} --attach /tmp/k8slab-job-1 --from"
    assert asked == [f"{attach} 0 </dev/null\n", f"{attach} 40 </dev/null\n", f"{attach} 40 </dev/null\n"]
    assert shown == [
        "[edge-1] 1 s, image: importing",
        "[edge-1] 10 s, image: waiting for an address".replace("image", "instance"),
        "[edge-1] 12 s: done",
    ]
    # A host that does not wait for news is not asked without a pause.
    assert clock == [1.0]


def test_a_job_that_was_started_as_a_file_is_attached_to_by_that_file(action):
    host = Host(news(offset=0, result=DONE))
    assert run(action(host, module={"_k8slab_job": JOB}, has_pipelining=False)) == DONE
    assert host.commands == [f"/tmp/k8slab-job-1/step --attach /tmp/k8slab-job-1 --mark {MARK} --from 0"]


def test_an_answer_may_stand_among_the_words_of_a_login_shell(action):
    told = marked({"events": [], "from": 0, "result": {"changed": True}})["stdout"]
    host = Host(answer('{ Welcome }\n{"result": null}\n' + told + "logout }\n"))
    assert run(action(host, module={"_k8slab_job": JOB})) == {"changed": True}


def test_what_carries_a_secret_is_hidden_and_a_failure_is_not(action):
    hidden = run(action(module={"token": "hush", "_k8slab_secret": True}))
    assert hidden == {"token": "hush", "_ansible_no_log": True}
    assert "_ansible_no_log" not in run(action(module={"failed": True}))


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
    assert [command.split()[-2] for command in host.commands] == ["0", "40", "40", "40"]
    assert plugin._connection.reset.call_count == 2
    assert clock == [3.0]


@pytest.mark.parametrize("end", [KeyboardInterrupt, step.Interrupted])
def test_whoever_ends_the_play_ends_the_step(action, clock, monkeypatch, end):
    stopped = {"failed": True, "code": "STOPPED", "changes": ["create a", "create b"]}
    host = Host(news((1, "image", "importing"), offset=40), end(), news(offset=40), news(offset=40, result=stopped))
    plugin = action(host, module={"_k8slab_job": JOB})
    told = []
    monkeypatch.setattr(plugin, "_tell_past_ansible", told.append)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(end):
        run(plugin)
    assert ["--stop" in command for command in host.commands] == [False, False, True, True]
    assert told[-1] == "the step has stopped (STOPPED); done until then: create a; create b"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_step_that_does_not_stop_is_told(action, clock, monkeypatch):
    host = Host(step.Interrupted(), *[news(offset=0)] * 100)
    plugin = action(host, module={"_k8slab_job": JOB})
    told = []
    monkeypatch.setattr(plugin, "_tell_past_ansible", told.append)
    with pytest.raises(step.Interrupted):
        run(plugin)
    assert "still at work" in told[-1] and "--attach" in told[-1]
    assert step.STOP_SECONDS <= clock[0] <= step.STOP_SECONDS + 2


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
        plugin = action(host, has_pipelining=False)
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

    def test_that_no_executable_fits_is_told_by_the_host(self, action):
        result = run(action(module=answer(f"{MARK} machine riscv64\n")))
        assert (result["failed"], result["code"]) == (True, "ARCH_UNSUPPORTED")
        assert "riscv64" in result["msg"] and "amd64" in result["msg"]

    def test_that_the_only_executable_does_not_fit_is_explained(self, action):
        refused = answer("", rc=126, stderr="Exec format error")
        result = run(action(Host(answer("aarch64\n")), module=refused, has_pipelining=False))
        assert result["code"] == "ARCH_UNSUPPORTED"
        assert "aarch64" in result["msg"]

    def test_fits_but_the_folder_is_mounted_noexec(self, action):
        refused = answer("", rc=126, stderr="Permission denied")
        result = run(action(Host(answer("x86_64\n")), module=refused))
        assert result["code"] == "REMOTE_TMP_NOEXEC"
        assert "ansible_remote_tmp" in result["hints"][0]

    def test_of_a_collection_without_executables(self, action, monkeypatch, tmp_path):
        (tmp_path / "empty").mkdir()
        monkeypatch.setattr(executable, "EXECUTABLES", tmp_path / "empty")
        result = run(action(transport="local"))
        assert result["code"] == "ARCH_UNSUPPORTED"
        assert "make collection" in result["hints"][0]
