"""A child that answers lines: what it may say, and what becomes of one that says anything else, or nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tourney_ray.effects import evaluator_process
from tourney_ray.effects.evaluator_process import EvaluatorProcess, launched
from tourney_ray.errors import EngineDown, EvaluatorDied

ENV = {"PATH": os.defpath}
LONG_S = 60.0
SHORT_S = 0.2
START = "import sys, os, signal, time\nsay = lambda text: (sys.stdout.write(text), sys.stdout.flush())\n"
Open = Callable[[str], EvaluatorProcess]


@pytest.fixture
def child() -> Iterator[Open]:
    with contextlib.ExitStack() as opened:

        def start(code: str) -> EvaluatorProcess:
            process = EvaluatorProcess(launched([sys.executable, "-I", "-S", "-c", START + code]), ENV)
            opened.callback(process.close)
            return process

        yield start


def test_it_answers_line_by_line(child: Open) -> None:
    process = child("say('ready\\n')\nfor line in sys.stdin: say(line.upper())")
    assert process.hear(LONG_S) == b"ready"
    assert [process.ask(word, LONG_S) for word in (b"one", b"two")] == [b"ONE", b"TWO"]


def test_a_long_question_and_a_long_answer_pass_whole(child: Open) -> None:
    process = child("for line in sys.stdin: say(line)")
    question = b"x" * 3_000_000
    assert process.ask(question, LONG_S) == question


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.stdin.readline(); sys.exit(3)", "its process exited with 3"),
        ("sys.stdin.readline(); sys.exit('no weights')", "exited with 1; its last words: no weights"),
        ("sys.stdin.readline(); os.kill(os.getpid(), 9)", "killed by signal 9, not by us"),
        ("sys.stdin.readline(); os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("sys.stdin.readline(); say('a\\nb\\n'); time.sleep(60)", "it said more than one line"),
        ("sys.stdin.readline(); os.close(1); os.close(2); time.sleep(60)", "closed its output"),
        ("sys.stdin.readline(); say('x' * 5000); time.sleep(60)", "it said more than 1000 bytes"),
    ],
)
def test_whatever_is_no_answer_ends_it(child: Open, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    monkeypatch.setattr(evaluator_process, "MOST_ANSWER_BYTES", 1000)
    monkeypatch.setattr(evaluator_process, "PATIENCE_S", 0.5)
    process = child(code)
    with pytest.raises(EvaluatorDied, match=words):
        process.ask(b"question", LONG_S)


@pytest.mark.parametrize("code", ["time.sleep(60)", "sys.stdin.readline(); say('half a'); time.sleep(60)"])
def test_who_does_not_answer_in_time_is_ended(child: Open, code: str) -> None:
    process = child(code)
    began = time.monotonic()
    with pytest.raises(EvaluatorDied, match=r"did not answer within 0\.2 s"):
        process.ask(b"question", SHORT_S)
    assert time.monotonic() - began < LONG_S / 2


def test_who_does_not_listen_is_ended(child: Open) -> None:
    with pytest.raises(EvaluatorDied, match=r"did not listen within 0\.2 s"):
        child("time.sleep(60)").ask(b"x" * 10_000_000, SHORT_S)


def test_an_answer_that_was_said_before_its_question_does_not_count(child: Open, tmp_path: Path) -> None:
    said = tmp_path / "said"
    os.mkfifo(said)
    process = child(f"say('ready\\n'); sys.stdin.readline(); say('early\\n'); open({str(said)!r}, 'w'); time.sleep(60)")
    assert process.hear(LONG_S) == b"ready"
    process._write(b"go on\n", time.monotonic() + LONG_S, LONG_S)
    said.read_text()
    with pytest.raises(EvaluatorDied, match="it spoke before it was asked"):
        process.ask(b"question", LONG_S)


def test_its_last_words_are_one_printable_line(child: Open) -> None:
    process = child("sys.stdin.readline(); sys.stderr.write('first\\n\\x1b[31mred' + 'x' * 5000 + '\\n'); sys.exit(1)")
    with pytest.raises(EvaluatorDied) as caught:
        process.ask(b"question", LONG_S)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_nothing_of_it_is_left(child: Open, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"pid = os.fork()\nif pid: open({str(note)!r}, 'w').write(str(pid)); say('ready\\n')\ntime.sleep(60)"
    process = child(code)
    process.hear(LONG_S)
    grandchild = int(note.read_text())
    process.close()
    stat = Path(f"/proc/{grandchild}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(EngineDown, match="cannot be started"):
        EvaluatorProcess(["/no/such/program"], ENV)


def test_it_enters_the_control_groups_that_it_is_given(child: Open, tmp_path: Path) -> None:
    entrance = tmp_path / "cgroup.procs"
    code = START + f"say(open({str(entrance)!r}).read() + ' ' + str(os.getpid()) + '\\n')"
    process = EvaluatorProcess(launched([sys.executable, "-I", "-S", "-c", code], [entrance]), ENV)
    with contextlib.closing(process):
        entered, own = process.hear(LONG_S).split()
    assert entered == own
