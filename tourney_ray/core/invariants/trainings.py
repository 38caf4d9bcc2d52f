"""Invariants 4, 6 and 8: attempts within their limits, the same terms for all of a task, one tree and image each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.invariants.books import OpenEnded
from tourney_ray.core.models import Blame, Evaluated, Failed, Terms
from tourney_ray.core.rules import Rules

Key = tuple[str, str]
"""Task and hotkey."""


@dataclass
class _Book:
    """What counts against one training since it last began anew."""

    epochs: int = 0
    mine: int = 0
    """The miner's failures, refused checkpoints among them."""
    ours: int = 0
    """The platform's."""
    evaluator: int = 0
    deaths: int = 0
    """The evaluator's, at the latest checkpoint."""
    live: str = ""
    """The attempt under way."""
    trained: bool = False
    """Whether its checkpoint waits for, or has, its metric."""
    result: Evaluated | None = None

    def anew(self) -> _Book:
        return _Book(epochs=self.epochs)


@dataclass
class Trainings(OpenEnded):
    """A count of attempts and failures per training, and what every attempt was given."""

    _rules: dict[str, Rules] = field(default_factory=dict[str, Rules])
    _trees: dict[Key, str] = field(default_factory=dict[Key, str])
    """Vetted tree by (tournament, hotkey)."""
    _images: dict[Key, str] = field(default_factory=dict[Key, str])
    """Image that ran first, or was built last, by (tournament, hotkey)."""
    _built: dict[Key, str] = field(default_factory=dict[Key, str])
    """Image that was built last, by (tournament, hotkey)."""
    _given: dict[str, str] = field(default_factory=dict[str, str])
    """Image that an attempt was started with, by attempt, where one was built before."""
    _prepared: dict[str, e.TaskPrepared] = field(default_factory=dict[str, e.TaskPrepared])
    _terms: dict[str, Terms] = field(default_factory=dict[str, Terms])
    _books: dict[Key, _Book] = field(default_factory=dict[Key, _Book])

    def see(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        """Whether the fact keeps to the limits."""
        match fact:
            case e.TournamentCreated():
                self._rules[fact.tournament_id] = fact.rules
                if fact.champion:
                    self._trees[fact.tournament_id, fact.champion.hotkey] = fact.champion.tree_hash
            case e.EntrantAccepted():
                self._trees[fact.tournament_id, fact.entrant.hotkey] = fact.entrant.tree_hash
            case e.TaskPrepared():
                self._prepared[fact.task_id] = fact
            case e.AttemptStarted():
                yield from self._begun(fact)
                self._book(fact.task_id, fact.hotkey).live = fact.attempt_id
            case _:
                yield from self._imaged(fact)

    def _imaged(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        """Of images, and of what stands where one could not be built."""
        match fact:
            case e.ImageBuilt():
                who = fact.tournament_id, fact.hotkey
                if fact.tree_hash != self._trees.get(who):
                    yield 8, f"the image of {fact.hotkey} is built from {fact.tree_hash}, which was not vetted"
                self._images[who] = self._built[who] = fact.image_id
            case e.StagingFailed():
                yield from self._unbuilt(fact)
            case e.AttemptRunning() if fact.image_id:
                yield from self._runs(fact)
            case _:
                yield from self._counted(fact)

    def _unbuilt(self, fact: e.StagingFailed) -> Iterator[tuple[int, str]]:
        yield from self._begun(fact)
        book = self._book(fact.task_id, fact.hotkey)
        if book.live:
            yield 4, f"{fact.attempt_id} could not be staged while {book.live} was under way"
        if fact.failed.blame is not Blame.MINER:
            yield 4, f"{fact.attempt_id} is told as the miner's failure, and the {fact.failed.blame} is to blame"
        book.mine += 1

    def _runs(self, fact: e.AttemptRunning) -> Iterator[tuple[int, str]]:
        before = self._images.setdefault((fact.tournament_id, fact.hotkey), fact.image_id)
        due = self._given.get(fact.attempt_id, before)
        if fact.image_id != due:
            yield 8, f"{fact.hotkey} runs image {fact.image_id}, and {due} is its own"

    def _begun(self, fact: e.AttemptStarted | e.StagingFailed) -> Iterator[tuple[int, str]]:
        """An attempt that is the next one, on the same terms as all others of its task."""
        book, rules = self._book(fact.task_id, fact.hotkey), self._rules[fact.tournament_id]
        who = f"{fact.hotkey} in task {fact.task_id[:8]}"
        book.epochs += 1
        if fact.epoch != book.epochs:
            yield 4, f"{who} begins epoch {fact.epoch}, {book.epochs} is due"
        if book.trained or _over(book, rules):
            yield 4, f"{who} begins attempt {fact.epoch} though its training is over"
        if image := self._built.get((fact.tournament_id, fact.hotkey)):
            self._given[fact.attempt_id] = image
        terms = self._terms.setdefault(fact.task_id, fact.terms)
        prepared = self._prepared[fact.task_id]
        if fact.terms != terms:
            yield 6, f"{who} trains on {fact.terms}, others of the task on {terms}"
        if (terms.hours, terms.dataset_sha256) != (prepared.hours, prepared.data.dataset_sha256):
            yield 6, f"task {fact.task_id[:8]} is trained with other hours or data than it was prepared with"
        if fact.tree_hash != self._trees.get((fact.tournament_id, fact.hotkey)):
            yield 8, f"{who} trains with tree {fact.tree_hash}, which is not the one that was vetted"

    def _counted(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        match fact:
            case e.AttemptEnded():
                yield from _count(self._book(fact.task_id, fact.hotkey), fact)
            case e.CheckpointEvaluated():
                _measure(self._book(fact.task_id, fact.hotkey), fact)
            case e.EvaluationFailed():
                _died(self._book(fact.task_id, fact.hotkey), fact, self._rules[fact.tournament_id])
            case e.TrainingRetried():
                self._book(fact.task_id, fact.hotkey).live = ""
            case e.TrainingReopened():
                self._reopened(fact)
            case _:
                yield from self._of_tasks(fact)

    def _of_tasks(self, fact: e.Fact) -> Iterator[tuple[int, str]]:
        match fact:
            case e.EvaluationRepeated():
                if fact.number > self._rules[fact.tournament_id].max_evaluations:
                    yield 4, f"task {fact.task_id[:8]} is evaluated once more than allowed, for time {fact.number}"
                for book in self._trainings_of(fact.task_id):
                    book.result = None
            case e.TaskRepeated():
                if fact.number > 1 + self._rules[fact.tournament_id].max_repetitions:
                    yield 4, f"task {fact.task_id[:8]} is repeated once more than allowed, in run {fact.number}"
                self._books |= {k: book.anew() for k, book in self._books.items() if k[0] == fact.task_id}
            case e.TaskDecided():
                yield from self._decided(fact)
            case _:
                pass

    def _reopened(self, fact: e.TrainingReopened) -> None:
        book = self._book(fact.task_id, fact.hotkey)
        if book.trained:
            book.result = None
        else:
            self._books[fact.task_id, fact.hotkey] = book.anew()

    def _decided(self, fact: e.TaskDecided) -> Iterator[tuple[int, str]]:
        rules = self._rules[fact.tournament_id]
        for ranked in fact.ranking:
            book = self._book(fact.task_id, ranked.hotkey)
            if not _over(book, rules) and not (book.trained and book.result):
                mine = f"{book.mine} of {rules.max_training_attempts} failures are its own"
                yield 4, f"task {fact.task_id[:8]} is decided though {ranked.hotkey} may still train: {mine}"

    def _trainings_of(self, task_id: str) -> list[_Book]:
        return [book for key, book in self._books.items() if key[0] == task_id]

    def _book(self, task_id: str, hotkey: str) -> _Book:
        return self._books.setdefault((task_id, hotkey), _Book())


def _count(book: _Book, fact: e.AttemptEnded) -> Iterator[tuple[int, str]]:
    if fact.attempt_id != book.live:
        yield 4, f"{fact.attempt_id} ended, and the attempt under way is {book.live or 'none'}"
    book.live = ""
    if not isinstance(fact.outcome, Failed):
        book.trained, book.deaths = True, 0
    elif fact.outcome.blame is Blame.MINER:
        book.mine += 1
    else:
        book.ours += 1


def _measure(book: _Book, fact: e.CheckpointEvaluated) -> None:
    book.result = fact.result
    if fact.result.refused:
        book.mine += 1
        book.trained, book.result = False, None


def _died(book: _Book, fact: e.EvaluationFailed, rules: Rules) -> None:
    book.evaluator += 1
    book.deaths += fact.died
    killed = book.deaths >= rules.max_evaluator_deaths
    book.mine += killed
    book.trained = not killed and book.evaluator < rules.max_platform_failures


def _over(book: _Book, rules: Rules) -> bool:
    """Whether the failures have ended the training."""
    ours = max(book.ours, book.evaluator)
    return book.mine >= rules.max_training_attempts or ours >= rules.max_platform_failures
