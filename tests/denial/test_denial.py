"""What the infrastructure provider's certificate reaches, and what it does not."""

import json

import pytest
from acts import ALWAYS_REFUSED, BEYOND_THE_PROJECT, IN_INSTANCES, IN_NETWORKS, RESIDUAL
from throwaway.lxd import Refused

# What a refusal says. What cannot be seen cannot be found.
REFUSAL = "forbidden|not allowed|not authorized|is restricted|only the certificate can be changed|not have permission|not found"


def goes_through(lab, act):
    """Whoever administers the server can do it, which shows that it can be done, and so can the certificate."""
    carry_out(lab, act)
    place = lab.own()
    try:
        tried = act(place)
        tried.attempt(lab.identity)
        assert tried.happened()
    finally:
        place.clear()


def is_refused(lab, act):
    """Whoever administers the server can do it, and the certificate cannot."""
    carry_out(lab, act)
    place = lab.own()
    try:
        tried = act(place)
        with pytest.raises(Refused, match=f"(?i){REFUSAL}"):
            tried.attempt(lab.identity)
        assert not tried.happened()
    finally:
        place.clear()


def carry_out(lab, act):
    if act in lab.server.carried_out:
        return
    place = lab.unconfined()
    try:
        tried = act(place)
        tried.attempt(lab.admin)
        assert tried.happened()
        lab.server.carried_out.add(act)
    finally:
        place.clear()


@pytest.mark.parametrize("name", IN_INSTANCES)
def test_a_dangerous_instance(lab, name):
    everywhere = name.rpartition(", ")[0] in ALWAYS_REFUSED
    check = is_refused if lab.isolation == "strict" or everywhere else goes_through
    check(lab, IN_INSTANCES[name])


@pytest.mark.parametrize("name", IN_NETWORKS)
def test_another_network(lab, name):
    # Incus shows a restricted client the networks that its project uses, and no more.
    on_incus = lab.server.kind == "incus" and name != "create a network"
    check = is_refused if lab.isolation == "strict" or on_incus else goes_through
    check(lab, IN_NETWORKS[name])


@pytest.mark.parametrize("name", BEYOND_THE_PROJECT)
def test_beyond_the_project(lab, name):
    is_refused(lab, BEYOND_THE_PROJECT[name])


def test_instances_of_other_projects_are_not_listed(lab):
    everywhere = {"all-projects": "true", "recursion": 1}
    place = lab.unconfined()
    try:
        place.make_instance()
        assert place.name in [found["name"] for found in lab.admin.read("instances", **everywhere)]
        try:
            seen = lab.identity.read("instances", **everywhere)
        except Refused as refused:
            assert refused.status == 403
        else:
            assert {found["project"] for found in seen} <= {lab.lab.project}
    finally:
        place.clear()


@pytest.mark.parametrize("name", RESIDUAL)
def test_what_is_left_is_reported(lab, name):
    reported, act = RESIDUAL[name]
    check = goes_through if reported in lab.facts["residual"] else is_refused
    check(lab, act)


def test_nothing_else_is_reported(lab):
    assert set(lab.facts["residual"]) <= {reported for reported, _ in RESIDUAL.values()}


def test_profiles_within_the_restrictions_are_its_own(lab):
    place = lab.own()
    try:
        place.make_profile()
        lab.identity.patch(f"profiles/{place.name}", {"config": {"user.note": "x"}}, project=place.project)
        assert place.profile()["config"] == {"user.note": "x"}
    finally:
        place.clear()


def test_the_server_lets_it_in(lab):
    server = lab.identity.read("")
    assert server["auth"] == "trusted"
    assert [project["name"] for project in lab.identity.read("projects", recursion=1)] == [lab.lab.project]


def test_it_reads_its_instances(lab, instance):
    (listed,) = lab.identity.read("instances", recursion=1, project=lab.lab.project)
    assert (listed["name"], listed["status"]) == (instance.name, "Running")
    assert instance.read("state")["pid"] > 0


def test_it_executes_in_its_instances(instance):
    done = instance.post("exec", {"command": ["/bin/sh", "-c", "echo $(( 6 * 7 ))"], "record-output": True})
    assert done["return"] == 0
    assert instance.transfer("GET", done["output"]["1"].split(f"/{instance.name}/")[1]) == b"42\n"


def test_it_moves_files_in_and_out(instance):
    instance.transfer("POST", "files?path=/etc/note", b"from outside")
    assert instance.transfer("GET", "files?path=/etc/note") == b"from outside"
    instance.transfer("DELETE", "files?path=/etc/note")
    with pytest.raises(Refused, match="(?i)not found|no such file|does not exist"):
        instance.transfer("GET", "files?path=/etc/note")


def test_it_edits_metadata_and_templates(instance):
    metadata = instance.read("metadata")
    instance.put("metadata", metadata | {"properties": {"note": "x"}})
    assert instance.read("metadata")["properties"] == {"note": "x"}
    instance.transfer("POST", "metadata/templates?path=note.tpl", b"{{ instance.name }}")
    assert "note.tpl" in instance.read("metadata/templates")


def test_it_hears_of_its_own_instances(lab, instance):
    heard = lab.identity.listen(f"events?project={lab.lab.project}&type=lifecycle")
    try:
        instance.patch("", {"description": "heard of"})
        assert instance.name in json.dumps(next(iter(heard)))
    finally:
        heard.close()


def test_it_asks_for_its_operations(lab):
    assert isinstance(lab.identity.read("operations", project=lab.lab.project), (dict, list))


def test_it_creates_nodes_and_deletes_them(lab):
    """With the profiles of nodes; the bridge that they use is not made for this."""
    place = lab.own()
    body = place.body() | {"profiles": ["capi-base", "capi-controlplane"], "devices": {}}
    try:
        lab.identity.post("instances", body, project=place.project)
        assert place.instance()["expanded_devices"]["eth1"]["parent"] == lab.lab.bridge
        lab.identity.remove(f"instances/{place.name}", project=place.project)
        assert place.instance() is None
    finally:
        place.clear()
