"""The `tourney` command as people meet it: in a process of its own, with exit codes and errors of one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.builders import Played, play
from tourney_ray import __version__
from tourney_ray.effects.bubblewrap import why_not
from tourney_ray.store.journal import Journal

ROOT = Path(__file__).parents[2]
FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"
HEAVY = ("duckdb", "numpy", "pyarrow", "ray", "torch", "transformers")
LOADED = f"""
import sys
from tourney_ray.cli.app import main
sys.argv[0] = "tourney"
main()
print([name for name in {HEAVY} if name in sys.modules])
"""
SETTINGS = 'state = "state"\n[registry]\nminers = "miners.json"\n'

Done = subprocess.CompletedProcess[str]


def python(*words: str, cwd: Path = ROOT) -> Done:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def tourney(*words: str | Path, cwd: Path = ROOT) -> Done:
    return python("-m", "tourney_ray", *map(str, words), cwd=cwd)


def refused(done: Done, code: int) -> str:
    """The error's one line; nothing else is said but a hint, and nothing is printed as a result."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert len(hints) <= 1
    assert all(hint.startswith("hint: ") for hint in hints)
    return error.removeprefix("error: ")


# --- help


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["--version"], ["demo", "--help"], ["run", "-h"], ["audit", "-h"]]
)
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    done = python("-c", LOADED, *words)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_help_names_every_command() -> None:
    said = tourney("--help").stdout
    for command in ("audit", "demo", "evaluate", "query", "run", "snapshot", "stop"):
        assert re.search(rf"^  {command}  +[A-Z]", said, re.MULTILINE), command


