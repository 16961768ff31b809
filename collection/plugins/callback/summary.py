# -*- coding: utf-8 -*-
# Copyright: (c) k8slab.capi contributors
# SPDX-License-Identifier: MIT

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
type: aggregate
short_description: Prints how long each phase and each step took
version_added: 0.1.0
author: k8slab.capi contributors (@k8slab)
description:
  - After the play recap, lists every play that ran steps of this collection with its seconds, and below it the steps with theirs,
    whether they changed anything, why they failed, and their stages that took a second or longer. Then come the parts of the lab that
    are stand-ins, and last the clusters of the lab with what leads to them.
  - A play is a phase of the lab in the playbooks of this collection; in a playbook of one's own it is what its author makes of it.
requirements:
  - Has to be enabled, with C(callbacks_enabled=k8slab.capi.summary) in C(ansible.cfg) or C(ANSIBLE_CALLBACKS_ENABLED=k8slab.capi.summary) in
    the environment.
"""

import dataclasses
import time

from ansible.plugins.callback import CallbackBase

COLLECTION = "k8slab.capi."
# What a person who has just made the lab may want to type on the host, and what else there is.
NEXT_STEPS = """
To use {name}, type on the host:
  export KUBECONFIG={kubeconfig_path} PATH=$PATH:{programs}
  kubectl get nodes
  kubectl create deployment web --image=IMAGE --port=80
  kubectl expose deployment web --type=LoadBalancer --overrides='{{"spec": {{"ipFamilies": ["IPv6"]}}}}'
For more nodes, raise worker_count in k8s_lab_workload_clusters and run this again.
For another cluster, run the playbook k8slab.capi.add_workload with -e name=... -e vip_range=...
The playbook k8slab.capi.remove_workload removes one again, and k8slab.capi.destroy the whole lab."""
# Shorter stages say nothing about where the time went.
NOTEWORTHY_SECONDS = 1


@dataclasses.dataclass
class Step:
    name: str
    host: str
    seconds: float
    outcome: str
    stages: list
    standins: dict
    failures: list


@dataclasses.dataclass
class Phase:
    name: str
    started: float
    ended: float = 0
    steps: list = dataclasses.field(default_factory=list)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "k8slab.capi.summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._phases = []
        self._task_starts = {}
        self._clusters, self._programs = [], ""
        self._urls = {}

    def v2_playbook_on_play_start(self, play):
        self._end_phase()
        self._phases.append(Phase(play.get_name(), time.monotonic()))

    def v2_runner_on_start(self, host, task):
        self._task_starts[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result):
        self._record(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._record(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._record(result, "unreachable")

    def v2_playbook_on_stats(self, stats):
        self._end_phase()
        phases = [phase for phase in self._phases if phase.steps]
        if not phases:
            return
        self._display.banner("STEPS")
        for phase in phases:
            self._line(phase.name, phase.ended - phase.started)
            several_hosts = len({step.host for step in phase.steps}) > 1
            for step in phase.steps:
                name = f"{step.name} ({step.host})" if several_hosts else step.name
                self._line(f"  {name}", step.seconds, step.outcome)
                for stage in step.stages:
                    if stage["seconds"] >= NOTEWORTHY_SECONDS:
                        self._line(f"    {stage['name']}", stage["seconds"])
                for line in step.failures:
                    self._display.display(f"    {line}")
        self._line("whole run", self._phases[-1].ended - self._phases[0].started)
        standins = {name: instead for phase in phases for step in phase.steps for name, instead in step.standins.items()}
        for name, instead in sorted(standins.items()):
            self._display.display(f"stand-in for {name}: {instead}")
        self._show_clusters()

    def _show_clusters(self):
        """What a person who has just made the lab wants to know of it."""
        if not self._urls:
            return
        self._display.banner("CLUSTERS")
        rows = [("name", "version", "nodes", "API", "addresses for Services", "kubeconfig on the host")]
        for cluster in self._clusters:
            nodes = f"{cluster['control_plane_count']}+{cluster['worker_count']}"
            api = self._urls.get(cluster["port"], "-")
            range_of_addresses = cluster["vip_range"] or "-"
            rows.append((cluster["name"], cluster["kubernetes_version"], nodes, api, range_of_addresses, cluster["kubeconfig_path"]))
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            self._display.display("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        self._display.display(NEXT_STEPS.format(programs=self._programs, **self._clusters[-1]))

    def _record(self, result, outcome):
        # The module's full name, or before ansible-core 2.19 that of its action plugin.
        if not (result._task.resolved_action or "").startswith(COLLECTION):
            return
        name = result._task.action.rpartition(".")[2]
        host = result._host.get_name()
        started = self._task_starts.pop((host, result._task._uuid))
        seconds = time.monotonic() - started
        # A loop has a result for each item.
        runs = result._result.get("results") or [result._result]
        stages = [stage for run in runs for stage in run.get("stages", [])]
        standins = {name: instead for run in runs for name, instead in run.get("standins", {}).items()}
        # Only a loop's results say of each whether it failed.
        has_failed = outcome in ("failed", "unreachable")
        failed = [run for run in runs if run.get("failed", has_failed and "results" not in result._result)]
        failures = [line for run in failed for line in (run.get("msg"), *run.get("hints", ())) if line]
        for run in runs:
            if name == "lab_plan":
                self._clusters, self._programs = run.get("clusters", []), run.get("programs", "")
            self._urls.update({run["port"]: published["url"] for published in run.get("published") or []})
        self._phases[-1].steps.append(Step(name, host, seconds, outcome, stages, standins, failures))

    def _end_phase(self):
        if self._phases:
            self._phases[-1].ended = time.monotonic()

    def _line(self, name, seconds, remark=""):
        self._display.display(f"{name:<48}{seconds:>8.1f} s  {remark}".rstrip())
