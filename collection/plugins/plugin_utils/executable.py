# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT
"""Where a step's executable is, and the shell script that runs it there.

A script is read from standard input by C(/bin/sh), as Ansible hands over a module that it does not copy. It carries the step's
options, so that they are on no command line and in no file. What it prints for us stands between two lines of a mark that nobody
else knows; a login shell's own words do not matter. Without the first mark the step has not begun.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

EXECUTABLES = Path(__file__).resolve().parents[1] / "modules" / "bin"
# What `uname -m` and Ansible's facts call a CPU, and what the collection calls it.
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

SHELL = "/bin/sh"
# Where a host keeps executables: a folder that one user owns and nobody else can enter.
KEPT = "k8slab-"
# Whoever wants to swap a file between its check and its execution would have to write to this folder. It is entered first: what
# is checked and run is then in the folder that was looked at, whatever happens to its name.
ENTER = 'test "$(stat -c %u:%a . 2>/dev/null)" = "$(id -u):700"'


class NotStarted(Exception):
    """The step has not begun on the host, and can be run in another way."""


class NotSent(NotStarted):
    """The host waits for the executable with this digest."""


class UnknownMachine(NotStarted):
    """The host has a CPU that the collection has no executable for."""


class InPlace:
    """The executable as it was installed, for a step on the machine that runs Ansible."""

    def __init__(self, executable):
        self.executable = executable

    def script(self, mark, arguments, text=None):
        return _execution(str(self.executable), mark, arguments, text)


class Kept:
    """The executable as a host keeps it: under its digest, which is checked before it is run."""

    def __init__(self, executables, remote_tmp):
        self._digests = {architecture: hashlib.sha256(path.read_bytes()).hexdigest() for architecture, path in executables.items()}
        self.files = {digest: executables[architecture] for architecture, digest in self._digests.items()}
        self._folder = f"{_expandable(remote_tmp)}/{KEPT}$(id -u)"

    def script(self, mark, arguments, text=None):
        cases = "".join(
            f"{'|'.join(name for name, called in ARCHITECTURES.items() if called == architecture)}) file={digest};;\n"
            for architecture, digest in self._digests.items()
        )
        return (
            f"case $(uname -m) in\n{cases}*) echo {mark} machine $(uname -m); exit;;\nesac\n"
            f'cd {self._folder} 2>/dev/null && {ENTER} && test "$(sha256sum 2>/dev/null <$file)" = "$file  -" ||'
            f" {{ echo {mark} send $file; exit; }}\n"
        ) + _execution("./$file", mark, arguments, text)

    def reception(self, mark, digest):
        """The command that takes the executable from standard input; an earlier one goes."""
        return shlex.join(
            [
                SHELL,
                "-c",
                f"umask 077; mkdir -p {self._folder} && cd {self._folder} && {ENTER} && cat >.$$ &&"
                f' test "$(sha256sum <.$$)" = "{digest}  -" && chmod 700 .$$ && rm -f [0-9a-f]* && mv -f .$$ {digest} &&'
                f" echo {mark} kept; rm -f .$$",
            ]
        )


def answer(output, mark):
    """What stands between the marks, or what the host says instead."""
    _before, found, rest = output.partition(mark)
    if not found:
        raise NotStarted
    word, _space, more = rest.partition("\n")[0].strip().partition(" ")
    if word == "send":
        raise NotSent(more)
    if word == "machine":
        raise UnknownMachine(more)
    return rest.partition(mark)[0].strip()


def _execution(executable, mark, arguments, text):
    command = f"exec {executable if executable.startswith('./') else shlex.quote(executable)} --mark {mark} {shlex.join(arguments)}"
    # The shell expands nothing in it, and no line of it is the mark.
    return f"{command} <<'{mark}'\n{text}\n{mark}\n" if text is not None else f"{command} </dev/null\n"


def _expandable(path):
    """A folder's name as Ansible's settings have it: the host's shell puts the home folder and variables in their places."""
    home, slash, rest = path.partition("/") if path.startswith("~") else ("", "", path)
    quoted = rest.rstrip("/").replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'{home}{slash}"{quoted}"'
