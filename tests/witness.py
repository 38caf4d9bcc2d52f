"""Every fact that a test records passes the checker, whatever journal it goes into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Any
from unittest.mock import patch

from tests.builders import Stage
from tourney_ray.core.chain import Entry
from tourney_ray.core.checker import Checker
from tourney_ray.core.events import Fact
from tourney_ray.store.journal import Journal
from tourney_ray.store.memory import MemoryJournal

MARK = "_witnessed"
"""Attribute of a journal: by whom it is seen, how many of its facts, and the checker that has seen them."""


class Witness:
    """What the checkers found; each of them lives as long as the journal that it belongs to."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def looking(self) -> AbstractContextManager[Any]:
        """While inside, whatever is recorded is seen."""
        looks = ExitStack()
        for kind in (Journal, MemoryJournal):
            looks.enter_context(patch.object(kind, "append", self._append(kind.append)))
        looks.enter_context(patch.object(Stage, "_happen", self._happen(Stage._happen)))
        return looks

    def _append(self, honest: Callable[..., list[Entry]]) -> Callable[..., list[Entry]]:
        def append(journal: Journal | MemoryJournal, facts: Sequence[Fact], at: datetime) -> list[Entry]:
            known = journal.last.seq if journal.last else 0
            entries = honest(journal, facts, at)
            self._see(journal, known, entries, lambda: (e.fact for e in journal.entries() if e.seq <= known))
            return entries

        return append

    def _happen(self, honest: Callable[[Stage, Fact], None]) -> Callable[[Stage, Fact], None]:
        def happen(stage: Stage, fact: Fact) -> None:
            known, complete = len(stage.facts), stage.state.seq == len(stage.facts)
            honest(stage, fact)
            if complete:
                self._see(stage, known, [fact], lambda: (fact for fact, _ in stage.facts[:known]))

        return happen

    def _see(
        self, journal: object, known: int, news: Sequence[Entry | Fact], before: Callable[[], Iterable[Fact]]
    ) -> None:
        """Check what is new; what was recorded out of sight is read first."""
        witness, seen, checker = vars(journal).get(MARK, (None, 0, Checker()))
        if witness is not self or seen != known:
            checker = Checker()
            for fact in before() if known else ():
                checker.see(fact)
        for new in news:
            self.found += map(str, checker.see(new.fact if isinstance(new, Entry) else new))
        vars(journal)[MARK] = self, known + len(news), checker
