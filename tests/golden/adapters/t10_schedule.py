"""10: completion, schedule, duplicates, placement and queue (RULES §1, §6, §7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.builders import START, data, evaluated, offer
from tests.golden.harness import Adapter, Fixed, skip
from tourney_ray.core.decisions import TaskDecided
from tourney_ray.core.leases import Cluster
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import (
    GpuRequirement,
    RoundStatus,
    RoundType,
    TaskOrigin,
    TaskType,
    TournamentStatus,
    TournamentType,
    TrainingStatus,
)
from tourney_ray.core.nodes import Node
from tourney_ray.core.placement import place
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.rules import Rules
from tourney_ray.core.schedule import process_tournament_scheduling
from tourney_ray.core.scoring import Submission, rank_task
from tourney_ray.core.settle import process_active_tournaments
from tourney_ray.core.state import Match, Round, State, Task, Tournament, Training
from tourney_ray.core.tasks import mostly_failed, queue_key

RULES = Rules()
BLANK = Tournament(
    tournament_id="t",
    tournament_type=TournamentType.TEXT,
    rules=RULES,
    draw_commitment="",
    secret_commitment="",
    created_at=START,
    champion=None,
    champion_wins=0,
)


# --- trainings and tasks


def _status(recorded: str) -> TrainingStatus:
    """Our word; a training whose preparation failed has failed."""
    return TrainingStatus.FAILURE if recorded == "prep_task_failure" else TrainingStatus(recorded)


def failed(given: Any) -> Any:
    statuses = [_status(status) for status in given["trainings"].values()]
    return mostly_failed(statuses.count(TrainingStatus.FAILURE), len(statuses), RULES)


def task_completed(given: Any) -> Any:
    """Whether our rules decide a task in that state, which ends it."""
    return any(isinstance(fact, TaskDecided) for fact in process_active_tournaments(_with_task(given)))


def _with_task(given: Any) -> Tournament:
    """A tournament with that task, done as recorded; while it is under way, the round is pending."""
    terminal = given["task_status"] in ("success", "failure")
    value = evaluated(1.0 if given["task_status"] == "success" else math.nan) if terminal else None
    trainings = {
        h: Training("t", "x", h, "repo", f"x.{h}", _status(s), evaluated=value if s == "success" else None)
        for h, s in (given["trainings"] or {"nobody": "failure"}).items()
    }
    task = Task(
        task_id="x",
        match_id="m",
        slot=0,
        preparation=1,
        task_type=TaskType.INSTRUCT,
        hours=1,
        data=data(),
        prepared_at=START,
        gpu_requirement=GpuRequirement.H100_1X,
        trainings=trainings,
        evaluation=RULES.max_evaluations,
    )
    status = RoundStatus.ACTIVE if terminal else RoundStatus.PENDING
    match = Match("m", tuple(trainings), {0: "x"})
    active = Round("r", 1, RoundType.KNOCKOUT, {"m": match}, (), START, status)
    hotkeys = list(trainings)
    return replace(
        BLANK,
        status=TournamentStatus.ACTIVE,
        entrants={h: offer(h) for h in hotkeys},
        ranks={h: i for i, h in enumerate(hotkeys)},
        rounds=(active,),
        tasks={"x": task},
    )


def a_failure_is_terminal(given: Any, recorded: Any) -> Fixed:
    """A failed task, and one most of whose trainings failed, are done and wait for nobody."""
    return Fixed("§6", given["task_status"] in ("success", "failure"))


# --- the schedule


def rested(given: Any) -> Any:
    rules = RULES.model_copy(update={"tournament_interval_hours": given["interval_hours"]})
    now = START + timedelta(seconds=given["seconds_since"])
    done = replace(BLANK, status=TournamentStatus.COMPLETED, completed_at=START)
    return process_tournament_scheduling(State(tournaments={"t": done}), TournamentType.TEXT, rules, now) == now


def starts(given: Any) -> Any:
    """Whether one starts now; what was completed before completions were recorded ended when it was created."""
    kind, now = TournamentType(given["type"]), START + timedelta(days=365)
    found: list[Tournament] = []
    if given["latest_status"] is not None:
        hours = given["hours_since_completion"]
        created = now - timedelta(hours=given["hours_since_creation"])
        ended = created if hours is None else now - timedelta(hours=hours)
        status = TournamentStatus(given["latest_status"])
        completed_at = ended if status is TournamentStatus.COMPLETED else None
        found.append(replace(BLANK, tournament_type=kind, status=status, completed_at=completed_at))
    if given["active_of_type"]:
        found.append(replace(BLANK, tournament_type=kind, status=TournamentStatus.ACTIVE))
    if given["pending_type"]:
        found.append(replace(BLANK, tournament_type=TournamentType(given["pending_type"])))
    state = State(tournaments={str(i): t for i, t in enumerate(found)})
    return {"starts": process_tournament_scheduling(state, kind, RULES, now) == now}


def none_while_one_runs(given: Any, recorded: Any) -> Fixed | None:
    """One that is pending or active keeps the next of its type waiting, and no other type's does."""
    kind, latest = given["type"], given["latest_status"]
    runs = given["active_of_type"] or given["pending_type"] == kind or latest in ("pending", "active")
    hours = given["hours_since_completion"]
    since = given["hours_since_creation"] if hours is None else hours
    return Fixed("§1", {"starts": not runs and (latest != "completed" or since >= 72)})


