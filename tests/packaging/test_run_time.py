"""The action plugin under real ansible-core, with the scripted stand-in for an executable."""

import datetime
from pathlib import Path

import pytest
import yaml

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
        "defaults": ["from_group"],
        "options": {"name": "lab", "port": "8443", "nothing": result["seen"]["options"]["nothing"], "from_group": "yes"},
        "environment": "here",
        "user": result["seen"]["user"],
        "by_input": True,
        "folder": result["seen"]["folder"],
    }
    # In place, as it was installed.
    assert result["seen"]["folder"].endswith("k8slab/capi/plugins/modules/bin/amd64")
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
    # A host that is asked itself would not agree with such facts.
    keep = {"ANSIBLE_KEEP_REMOTE_FILES": "1"} if executable == "arm64" else {}
    assert play(*tasks, variables=variables, **keep).results[-1]["seen"]["module"] == f"k8slab.capi.bin.{executable}.lxd_project"


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
        """Runs a step three times on a host; gives how often its executable was sent, and how many commands that took."""
        size = (HERE / "stand_in").stat().st_size
        log = tmp_path / "sent"

        def sent(**variables):
            log.write_text("")
            played = play(*[step()] * 3, variables={"ansible_connection": "far", "far_sent": str(log)} | variables)
            assert not any(result.get("failed") for result in played.results)
            sizes = [int(line) for line in log.read_text().split()]
            return sizes.count(size), len(sizes)

        return sent

    @staticmethod
    def kept(tmp_path):
        (folder,) = (tmp_path / "remote").iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        (executable,) = folder.iterdir()
        return executable

    def test_an_executable_is_sent_once_and_a_step_is_one_command(self, sent, tmp_path):
        # The first step is told that it is missing, sends it, and runs.
        assert [sent(), sent()] == [(1, 5), (0, 3)]
        assert self.kept(tmp_path).read_bytes() == (HERE / "stand_in").read_bytes()

    def test_what_was_tampered_with_is_not_run(self, sent, tmp_path):
        sent()
        self.kept(tmp_path).write_text("#!/bin/sh\nexit 1\n")
        assert sent()[0] == 1
        assert self.kept(tmp_path).read_bytes() == (HERE / "stand_in").read_bytes()

    def test_another_executable_takes_its_place(self, sent, tmp_path):
        sent()
        self.kept(tmp_path).rename(self.kept(tmp_path).parent / ("0" * 64))
        assert sent()[0] == 1
        assert self.kept(tmp_path).name != "0" * 64

    def test_nothing_is_run_from_a_folder_that_others_can_write_to(self, play, tmp_path):
        kept = tmp_path / "remote" / "k8slab-0"
        kept.mkdir(parents=True)
        kept.chmod(0o777)
        seen = play(step(), variables={"ansible_connection": "far"}).result["seen"]
        assert (seen["by_input"], "ansible-tmp" in seen["folder"]) == (False, True)
        assert list(kept.iterdir()) == []

    @pytest.mark.parametrize(("transport", "by_input"), [("far", True), ("local", True), ("local", False)])
    def test_another_user_has_an_executable_of_its_own(self, play, with_stand_in, reachable, tmp_path, transport, by_input):
        # One that the other user cannot get to in place is copied.
        with_stand_in.chmod(0o711 if by_input else 0o700)
        # What sudo does, without a sudo.
        remote = reachable / tmp_path.name
        remote.mkdir()
        remote.chmod(0o1777)
        sudo = reachable / "sudo"
        sudo.write_text('#!/bin/sh\nwhile test "$1" != /bin/sh; do shift; done\nexec setpriv --reuid 65534 --clear-groups -- "$@"\n')
        become = {"become": True, "become_method": "sudo", "become_user": "nobody", "become_exe": str(sudo)}
        sudo.chmod(0o755)
        variables = {"ansible_connection": transport, "ansible_remote_tmp": str(remote)}
        seen = play(step(progress=PROGRESS) | {"vars": {"ansible_become_exe": str(sudo)}} | become, variables=variables).result["seen"]
        assert (seen["user"], seen["by_input"]) == (65534, by_input)
        if transport == "far":
            assert seen["folder"] == f"{remote}/k8slab-65534"


@pytest.mark.parametrize("greeting", ["Welcome\n", "{ mind } the [step]\n{\"changed\": false}\n"], ids=["words", "JSON"])
def test_a_shell_that_greets_is_not_listened_to(play, greeting):
    variables = {"ansible_connection": "far", "far_greeting": greeting}
    result = play(step(answer=ANSWER, progress=PROGRESS), variables=variables).result
    assert (result["changed"], "attached_by" in result) == (True, True)


