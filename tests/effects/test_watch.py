"""The watch over a container, with an engine that comes and goes as the test says: nobody is blamed for it wrongly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from tourney_ray.effects.engine.containers import Container, Containers
from tourney_ray.effects.engine.ending import Stopped
from tourney_ray.effects.engine.events import Feed
from tourney_ray.effects.engine.labels import OurLabels
from tourney_ray.effects.engine.options import Limits
from tourney_ray.effects.engine.watch import Watch, Watched
from tourney_ray.errors import EngineDown

LABELS = OurLabels("d", "t", "task", "hk", "task/hk/1", 1, "n", "H100", (0,))
RUNS = Container("c" * 64, "n", LABELS, "i", "running", 0, False, "", None, None)
ENDED = replace(RUNS, status="exited")
CRASHED = replace(RUNS, status="exited", exit_code=1)
AWAY = EngineDown("it is away")


class Scripted:
    """An engine whose answers are given; the last one for ever."""

    def __init__(self, *answers: Container | EngineDown | None) -> None:
        self._answers = list(answers)
        self.stopped: list[float] = []

    def inspect(self, container_id: str) -> Container | None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, EngineDown):
            raise answer
        return answer

    def stop(self, container_id: str, grace_s: float) -> None:
        self.stopped.append(grace_s)
        self._answers = [ENDED]


class Said:
    """A feed that says what it was given, then nothing."""

    def __init__(self, *actions: str) -> None:
        self._actions = list(actions)

    def next(self, timeout_s: float) -> str | None:
        return self._actions.pop(0) if self._actions else None


def watched(
    answers: Sequence[Container | EngineDown | None],
    actions: Sequence[str],
    deadline_s: float = 60.0,
    look: Stopped | None = None,
) -> Watched:
    engine, limits = Scripted(*answers), Limits(look_s=0.0 if look else 1000.0)
    feed = cast("Feed", Said(*actions))
    containers: Any = cast("Containers", engine)
    return Watch(containers, RUNS.container_id, time.monotonic() + deadline_s, lambda: look, limits).to_the_end(feed)


def test_it_ends_when_the_container_does() -> None:
    assert watched([RUNS, ENDED], ["listening", "die"]) == Watched(ENDED, None, False, False, 0.0)


def test_a_signal_of_somebody_else_is_remembered() -> None:
    assert watched([CRASHED], ["kill", "die"]).outsider


def test_a_signal_is_heard_of_also_when_the_end_is_seen_first() -> None:
    assert watched([CRASHED], ["listening", "kill", "die"]).outsider
    assert not watched([CRASHED], ["listening", "die", "kill"]).outsider
    assert not watched([CRASHED], ["listening"]).outsider


def test_an_end_while_the_engine_was_away_is_known_as_one() -> None:
    assert watched([RUNS, CRASHED], ["listening", "lost", "lost", "listening"]).outage


def test_an_outage_that_is_over_is_forgotten() -> None:
    assert not watched([RUNS, RUNS, CRASHED], ["listening", "lost", "listening", "die"]).outage


def test_an_engine_that_goes_away_while_it_is_asked_ends_nothing() -> None:
    end = watched([RUNS, AWAY, CRASHED], ["listening", "die", "lost", "listening"])
    assert (end.container, end.outage) == (CRASHED, True)


def test_an_answer_that_fails_once_is_asked_for_again() -> None:
    assert watched([AWAY, ENDED], ["listening"]).container == ENDED


def test_it_is_stopped_at_its_deadline() -> None:
    end = watched([RUNS], ["listening"], deadline_s=0.0)
    assert (end.stopped, end.container) == (Stopped.DEADLINE, ENDED)


def test_it_is_told_when_it_was_found_long_after_its_deadline() -> None:
    end = watched([RUNS], ["listening"], deadline_s=-120.0)
    assert end.stopped is Stopped.OVERRUN
    assert 119 < end.late_s < 130


def test_the_kill_of_another_watcher_at_the_deadline_is_no_strangers() -> None:
    end = watched([replace(ENDED, exit_code=137)], ["kill", "die"], deadline_s=-1.0)
    assert end.stopped is Stopped.DEADLINE


def test_what_is_seen_between_events_stops_it() -> None:
    assert watched([RUNS], [], look=Stopped.LAYER).stopped is Stopped.LAYER


def test_patience_with_an_engine_that_stays_away_has_an_end() -> None:
    with pytest.raises(EngineDown, match="past its deadline"):
        watched([RUNS], ["lost"], deadline_s=-1000.0)
