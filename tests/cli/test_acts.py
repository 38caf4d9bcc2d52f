"""`tourney cancel`, `retry`, `reopen` and `fence`: what they take, what they ask the driver, and what they say."""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from tests.cli.test_app import python, refused, tourney
from tests.driver.conftest import rig as rig
from tests.driver.scripted import OpenRig, trains
from tourney_ray.cli import acts
from tourney_ray.cli.acts import Place, resolve
from tourney_ray.cli.app import cli
from tourney_ray.core.commands import Train
from tourney_ray.core.events import Act, NodeFenced, TournamentCancelled, TrainingReopened, TrainingRetried
from tourney_ray.driver import client
from tourney_ray.errors import NotAllowed, NotFound
from tourney_ray.store.queries import query

WHY = ("--by", "ann", "--reason", "a disk is broken")
PLACES = [Place("t", task, hotkey) for task in ("ab1", "ab2", "c") for hotkey in ("m00", "m01")]
TRAINING = {"tournament_id": "t", "task_id": "c", "hotkey": "m01", "by": "ann", "because": "a disk is broken"}


@dataclass
class Desk:
    """A driver that records whatever it is asked, with these facts behind it."""

    forced: Sequence[str] = ()
    asked: list[Act] = field(default_factory=list[Act])

    def act(self, act: Act) -> int:
        self.asked.append(act)
        return 123

    def call(self, method: str, after: int, wait_s: float) -> Any:
        assert (method, after, wait_s) == ("follow", 123, 0.0)
        return SimpleNamespace(entries=[SimpleNamespace(kind=kind) for kind in self.forced])

    def query(self, sql: str) -> pa.Table:
        if "FROM charges" in sql:
            return pa.table({"n": [8]})
        rows = [{"tournament_id": p.tournament_id, "task_id": p.task_id, "hotkey": p.hotkey} for p in PLACES]
        return pa.Table.from_pylist(rows)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The driver named `small` of the cluster at `here`."""
    desk = Desk()

    @contextlib.contextmanager
    def connection(address: str) -> Generator[None]:
        assert address == "here"
        yield

    def find(name: str) -> Desk:
        assert name == "small"
        return desk

    monkeypatch.setattr(client, "connection", connection)
    monkeypatch.setattr(client, "find", find)
    return desk


def asked(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*words, "--address", "here", "--name", "small"], input=answer)


# --- the command line


@pytest.mark.parametrize("command", ["cancel", "retry", "reopen", "fence"])
def test_help_loads_nothing_heavy_and_names_it(command: str) -> None:
    heavy = (
        "import sys; from tourney_ray.cli.app import main; sys.argv[0] = 'tourney'; main(); print('ray' in sys.modules)"
    )
    done = python("-c", heavy, command, "--help")
    assert done.stdout.splitlines()[-1] == "False"
    assert re.search(rf"^  {command}  +[A-Z]", python("-m", "tourney_ray", "--help").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["cancel", "t"], "Missing option '--reason'"),
        (["cancel", *WHY], "Missing argument 'TOURNAMENT'"),
        (["retry", "c", *WHY], "Missing argument 'HOTKEY'"),
        (["reopen", *WHY], "Missing argument 'TASK'"),
        (["fence", *WHY], "Missing argument 'NODE'"),
        (["fence", "n1", "--reason", " "], "say why: it is recorded"),
        (["fence", "n1", "--reason", "x", "--by", ""], "say who you are: it is recorded"),
        (["retry", "c", "m01", "--yes", *WHY], "No such option"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(desk: Desk, words: list[str], why: str) -> None:
    done = asked(*words)
    assert (done.exit_code, desk.asked) == (2, [])
    assert why in done.output


def test_without_a_cluster_it_is_one_line_and_a_hint() -> None:
    error = refused(tourney("cancel", "t", "--address", "127.0.0.1:9", *WHY), code=2)
    assert error.startswith("no Ray cluster at 127.0.0.1:9: ")


# --- what is asked, and what is said


def test_cancel_says_what_goes_back(desk: Desk) -> None:
    desk.forced = ["Refunded"] * 8 + ["NodeLost", "Refunded"]
    done = asked("cancel", "t", *WHY)
    assert done.output == "fact 123: t is cancelled by ann: a disk is broken; 8 fees refunded\n"
    assert desk.asked == [TournamentCancelled(tournament_id="t", by="ann", because="a disk is broken")]


@pytest.mark.parametrize(
    ("command", "kind", "says"),
    [
        (
            "retry",
            TrainingRetried,
            "fact 123: m01 retries task c, by ann: a disk is broken; what runs of it is stopped",
        ),
        ("reopen", TrainingReopened, "fact 123: m01's task c is reopened by ann: a disk is broken; if it had failed"),
    ],
)
def test_a_training_begins_anew(desk: Desk, command: str, kind: Any, says: str) -> None:
    done = asked(command, "c", "m01", *WHY)
    assert done.output.startswith(says)
    assert done.output.count("\n") == 1
    assert desk.asked == [kind(**TRAINING)]


def test_fence_says_what_is_free(desk: Desk) -> None:
    desk.forced = ["LeaseEnded"]
    done = asked("fence", "n1", *WHY)
    assert done.output == "fact 123: n1 is fenced by ann: a disk is broken; 1 lease ended\n"
    assert desk.asked == [NodeFenced(node="n1", by="ann", because="a disk is broken")]


def test_a_reason_is_one_line_and_who_does_it_is_who_is_logged_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "bob")
    asked("fence", "n1", "--reason", " a disk\n is  broken ")
    assert desk.asked == [NodeFenced(node="n1", by="bob", because="a disk is broken")]


def test_who_is_nobody_has_to_say_who_he_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    done = asked("fence", "n1", "--reason", "x")
    assert done.exit_code == 2
    assert "say who you are" in done.output


# --- being sure


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits at the keyboard."""
    monkeypatch.setattr(acts, "_is_terminal", lambda: True)


