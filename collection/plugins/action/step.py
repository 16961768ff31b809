# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT
"""Runs a step by one execution on its host, and shows what the step says while it works.

The executable is in place on the machine that runs Ansible, and is kept under its digest on others; options go in by standard
input. To Ansible this is a module that is handed to C(/bin/sh) without being copied, so what a host answers is cleaned as any
module's result is: no host can add hosts or change how others are reached. Where a host cannot be spoken to like this, the step
runs as Ansible runs every compiled module.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shlex
import signal
import time

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common import json as module_json
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.k8slab.capi.plugins.plugin_utils import executable
from ansible_collections.k8slab.capi.plugins.plugin_utils.executable import ARCHITECTURES, SHELL, InPlace, Kept, NotSent, NotStarted

display = Display()

COLLECTION = "k8slab.capi"

# The shell's exit code for a file that it found and could not execute.
CANNOT_EXECUTE = 126

# A host whose network is being changed, or that restarts its SSH server, is given this long to come back.
RECONNECT_SECONDS = 120
RECONNECT_PAUSE_SECONDS = 15
# A host that has nothing to tell waits for news before it says so; one that does not wait is asked no more often than this.
LOOK_SECONDS = 1


# A step that is asked to stop is waited for this long.
STOP_SECONDS = 15


class Interrupted(BaseException):
    """Somebody ends the play."""


class StepFailure(Exception):
    """A failure that no executable can report, in the form in which executables report theirs."""

    def __init__(self, code, message, hints, outcome="failed", **more):
        super().__init__(message)
        self.result = {outcome: True, "changed": False, "msg": message, "code": code, "hints": hints, **more}


class ActionModule(ActionBase):
    _supports_async = True

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._mark = f"k8slab-{secrets.token_hex(8)}"
        # How the executable is reached by a script; nothing while Ansible carries it as it does others.
        self._way = None
        self._task_vars = {}
        self._carries_secret = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars or {}
        try:
            result.update(self._run_step())
        except StepFailure as failure:
            result.update(failure.result)
        if self._carries_secret:
            result["_ansible_no_log"] = True
        return result

    def _run_step(self):
        executables = self._executables()
        arguments = self._arguments()
        if self._takes_input():
            try:
                return self._run_by_script(executables, arguments)
            except executable.UnknownMachine as unknown:
                raise unsupported(str(unknown), executables) from unknown
            except NotStarted:
                display.vvv("the step cannot be run from standard input here; it is copied as other modules are")
            finally:
                self._way = None
        return self._run_as_file(executables, arguments)

    def _run_by_script(self, executables, arguments):
        if self._is_local():
            self._way = InPlace(*executables.values())
        else:
            self._way = Kept(executables, self.get_shell_option("remote_tmp", default="~/.ansible/tmp"))
        # To Ansible any of them is this module; the host takes the one that fits.
        any_architecture = next(iter(executables))
        try:
            return self._execute(any_architecture, arguments)
        except NotSent as missing:
            self._send(str(missing))
            return self._execute(any_architecture, arguments)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            # Another user's password was asked for where no terminal can answer, or nobody asked in time.
            if self._connection.become:
                raise NotStarted from error
            raise

    def _run_as_file(self, executables, arguments):
        architecture = self._architecture(executables)
        if self._task.async_val:
            return self._execute(architecture, arguments, wrap_async=not self._connection.has_native_async)
        result = self._execute(architecture, {**arguments, "_k8slab_mark": self._mark})
        if "module_stdout" in result and result.get("rc") == CANNOT_EXECUTE:
            self._explain_refusal(architecture)
        return result

    def _execute(self, architecture, arguments, **more):
        step = self._task.action.rpartition(".")[2]
        return self._execute_module(
            module_name=f"{COLLECTION}.bin.{architecture}.{step}", module_args=dict(arguments), task_vars=self._task_vars, **more
        )

    def _executables(self):
        """By architecture; only the one that fits where the host's CPU is known."""
        step = self._task.action.rpartition(".")[2]
        shipped = {folder.name: folder / step for folder in sorted(executable.EXECUTABLES.glob("*")) if folder.is_dir()}
        machine = self._known_machine()
        if not shipped or (machine and ARCHITECTURES.get(machine) not in shipped):
            raise unsupported(machine, shipped)
        return {name: path for name, path in shipped.items() if machine is None or name == ARCHITECTURES[machine]}

    def _architecture(self, executables):
        if len(executables) == 1:
            return next(iter(executables))
        machine = self._ask_machine()
        if ARCHITECTURES.get(machine) not in executables:
            raise unsupported(machine, executables)
        return ARCHITECTURES[machine]

    def _known_machine(self):
        if self._is_local():
            return os.uname().machine
        delegate = self._task.delegate_to
        host_vars = self._task_vars.get("ansible_delegated_vars", {}).get(delegate, {}) if delegate else self._task_vars
        return host_vars.get("ansible_facts", {}).get("architecture")

    def _ask_machine(self):
        return self._low_level_execute_command("uname -m", sudoable=False)["stdout"].strip()

    def _explain_refusal(self, architecture):
        machine = self._ask_machine()
        if ARCHITECTURES.get(machine) != architecture:
            raise unsupported(machine, [architecture])
        folder = self._connection._shell.tmpdir
        raise StepFailure(
            "REMOTE_TMP_NOEXEC",
            f"the host does not execute files in {folder}",
            ["the file system is probably mounted noexec; point ansible_remote_tmp at another one"],
        )

    def _arguments(self):
        """The task's options, all of them values that JSON has, and what the executable has to know of us."""
        arguments = plain(self._task.args)
        arguments["_k8slab_defaults"] = self._group_defaults()
        arguments["_k8slab_job"] = not self._task.check_mode and not self._task.async_val
        return arguments

    def _group_defaults(self):
        """The options that `module_defaults` gives to all steps at once, and that the task does not give otherwise."""
        names = {}
        for defaults in self._task.module_defaults or []:
            for group, options in defaults.items():
                if group.startswith("group/"):
                    names.update(options or {})
        given = self._task.args
        return sorted(name for name, value in self._templar.template(names).items() if given.get(name) == value)

    def _is_local(self):
        return self._connection.transport == "local"

    def _takes_input(self):
        """Whether a command on the host can be given something by standard input."""
        become = self._connection.become
        if self._task.async_val or C.DEFAULT_KEEP_REMOTE_FILES or not self._connection.has_pipelining:
            return False
        if getattr(self._connection._shell, "SHELL_FAMILY", "sh") != "sh":
            return False
        if not become:
            return True
        if become.name.rpartition(".")[2] == "su" or not getattr(become, "pipelining", True):
            return False
        # A local connection answers a question for a password on a terminal, which then is the standard input.
        return not (self._is_local() and self.get_become_option("become_pass"))

    # Three places in which Ansible asks how a module is run, and what became of it.

    def _is_pipelining_enabled(self, module_style, wrap_async=False):
        return self._way is not None or super()._is_pipelining_enabled(module_style, wrap_async)

    def _configure_module(self, module_name, module_args, task_vars):
        built = super()._configure_module(module_name=module_name, module_args=module_args, task_vars=task_vars)
        if self._way is None:
            return built
        if len(built) == 2:
            # ansible-core 2.19 and later
            bits, path = built
            encoder = module_json.get_module_encoder(bits.serialization_profile, module_json.Direction.CONTROLLER_TO_MODULE)
            script = self._way.script(self._mark, ["-"], json.dumps(module_args, cls=encoder)).encode()
            return dataclasses.replace(bits, module_style="new", shebang=f"#!{SHELL}", b_module_data=script), path
        _style, _shebang, _data, path = built
        return "new", f"#!{SHELL}", self._way.script(self._mark, ["-"], json.dumps(module_args)).encode(), path

    def _parse_returned_data(self, res, *profile):
        # Nobody waits for the shell, so that it cannot be what is missing.
        self._used_interpreter = None
        return super()._parse_returned_data(self._ended(res), *profile)

    def _ended(self, res):
        """What a step has answered in the end, as if it had been the answer to the first execution."""
        if self._task.async_val:
            return res
        try:
            text = executable.answer(res["stdout"], self._mark)
        except NotStarted:
            if self._way is None:
                return res
            raise
        try:
            result = json.loads(text)
            job = result.pop("_k8slab_job", None)
            if job:
                result = self._follow(job)
            # The step says so of what its own types call a secret.
            self._carries_secret = bool(result.pop("_k8slab_secret", False))
            text = json.dumps(result)
        except (ValueError, AttributeError):
            # Ansible says what is wrong with it.
            pass
        return {**res, "stdout": text}

    def _send(self, digest):
        if digest not in self._way.files:
            raise NotStarted
        command = self._way.reception(self._mark, digest)
        sent = self._low_level_execute_command(command, in_data=self._way.files[digest].read_bytes())
        if f"{self._mark} kept" not in sent["stdout"]:
            raise NotStarted

    def _follow(self, job):
        """Shows what a job says until it gives its result. Whoever ends the play or the task ends the step, too."""
        parent = os.getppid()
        handlers = listen_for_ends()
        offset = 0
        try:
            while True:
                asked = time.monotonic()
                events, offset, result = self._news(job, self._attach(job, offset))
                for event in events:
                    self._show(event)
                if result is not None:
                    return result
                if not events:
                    time.sleep(max(0, asked + LOOK_SECONDS - time.monotonic()))
                if os.getppid() != parent:
                    raise Interrupted
        except BaseException as end:
            # By Ctrl-C, a signal, or the task's own time limit; what goes wrong by itself is no end.
            if not isinstance(end, Exception):
                # A play that ends shows nothing more; one that goes on after a task's limit does.
                self._tell = self._tell_past_ansible if isinstance(end, (Interrupted, KeyboardInterrupt)) else self._tell
                self._stop(job, offset)
            raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _news(self, job, answer):
        try:
            news = json.loads(executable.answer(answer["stdout"], self._mark))
            return news["events"], news["from"], news["result"]
        except (NotStarted, ValueError, KeyError, TypeError) as error:
            raise job_lost(job, answer) from error

    def _stop(self, job, offset):
        """Asks a step to stop between two changes, and says how far it came."""
        listen_for_ends(ignore=True)
        self._tell("asking the step to stop; a change that has begun is finished first")
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while time.monotonic() < deadline:
                asked = time.monotonic()
                _events, offset, result = self._news(job, self._ask(job, "--stop", "--from", str(offset)))
                if result is not None:
                    done = "; ".join(result.get("changes") or ["nothing"])
                    self._tell(f"the step has stopped ({result.get('code') or 'finished'}); done until then: {done}")
                    return
                time.sleep(max(0, asked + LOOK_SECONDS - time.monotonic()))
            self._tell(f"the step is still at work; on the host, `{shlex.join(job['attach'])}` tells how far it is")
        except Exception as error:  # pylint: disable=broad-except
            self._tell(f"the step could not be asked to stop ({error}); its job folder is {job['folder']}")

    def _tell(self, text):
        display.display(self._line(text), stderr=True)

    def _tell_past_ansible(self, text):
        try:
            with open(f"/proc/{os.getppid()}/fd/2", "a", encoding="utf-8") as stderr:
                stderr.write(f"{self._line(text)}\n")
        except OSError:
            display.display(self._line(text), stderr=True)

    def _attach(self, job, offset):
        """Asks a job for what happened since `offset`; the answer comes at the first news, or after some seconds without any."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        pause = 1
        while True:
            try:
                return self._ask(job, "--from", str(offset))
            except AnsibleConnectionFailure as error:
                if time.monotonic() + pause > deadline:
                    # Removing the temporary folder would need the connection, and its failure would hide this one.
                    self._cleanup_remote_tmp = False
                    raise connection_lost(job, error) from error
            time.sleep(pause)
            pause = min(2 * pause, RECONNECT_PAUSE_SECONDS)
            self._reset_connection()

    def _ask(self, job, *arguments):
        if self._way is None:
            return self._low_level_execute_command(shlex.join([*job["attach"], "--mark", self._mark, *arguments]))
        script = self._way.script(self._mark, ["--attach", job["folder"], *arguments])
        return self._low_level_execute_command(SHELL, in_data=script.encode())

    def _reset_connection(self):
        try:
            self._connection.reset()
        except (AttributeError, AnsibleConnectionFailure):
            # Not every connection can be reset, and one that is down need not be.
            pass

    def _show(self, event):
        if self._task.no_log:
            return
        stage = f", {event['stage']}" if event["stage"] else ""
        # To standard error, since standard output may be a machine-readable report.
        display.display(self._line(f"{event['seconds']:.0f} s{stage}: {event['message']}"), stderr=True)

    def _line(self, text):
        """One line, whatever the host put in it."""
        host = self._task_vars.get("inventory_hostname", "")
        if self._task.delegate_to:
            host = f"{host} -> {self._task.delegate_to}"
        return "".join(char if char.isprintable() else " " for char in f"[{host}] {text}")


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen_for_ends(ignore=False):
    """Has the signals that end a play end the task by an exception, or do nothing more; returns what they did before."""

    def end(_number, _frame):
        raise Interrupted

    try:
        return {number: signal.signal(number, signal.SIG_IGN if ignore else end) for number in ENDS}
    except ValueError:
        # Not the main thread of a process: whoever runs tasks like that ends them by other means.
        return {}


def plain(arguments):
    """Values that JSON has: before ansible-core 2.19 a vault's values and dates come as objects of their own."""
    if hasattr(module_json, "get_module_encoder"):
        return dict(arguments)
    return json.loads(json.dumps(arguments, cls=module_json.AnsibleJSONEncoder, vault_to_text=True))


def unsupported(machine, shipped):
    machine = machine or "host's"
    if shipped:
        hint = f"use a host with a {' or '.join(shipped)} CPU, or build the collection for this one"
    else:
        hint = "it was installed from its sources; build it with `make collection` and install the tarball"
    return StepFailure(
        "ARCH_UNSUPPORTED",
        f"this collection has no executable for a `{machine}` CPU, only for: {', '.join(shipped) or 'none'}",
        [hint],
    )


def job_lost(job, answer):
    return StepFailure(
        "JOB_LOST",
        f"the step was started, but its job does not answer (job folder {job['folder']})",
        ["the machine may have been restarted; run the play again, a step goes on from the live state"],
        detail=(answer["stderr"] or answer["stdout"]).strip(),
    )


def connection_lost(job, error):
    return StepFailure(
        "CONNECTION_LOST",
        f"the connection was lost and did not come back within {RECONNECT_SECONDS} s; the step goes on (job folder {job['folder']})",
        [
            f"on the host, `{shlex.join(job['attach'])}` tells how far it is",
            "once the host can be reached, run the play again; a step goes on from the live state",
        ],
        outcome="unreachable",
        detail=str(error),
    )
