"""`tourney logs`: what an attempt said last, from a driver that a test speaks for, and from a journal on the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, strategies as st

from tests.cli.kept import Kept, tournament
from tests.cli.test_app import refused, tourney
from tourney_ray.cli import logs as module, whereabouts
from tourney_ray.cli.logs import GAP, logs, more, shown
from tourney_ray.cli.whereabouts import Whereabouts
from tourney_ray.config import load_settings
from tourney_ray.effects.provenance import Left, Provenance
from tourney_ray.errors import NotFound

RUNNING = {"provenance": "", "checkpoint": "", "status": "training", "log_tail": "", "reason": ""}
FAILED = RUNNING | {"status": "failure", "log_tail": "step 3\nboom\n", "reason": "exit status 1: \x1b[31mboom"}


@dataclass
class Driver:
    """A driver: what is on record of its only attempt, look by look, and what it has heard of it."""

    records: list[dict[str, str]]
    tails: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])

    def query(self, sql: str) -> Any:
        self.asked.append(sql)
        rows = [self.records.pop(0) if len(self.records) > 1 else self.records[0]] if self.records else []
        return SimpleNamespace(to_pylist=lambda: rows)

    def call(self, method: str, attempt_id: str) -> str:
        assert (method, attempt_id) == ("tail", "task/hk/1")
        return self.tails.pop(0) if len(self.tails) > 1 else self.tails[0]


Ask = Callable[..., Result]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`tourney logs task/hk/1` of that driver, in this process."""
    settings = load_settings(Kept(tmp_path).settings())
    monkeypatch.setattr(module, "FOLLOW_S", 0.0)

    def ask(driver: Driver | None, *words: str) -> Result:
        @contextlib.contextmanager
        def found(*_: object) -> Generator[Whereabouts]:
            yield Whereabouts(settings, driver, "")  # type: ignore[arg-type]

        monkeypatch.setattr(whereabouts, "found", found)
        return CliRunner().invoke(logs, ["task/hk/1", *words])

    return ask


def error(result: Result) -> str:
    assert isinstance(result.exception, NotFound), result
    assert result.stdout == ""
    return result.exception.message


def test_the_last_words_of_a_running_attempt_are_text_and_nothing_else(ask: Ask) -> None:
    result = ask(Driver([RUNNING], ["loss\t0.5\n\x1b[2Jgone \u202e\x07\r"]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "loss\t0.5\n\\x1b[2Jgone \\u202e\\x07\\r\n"


def test_one_that_has_said_nothing_yet(ask: Ask) -> None:
    words = "attempt task/hk/1 has said nothing yet, as far as the driver tourney has heard"
    assert error(ask(Driver([RUNNING], [""]))) == words


def test_one_that_nobody_knows(ask: Ask) -> None:
    driver = Driver([])
    assert error(ask(driver)) == "there is no attempt task/hk/1"
    assert "WHERE attempt_id = 'task/hk/1'" in driver.asked[0]


def test_the_end_of_a_failed_one_comes_with_the_reason(ask: Ask) -> None:
    result = ask(Driver([FAILED]), "--follow")
    assert result.stdout == "step 3\nboom\n"
    assert result.stderr == "note: attempt task/hk/1 is over, a failure: exit status 1: \\x1b[31mboom\n"


def test_followed_it_says_everything_once_to_the_end(ask: Ask) -> None:
    tails = ["", "step 1\n", "step 1\n", "step 1\nstep 2\n", "tep 2\nstep 3\n"]
    result = ask(Driver([RUNNING, *[RUNNING] * len(tails), FAILED], tails), "--follow")
    assert result.stdout == "step 1\nstep 2\nstep 3\nboom\n"
    assert "is over, a failure" in result.stderr


def test_what_was_said_too_fast_leaves_a_gap(ask: Ask) -> None:
    result = ask(Driver([RUNNING, RUNNING, RUNNING, FAILED], ["one\n", "two\n"]), "--follow")
    assert result.stdout == f"one\n\n{GAP}\ntwo\n\n{GAP}\nstep 3\nboom\n"


@given(st.text(), st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_two_ends_of_one_log_never_lose_a_letter(log: str, first: int, later: int, length: int) -> None:
    first, later = sorted((min(first, len(log)), min(later, len(log))))
    seen, said = log[max(0, first - length) : first], log[max(0, later - length) : later].lstrip("\ufffd")
    added = more(seen, said)
    assert added.endswith(said) or (seen + added).endswith(said)


@given(st.text())
def test_whatever_is_said_a_terminal_shows_it(said: str) -> None:
    lines = shown(said)
    assert all(letter.isprintable() or letter in "\n\t" for letter in lines)
    assert lines.count("\n") == said.count("\n")


# --- a journal on the disk


def test_a_finished_attempt_is_told_of_by_the_journal_with_where_its_logs_are(tmp_path: Path) -> None:
    def with_logs(record: Provenance) -> Provenance:
        return record.model_copy(update={"left": Left(output=record.left.output, logs="d" * 64)})

    over = tournament(tmp_path, told=with_logs)
    attempt = next(iter(over.checkpoints))
    done = tourney("logs", "--settings", over.settings(), attempt)
    assert (done.returncode, done.stdout) == (0, f"{attempt} says goodbye\n"), done.stderr
    assert done.stderr.splitlines() == [
        f"note: attempt {attempt} is over, a success",
        f"note: its log folder is kept: tourney checkout sha256:{'d' * 64} TARGET",
    ]
    assert "there is no attempt nobody/1" in refused(tourney("logs", "--settings", over.settings(), "nobody/1"), code=2)


def test_without_a_driver_nobody_hears_what_runs(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "recorded_attempt", lambda *_: SimpleNamespace(**RUNNING))
    assert error(ask(None)).startswith("attempt task/hk/1 is not over by the journal, and no driver hears what it says")


def test_a_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    over = tournament(tmp_path)
    attempt = next(iter(over.checkpoints))
    digest = over.record_digest(attempt)
    (tmp_path / "kept" / "objects" / digest[:2] / digest).unlink()
    done = tourney("logs", "--settings", over.settings(), attempt)
    assert done.returncode == 0, done.stderr
    assert f"note: whether its log folder is kept cannot be seen from here: object {digest} is not in" in done.stderr
