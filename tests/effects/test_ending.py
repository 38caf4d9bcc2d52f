"""Whose fault the end of a container is: the whole table."""

from __future__ import annotations

import pytest

from tourney_ray.core.models import Blame
from tourney_ray.effects.engine.ending import Ending, Stopped, failure, not_started
from tourney_ray.errors import EngineDown, TourneyError, TrainingCrashed

GIB = 2**30
OURS, MINERS = Blame.PLATFORM, Blame.MINER


@pytest.mark.parametrize(
    ("end", "blame", "kind", "words"),
    [
        (Ending(3, False, log_tail="a\nno luck\n"), MINERS, "crashed", "trainer exited with 3: no luck"),
        (Ending(3, False), MINERS, "crashed", "trainer exited with 3: it said nothing"),
        (Ending(137, True, mem_bytes=GIB), MINERS, "out_of_memory", "needed more than its 1.0 GiB of memory"),
        (Ending(137, True, outsider=True), MINERS, "out_of_memory", "of memory"),
        (Ending(137, False, outsider=True), OURS, "stopped_by_hand", "somebody on the node"),
        (Ending(255, False, outage=True), OURS, "engine_down", "ended with 255 while the engine was away"),
        (Ending(137, False, Stopped.LAYER, layer_bytes=GIB), MINERS, "layer_full", "more than 1.0 GiB outside"),
        (Ending(137, False, Stopped.OUTPUT), MINERS, "output_full", "than its output folder may hold"),
        (Ending(0, False, Stopped.OVERRUN, late_s=600.0), OURS, "overrun", "for 10 minutes after its deadline"),
    ],
)
def test_a_failure_says_whose_it_is(end: Ending, blame: Blame, kind: str, words: str) -> None:
    failed = failure(end)
    assert failed is not None
    assert (failed.blame, failed.kind) == (blame, kind)
    assert words in failed.reason


@pytest.mark.parametrize(
    "end",
    [Ending(0, False), Ending(0, True), Ending(0, False, outsider=True), Ending(137, False, Stopped.DEADLINE)],
    ids=["ended well", "a child ran out of memory", "asked to end, and did", "stopped at the deadline"],
)
def test_what_it_saved_counts(end: Ending) -> None:
    assert failure(end) is None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ('OCI runtime create failed: exec: "nothing": executable file not found in $PATH', TrainingCrashed),
        ("unable to find user whoever: no matching entries in passwd file", TrainingCrashed),
        ('could not select device driver "" with capabilities: [[gpu]]', EngineDown),
        ("Cannot link to a non running container", EngineDown),
    ],
)
def test_what_cannot_be_started(words: str, fault: type[TourneyError]) -> None:
    assert type(not_started(words)) is fault