def test_the_version_is_that_of_the_package() -> None:
    assert tourney("--version").stdout == f"tourney, version {__version__}\n"
    script = Path(sys.executable).with_name("tourney")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout.endswith(
        f"{__version__}\n"
    )


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"], ["audit"], ["demo", "--miners", "1"], ["evaluate"]])
def test_a_command_line_that_makes_no_sense_exits_2_without_a_traceback(words: list[str]) -> None:
    done = tourney(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(r"^Error: .+$", done.stderr, re.MULTILINE)


# --- audit


@pytest.fixture(scope="module")
def played() -> Played:
    return play(8)


@pytest.fixture(scope="module")
def journal(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a journal of a whole tournament."""
    folder = tmp_path_factory.mktemp("journal")
    opened = Journal.open(folder)
    for at, facts in groupby(played.facts, key=lambda pair: pair[1]):
        opened.append([fact for fact, _ in facts], at)
    opened.close()
    return folder


@pytest.mark.parametrize("name", ["", "journal.duckdb", "journal.jsonl"])
def test_a_good_journal_is_proved_in_one_line(journal: Path, played: Played, name: str) -> None:
    done = tourney("audit", journal / name)
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(r"(\d+) facts, (\d+) verdicts recomputed, all equal\n", done.stdout)
    assert said
    assert int(said[1]) == len(played.facts)
    assert int(said[2]) > 20
    assert done.stderr == ""


@pytest.mark.parametrize("share", [0.02, 0.5, 0.8, 0.99])
def test_an_altered_byte_is_found_and_its_fact_named(journal: Path, tmp_path: Path, share: float) -> None:
    copy = Path(shutil.copy(journal / "journal.jsonl", tmp_path))
    whole = bytearray(copy.read_bytes())
    place = int(share * len(whole))
    while not chr(whole[place]).isalnum():
        place += 1
    number = whole[:place].count(b"\n") + 1
    whole[place] ^= 1
    copy.write_bytes(whole)
    error = refused(tourney("audit", copy), code=1)
    assert re.search(rf"\b(fact|line) {number}\b", error), error


def test_a_reason_that_was_rewritten_is_found(journal: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(journal / "journal.jsonl", tmp_path))
    lines = copy.read_text().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines, start=1) if '"MatchDecided"' in line)
    lines[number - 1] = lines[number - 1].replace(" against ", " beats ", 1)
    copy.write_text("".join(lines))
    error = refused(tourney("audit", copy), code=1)
    assert error == f"fact {number} (MatchDecided): its hash is not that of its content: it was altered"


def test_a_journal_cut_at_its_end_is_found_though_its_database_is_gone(journal: Path, tmp_path: Path) -> None:
    """Lines that lie alone do not grow: what was recorded with the last, or is forced by it, has to be there."""
    lines = (journal / "journal.jsonl").read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if '"kind":"TournamentCompleted"' in line)
    ends = {
        lines[last - 1]: "more belong to it",
        lines[last - 1].replace(',"more":true', ""): f"fact {last + 1} is missing",
    }
    for end, why in ends.items():
        (tmp_path / "journal.jsonl").write_text("".join([*lines[: last - 1], end]))
        done = tourney("audit", tmp_path)
        assert done.returncode == 1
        assert "note: journal.duckdb is not there" in done.stderr
        assert why in done.stderr


def test_what_lies_around_a_journal_has_to_agree(journal: Path, tmp_path: Path) -> None:
    state = Path(shutil.copytree(journal, tmp_path / "state"))
    with (state / "journal.jsonl").open("ab") as copy:
        copy.write(b"{}\n")
    assert "journal.jsonl is no entry" in refused(tourney("audit", state), code=1)
    (state / "journal.jsonl").unlink()
    with duckdb.connect(state / "journal.duckdb") as connection:
        connection.execute("UPDATE standings SET weight = 1 WHERE hotkey = 'm07'")
    error = refused(tourney("audit", state / "journal.duckdb"), code=1)
    assert re.search(r"table standings, row .*hotkey=m07: weight is 1\.0, the journal gives 0\.", error), error


def test_a_journal_that_is_not_there_exits_2(tmp_path: Path) -> None:
    assert refused(tourney("audit", tmp_path / "gone"), code=2) == f"there is no journal at {tmp_path / 'gone'}"
    assert "neither journal.duckdb nor journal.jsonl" in refused(tourney("audit", tmp_path), code=2)


def test_a_file_that_is_no_journal_exits_2(tmp_path: Path) -> None:
    (tmp_path / "journal.duckdb").write_bytes(b"hello")
    assert "is not a DuckDB database" in refused(tourney("audit", tmp_path), code=2)


# --- evaluate


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads((FILES / "expected.json").read_text())


def evaluate(expected: dict[str, Any], checkpoint: Path, *words: str) -> Done:
    return tourney(
        *("evaluate", "--kind", "instruct", "--base", FILES / "base", "--checkpoint", checkpoint),
        *("--rows", FILES / expected["rows"], "--sequence-len", str(expected["sequence_len"])),
        *("--dataset-type", json.dumps(expected["dataset_type"]), *words),
    )


@pytest.mark.parametrize("case", ["instruct_full", "instruct_full_custom_format"])
def test_evaluate_gives_the_reference_value(expected: dict[str, Any], case: str, need: Callable[[str], str]) -> None:
    need("bwrap")
    done = evaluate(expected[case], FILES / "instruct_full", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["value"] == pytest.approx(expected[case]["value"], abs=1e-5)
    assert sum(document["per_row"]) / len(document["per_row"]) == pytest.approx(document["value"], abs=1e-9)
    assert document["is_finetune"] is True
    assert {"value", "per_row", "is_finetune", "digest", "environment"} <= document.keys()


def test_evaluate_for_people_is_one_line(expected: dict[str, Any]) -> None:
    done = evaluate(expected["instruct_full"], FILES / "instruct_full", "--no-sandbox")
    assert re.fullmatch(r"2\.11243\d+ over \d+ rows; fine-tuned\n", done.stdout), done.stderr


def test_evaluate_grpo_reads_its_functions_from_a_file_and_draws_from_the_seed(tmp_path: Path) -> None:
    if why := why_not():
        pytest.skip(why)
    source = "def letters(completions, **kwargs):\n    return [text.count('e') for text in completions]"
    function = {"reward_func": source, "reward_weight": 1, "low": 0, "high": 100}
    (tmp_path / "type.json").write_text(json.dumps({"reward_functions": [function]}))
    values = [
        json.loads(
            tourney(
                *("evaluate", "--kind", "grpo", "--base", FILES / "base", "--checkpoint", FILES / "dpo_full"),
                *("--rows", FILES / "data" / "grpo_test.json", "--dataset-type", tmp_path / "type.json"),
                *("--seed", seed, "--json"),
            ).stdout
        )["value"]
        for seed in ("1", "2")
    ]
    assert values[0] != values[1]
    assert all(-1 < value < 1 for value in values)


def test_a_checkpoint_that_is_refused_exits_2_and_says_why(
    expected: dict[str, Any], tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("bwrap")
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    done = evaluate(expected["instruct_full"], tmp_path, "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 2
    assert (answer["value"], answer["is_finetune"]) == ("NaN", False)
    error = refused(evaluate(expected["instruct_full"], tmp_path), code=2)
    assert error == f"{tmp_path} is refused: {answer['refused']}"
    assert error in done.stderr


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"--base": "gone"}, "no base model at gone"),
        ({"--checkpoint": "gone"}, "no checkpoint at gone"),
        ({"--rows": "gone.json"}, "gone.json"),
        ({"--kind": "chess"}, "'chess' is not evaluated by this version"),
        ({"--dataset-type": "{"}, "the dataset type is not valid: the document: Invalid JSON"),
        ({"--dataset-type": '{"colour": "red"}'}, "colour"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_question_exits_2_and_names_what_is_wrong(change: dict[str, str], why: str) -> None:
    given = {"--kind": "instruct", "--base": str(FILES / "base"), "--checkpoint": str(FILES / "instruct_full")}
    options = given | {"--rows": str(FILES / "data" / "instruct_test.json")} | change
    words = [word for pair in options.items() for word in pair]
    assert why in refused(tourney("evaluate", "--no-sandbox", *words), code=2)


def test_without_a_sandbox_no_checkpoint_is_read_unless_it_is_trusted(tmp_path: Path) -> None:
    words = (*("evaluate", "--kind", "chess", "--base", tmp_path, "--checkpoint", tmp_path), "--rows", tmp_path)
    bare = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tourney_ray", *words], env=bare, capture_output=True, text=True, check=False
    )
    assert "no stranger's checkpoint is evaluated without a sandbox: bubblewrap is not installed" in refused(done, 2)
    assert "--no-sandbox, for a checkpoint that you trust" in done.stderr
    trusted = subprocess.run(
        [sys.executable, "-m", "tourney_ray", *words, "--no-sandbox"],
        env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "'chess' is not evaluated by this version" in refused(trusted, code=2)


# --- run and demo


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("state = ", "is not TOML: "),
        (SETTINGS + "port = 3\n", "registry.port: Extra inputs are not permitted"),
        (SETTINGS + "[rules]\nmin_miners = 1\n", "rules.min_miners: "),
        (SETTINGS, "miners.json: No such file or directory"),
    ],
)
def test_run_refuses_settings_that_cannot_work_before_anything_starts(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "tournament.toml").write_text(text)
    assert why in refused(tourney("run", tmp_path / "tournament.toml"), code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["tournament.toml"]


def test_run_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tourney("run", "gone.toml", cwd=tmp_path), code=2) == "gone.toml: No such file or directory"


def filled(folder: Path) -> Path:
    (folder / "precious").write_text("mine")
    return folder


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file"


@pytest.mark.parametrize(
    ("make", "why"),
    [(filled, "is not empty"), (a_file, "File exists"), (lambda folder: a_file(folder) / "x", "Not a directory")],
)
def test_demo_overwrites_nothing(tmp_path: Path, make: Callable[[Path], Path], why: str) -> None:
    out = make(tmp_path)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    done = tourney("demo", "--out", out)
    error = refused(done, code=2)
    assert error.startswith(f"{out} ")
    assert why in error
    assert "give --out a folder that is new" in done.stderr
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before
