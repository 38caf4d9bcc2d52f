"""Who waits for GPUs has its turn when it was told, though others lie where there is room and it does not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from tests.builders import START
from tests.core.test_placement import EIGHT, FOUR, ONE, TWO, alone, nodes, seen
from tourney_ray.core.leases import Staged
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.nodes import Lease
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Placed, Request
from tourney_ray.core.staging import put
from tourney_ray.core.state import State

TICK = timedelta(minutes=5)
"""Between two looks."""
STAGING = 2 * TICK
SLACK = 2 * (STAGING + TICK)
"""What may come on top of what was told: to be staged there, and to wait for a place for that."""

Wanted = list[tuple[GpuRequirement, int, int, int]]
"""What each needs, its limit in hours, in which hour it comes, and what percentage of its limit it takes."""
arrivals: st.SearchStrategy[Wanted] = st.lists(
    st.tuples(st.sampled_from((ONE, TWO, FOUR, EIGHT)), st.integers(1, 6), st.integers(0, 5), st.integers(10, 100)),
    min_size=1,
    max_size=12,
)


@dataclass
class Day:
    """Two nodes of 8 GPUs, and what is asked of them."""

    waiting: dict[str, tuple[Request, timedelta]]
    """With how long each will take."""
    now: datetime = START
    running: list[tuple[datetime, Lease]] = field(default_factory=list[tuple[datetime, Lease]])
    """With when each will be through."""
    staged: dict[str, Staged] = field(default_factory=dict[str, Staged])
    staging: dict[tuple[str, str], datetime] = field(default_factory=dict[tuple[str, str], datetime])
    """When each will lie on its node."""

    def looks(self) -> Iterator[tuple[list[Request], Placed]]:
        """Who waits and what is decided, at every look until nobody waits."""
        while self.waiting:
            self._pass()
            here = [request for request, _ in self.waiting.values() if request.since <= self.now]
            staging = {key: {key: [n for k, n in self.staging if k == key]} for key, _ in self.staging}
            cluster = replace(nodes(n1=8, n2=8), staged=self.staged, staging=staging)
            found = place(alone(*here), self._state(), cluster, self.now)
            yield here, found
            for key, node in found.nodes.items():
                self._start(*self.waiting.pop(key), node)
            for begun in found.stagings.items():
                self.staging.setdefault(begun, self.now + STAGING)
            self.now += TICK

    def _pass(self) -> None:
        """End what has ended by now."""
        self.running = [(end, lease) for end, lease in self.running if end > self.now]
        for key, node in [begun for begun, end in self.staging.items() if end <= self.now]:
            del self.staging[key, node]
            self.staged[key] = put(self.staged.get(key, {}), key, node, "")

    def _start(self, request: Request, takes: timedelta, node: str) -> None:
        key, need, until = request.key, request.requirement, self.now + timedelta(hours=request.hours)
        lease = Lease(key, "t", key, key, 1, node, need.gpu_type, need.gpus, until)
        self.running.append((self.now + takes, lease))

    def _state(self) -> State:
        held = Counter[tuple[str, str]]()
        for _, lease in self.running:
            held[lease.node, lease.gpu_type] += lease.gpus
        leases = {lease.attempt_id: lease for _, lease in self.running}
        return replace(seen(nodes(n1=8, n2=8)), leases=leases, held=dict(held))


def turns(wanted: Wanted) -> dict[str, datetime]:
    """Until when each is to start that was told of its turn, at the first time; fails where one starts later."""
    day = Day(
        {
            f"r{i}": (Request(f"r{i}", need, hours, START + timedelta(hours=hour)), timedelta(hours=hours * part / 100))
            for i, (need, hours, hour, part) in enumerate(wanted)
        }
    )
    told = dict[str, datetime]()
    for here, found in day.looks():
        assert day.now < START + timedelta(hours=6 * 13), f"{here} never start"
        for request in here:
            if request.key in found.nodes:
                assert day.now <= told.get(request.key, day.now), f"{request} was told {told[request.key]}"
            elif told_now := re.search(r"kept for it, free at (.+) UTC", found.waits[request.key]):
                at = datetime.fromisoformat(told_now[1]).replace(tzinfo=UTC)
                told.setdefault(request.key, at + SLACK)
    return told


def test_who_is_first_in_line_is_told_its_turn() -> None:
    assert turns([(EIGHT, 6, 0, 100), (EIGHT, 5, 0, 100), (EIGHT, 4, 0, 100), (FOUR, 2, 0, 100)]).keys() == {"r2", "r3"}


@pytest.mark.no_cover
@settings(max_examples=60)
@given(arrivals)
def test_each_starts_no_later_than_it_was_told_first(wanted: Wanted):
    turns(wanted)
