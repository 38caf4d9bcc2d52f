"""Every decision in a journal is recomputed; the first one that is not forced is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, get_args

import pytest

from tests.builders import START, Played, credit, entries, play
from tests.builders_eventful import eventful
from tourney_ray.core import events as e
from tourney_ray.core.chain import GENESIS
from tourney_ray.core.models import TaskType, TournamentType
from tourney_ray.errors import AuditDifference, UserError
from tourney_ray.report.audit import DECISIONS, audit

Facts = list[tuple[e.Fact, datetime]]
F = TypeVar("F", bound=e.Record)

PLAYED = play(9)
EVENTFUL = eventful()


def position(facts: Sequence[tuple[e.Fact, datetime]], kind: type[e.Record], nth: int = 0) -> int:
    return [i for i, (fact, _) in enumerate(facts) if isinstance(fact, kind)][nth]


def edited(facts: Facts, kind: type[F], change: Callable[[F], dict[str, Any]], nth: int = 0) -> Facts:
    """The facts with the n-th one of that kind changed, the chain made anew by whoever reads them."""
    place = position(facts, kind, nth)
    fact, at = facts[place]
    assert isinstance(fact, kind)
    fake = fact.model_copy(update=change(fact))
    return [*facts[:place], (e.FACT.validate_json(fake.model_dump_json()), at), *facts[place + 1 :]]


def without(facts: Facts, kind: type[e.Record], nth: int = 0) -> Facts:
    place = position(facts, kind, nth)
    return facts[:place] + facts[place + 1 :]


def complaint(facts: Facts) -> str:
    with pytest.raises(AuditDifference) as caught:
        audit(entries(facts))
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "played", [PLAYED, EVENTFUL, play(8, champion=False)], ids=["plain", "eventful", "no champion"]
)
def test_an_honest_journal_is_all_equal(played: Played) -> None:
    report = audit(entries(played.facts))
    verdicts = sum(
        len(f.verdicts) if isinstance(f, e.MatchDecided) else isinstance(f, e.TaskDecided) for f, _ in played.facts
    )
    assert report.summary == f"{len(played.facts)} facts, {verdicts} verdicts recomputed, all equal"
    assert report.tournaments == tuple(played.state.tournaments)
    assert report.head == entries(played.facts)[-1].hash


def test_what_could_not_be_recomputed_is_noted_of_the_cancelled_tournament_only() -> None:
    assert audit(entries(PLAYED.facts)).notes == ()
    cancelled = EVENTFUL.tournament_id
    assert audit(entries(EVENTFUL.facts)).notes == (
        f"{cancelled} was played by rules of its own, which differ from `spec` in max_platform_failures",
        f"{cancelled} is not completed, its secret seed not revealed: the choice of its tasks was not recomputed",
    )


def test_no_facts_are_all_equal() -> None:
    report = audit([])
    assert (report.facts, report.verdicts, report.tournaments, report.notes) == (0, 0, (), ())
    assert report.head == GENESIS


def test_the_decisions_are_those_that_settle_gives() -> None:
    given = {
        e.TournamentCreated,
        e.TransferCredited,
        e.RegistrationPassed,
        e.TournamentActivated,
        e.TaskPrepared,
        e.TaskPreparationFailed,
        e.ImageBuilt,
        e.StagingFailed,
        e.AttemptStarted,
        e.AttemptRunning,
        e.LeaseEnded,
        e.AttemptEnded,
        e.CheckpointEvaluated,
        e.EvaluationFailed,
        e.SecretRevealed,
        e.NodeJoined,
        e.NodeLost,
        *get_args(e.Act),
    }
    assert {type(fact) for fact, _ in EVENTFUL.facts} == given | set(DECISIONS)


@pytest.mark.parametrize("kind", DECISIONS)
def test_a_decision_that_is_missing_is_found(kind: type[e.Record]) -> None:
    """What comes too early in its place is named: another kind, or another one of the same kind."""
    message = complaint(without(EVENTFUL.facts, kind))
    place = position(EVENTFUL.facts, kind) + 1
    assert message.startswith(f"fact {place} (")
    assert f"the rules give {kind.__name__} first" in message or f"({kind.__name__}): the journal says " in message


@pytest.mark.parametrize("kind", DECISIONS)
def test_a_decision_that_is_not_due_is_found(kind: type[e.Record]) -> None:
    place = position(EVENTFUL.facts, kind)
    message = complaint([(credit("x", number=9), START), EVENTFUL.facts[place]])
    assert message == f"fact 2 ({kind.__name__}): the journal says it, the rules give no decision here"


@pytest.mark.parametrize("kind", [k for k in DECISIONS if "because" in k.model_fields])
def test_another_reason_is_found(kind: type[e.Record]) -> None:
    facts = edited(EVENTFUL.facts, kind, lambda fact: {"because": "bribed"})
    assert f"({kind.__name__}): the journal says because bribed, the rules give " in complaint(facts)


def test_a_swapped_verdict_is_found_by_its_path() -> None:
    facts = edited(PLAYED.facts, e.MatchDecided, lambda m: {"advancing": m.advancing[1:] + m.advancing[:1]})
    place = position(PLAYED.facts, e.MatchDecided) + 1
    message = complaint(facts)
    assert message.startswith(f"fact {place} (MatchDecided): the journal says advancing[0] m")
    assert ", the rules give m" in message


def test_a_weight_is_found_but_not_its_last_bit() -> None:
    def shift(by: float) -> Callable[[e.TournamentCompleted], dict[str, Any]]:
        def change(done: e.TournamentCompleted) -> dict[str, Any]:
            first, *rest = done.standings
            return {"standings": (first.model_copy(update={"weight": first.weight + by}), *rest)}

        return change

    assert "standings[0].weight 0.4" in complaint(edited(PLAYED.facts, e.TournamentCompleted, shift(1e-9)))
    assert audit(entries(edited(PLAYED.facts, e.TournamentCompleted, shift(1e-16)))).facts == len(PLAYED.facts)


def test_an_entrant_more_in_a_draw_is_found() -> None:
    facts = edited(PLAYED.facts, e.RoundDrawn, lambda r: {"matches": (*r.matches, r.matches[0])})
    assert "(RoundDrawn): the journal says matches [" in complaint(facts)


def test_a_metric_changed_afterwards_changes_the_verdict() -> None:
    def better(fact: e.CheckpointEvaluated) -> dict[str, Any]:
        return {"result": fact.result.model_copy(update={"value": 0.001, "per_row": ()})}

    assert "(TaskDecided): the journal says ranking" in complaint(edited(PLAYED.facts, e.CheckpointEvaluated, better))


def test_a_value_that_is_not_the_mean_of_its_rows_is_found() -> None:
    def wrong(fact: e.CheckpointEvaluated) -> dict[str, Any]:
        return {"result": fact.result.model_copy(update={"value": fact.result.value + 1e-6})}

    message = complaint(edited(PLAYED.facts, e.CheckpointEvaluated, wrong))
    assert "(CheckpointEvaluated): the journal says result.value" in message
    assert message.endswith(", the mean of per_row")


def test_tasks_that_the_secret_does_not_choose_are_found() -> None:
    done = position(PLAYED.facts, e.SecretRevealed) + 1
    hours = complaint(an_hour_more(PLAYED.facts))
    assert hours.startswith(f"fact {done} (SecretRevealed): the journal says task ")
    assert hours.endswith(".hours 3.0, the rules give 2.0")
    kind = complaint(edited(PLAYED.facts, e.TaskPrepared, lambda t: {"task_type": TaskType.CHAT}))
    assert kind.endswith(".task_type ChatTask, the rules give InstructTextTask")


def an_hour_more(facts: Facts) -> Facts:
    """The first task with another time limit, of which all of its attempts know."""
    prepared, _ = facts[position(facts, e.TaskPrepared)]
    assert isinstance(prepared, e.TaskPrepared)
    facts = edited(facts, e.TaskPrepared, lambda t: {"hours": t.hours + 1})
    starts = [fact for fact, _ in facts if isinstance(fact, e.AttemptStarted)]
    for nth, start in enumerate(starts):
        if start.task_id == prepared.task_id:
            terms = start.terms.model_copy(update={"hours": start.terms.hours + 1})
            facts = edited(facts, e.AttemptStarted, lambda _, terms=terms: {"terms": terms}, nth)
    return facts


def test_ids_and_gpus_follow() -> None:
    assert "says task_id 7" in complaint(edited(PLAYED.facts, e.TaskPrepared, lambda t: {"task_id": "7"}))
    assert "says task_id 7" in complaint(edited(EVENTFUL.facts, e.TaskPreparationFailed, lambda t: {"task_id": "7"}))
    assert "says slot 9, the rules give 0 to 0" in complaint(
        edited(PLAYED.facts, e.TaskPrepared, lambda t: {"slot": 9})
    )
    assert "says attempt_id x" in complaint(edited(PLAYED.facts, e.AttemptStarted, lambda a: {"attempt_id": "x"}))


@pytest.mark.parametrize(
    ("better", "message"),
    [
        ({"gpus": 8}, "says terms.gpus 8, the rules give 1"),
        ({"hours": 99.0}, "says terms.hours 99.0, the rules give 2.0"),
        ({"mem_limit": "240g"}, "says terms.mem_limit 240g, the rules give 24g"),
        ({"nano_cpus": 1}, "says terms.nano_cpus 1, the rules give 8000000000"),
        ({"dataset_sha256": "f" * 64}, "says terms.dataset_sha256 ffff"),
    ],
)
def test_nobody_trains_on_other_terms(better: dict[str, Any], message: str) -> None:
    terms = edited(PLAYED.facts, e.AttemptStarted, lambda a: {"terms": a.terms.model_copy(update=better)})
    assert message in complaint(terms)


def test_what_cannot_follow_is_a_difference() -> None:
    assert "epoch 1 is due" in complaint(
        edited(
            PLAYED.facts,
            e.AttemptStarted,
            lambda a: {"epoch": 2, "attempt_id": f"{a.task_id}.{a.hotkey}.2"},
        )
    )
    assert "the seed is not the one committed to" in complaint(
        edited(PLAYED.facts, e.TournamentActivated, lambda a: {"draw_seed": "33" * 32})
    )
    assert "the seed is not the one committed to" in complaint(
        edited(PLAYED.facts, e.SecretRevealed, lambda r: {"secret_seed": "33" * 32})
    )


@pytest.mark.parametrize("kind", [e.TaskPrepared, e.AttemptStarted, e.SecretRevealed, e.CheckpointEvaluated])
def test_facts_of_no_tournament_are_differences(kind: type[e.Record]) -> None:
    stray = PLAYED.facts[position(PLAYED.facts, kind)]
    assert "fact 1 " in complaint([stray])


def test_an_unrevealed_secret_is_a_note() -> None:
    report = audit(entries(PLAYED.facts[:-1]))
    (note,) = report.notes
    assert note.startswith(f"{PLAYED.tournament_id} is completed, its secret seed not revealed")
    running = audit(entries(PLAYED.facts[: position(PLAYED.facts, e.TournamentActivated)]))
    assert "is not completed, its secret seed not revealed" in running.notes[0]


def test_an_end_without_its_forced_decision_is_found_unless_it_still_grows() -> None:
    place = position(PLAYED.facts, e.RoundCompleted)
    cut = PLAYED.facts[:place]
    assert complaint(cut) == f"fact {place + 1} is missing: the journal ends here, the rules give RoundCompleted"
    report = audit(entries(cut), growing=True)
    assert report.notes[-1] == "the journal ends here, the rules give RoundCompleted next"


def test_no_number_equals_no_number() -> None:
    """An entrant whose metric is NaN is in the ranking with it; its journal is honest."""
    image = [t for t in EVENTFUL.state.tournaments.values() if t.tournament_type is TournamentType.IMAGE]
    assert image[0].completed
    assert audit(entries(EVENTFUL.facts)).facts == len(EVENTFUL.facts)


def test_a_broken_chain_is_a_difference() -> None:
    chained = entries(PLAYED.facts)
    with pytest.raises(UserError, match="fact 31 is due"):
        audit(chained[:30] + chained[31:])
    late = chained[5].model_copy(update={"body": chained[4].body})
    with pytest.raises(AuditDifference, match=r"fact 6 \(TransferCredited\): its hash is not that of its content"):
        audit([*chained[:5], late])
