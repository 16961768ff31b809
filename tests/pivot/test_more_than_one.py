"""Two Clusters of one class, one of them with three control planes and a MachineHealthCheck, between two bare API servers. They stay: no
test after these counts on one Cluster alone."""

import pytest
from bare import a_cluster
from places import STATES, stops

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def both(servers):
    # Paused until it is whole: one that reconciles without its machines would make them.
    head, *rest = a_cluster("lab-default", control_planes=3, is_watched=True)
    head["spec"]["paused"] = True
    servers.bare[servers.holder].populate([head, *rest])
    servers.clusters[servers.holder].patch("cluster", "lab-default", {"spec": {"paused": None}})
    servers.clusters[servers.holder].wait("condition=Available", "cluster/lab-default", seconds=60)
    # There are more writes now.
    servers.undisturbed = None


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("place", "moment"), [stop for stop in stops(STATES) if not stop.marks])
def test_a_killed_move_of_both_is_finished_by_the_same_command(bare, place, moment):
    fault = bare.at(place, moment)
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    done = bare.finish(direction, before)
    print(f"`{done['signature']}`, finished in {done['seconds']:.1f} s")
    assert done["inventory"]["Cluster"] == 2 and done["inventory"]["Machine"] == 6, done
    assert done["inventory"]["MachineHealthCheck"] == 1, done
