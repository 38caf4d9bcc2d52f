"""The checker on honest journals, and on ones with a single lie that breaks the invariant it should, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.builders import CHAMPION, SECRET_SEED, play
from tests.core.lies import Lie, added, broken, changed, earlier, honest, nth, rules, twice, without
from tourney_ray.core import events as e
from tourney_ray.core.checker import Checker, violations
from tourney_ray.core.draw import commitment
from tourney_ray.core.invariants.books import Violation
from tourney_ray.core.models import Blame, Failed, RoundType
from tourney_ray.core.rules import Rules

OTHER = "ab" * 20
JOURNALS = ("group", "pairs", "god", "vacant", "eventful", "refused", "no challenger", "no champion")


@pytest.mark.parametrize("name", JOURNALS)
def test_an_honest_journal_breaks_nothing(name: str) -> None:
    assert violations(honest(name)) == []


@pytest.mark.parametrize(("above", "share"), [(3, 0.5), (8, 1.0), (20, 0.25)])
def test_the_scores_are_those_of_the_tournaments_own_rules(above: int, share: float) -> None:
    own = Rules(score_best=7, score_other=1, score_worst=-2, penalised_above=above, penalised_share=share)
    assert violations([fact for fact, _ in play(12, rules=own).facts]) == []


def test_a_checkpoint_may_be_measured_again_when_a_person_reopens_it() -> None:
    facts = list(honest())
    i = nth(facts, e.CheckpointEvaluated)
    measured = facts[i]
    assert isinstance(measured, e.CheckpointEvaluated)
    where = {"tournament_id": measured.tournament_id, "task_id": measured.task_id}
    again = e.TrainingReopened.model_validate({**where, "hotkey": measured.hotkey, "by": "ada", "because": "a doubt"})
    assert violations([*facts[: i + 1], again, *facts[i:]]) == []


def test_a_violation_says_what_where_and_since_when() -> None:
    checker = Checker()
    told = [fact for fact in twice(e.Charged)(list(honest())) if not isinstance(fact, e.NodeJoined)]
    (found,) = [v for fact in told[: nth(told, e.Charged, 1) + 1] for v in checker.see(fact)]
    assert found == Violation(7, nth(told, e.Charged, 1) + 1, found.what)
    assert str(found) == f"fact {found.seq} breaks invariant 7: {found.what}"
    assert "was charged twice" in found.what


def backwards(items: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(reversed(items))


def first_less(items: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(items[1:])


def last_less(items: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(items[:-1])


def with_last(**fields: Any) -> Any:
    """A list whose last record says something else."""
    return lambda items: (*items[:-1], items[-1].model_copy(update=fields))


def with_first(**fields: Any) -> Any:
    """A list whose first record says something else."""
    return lambda items: (items[0].model_copy(update=fields), *items[1:])


def refund(charged: e.Charged) -> e.Refunded:
    paid = charged.model_dump(include={"tournament_id", "hotkey", "coldkey", "rao"})
    return e.Refunded(**paid, because="out of kindness")


def evaluated_again(fact: e.CheckpointEvaluated) -> e.EvaluationRepeated:
    number = fact.number + 1
    return e.EvaluationRepeated(tournament_id=fact.tournament_id, task_id=fact.task_id, number=number, because="again")


def same_image_twice(facts: list[e.Fact]) -> list[e.Fact]:
    """Somebody runs two images."""
    runs = [i for i, f in enumerate(facts) if isinstance(f, e.AttemptRunning) and f.hotkey == "m10"]
    for image, i in enumerate(runs):
        facts[i] = facts[i].model_copy(update={"image_id": f"sha256:{image}"})
    return facts


def the_platforms(failed: Failed) -> Failed:
    """The same failure, with the platform to blame."""
    return failed.model_copy(update={"blame": Blame.PLATFORM})


def not_built(started: e.AttemptStarted) -> e.StagingFailed:
    """The image of an attempt cannot be built though the one before it runs."""
    failed = Failed(blame=Blame.MINER, kind="image_build_failed", reason="image build failed at step 1/2")
    fields = started.model_dump(include=set(e.StagingFailed.model_fields) - {"kind", "failed"})
    return e.StagingFailed.model_validate({**fields, "epoch": started.epoch + 1, "failed": failed})


def is_of_m05(fact: e.AttemptRunning) -> bool:
    return fact.hotkey == "m05" and fact.image_id != ""


def is_boss(fact: e.RoundDrawn) -> bool:
    return fact.round_type is RoundType.BOSS


def is_pairs(fact: e.RoundDrawn) -> bool:
    return fact.round_type is RoundType.KNOCKOUT


def has_the_bye(fact: e.EntrantAccepted) -> bool:
    drawn = next(f for f in honest("pairs") if isinstance(f, e.RoundDrawn))
    return fact.entrant.hotkey in drawn.byes


def begun_before(facts: list[e.Fact]) -> list[e.Fact]:
    """An attempt begins once more under the same name."""
    i = nth(facts, e.AttemptStarted)
    return [*facts[: i + 1], facts[i], *facts[i + 1 :]]


LIES: list[tuple[str, str, Lie, set[int]]] = [
    # 1: GPUs
    ("on a strange node", "group", changed(e.AttemptStarted, node="n9"), {1}),
    ("more GPUs than there are", "group", changed(e.NodeJoined, gpus={"H100": 1}), {1}),
    ("sees too few", "group", changed(e.AttemptRunning, gpu_indices=(0, 1, 2, 3, 4, 5, 6)), {1}),
    ("runs without a lease", "group", earlier(e.LeaseEnded, 0, e.AttemptRunning), {1}),
    ("while another goes on", "eventful", without(e.TrainingRetried), {1}),
    ("begun twice", "group", begun_before, {1, 4}),
    # 2: the ends of leases
    ("ended twice", "group", twice(e.LeaseEnded), {2}),
    ("a fence that nobody made", "group", changed(e.LeaseEnded, witness="fence"), {2}),
    ("freed before it was fenced", "eventful", without(e.NodeFenced), {2}),
    # 3: one verdict
    ("a task decided twice", "group", twice(e.TaskDecided), {3}),
    ("a match decided twice", "group", twice(e.MatchDecided), {3}),
    ("somebody not ranked", "group", changed(e.TaskDecided, ranking=last_less), {3}),
    ("somebody without a verdict", "group", changed(e.MatchDecided, verdicts=last_less), {3}),
    ("two words", "group", changed(e.MatchDecided, verdicts=with_last(advances=True)), {3}),
    # 4: attempts
    ("an epoch too late", "group", changed(e.AttemptStarted, epoch=2), {4}),
    ("one attempt more", "eventful", rules(max_training_attempts=1), {4}),
    ("one attempt less", "eventful", rules(max_training_attempts=3), {4}),
    ("another attempt ended", "group", changed(e.AttemptEnded, attempt_id="another"), {4}),
    ("a build that the platform failed", "eventful", changed(e.StagingFailed, failed=the_platforms), {4}),
    ("not built while it runs", "eventful", added(e.AttemptStarted, 0, not_built), {4}),
    ("evaluated five times", "eventful", changed(e.EvaluationRepeated, -1, number=5), {4}),
    ("run three times", "eventful", changed(e.TaskRepeated, number=3), {4}),
    # 5: verdicts follow from metrics
    ("another metric", "group", changed(e.TaskDecided, ranking=with_first(value=0.125)), {5}),
    ("another order", "group", changed(e.TaskDecided, ranking=backwards), {5}),
    ("another score", "group", changed(e.TaskDecided, ranking=with_last(score=3)), {5}),
    ("a valid one left out", "group", changed(e.TaskDecided, ranking=with_last(valid=False)), {5}),
    ("another winner", "group", changed(e.TaskDecided, winner="m03"), {5}),
    ("a boss task given away", "group", changed(e.TaskDecided, -1, winner=CHAMPION), {5}),
    ("others advance", "group", changed(e.MatchDecided, advancing=backwards), {5}),
    ("in another order", "group", changed(e.RoundCompleted, advancing=backwards), {5}),
    ("in another order than before", "pairs", changed(e.RoundCompleted, advancing=backwards), {5, 11}),
    ("one less", "group", changed(e.RoundCompleted, advancing=first_less), {5, 11}),
    ("evaluated though valid", "group", added(e.CheckpointEvaluated, 0, evaluated_again), {4, 5}),
    ("another title", "group", changed(e.TournamentCompleted, title="defended"), {5}),
    ("another champion", "group", changed(e.TournamentCompleted, winner="m03"), {5}),
    ("another difference", "group", changed(e.TournamentCompleted, performance_difference=0.5), {5}),
    ("another weight", "group", changed(e.TournamentCompleted, standings=with_last(weight=0.5)), {5}),
    ("another place", "group", changed(e.TournamentCompleted, standings=with_last(place=3)), {5}),
    ("points for the champion", "group", changed(e.TournamentCompleted, standings=with_first(points=1.0)), {5}),
    ("somebody forgotten", "group", changed(e.TournamentCompleted, standings=last_less), {5}),
    # 6: the same for all
    ("other hours", "group", changed(e.TaskPrepared, hours=9.0), {6}),
    ("other terms", "group", changed(e.AttemptStarted, 1, terms=lambda t: t.model_copy(update={"nano_cpus": 1})), {6}),
    # 7: money
    ("charged twice", "group", twice(e.Charged), {7}),
    ("another fee", "group", changed(e.Charged, rao=1), {7}),
    ("never charged", "group", without(e.Charged), {7}),
    ("too poor", "group", changed(e.TransferCredited, rao=1), {7}),
    ("credited twice", "group", twice(e.TransferCredited), {7}),
    ("refunded for nothing", "group", added(e.EntrantAccepted, 0, lambda f: refund(paid(f))), {7}),
    ("refunded twice", "eventful", twice(e.Refunded), {7}),
    ("refunded too much", "eventful", changed(e.Refunded, rao=10**9), {7}),
    ("not refunded", "eventful", without(e.Refunded), {7}),
    ("refunded to a stranger", "eventful", changed(e.Refunded, hotkey="stranger"), {7}),
    # 8: one tree, one image
    ("another tree", "group", changed(e.AttemptStarted, tree_hash=OTHER), {8}),
    ("another image", "group", same_image_twice, {8}),
    ("an image of another tree", "eventful", changed(e.ImageBuilt, tree_hash=OTHER), {8}),
    (
        "another image than was built",
        "eventful",
        changed(e.AttemptRunning, 0, is_of_m05, image_id="b"),
        {8},
    ),
    # 9: nothing before its time
    ("a match before its task", "group", earlier(e.MatchDecided, 0, e.TaskDecided), {9}),
    ("a round before its match", "pairs", earlier(e.RoundCompleted, 0, e.MatchDecided, 1), {5, 9}),
    ("a round twice", "group", twice(e.RoundCompleted), {9}),
    ("drawn too early", "group", earlier(e.RoundDrawn, -1, e.RoundCompleted, -2), {9, 11}),
    ("over before its end", "group", earlier(e.TournamentCompleted, 0, e.RoundCompleted, -1), {9}),
    # 11: draws
    ("another draw seed", "group", changed(e.TournamentActivated, draw_seed="33" * 32), {11}),
    ("another secret", "group", changed(e.SecretRevealed, secret_seed="33" * 32), {11}),
    ("a used seed", "eventful", changed(e.TournamentCreated, 1, secret_commitment=commitment(SECRET_SEED)), {11}),
    ("another beacon", "group", changed(e.TournamentActivated, beacon="another"), {11}),
    ("pairs swapped", "group", changed(e.RoundDrawn, which=is_pairs, matches=backwards), {11}),
    ("a late entrant", "pairs", changed(e.EntrantAccepted, which=has_the_bye, number=2), {5, 11}),
    ("a bye for nobody", "group", changed(e.RoundDrawn, which=is_pairs, byes=("m99",)), {5, 11}),
    ("a bye beside a match", "group", changed(e.RoundDrawn, which=is_pairs, byes=("m10",)), {11}),
]


def paid(fact: e.EntrantAccepted) -> e.Charged:
    """The fee of who was accepted."""
    entrant = fact.entrant
    return e.Charged(tournament_id=fact.tournament_id, hotkey=entrant.hotkey, coldkey=entrant.coldkey, rao=200_000_000)


@pytest.mark.parametrize(("journal", "lie", "numbers"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_a_lie_breaks_its_invariant(journal: str, lie: Lie, numbers: set[int]) -> None:
    assert broken(lie, journal) == numbers


def test_every_invariant_of_a_journal_is_broken_alone_by_some_lie() -> None:
    alone = {number for *_, numbers in LIES if len(numbers) == 1 for number in numbers}
    assert alone == {1, 2, 3, 4, 5, 6, 7, 8, 9, 11}
