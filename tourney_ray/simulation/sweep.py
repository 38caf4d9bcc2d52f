"""Many seeds: each played with faults and without, compared, and checked; spread over the machine's cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tourney_ray.core.models import TournamentType
from tourney_ray.errors import AuditDifference
from tourney_ray.simulation.run import Played, Run, Setting
from tourney_ray.simulation.verdicts import decisions, differences
from tourney_ray.store.agreement import check_agreement
from tourney_ray.store.journal import Journal

ON_A_DATABASE = 40
"""Every so many seeds are played on a real journal, on this machine's disk; the others in memory."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What came of one seed."""

    seed: int
    violations: tuple[str, ...]
    tournaments: int
    faults: dict[str, int]
    facts: int
    lives: int


def play_seeds(setting: Setting, seeds: Sequence[int], jobs: int | None = None) -> Iterator[Seed]:
    """The results of all seeds, in their order, as they come; `jobs` processes, by default one per core."""
    workers = min(jobs or len(os.sched_getaffinity(0)), len(seeds))
    if workers <= 1:
        yield from (play_seed(setting, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(play_seed, [setting] * len(seeds), seeds)


def play_seed(setting: Setting, seed: int) -> Seed:
    """One seed, with the setting's faults and without any; what is wrong with either, and where they differ."""
    with _quietly(), _Named(seed):
        return _played(setting, seed)


class _Named:
    """Names the seed in whatever error breaks it off, so that it can be played again."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        """Nothing to do yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """The error goes on, with the seed as a note."""
        if error is not None:
            error.add_note(f"in seed {self._seed}")


@contextmanager
def _quietly() -> Generator[None]:
    """Without logs: dead drivers' outcomes are news in life, here they are the point."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _played(setting: Setting, seed: int) -> Seed:
    calm = Run(varied(replace(setting, faults=frozenset()), seed), seed).play()
    violations = list(calm.broken)
    stormy = calm
    if setting.faults:
        stormy, found = _stormy(varied(setting, seed), seed)
        violations += found + differences(decisions(stormy.state), decisions(calm.state))
    return Seed(
        seed=seed,
        violations=tuple(violations),
        tournaments=len(calm.state.tournaments) + (len(stormy.state.tournaments) if setting.faults else 0),
        faults=stormy.happened,
        facts=stormy.facts,
        lives=stormy.lives,
    )


def varied(setting: Setting, seed: int) -> Setting:
    """The setting with what changes from seed to seed: how many enter, which types, how many tournaments follow."""
    if not setting.varies:
        return setting
    both = (TournamentType.TEXT, TournamentType.IMAGE)
    types = both if seed % 5 == 0 else both[seed % 5 == 1 :][:1]
    return replace(
        setting,
        entrants=setting.entrants + seed % 7,
        types=types,
        tournaments=2 if seed % 10 == 3 else 1,  # noqa: PLR2004 - the second one has a champion that reigns
        cancels=seed % 10 == 7,  # noqa: PLR2004
    )


def _stormy(setting: Setting, seed: int) -> tuple[Played, list[str]]:
    if seed % ON_A_DATABASE:
        played = Run(setting, seed).play()
        return played, list(played.broken)
    with TemporaryDirectory(prefix="tourney-simulation-") as folder:
        path = Path(folder) / "journal.duckdb"
        played = Run(setting, seed, lambda: Journal.open(path)).play()
        return played, [*played.broken, *_agreement(path)]


def _agreement(path: Path) -> list[str]:
    try:
        check_agreement(path)
    except AuditDifference as difference:
        return [f"invariant 10: {difference.message}"]
    return []
