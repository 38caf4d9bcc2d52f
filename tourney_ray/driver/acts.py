"""What people do to a running tournament: recorded in the stepping task's turn, or refused in words for people.

Guarantee: an act that is refused leaves nothing in the journal; one that is answered with a number is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from tourney_ray.core.events import Act, NodeFenced, TournamentCancelled, TrainingReopened, TrainingRetried
from tourney_ray.core.state import State
from tourney_ray.driver.loop import Loop
from tourney_ray.errors import NotAllowed, NotFound, UserError

NAMED = 8
"""Most names that a hint lists."""

REFUSED: dict[type[Act], tuple[str, str]] = {
    TournamentCancelled: ("not cancelled", "only what is pending or active can be cancelled: a verdict stands"),
    TrainingRetried: ("not retried", "`tourney retry` is for what runs or waits, `tourney reopen` for what is over"),
    TrainingReopened: ("not reopened", "`tourney reopen` is for what is over and not decided yet"),
    NodeFenced: ("not fenced", "only a node that was lost can be fenced: stop Ray on it first"),
}
"""What a refusal begins with, and what helps."""


@dataclass(frozen=True, slots=True, eq=False)
class Deed:
    """An act that waits for its turn, and for whoever handed it in the number under which it is recorded."""

    act: Act
    answer: asyncio.Future[int]

    def do(self, loop: Loop, now: datetime) -> None:
        """Record the act and answer; a refusal is an answer too. Raises `PlatformFault` when the disk fails."""
        seq = loop.journal.state.seq + 1
        try:
            record(loop, self.act, now)
        except UserError as refusal:
            self.refuse(refusal)
        else:
            self._tell(seq)

    def refuse(self, why: UserError) -> None:
        """Answer with an error, unless it is answered."""
        if not self.answer.done():
            self.answer.set_exception(why)

    def _tell(self, seq: int) -> None:
        if not self.answer.done():
            self.answer.set_result(seq)


def record(loop: Loop, act: Act, now: datetime) -> None:
    """Record the act with all that it forces.

    Raises `NotFound` when something that it names is not there, `NotAllowed` when it cannot be done now; both leave
    nothing behind.
    """
    _need_names(loop.journal.state, act)
    try:
        loop.act(act, now)
    except NotAllowed as refusal:
        words, hint = REFUSED[type(act)]
        why = refusal.message.removeprefix(f"{act.kind} cannot follow: ")
        raise NotAllowed(f"{words}: {why}", hint) from refusal


def some(names: Iterable[str]) -> str:
    """The first few names, for a hint."""
    listed = sorted(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return (", ".join(listed[:NAMED]) or "none") + more


def _need_names(state: State, act: Act) -> None:
    match act:
        case NodeFenced():
            if act.node not in state.nodes:
                lost = [node.node_id for node in state.nodes.values() if node.lost_at]
                _not_found(f"there is no node {act.node}", f"lost ones that still hold GPUs: {some(lost)}")
        case TournamentCancelled():
            _need_tournament(state, act.tournament_id)
        case TrainingRetried() | TrainingReopened():
            _need_tournament(state, act.tournament_id)
            tasks = state.tournaments[act.tournament_id].tasks
            if act.task_id not in tasks:
                _not_found(f"there is no task {act.task_id} in {act.tournament_id}", f"its tasks: {some(tasks)}")
            trainings = tasks[act.task_id].trainings
            if act.hotkey not in trainings:
                _not_found(f"{act.hotkey} does not train task {act.task_id}", f"those who do: {some(trainings)}")


def _need_tournament(state: State, tournament_id: str) -> None:
    if tournament_id not in state.tournaments:
        live = [t.tournament_id for t in state.live()]
        _not_found(f"there is no tournament {tournament_id}", f"pending or active: {some(live)}")


def _not_found(message: str, hint: str) -> NoReturn:
    raise NotFound(message, hint)
