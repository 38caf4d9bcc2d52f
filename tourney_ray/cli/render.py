"""What a person sees while a tournament runs: a live screen on a terminal, else one line per fact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tourney_ray.config import Settings
from tourney_ray.core.chain import Entry
from tourney_ray.core.models import AttemptStatus
from tourney_ray.core.state import Attempt, State, Task, Tournament, Training
from tourney_ray.report.bracket import TITLES, bracket_lines, standing_lines
from tourney_ray.report.document import emission
from tourney_ray.report.lines import fact_line, short

Show = Callable[[Sequence[Entry], State, Mapping[str, str], Mapping[str, str]], None]
LAST_FACTS = 6
WAITS_SHOWN = 4
"""Names shown beside a reason to wait."""


@contextlib.contextmanager
def view(to_stderr: bool) -> Generator[Show]:
    """A function to call with new entries, the state after them, what is awaited, and what no waiting will mend."""
    console = Console(stderr=to_stderr)
    if not console.is_terminal:
        yield _Lines(to_stderr)
        return
    recent: list[str] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(entries: Sequence[Entry], state: State, waits: Mapping[str, str], problems: Mapping[str, str]) -> None:
            recent.extend(fact_line(entry) for entry in entries[-LAST_FACTS:])
            del recent[:-LAST_FACTS]
            live.update(screen(state, waits, problems, recent), refresh=True)

        yield show


def finale(state: State, settings: Settings, to_stderr: bool) -> None:
    """Bracket, verdicts with their reasons, standings, and where the journal lies."""
    for t in state.tournaments.values():
        for line in [*bracket_lines(t), *standing_lines(t, emission(state, t))]:
            click.echo(line, err=to_stderr)
        if t.completed:
            click.echo(f"\n{short(t.completed.winner)}: {t.completed.because}", err=to_stderr)
        if t.cancelled:
            click.echo(f"\n{t.tournament_id} was cancelled by {t.cancelled.by}: {t.cancelled.because}", err=to_stderr)
    journal = settings.state / "journal.duckdb"
    click.echo(f"Journal: {journal}   (prove it: tourney audit {settings.state})", err=to_stderr)


def screen(state: State, waits: Mapping[str, str], problems: Mapping[str, str], recent: Sequence[str]) -> Group:
    """The live screen: rounds, matches and attempts, problems, GPUs in use, waits with reasons, the latest facts."""
    parts: list[Text | Table] = []
    for t in state.live():
        parts += [Text(f"{t.tournament_id}  {t.status}", style="bold"), _rounds(t)]
    parts += [Text(f"error: {why}", style="bold red") for why in problems.values()]
    parts.append(Text(gpu_line(state)))
    parts += [Text(line) for line in wait_lines(waits)]
    parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in recent]
    return Group(*parts)


def gpu_line(state: State) -> str:
    """How many GPUs are leased, and of which type, whether or not their attempts still run."""
    held: dict[str, int] = {}
    for lease in state.leases.values():
        held[lease.gpu_type] = held.get(lease.gpu_type, 0) + lease.gpus
    return f"GPUs in use: {sum(held.values())}   " + ", ".join(f"{n}x{kind}" for kind, n in held.items())


def wait_lines(waits: Mapping[str, str]) -> list[str]:
    """What is awaited, a line per reason, with those that wait for it."""
    by_reason: dict[str, list[str]] = {}
    for what, why in waits.items():
        by_reason.setdefault(why, []).append(short(what.rsplit(".", 1)[-1]))
    lines: list[str] = []
    for why, names in by_reason.items():
        more = f" and {len(names) - WAITS_SHOWN} more" if len(names) > WAITS_SHOWN else ""
        lines.append(f"awaited: {why}  ({', '.join(names[:WAITS_SHOWN])}{more})")
    return lines


class _Lines:
    """One line per fact, and one for each new problem and each new reason to wait."""

    def __init__(self, to_stderr: bool) -> None:
        self._to_stderr = to_stderr
        self._said: set[str] = set()

    def __call__(
        self, entries: Sequence[Entry], _state: State, waits: Mapping[str, str], problems: Mapping[str, str]
    ) -> None:
        for entry in entries:
            click.echo(fact_line(entry), err=self._to_stderr)
        said = {f"error: {why}": True for why in problems.values()}
        said |= {f"awaited: {why}": True for why in waits.values()}
        for line in said:
            if line not in self._said:
                self._said.add(line)
                click.echo(line, err=self._to_stderr)


def _rounds(t: Tournament) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("round", "match", "entrant", "training", "metric"):
        table.add_column(heading)
    for r in t.rounds[:-1]:
        table.add_row(TITLES[r.round_type], f"{len(r.matches)} decided", "", f"{len(r.advancing)} advance", "")
    if t.round is not None:
        for match in t.round.matches.values():
            for slot in sorted(match.tasks):
                task = t.tasks[match.tasks[slot]]
                for training in task.trainings.values():
                    name = match.match_id.split("_round_")[-1]
                    table.add_row(TITLES[t.round.round_type], f"{name}/{slot + 1}", *_training_cells(task, training))
    return table


def _training_cells(_task: Task, training: Training) -> tuple[str, str, str]:
    metric = f"{training.evaluated.value:.4f}" if training.evaluated else ""
    return short(training.hotkey), _attempt_word(training, training.attempt), metric


def _attempt_word(training: Training, attempt: Attempt | None) -> str:
    if attempt is None:
        return "◌ waits"
    if attempt.status is AttemptStatus.TRAINING:
        return f"▶ trains (lease {attempt.epoch})" if attempt.running_at else f"… starts (lease {attempt.epoch})"
    return {"success": "● trained", "failure": "✗ failed"}.get(training.status.value, "↻ again")
