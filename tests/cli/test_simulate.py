"""`tourney simulate` as people meet it: its seeds, its exit codes, its words, its document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_app import refused, tourney
from tests.simulation.mutants_verdicts import loser_advances
from tourney_ray.cli.app import cli
from tourney_ray.cli.simulate import SHOWN, parse_seeds
from tourney_ray.errors import ConfigError
from tourney_ray.simulation.faults import KINDS


def simulate(*words: str) -> Result:
    """In this process, so that a bug can be planted; one process only plays the seeds."""
    return CliRunner().invoke(cli, ["simulate", "--jobs", "1", *words])


# --- seeds


@pytest.mark.parametrize(
    ("words", "seeds"), [("0..9", range(10)), ("7", range(7, 8)), ("3..3", range(3, 4)), ("0", range(1))]
)
def test_seeds_are_a_range_or_one_number(words: str, seeds: range) -> None:
    assert parse_seeds(words) == seeds


@pytest.mark.parametrize("words", ["", "..", "1..", "..2", "2..1", "a..b", "-1..2", "1.5", "1..2..3", "1,2"])
def test_anything_else_is_no_seeds(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_seeds(words)
    assert error.value.message == f"{words!r} names no seeds"
    assert "0..199" in str(error.value.hint)


# --- what is refused


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--seeds", "9..1"), "'9..1' names no seeds"),
        (("--faults", "fire"), "there is no fault called fire"),
        (("--nodes", "a farm"), "'a farm' describes no nodes"),
        (("--rules", "house"), "there is no preset 'house': the presets are spec, god-2025-12"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(words: tuple[str, str], says: str, tmp_path: Path) -> None:
    assert refused(tourney("simulate", "--jobs", "1", *words, cwd=tmp_path), 2) == says


# --- what is played


def test_a_sound_system_exits_with_0_and_says_what_it_suffered() -> None:
    done = simulate("--seeds", "1..2")
    assert done.exit_code == 0
    first, last = done.stdout.splitlines()
    assert re.fullmatch(r"2 seeds, \d+ tournaments in \d+ s; faults: \d+ clock, .*", first)
    assert last == "0 violations"
    assert done.stderr == ""


def test_without_faults_there_are_none() -> None:
    done = simulate("--seeds", "1", "--faults", "none")
    assert done.stdout.splitlines()[0].endswith("faults: none")


@pytest.mark.lies
def test_a_bug_exits_with_1_and_the_command_that_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loser_advances(monkeypatch)
    done = simulate("--seeds", "1..2", "--faults", "none", "--entrants", "8")
    assert done.exit_code == 1
    told = done.stderr.splitlines()
    (first,) = [line for line in told if line.startswith("seed 1:")]
    found, again = re.fullmatch(r"seed 1: (\d+) violations; again with: tourney (.*)", first).groups()  # type: ignore[union-attr]
    assert again == "simulate --seeds 1..1 --entrants 8 --faults none"
    shown = told[1 : 1 + min(int(found), SHOWN)]
    assert all("breaks invariant 5" in line for line in shown)
    once_more = simulate(*again.split()[1:])
    assert once_more.exit_code == 1
    assert once_more.stderr.splitlines() == [first, *shown]


@pytest.mark.lies
def test_the_command_names_every_choice_that_is_not_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    loser_advances(monkeypatch)
    done = simulate("--seeds", "1", "--nodes", "4x8H100", "--rules", "god-2025-12", "--faults", "late")
    assert "tourney simulate --seeds 1..1 --nodes 4x8H100 --faults late --rules god-2025-12" in done.stderr


@pytest.mark.lies
def test_the_document_counts_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = json.loads(simulate("--seeds", "1..2", "--json").stdout)
    assert {"seeds", "violations", "tournaments", "wall_s"} <= sound.keys()
    assert (sound["seeds"], sound["violations"]) == (2, [])
    assert sound["tournaments"] >= 4
    assert sound["wall_s"] > 0
    assert set(sound["faults"]) <= set(KINDS)
    loser_advances(monkeypatch)
    done = simulate("--seeds", "1..2", "--json")
    broken = json.loads(done.stdout)
    assert done.exit_code == 1
    assert {violation["seed"] for violation in broken["violations"]} == {1, 2}
    assert all(violation["what"] for violation in broken["violations"])
