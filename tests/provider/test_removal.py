"""What is left when a cluster is not wanted any more."""


def test_a_cluster_goes_and_leaves_nothing(made, cluster):
    made.delete("cluster", "c1", seconds=240)
    assert made.found("c1") == {}
