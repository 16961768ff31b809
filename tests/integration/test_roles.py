"""A single role in somebody's own play."""

import pytest


def role(name, **variables):
    return {"role": f"k8slab.capi.{name}"} | variables


def test_a_role_needs_one_variable(ansible, lab):
    ansible.play(roles=[role("lxd_project", lxd_project_name=lab.project)])
    project = lab.find_project()
    assert project["description"] == "k8slab: Cluster API lab"
    assert project["config"]["restricted.networks.access"] == "capi-int,br-ext6"


def test_a_role_follows_the_globals(ansible, lab):
    globals_ = {
        "k8s_lab_project_name": lab.project,
        "k8s_lab_internal_network_name": lab.network,
        "k8s_lab_external_bridge_name": lab.bridge,
        "k8s_lab_lxd_socket_path": str(lab.lxd.socket),
    }
    ansible.play(roles=[role("lxd_project")], variables=globals_)
    assert lab.find_project()["config"]["restricted.networks.access"] == f"{lab.network},{lab.bridge}"


def test_the_role_s_own_variable_wins_over_the_global(ansible, lab):
    ansible.play(roles=[role("lxd_project", lxd_project_name=lab.project)], variables={"k8s_lab_project_name": "capi-other"})
    assert lab.find_project() is not None
    assert lab.lxd.get("projects/capi-other") is None


def test_a_role_can_be_included_and_tagged(ansible, lab):
    included = {
        "name": "Include",
        "ansible.builtin.include_role": {"name": "k8slab.capi.lxd_project"},
        "vars": {"lxd_project_name": lab.project},
        "tags": ["always"],
    }
    ansible.play(included, options=["--tags", "lxd-project"])
    assert lab.find_project() is not None


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"lxd_project_isolation": "loose"}, "loose"),
        ({"lxd_project_extra_restrictions": ["restricted.snapshots"]}, "lxd_project_extra_restrictions"),
    ],
)
def test_a_role_refuses_bad_variables(ansible, lab, variables, words):
    played = ansible.play(roles=[role("lxd_project", lxd_project_name=lab.project, **variables)], expect=2)
    assert words in str(played.tasks[-1]["result"])
    assert lab.find_project() is None
