"""The writes of a move at which it is stopped. Which of many is meant is found in the record of a move that nobody disturbed, since
clusterctl takes the objects of a group in any order."""

import re
from dataclasses import dataclass

import pytest
from proxy import Stop

ANY_POST, ANY_DELETE = "TARGET POST ", "SOURCE DELETE "


@dataclass(frozen=True)
class Place:
    """A write by its side, verb and path. Of many it is the first after the last `since`, the last before the first `until`, the `last`
    of all, or the first. `before` and `after` are what a move may look like that is stopped there."""

    name: str
    pattern: str
    before: set
    after: set
    since: str = ""
    until: str = ""
    last: bool = False

    def stop(self, record, moment, **sides):
        return Stop(self.pattern.format(**sides), moment, self._nth(record))

    def _nth(self, record):
        fits = [number for number, write in enumerate(record) if re.search(self.pattern.format(**TOKENS), write)]
        meant = fits
        if self.since:
            begin = max(number for number, write in enumerate(record) if re.search(self.since, write))
            meant = [number for number in fits if number > begin][:1]
        elif self.until:
            end = min(number for number, write in enumerate(record) if re.search(self.until, write))
            meant = [number for number in fits if number < end][-1:]
        elif self.last:
            meant = fits[-1:]
        assert meant, f"{self.name}: no write of the move fits\n" + "\n".join(record)
        return fits.index(meant[0]) + 1


TOKENS = {"source": "SOURCE", "target": "TARGET"}


def record(journal, source):
    """The writes of a move as text, whichever way it went."""
    return [str(write).replace(write.side, "SOURCE" if write.side == source else "TARGET", 1) for write in journal]


def _place(name, pattern, before, after, **which):
    text = pattern.replace("SOURCE", "{source}").replace("TARGET", "{target}")
    return Place(name, text, set(before.split()), set(after.split()), **which)


# In the order of the writes. The copy pauses the source and ends that, so the move's own pauses are the last ones before anything is
# created. Where the class's templates come before the Cluster by chance, nothing is split; where the class is the last to go, nothing
# is left after it.
PLACES = [
    _place("the Cluster is paused", "SOURCE PATCH .*/clusters/", "ready", "source-paused", until=ANY_POST),
    _place("its class is paused", "SOURCE PATCH .*/clusterclasses/", "source-paused", "source-paused", until=ANY_POST),
    _place("the first object is created", "TARGET POST ", "source-paused", "begun"),
    _place("the class is created", "TARGET POST .*/clusterclasses$", "source-paused begun", "begun"),
    _place("the Cluster is created", "TARGET POST .*/clusters$", "begun", "split begun"),
    _place("the Cluster gets its fields", "TARGET PATCH .*/clusters/", "split begun", "split begun"),
    _place("the control plane is created", "TARGET POST .*/kubeadmcontrolplanes$", "begun", "begun"),
    _place("a machine is created", "TARGET POST .*/machines$", "begun", "begun"),
    _place("the last object is created", "TARGET POST ", "begun", "created", last=True),
    _place("the first object is marked", "SOURCE PATCH ", "created", "emptying", since=ANY_POST),
    _place("the first object is deleted", "SOURCE DELETE ", "emptying", "emptying"),
    _place("a machine is deleted", "SOURCE DELETE .*/machines/", "emptying", "emptying"),
    _place("the last machine is let go", "SOURCE PATCH .*/machines/", "emptying", "emptying", last=True),
    _place("the Cluster is marked", "SOURCE PATCH .*/clusters/", "emptying", "emptying", since="SOURCE DELETE .*/machines/"),
    _place("the Cluster is deleted", "SOURCE DELETE .*/clusters/", "emptying", "emptying"),
    _place("the Cluster is let go", "SOURCE PATCH .*/clusters/", "emptying", "clusters-gone", last=True),
    _place("the class is marked", "SOURCE PATCH .*/clusterclasses/", "clusters-gone", "clusters-gone", since="SOURCE DELETE .*/clusters/"),
    _place("the class is deleted", "SOURCE DELETE .*/clusterclasses/", "clusters-gone", "clusters-gone target-paused"),
    _place("the last object is gone", "SOURCE ", "clusters-gone target-paused", "target-paused", last=True),
    _place("the target's class goes on", "TARGET PATCH .*/clusterclasses/", "target-paused", "resuming", since=ANY_DELETE),
    _place("the target's Cluster goes on", "TARGET PATCH .*/clusters/", "resuming", "finished", since=ANY_DELETE),
]

# One for each state that a move can be stopped in, where it is stopped after the write.
STATES = dict.fromkeys([
    "its class is paused", "the Cluster gets its fields", "a machine is created", "the last object is created", "a machine is deleted",
    "the class is marked", "the last object is gone", "the target's class goes on",
], "after")  # fmt: skip


def stops(chosen):
    """All places, before and after their writes, of which those that are not chosen are for a sweep."""
    marks = lambda place, moment: [] if chosen.get(place.name) == moment else [pytest.mark.sweep]  # noqa: E731
    both = [(place, moment) for place in PLACES for moment in ("before", "after")]
    return [pytest.param(*stop, id=f"{stop[1]} {stop[0].name}", marks=marks(*stop)) for stop in both]


def named(name):
    (place,) = [place for place in PLACES if place.name == name]
    return place
