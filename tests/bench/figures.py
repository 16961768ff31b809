"""How a figure is taken and told."""

import statistics
import time


def timed(run, *arguments):
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def median(seconds):
    return statistics.median(seconds)


def in_turn(ways, rounds):
    """The median of each way to do something, by its name."""
    durations = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, run in ways.items():
            seconds = timed(run)
            # The first round warms every cache and does not count.
            if round_number:
                durations[name].append(seconds)
    return {name: median(seconds) for name, seconds in durations.items()}


def unchanged(played):
    if played.recap["changed"]:
        raise AssertionError(f"something changed:\n{played.stdout}")


def say(name, value):
    print(f"{name}: {value:.3f}", flush=True)