# --- duplicates


def duplicates(given: Any) -> Any:
    """Who is kept, and everybody's score, with the results in the order of registration."""
    kept = _ranked(given, lambda r: r["hash"] or "")
    alone = {r.hotkey: r.valid for r in _ranked(given, lambda r: "")}
    return {
        "keep": {r.hotkey: r.valid == alone[r.hotkey] for r in kept},
        "scores": {r.hotkey: r.score for r in kept},
    }


def _ranked(given: Any, digest: Callable[[Any], str]) -> Any:
    submissions = [
        Submission(r["hotkey"], i, r["test_loss"], r["is_finetune"], digest(r)) for i, r in enumerate(given["results"])
    ]
    return rank_task(METRICS[TaskType.INSTRUCT], submissions, RULES)


def equal_weights_only(given: Any, recorded: Any) -> Fixed:
    """A duplicate has the hash of an earlier result that counts; losses and upload times prove nothing."""
    fit, taken = list[Any](), set[str]()
    for r in given["results"]:
        sound = r["is_finetune"] and r["test_loss"] is not None and math.isfinite(r["test_loss"])
        if sound and r["hash"] not in taken:
            fit.append(r)
            taken |= {r["hash"]} if r["hash"] else set()
    order = [r["hotkey"] for r in sorted(fit, key=lambda r: r["test_loss"])]
    last = order[-max(1, len(order) // 4) :] if len(order) > 8 else []
    scores = {r["hotkey"]: -1 if order else 0 for r in given["results"]} | dict.fromkeys(order, 0)
    scores |= dict.fromkeys(last, -1) | ({order[0]: 3} if order else {})
    sound = {
        r["hotkey"]: bool(r["is_finetune"] and r["test_loss"] is not None and math.isfinite(r["test_loss"]))
        for r in given["results"]
    }
    return Fixed("§7", {"keep": {h: h in order or not sound[h] for h in sound}, "scores": scores})


def kept(output: Any) -> Any:
    """The decisions of recorded duplicates."""
    return {"keep": output["keep"], "scores": {r["hotkey"]: r["score"] for r in output["after"]}}


# --- placement and queue


def fits(given: Any) -> Any:
    """Whether some machine has the GPUs free; which of them is the scheduler's choice."""
    nodes = {str(i): Node(str(i), _free(trainer["gpus"])) for i, trainer in enumerate(given["trainers"])}
    request = Request("x", GpuRequirement(given["requirement"]), 1.0)
    return "x" in place([Line.of(request)], State(nodes=nodes), Cluster(), START).nodes


def _free(gpus: Any) -> dict[str, int]:
    kinds = [kind for kind, free in gpus if free]
    return {kind: kinds.count(kind) for kind in kinds}


def queue(given: Any) -> Any:
    origins = {number: origin for origin, number in RULES.priority.items()}
    waiting = [(origins[p["priority"]], p["created_minute"], p["task"]) for p in given["pending"]]
    return [task for _, _, task in sorted(waiting, key=_queue_key)]


def _queue_key(waiting: tuple[TaskOrigin, int, int]) -> Any:
    origin, minute, _ = waiting
    return queue_key(origin, START + timedelta(minutes=minute), RULES)


def lowest_priority_number_first(given: Any, recorded: Any) -> Fixed:
    """Organic, tournament, benchmark, where the implementation takes them from the other end; oldest first."""
    ordered = sorted(given["pending"], key=lambda p: (p["priority"], p["created_minute"]))
    return Fixed("§6", [p["task"] for p in ordered])


ADAPTERS = {
    "10a_failed_trainings": Adapter(failed),
    "10a2_task_completion": Adapter(task_completed, a_failure_is_terminal, lambda output: output["completed"]),
    "10b_interval": Adapter(rested),
    "10c_schedule": Adapter(starts, none_while_one_runs),
    "10d_duplicates": Adapter(duplicates, equal_weights_only, kept),
    "10e_suitable_gpus": Adapter(fits, compared=lambda output: output is not None),
    "10f_training_queue_order": Adapter(queue, lowest_priority_number_first, lambda output: output["processing_order"]),
    "10g_training_attempts": skip("an attempt is a record of its own, not a counter of status changes"),
    "10h_fetch_thresholds": skip("nothing is fetched ahead of need: plans follow from the state"),
}
