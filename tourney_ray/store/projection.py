"""The tables for people: which rows a fact writes, given the state after it. Pure; `tables.py` writes them.

A row names its key and only those columns that the fact settles; the others keep what they have. Replaying the journal
into empty tables gives the same tables. What facts about attempts and evaluations write stands in
`projection_trainings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from tourney_ray.core import events as e
from tourney_ray.core.models import Entrant, RoundStatus, TaskStatus, TournamentStatus
from tourney_ray.core.state import State
from tourney_ray.store.projection_trainings import project_training
from tourney_ray.store.row import Row


def project(fact: e.Fact, state: State, at: datetime) -> Iterable[Row]:  # noqa: C901, PLR0911, PLR0912 - a line per fact
    """The rows that `fact` writes; `state` is the one after it, `at` the moment of its recording."""
    match fact:
        case e.TournamentCreated():
            return _created(fact, at)
        case e.TransferCredited():
            return _credited(fact, state, at)
        case e.RegistrationPassed():
            return [Row("tournaments", {"tournament_id": fact.tournament_id, "passes": fact.number})]
        case e.Charged():
            return _charged(fact, state, at)
        case e.Refunded():
            return _refunded(fact, state, at)
        case e.EntrantAccepted():
            return _accepted(fact, state)
        case e.EntrantRefused():
            return [_entrant(fact, fact.hotkey, status="refused", **{"pass": fact.number}, because=fact.because)]
        case e.TournamentActivated():
            return _activated(fact, state, at)
        case e.RoundDrawn():
            return _drawn(fact, at)
        case e.TaskPrepared():
            return [_prepared(fact, state, at)]
        case e.TaskPreparationFailed():
            return [_preparation_failed(fact)]
        case e.RoundActivated():
            return _round_activated(fact, at)
        case e.EvaluationRepeated() | e.TaskRepeated():
            return [_repeated(fact)]
        case e.TaskDecided():
            return _task_decided(fact, at)
        case e.MatchDecided():
            return _match_decided(fact, at)
        case e.RoundCompleted():
            return [_round_completed(fact, at)]
        case e.TournamentCompleted():
            return _completed(fact, at)
        case e.NodeJoined() | e.NodeLost() | e.NodeFenced():
            return _node(fact, at)
        case e.TournamentCancelled():
            return _cancelled(fact, at)
        case e.SecretRevealed():
            return [Row("tournaments", {"tournament_id": fact.tournament_id, "secret_seed": fact.secret_seed})]
        case e.ImageBuilt():
            return [Row("images", {**fact.model_dump(exclude={"kind"}), "built_at": at})]
        case e.TrainingRetried() | e.TrainingReopened():
            return [_act(fact, f"{fact.task_id}.{fact.hotkey}", at), *project_training(fact, state, at)]
        case _:
            return project_training(fact, state, at)


# --- tournaments, money and registration


def _created(fact: e.TournamentCreated, at: datetime) -> Iterator[Row]:
    yield Row(
        "tournaments",
        {
            "tournament_id": fact.tournament_id,
            "type": fact.tournament_type,
            "status": TournamentStatus.PENDING,
            "champion": fact.champion.hotkey if fact.champion else None,
            "champion_wins": fact.champion_wins,
            "passes": 0,
            "entrants": 0,
            "created_at": at,
            "because": fact.because,
            "draw_commitment": fact.draw_commitment,
            "secret_commitment": fact.secret_commitment,
            "rules": fact.rules.model_dump_json(),
        },
    )
    if fact.champion:
        yield _entrant(fact, fact.champion.hotkey, status="champion", **_frozen(fact.champion), because=fact.because)


def _credited(fact: e.TransferCredited, state: State, at: datetime) -> Iterator[Row]:
    transfer = {"transfer_id": fact.transfer_id, "coldkey": fact.coldkey, "rao": fact.rao, "credited_at": at}
    yield Row("transfers", transfer)
    yield _balance(fact.coldkey, state)


def _charged(fact: e.Charged, state: State, at: datetime) -> Iterator[Row]:
    charge = {"tournament_id": fact.tournament_id, "hotkey": fact.hotkey, "coldkey": fact.coldkey}
    yield Row("charges", {**charge, "rao": fact.rao, "charged_at": at})
    yield _balance(fact.coldkey, state)


def _refunded(fact: e.Refunded, state: State, at: datetime) -> Iterator[Row]:
    charge = {"tournament_id": fact.tournament_id, "hotkey": fact.hotkey}
    yield Row("charges", {**charge, "refunded_at": at, "refund": fact.because})
    yield _balance(fact.coldkey, state)


def _balance(coldkey: str, state: State) -> Row:
    return Row("balances", {"coldkey": coldkey, "rao": state.balances[coldkey]})


def _accepted(fact: e.EntrantAccepted, state: State) -> Iterator[Row]:
    frozen = _frozen(fact.entrant)
    yield _entrant(
        fact, fact.entrant.hotkey, status="accepted", **frozen, **{"pass": fact.number}, because=fact.because
    )
    entrants = len(state.tournaments[fact.tournament_id].entrants)
    yield Row("tournaments", {"tournament_id": fact.tournament_id, "entrants": entrants})


def _frozen(offer: Entrant) -> dict[str, Any]:
    return offer.model_dump(include={"coldkey", "repo", "commit", "tree_hash"})


def _entrant(
    fact: e.TournamentCreated | e.EntrantAccepted | e.EntrantRefused | e.TournamentActivated, hotkey: str, **rest: Any
) -> Row:
    return Row("entrants", {"tournament_id": fact.tournament_id, "hotkey": hotkey, **rest})


def _activated(fact: e.TournamentActivated, state: State, at: datetime) -> Iterator[Row]:
    tournament = state.tournaments[fact.tournament_id]
    yield Row(
        "tournaments",
        {
            "tournament_id": fact.tournament_id,
            "status": TournamentStatus.ACTIVE,
            "activated_at": at,
            "draw_seed": fact.draw_seed,
            "beacon": fact.beacon,
            "seed": tournament.seed,
        },
    )
    for rank, hotkey in enumerate(tournament.entrants):
        yield _entrant(fact, hotkey, registered=rank)


def _completed(fact: e.TournamentCompleted, at: datetime) -> Iterator[Row]:
    end = fact.model_dump(
        include={"tournament_id", "winner", "title", "performance_difference", "history_difference", "because"}
    )
    yield Row("tournaments", {**end, "status": TournamentStatus.COMPLETED, "completed_at": at})
    for standing in fact.standings:
        yield Row("standings", {"tournament_id": fact.tournament_id, **standing.model_dump()})


# --- rounds and tasks


def _drawn(fact: e.RoundDrawn, at: datetime) -> Iterator[Row]:
    drawn = fact.model_dump(include={"round_id", "tournament_id", "number", "byes", "because"})
    yield Row("rounds", {**drawn, "type": fact.round_type, "status": RoundStatus.PENDING, "drawn_at": at})
    for match in fact.matches:
        yield Row("matches", {**match.model_dump(), "tournament_id": fact.tournament_id, "round_id": fact.round_id})


def _prepared(fact: e.TaskPrepared, state: State, at: datetime) -> Row:
    task = state.tournaments[fact.tournament_id].tasks[fact.task_id]
    return Row(
        "tasks",
        {
            **fact.model_dump(include={"task_id", "tournament_id", "match_id", "slot", "hours"}),
            **fact.model_dump(include={"historical", "best_historical"}),
            **fact.data.model_dump(include={"model_id", "model_params", "dataset_rows", "test_rows"}),
            "type": fact.task_type,
            "gpu_requirement": task.gpu_requirement,
            "evaluation": task.evaluation,
            "run": task.run,
            "prepared_at": at,
        },
    )


def _preparation_failed(fact: e.TaskPreparationFailed) -> Row:
    slot = fact.model_dump(include={"task_id", "tournament_id", "match_id", "slot"})
    return Row("tasks", {**slot, "status": TaskStatus.FAILURE, "because": fact.reason})


def _round_activated(fact: e.RoundActivated, at: datetime) -> Iterator[Row]:
    yield Row("rounds", {"round_id": fact.round_id, "status": RoundStatus.ACTIVE, "activated_at": at})
    for task_id in dict.fromkeys(a.task_id for a in fact.assignments):
        yield Row("tasks", {"task_id": task_id, "status": TaskStatus.TRAINING})


def _round_completed(fact: e.RoundCompleted, at: datetime) -> Row:
    end = fact.model_dump(include={"round_id", "advancing", "because"})
    return Row("rounds", {**end, "status": RoundStatus.COMPLETED, "completed_at": at})


# --- nodes, and what people do


def _node(fact: e.NodeJoined | e.NodeLost | e.NodeFenced, at: datetime) -> Iterator[Row]:
    match fact:
        case e.NodeJoined():
            gpus = json.dumps(fact.gpus, sort_keys=True)
            yield Row("nodes", {"node": fact.node, "status": "there", "gpus": gpus, "joined_at": at})
        case e.NodeLost():
            yield Row("nodes", {"node": fact.node, "status": "lost", "lost_at": at})
        case e.NodeFenced():
            yield Row("nodes", {"node": fact.node, "status": "fenced", "because": fact.because})
            yield _act(fact, fact.node, at)


def _cancelled(fact: e.TournamentCancelled, at: datetime) -> Iterator[Row]:
    end = {"status": TournamentStatus.CANCELLED, "cancelled_at": at, "because": fact.because}
    yield Row("tournaments", {"tournament_id": fact.tournament_id, **end})
    yield _act(fact, fact.tournament_id, at)


def _act(fact: e.Act, subject: str, at: datetime) -> Row:
    return Row("acts", {"kind": fact.kind, "subject": subject, "acted_at": at, "by": fact.by, "because": fact.because})


# --- verdicts


def _repeated(fact: e.EvaluationRepeated | e.TaskRepeated) -> Row:
    again = {"task_id": fact.task_id, "because": fact.because}
    if isinstance(fact, e.EvaluationRepeated):
        return Row("tasks", {**again, "evaluation": fact.number})
    return Row("tasks", {**again, "status": TaskStatus.TRAINING, "run": fact.number})


def _task_decided(fact: e.TaskDecided, at: datetime) -> Iterator[Row]:
    decision = fact.model_dump(include={"task_id", "status", "winner", "because"})
    yield Row("tasks", {**decision, "decided_at": at})
    for ranked in fact.ranking:
        yield Row("rankings", {"task_id": fact.task_id, "tournament_id": fact.tournament_id, **ranked.model_dump()})


def _match_decided(fact: e.MatchDecided, at: datetime) -> Iterator[Row]:
    decision = fact.model_dump(include={"match_id", "advancing", "because"})
    yield Row("matches", {**decision, "decided_at": at})
    for verdict in fact.verdicts:
        place = {"match_id": fact.match_id, "tournament_id": fact.tournament_id, "decided_at": at}
        yield Row("verdicts", {**place, **verdict.model_dump()})
