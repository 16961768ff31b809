"""What is left when a cluster is not wanted any more."""

import time


def test_a_cluster_goes_and_leaves_nothing(made, cluster):
    started = time.monotonic()
    made.delete("cluster", cluster.name, seconds=300)
    print(f"deleted after {time.monotonic() - started:.1f} s")
    assert made.found(cluster.name) == {}