@pytest.mark.parametrize("way", [{}, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}], ids=["by script", "as a file"])
@pytest.mark.parametrize("progress", [{}, {"progress": PROGRESS}], ids=["at once", "as a job"])
def test_a_host_changes_nothing_on_the_controller(play, way, progress):
    """Neither hosts, groups, nor how hosts are reached: all that core takes away from a module's result."""
    hostile = {
        "changed": True,
        "add_host": {"host_name": "edge-2", "groups": ["taken"], "host_vars": {"ansible_connection": "local"}},
        "add_group": "taken",
        "_ansible_no_log": True,
        "_ansible_verbose_always": True,
        "_ansible_delegated_vars": {"ansible_host": "taken"},
        "ansible_facts": {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/taken",
            "ansible_ssh_common_args": "-o ProxyCommand=taken",
            "discovered_interpreter_python": "/taken",
            "lab_phase": "substrate",
        },
    }
    facts = ["ansible_connection", "ansible_ssh_common_args", "ansible_python_interpreter", "discovered_interpreter_python"]
    told = " ".join(f"{name}={{{{ {name} | default('unset') }}}}" for name in facts)
    look = {"ansible.builtin.debug": {"msg": f"{told} phase={{{{ lab_phase }}}} groups={{{{ groups.keys() | list }}}}"}}
    played = play(step(answer=hostile, **progress), look, variables={"ansible_connection": "far"}, **way)
    result, looked = played.results
    assert not [name for name in result if name.startswith("_ansible")], result
    assert "ansible_connection=far ansible_ssh_common_args=unset" in looked["msg"]
    assert "phase=substrate" in looked["msg"]
    assert "taken" not in looked["msg"], looked["msg"]


@pytest.mark.parametrize("progress", [{}, {"progress": PROGRESS}], ids=["at once", "as a job"])
def test_a_result_with_a_secret_in_it_is_not_shown(play, progress):
    carrying = {"answer": {"changed": True, "kubeconfig": "hu" + "sh", "_k8slab_secret": True}}
    failing = {"answer": {"failed": True, "msg": "no such cluster", "code": "CLUSTER_GONE"}}
    # In this order, since ansible-core shows what stands before a failed task in its file.
    played = play(step(**failing, **progress), step(**carrying, **progress), options=["-vvv"])
    shown = "".join(line for line in played.stdout.splitlines() if '"answer"' not in line)
    assert "hush" not in shown
    assert played.results[1]["kubeconfig"] == "hush"
    assert "_k8slab_secret" not in played.results[1]
    assert "no such cluster" in played.stdout and "CLUSTER_GONE" in played.stdout


def test_values_that_only_yaml_has_arrive_as_text(play, core, tmp_path):
    password = tmp_path / "password"
    password.write_text("hunter2")
    sealed = core.run("ansible-vault", "encrypt_string", "--vault-password-file", str(password), "sesame").stdout
    vault = sealed.partition("!vault |")[2]
    text = "\n".join(line.strip() for line in vault.strip().splitlines()) + "\n"
    variables = {"token": Vault(text), "day": datetime.date(2026, 11, 26)}
    task = step(token="{{ token }}", day="{{ day }}", inline=Vault(text), inner={"day": datetime.date(2026, 1, 2)})
    for way in ({}, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}):
        played = play(task, variables=variables, options=["--vault-password-file", str(password)], **way)
        options = played.result["seen"]["options"]
        assert (options["token"], options["inline"]) == ("sesame", "sesame")
        assert (options["day"], options["inner"]) == ("2026-11-26", {"day": "2026-01-02"})


class Vault(str):
    """A text that is written as `!vault`."""


yaml.SafeDumper.add_representer(Vault, lambda dumper, text: dumper.represent_scalar("!vault", str(text), style="|"))


class TestSummary:
    def test_lists_phases_steps_and_long_stages(self, play):
        other = {"k8slab.capi.lxd_storage_pools": {}}
        failing = step(answer={"failed": True, "msg": "no pool of that name", "hints": ["name one"]})
        played = play(step(answer=ANSWER), other, failing, ANSIBLE_CALLBACKS_ENABLED="k8slab.capi.summary")
        summary = [line.split() for line in played.stdout.partition("\nSTEPS ")[2].splitlines()[1:]]
        rows = [(row[0], *row[3:]) for row in summary]
        assert rows == [
            ("Stand-in",),
            ("lxd_project", "changed"),
            ("image",),
            ("lxd_storage_pools", "ok"),
            ("lxd_project", "failed"),
            ("no", "that", "name"),
            ("name",),
            ("whole", "s"),
        ]

    def test_a_loop_has_the_stages_of_all_its_items(self, play):
        played = play(step(answer=ANSWER) | {"loop": [1, 2]}, ANSIBLE_CALLBACKS_ENABLED="k8slab.capi.summary")
        assert played.stdout.partition("\nSTEPS ")[2].count("    image ") == 2

    def test_says_what_leads_to_the_clusters(self, play):
        cluster = {"name": "team-a", "kubernetes_version": "v1.35.0", "control_plane_count": 1, "worker_count": 2}
        cluster |= {"port": 26818, "vip_range": None, "kubeconfig_path": "/etc/team-a"}
        plan = {"k8slab.capi.lab_plan": {"answer": {"changed": False, "clusters": [cluster], "programs": "/opt/bin"}}}
        published = step(answer={"changed": False, "port": 26818, "published": [{"url": "https://192.0.2.1:26818"}]})
        summary = play(plan, published, ANSIBLE_CALLBACKS_ENABLED="k8slab.capi.summary").stdout.partition("\nCLUSTERS ")[2]
        assert summary.splitlines()[2].split() == ["team-a", "v1.35.0", "1+2", "https://192.0.2.1:26818", "-", "/etc/team-a"]
        assert "\n  export KUBECONFIG=/etc/team-a PATH=$PATH:/opt/bin\n" in summary
        assert """--overrides='{"spec": {"ipFamilies": ["IPv6"]}}'\n""" in summary

    def test_is_silent_unless_enabled(self, play):
        assert "STEPS" not in play(step(answer=ANSWER)).stdout
