"""Invariants 1 and 2: a GPU has one holder at most, and is let go only when nothing of its holder runs any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.invariants.books import OpenEnded


@dataclass
class _Holder:
    node: str
    gpu_type: str
    gpus: int


@dataclass
class Leases(OpenEnded):
    """A ledger of GPUs, from what nodes, attempts and leases say."""

    _there: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    _lost: set[str] = field(default_factory=set[str])
    _fenced: set[str] = field(default_factory=set[str])
    _holders: dict[str, _Holder] = field(default_factory=dict[str, _Holder])
    _live: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Attempt under way, by (task, hotkey)."""

    def see(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        """Whether the ledger still adds up."""
        match fact:
            case e.NodeJoined():
                self._there[fact.node] = fact.gpus
                self._lost.discard(fact.node)
                self._fenced.discard(fact.node)
            case e.NodeLost():
                self._lost.add(fact.node)
            case e.NodeFenced():
                self._fenced.add(fact.node)
            case e.AttemptStarted():
                yield from self._began(fact)
            case e.AttemptRunning():
                yield from self._sees(fact)
            case e.AttemptEnded() | e.TrainingRetried():
                self._live.pop((fact.task_id, fact.hotkey), None)
            case e.LeaseEnded():
                yield from self._ended(fact)
            case _:
                pass

    def _began(self, fact: e.AttemptStarted) -> Iterator[tuple[int, str]]:
        before = self._live.get((fact.task_id, fact.hotkey))
        if before:
            yield 1, f"{fact.attempt_id} began while {before} of the same training was under way"
        if fact.attempt_id in self._holders:
            yield 1, f"{fact.attempt_id} began twice"
        if fact.node in self._lost or fact.node not in self._there:
            yield 1, f"{fact.attempt_id} began on {fact.node}, which is not there"
        kind, gpus = fact.terms.gpu_type, fact.terms.gpus
        held = sum(h.gpus for h in self._holders.values() if (h.node, h.gpu_type) == (fact.node, kind))
        there = self._there.get(fact.node, {}).get(kind, 0)
        if held + gpus > there:
            yield 1, f"{fact.attempt_id} takes {gpus}×{kind} of {fact.node}, where {held} of {there} are held"
        self._live[fact.task_id, fact.hotkey] = fact.attempt_id
        self._holders[fact.attempt_id] = _Holder(fact.node, kind, gpus)

    def _sees(self, fact: e.AttemptRunning) -> Iterator[tuple[int, str]]:
        holder, seen = self._holders.get(fact.attempt_id), set(fact.gpu_indices)
        if holder is None:
            yield 1, f"{fact.attempt_id} runs without a lease"
            return
        if seen and len(seen) != holder.gpus:
            yield 1, f"{fact.attempt_id} sees {len(seen)} GPUs and has leased {holder.gpus}"

    def _ended(self, fact: e.LeaseEnded) -> Iterator[tuple[int, str]]:
        holder = self._holders.pop(fact.attempt_id, None)
        if holder is None:
            yield 2, f"the lease of {fact.attempt_id} ended, and there was none"
        elif fact.witness == "fence" and holder.node not in self._fenced:
            yield 2, f"the lease of {fact.attempt_id} ended by a fence, and {holder.node} was not fenced"
