"""Waiting for what cannot be watched."""

import itertools
import time


def eventually(look, seconds=60):
    """What is looked for, once it is there; otherwise what was seen last."""
    deadline = time.monotonic() + seconds
    for pause in itertools.chain((0.1, 0.2, 0.5), itertools.repeat(1)):
        seen = look()
        if seen is True or time.monotonic() > deadline:
            return seen
        time.sleep(pause)
