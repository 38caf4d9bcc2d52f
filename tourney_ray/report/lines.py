"""One line per fact, `key=value`, for logs and for terminals that are none. Pure."""

from __future__ import annotations

import json

from tourney_ray.core import events as e
from tourney_ray.core.chain import Entry
from tourney_ray.core.models import Failed
from tourney_ray.core.scoring import spell

SHORT = 16
"""Characters of a hotkey that are shown."""


def short(hotkey: str | None) -> str:
    """The beginning of a hotkey, enough for a person; `nobody` for None."""
    return "nobody" if hotkey is None else hotkey[:SHORT]


def fact_line(entry: Entry) -> str:
    """`20:15:03 #41 MatchDecided match=… because="…"`."""
    fact = entry.fact
    pairs = " ".join(f"{key}={_quoted(value)}" for key, value in _pairs(fact).items() if value != "")
    return f"{entry.at:%H:%M:%S} #{entry.seq} {entry.kind} {pairs}".rstrip()


def _pairs(fact: e.Fact) -> dict[str, object]:  # noqa: C901, PLR0911 - a line per fact
    match fact:
        case e.TournamentCreated():
            champion = fact.champion.hotkey if fact.champion else None
            return {"tournament": fact.tournament_id, "champion": short(champion), "because": fact.because}
        case e.TransferCredited():
            return {"coldkey": short(fact.coldkey), "rao": fact.rao}
        case e.RegistrationPassed():
            return {"pass": fact.number, "asked": len(fact.answers)}
        case e.Charged():
            return {"hotkey": short(fact.hotkey), "rao": fact.rao}
        case e.EntrantAccepted():
            return {"hotkey": short(fact.entrant.hotkey), "because": fact.because}
        case e.EntrantRefused():
            return {"hotkey": short(fact.hotkey), "because": fact.because}
        case e.TournamentActivated():
            return {"seed": fact.draw_seed}
        case e.RoundDrawn():
            return {
                "round": fact.number,
                "type": fact.round_type,
                "matches": len(fact.matches),
                "because": fact.because,
            }
        case e.TaskPrepared():
            return {
                "task": fact.task_id[:8],
                "type": fact.task_type,
                "rows": fact.data.dataset_rows,
                "hours": fact.hours,
            }
        case e.TaskPreparationFailed():
            return {"task": fact.task_id[:8], "reason": fact.reason}
        case e.RoundActivated():
            return {"round": fact.round_id[-3:], "trainings": len(fact.assignments)}
        case _:
            return _progress_pairs(fact)


def _progress_pairs(fact: e.Fact) -> dict[str, object]:  # noqa: C901, PLR0911, PLR0912 - a line per fact
    """Of trainings, evaluations and the decisions that end something."""
    match fact:
        case e.ImageBuilt():
            image = fact.image_id[: len("sha256:") + 12]
            return {"hotkey": short(fact.hotkey), "image": image, "node": fact.node, "because": fact.because}
        case e.StagingFailed():
            return _training(fact) | {"epoch": fact.epoch, "reason": f"build failed: {fact.failed.reason}"}
        case e.AttemptStarted():
            gpus = f"{fact.terms.gpus}x{fact.terms.gpu_type}"
            return _training(fact) | {"epoch": fact.epoch, "gpus": gpus, "node": fact.node}
        case e.AttemptRunning():
            return _training(fact)
        case e.LeaseEnded():
            return _training(fact) | {"because": fact.because}
        case e.AttemptEnded():
            return _training(fact) | _outcome(fact)
        case e.CheckpointEvaluated():
            return _training(fact) | {"value": spell(fact.result.value), "refused": fact.result.refused}
        case e.EvaluationFailed():
            return _training(fact) | {"died": fact.died, "reason": fact.reason}
        case e.EvaluationRepeated() | e.TaskRepeated():
            return {"task": fact.task_id[:8], "number": fact.number, "because": fact.because}
        case e.TaskDecided():
            return {"task": fact.task_id[:8], "winner": short(fact.winner), "because": fact.because}
        case e.MatchDecided():
            return {"match": fact.match_id.split("_round_")[-1], "because": fact.because}
        case e.RoundCompleted():
            return {"round": fact.round_id[-3:], "because": fact.because}
        case e.TournamentCompleted():
            return {"winner": short(fact.winner), "title": fact.title, "because": fact.because}
        case e.SecretRevealed():
            return {"seed": fact.secret_seed}
        case _:
            return _other_pairs(fact)


def _other_pairs(fact: e.Fact) -> dict[str, object]:  # noqa: PLR0911 - a line per fact
    """Of nodes, and of what people did and what follows from it."""
    match fact:
        case e.Refunded():
            return {"hotkey": short(fact.hotkey), "rao": fact.rao, "because": fact.because}
        case e.NodeJoined():
            return {"node": fact.node, "gpus": ",".join(f"{n}x{kind}" for kind, n in fact.gpus.items())}
        case e.NodeLost():
            return {"node": fact.node}
        case e.NodeFenced():
            return {"node": fact.node, "by": fact.by, "because": fact.because}
        case e.TournamentCancelled():
            return {"tournament": fact.tournament_id, "by": fact.by, "because": fact.because}
        case e.TrainingRetried() | e.TrainingReopened():
            return {"task": fact.task_id[:8], "hotkey": short(fact.hotkey), "by": fact.by, "because": fact.because}
        case _:
            return {}


def _training(
    fact: e.StagingFailed
    | e.AttemptStarted
    | e.AttemptRunning
    | e.LeaseEnded
    | e.AttemptEnded
    | e.CheckpointEvaluated
    | e.EvaluationFailed,
) -> dict[str, object]:
    return {"task": fact.task_id[:8], "hotkey": short(fact.hotkey)}


def _outcome(fact: e.AttemptEnded) -> dict[str, object]:
    outcome = fact.outcome
    seconds = f"{outcome.seconds:.1f}"
    if isinstance(outcome, Failed):
        return {"outcome": "failed", "blame": outcome.blame, "reason": outcome.reason, "seconds": seconds}
    return {"outcome": "trained", "seconds": seconds}


def _quoted(value: object) -> str:
    """The value as one word; in quotes where it would not be one, whatever a stranger wrote into it."""
    text = str(value)
    plain = text.isprintable() and not set(text) & {" ", '"', "="}
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