def test_on_a_terminal_cancel_asks_first(desk: Desk, terminal: None) -> None:
    done = asked("cancel", "t", *WHY, answer="y\n")
    assert "End t for good and give 8 fees back? It cannot be undone." in done.output
    assert len(desk.asked) == 1


def test_whoever_is_not_sure_records_nothing(desk: Desk, terminal: None) -> None:
    done = asked("cancel", "t", *WHY, answer="n\n")
    assert isinstance(done.exception, NotAllowed)
    assert done.exception.message == "not cancelled, as you said"
    assert desk.asked == []


def test_yes_asks_nothing(desk: Desk, terminal: None) -> None:
    assert "cannot be undone" not in asked("cancel", "t", "--yes", *WHY).output
    assert len(desk.asked) == 1


# --- shortened tasks


@pytest.mark.parametrize("task", ["c", "ab2"])
def test_a_task_may_be_given_whole(task: str) -> None:
    assert resolve(PLACES, task, "m00") == Place("t", task, "m00")


def test_a_task_may_be_shortened_while_it_is_the_only_one() -> None:
    assert resolve([Place("t", "d0abc", "m00"), *PLACES], "d0", "m00").task_id == "d0abc"
    assert resolve([Place("t", "ab", "m00"), *PLACES], "ab", "m00").task_id == "ab"


@pytest.mark.parametrize(
    ("task", "hotkey", "why", "hint"),
    [
        ("ab", "m00", "ab is the beginning of 2 tasks", "it may be: ab1, ab2"),
        ("d", "m00", "no task of an active tournament is d", "there are: ab1, ab2, c"),
        ("", "m00", "no task of an active tournament is ", "there are: ab1, ab2, c"),
        ("c", "m0", "m0 does not train task c", "those who do: m00, m01"),
    ],
)
def test_what_is_not_found_is_told_with_the_candidates(task: str, hotkey: str, why: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        resolve(PLACES, task, hotkey)
    assert (caught.value.message, caught.value.hint) == (why, hint)


def test_many_candidates_are_cut() -> None:
    with pytest.raises(NotFound) as caught:
        resolve([Place("t", f"{n:02d}", "m") for n in range(20)], "x", "m")
    assert caught.value.hint == "there are: 00, 01, 02, 03, 04, 05, 06, 07 and 12 more"


def test_the_questions_to_the_tables_are_ones_that_a_journal_can_answer(rig: OpenRig) -> None:
    r = rig()
    r.go_on(trains)
    rows = query(r.journal.database(), acts.TRAININGS).to_pylist()
    assert {(row["task_id"], row["hotkey"]) for row in rows} == {(c.spec.task_id, c.spec.hotkey) for c in r.of(Train)}
    assert {row["tournament_id"] for row in rows} == {"text-1"}
    assert query(r.journal.database(), acts.FEES.format("text-1")).to_pylist() == [{"n": 4}]
