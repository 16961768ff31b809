"""The action plugin under real ansible-core, with the scripted stand-in for an executable."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRESS = [[{"seconds": 1.2, "stage": "image", "message": "importing"}], [{"seconds": 2.0, "stage": "image", "message": "imported"}]]
# What Ansible renders or treats specially in a result.
ANSWER = {
    "changed": True,
    "diff": {"before": "a: 1\n", "after": "a: 2\n"},
    "warnings": ["the sky is {{ '{{' }} blue }}"],
    "ansible_facts": {"lab_phase": "substrate"},
    "stages": [{"name": "image", "changed": True, "skipped": False, "seconds": 2.0}],
}


def step(**options):
    return {"k8slab.capi.lxd_project": options}


def test_options_and_keys_arrive(play):
    result = play(step(name="lab", port="8443", nothing="{{ none }}") | {"environment": {"STAND_IN": "here"}}).result
    assert result["seen"] == {
        "module": "k8slab.capi.bin.amd64.lxd_project",
        "check": False,
        "diff": False,
        "job": True,
        "options": {"name": "lab", "port": "8443", "nothing": result["seen"]["options"]["nothing"], "from_group": "yes"},
        "environment": "here",
        "user": result["seen"]["user"],
    }
    # ansible-core before 2.19 makes an empty string of it.
    assert result["seen"]["options"]["nothing"] in (None, "")


def test_a_job_shows_progress_and_gives_what_a_run_gives(play):
    played = play(step(answer=ANSWER), step(answer=ANSWER, progress=PROGRESS))
    direct, job = played.results
    assert "[edge-1] 1 s, image: importing" in played.stderr
    assert "[edge-1] 2 s, image: imported" in played.stderr
    assert "the sky is {{ blue }}" in played.stderr
    assert "attached_by" in job
    for result in (direct, job):
        result["seen"]["options"].pop("progress", None)
        result.pop("attached_by", None)
    assert job == direct
    assert job["changed"] is True


def test_a_job_that_fails_is_a_failed_task(play):
    failure = {"failed": True, "msg": "no such pool", "code": "POOL_SOURCE_MISSING", "hints": ["name one"]}
    played = play(step(answer=failure, progress=PROGRESS))
    assert (played.result["failed"], played.result["code"]) == (True, "POOL_SOURCE_MISSING")
    assert "no such pool" in played.stdout + played.stderr


def test_check_mode_and_diff_reach_the_executable_and_start_no_job(play):
    played = play(step(answer=ANSWER, progress=PROGRESS), options=["--check", "--diff"])
    seen = played.result["seen"]
    assert (seen["check"], seen["diff"], seen["job"]) == (True, True, False)
    assert "importing" not in played.stderr
    assert "+a: 2" in played.stdout


def test_async_runs_without_a_job(play):
    played = play(step(answer=ANSWER, progress=PROGRESS) | {"async": 30, "poll": 1})
    assert played.result["seen"]["job"] is False
    assert played.result["finished"] in (1, True)
    assert played.result["changed"] is True


def test_async_can_be_fired_and_collected_later(play):
    started = step(answer=ANSWER) | {"async": 30, "poll": 0}
    awaited = {
        "ansible.builtin.async_status": {"jid": "{{ result_0.ansible_job_id }}"},
        "until": "result_1 is finished",
        "retries": 30,
        "delay": 1,
    }
    assert play(started, awaited).results[1]["changed"] is True


def test_no_log_shows_neither_progress_nor_result(play):
    secret = [[{"seconds": 1, "stage": "identity", "message": "hush"}]]
    played = play(step(answer={"changed": True, "token": "hush"}, progress=secret) | {"no_log": True}, options=["-vvv"])
    assert "hush" not in played.stdout.replace(str(secret), "") + played.stderr
    assert played.result["token"] == "hush"


def test_become_reaches_the_executable_and_its_job(play):
    become = {"become": True, "become_method": "su", "become_user": "nobody", "become_flags": "-s /bin/sh"}
    result = play(step(progress=PROGRESS) | become, variables={"ansible_remote_tmp": "/var/tmp"}).result
    assert result["seen"]["user"] == result["attached_by"] == 65534


def test_loop_and_delegation(play):
    delegated = step(name="{{ item }}", progress=PROGRESS) | {"loop": ["a", "b"], "delegate_to": "edge-2"}
    played = play(delegated)
    assert [result["seen"]["options"]["name"] for result in played.result["results"]] == ["a", "b"]
    assert played.stderr.count("[edge-1 -> edge-2] 2 s, image: imported") == 2


@pytest.mark.parametrize("spelling", ["keyword", "local_action", "action"])
def test_other_spellings_of_a_task(play, spelling):
    task = {
        "keyword": {"lxd_project": {"name": "lab"}, "collections": ["k8slab.capi"]},
        "local_action": {"local_action": {"module": "k8slab.capi.lxd_project", "name": "lab"}},
        "action": {"action": "k8slab.capi.lxd_project name=lab"},
    }[spelling]
    assert play(task).result["seen"]["options"] == {"name": "lab", "from_group": "yes"}


def test_a_cut_connection_is_taken_up_again(play, tmp_path):
    cuts = tmp_path / "cuts"
    cuts.mkdir()
    (cuts / "first").touch()
    variables = {"ansible_connection": "flaky", "flaky_cuts": str(cuts)}
    played = play(step(progress=PROGRESS), variables=variables)
    assert "attached_by" in played.result
    assert not list(cuts.iterdir())


def test_a_job_folder_that_vanishes_is_told(play):
    gone = {"folder": "/nonexistent/job", "attach": ["/nonexistent/job/step", "--attach", "/nonexistent/job"]}
    result = play(step(answer={"_k8slab_job": gone})).result
    assert (result["failed"], result["code"]) == (True, "JOB_LOST")
    assert "/nonexistent/job" in result["msg"]


@pytest.mark.parametrize(
    ("machine", "executable"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), (None, "amd64")],
    ids=["x86_64 by facts", "aarch64 by facts", "x86_64 by uname"],
)
def test_the_executable_fits_the_cpu(play, machine, executable):
    facts = {"ansible.builtin.set_fact": {"ansible_architecture": machine, "cacheable": True}}
    variables = {"ansible_connection": "flaky"}
    tasks = [step()] if machine is None else [facts, step()]
    assert play(*tasks, variables=variables).results[-1]["seen"]["module"] == f"k8slab.capi.bin.{executable}.lxd_project"


def test_an_unknown_cpu_is_refused(play):
    facts = {"ansible.builtin.set_fact": {"ansible_architecture": "riscv64", "cacheable": True}}
    result = play(facts, step(), variables={"ansible_connection": "flaky"}).results[-1]
    assert (result["failed"], result["code"]) == (True, "ARCH_UNSUPPORTED")
    assert "riscv64" in result["msg"]


def test_nothing_stays_in_the_temporary_folder(play, tmp_path):
    play(step(progress=PROGRESS), step())
    assert list((tmp_path / "remote").iterdir()) == []


class TestSending:
    @pytest.fixture
    def sent(self, play, tmp_path):
        """Runs a step three times on a host, and gives how often its executable was sent."""
        size = (HERE / "stand_in").stat().st_size
        log = tmp_path / "sent"

        def sent(**variables):
            log.write_text("")
            played = play(*[step()] * 3, variables={"ansible_connection": "far", "far_sent": str(log)} | variables)
            assert not any(result.get("failed") for result in played.results)
            return log.read_text().split().count(str(size))

        return sent

    def test_an_executable_is_sent_once(self, sent, tmp_path):
        assert [sent(), sent()] == [1, 0]
        (kept,) = (tmp_path / "remote").iterdir()
        assert kept.read_bytes() == (HERE / "stand_in").read_bytes()

    def test_what_somebody_else_has_written_is_not_run(self, sent, tmp_path):
        sent()
        (kept,) = (tmp_path / "remote").iterdir()
        kept.write_text("#!/bin/sh\nexit 1\n")
        assert sent() == 1
        assert kept.read_bytes() == (HERE / "stand_in").read_bytes()

    def test_another_executable_takes_its_place(self, sent, tmp_path):
        (tmp_path / "remote").mkdir()
        old = tmp_path / "remote" / "k8slab-executable-of-an-earlier-release"
        old.touch()
        assert sent() == 1
        assert not old.exists()


class TestSummary:
    def test_lists_phases_steps_and_long_stages(self, play):
        other = {"k8slab.capi.lxd_storage_pools": {}}
        failing = step(answer={"failed": True})
        played = play(step(answer=ANSWER), other, failing, ANSIBLE_CALLBACKS_ENABLED="k8slab.capi.summary")
        summary = [line.split() for line in played.stdout.partition("\nSTEPS ")[2].splitlines()[1:]]
        rows = [(row[0], *row[3:]) for row in summary]
        assert rows == [
            ("Stand-in",),
            ("lxd_project", "changed"),
            ("image",),
            ("lxd_storage_pools", "ok"),
            ("lxd_project", "failed"),
            ("whole", "s"),
        ]

    def test_is_silent_unless_enabled(self, play):
        assert "STEPS" not in play(step(answer=ANSWER)).stdout
