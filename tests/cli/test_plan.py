"""`tourney plan` as people meet it: numbers before anything starts, exit code 1 for what fits nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_app import refused, tourney
from tourney_ray.cli.app import cli
from tourney_ray.cli.plan import ASSUMED

ROOT = Path(__file__).parents[2]
PRICES = ROOT / "docs" / "prices.example.toml"
BASE = """
[base_contestants.text]
hotkey = "5Base"
coldkey = "5BaseCold"
repo = "https://github.com/example/base"
commit = "0123456789abcdef0123456789abcdef01234567"
"""
NODES = ("--nodes", "2x8H100,1x8A100")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A text tournament with a defender, and a registry of 9 miners, one of them that defender."""
    hotkeys = ["5Base", *(f"5Miner{i}" for i in range(8))]
    miners = [{"hotkey": h, "coldkey": f"{h}Cold", "ip": "203.0.113.1", "port": 8000} for h in hotkeys]
    (tmp_path / "miners.json").write_text(json.dumps(miners))
    path = tmp_path / "tournament.toml"
    path.write_text(f'state = "state"\n[registry]\nminers = "miners.json"\n{BASE}')
    return path


def plan(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["plan", "--seeds", "2", *map(str, words)])


def test_the_page_has_rounds_totals_and_what_is_assumed(settings: Path) -> None:
    done = plan(settings, *NODES)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"{settings}: 8 entrants (text) on 2 × 8xH100, 1 × 8xA100"
    assert any(line.startswith("text 1 knockout") for line in lines)
    assert any(line.startswith("trainings ") for line in lines)
    assert any(line.startswith("wall clock   text: half of the time at most ") for line in lines)
    assert "cost         unknown: no table of prices was given (--prices)" in lines
    assert all(f"- {assumed}" in lines for assumed in ASSUMED)
    assert not (settings.parent / "state").exists()


def test_the_document_has_the_same_and_more(settings: Path) -> None:
    done = plan(settings, *NODES, "--json", "--entrants", "10", "--prices", PRICES)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["entrants"] == {"text": 10}
    assert document["misfits"] == []
    assert document["seeds"] == 2
    assert document["rounds"][0]["round_type"] == "group"
    assert document["rounds"][0]["trainings"] == {"p50": 10, "p95": 10}
    assert 0 < document["gpu_hours"]["H100"]["p50"] < document["gpu_hours_at_limit"]["H100"]["p50"]
    assert document["wall_hours"]["text"]["p50"] <= document["wall_hours"]["text"]["p95"]
    cost = document["cost"]
    assert (cost["currency"], cost["as_of"], cost["per"]) == ("EUR", "2026-01-31", "GPU-hour")
    assert cost["p95"] == pytest.approx(3.0 * document["gpu_hours"]["H100"]["p95"])


def test_a_cluster_file_is_used_with_its_instance_types(settings: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    rates = '"p5.48xlarge" = 20.0\n"p5.4xlarge" = 3.0\n"p4d.24xlarge" = 9.0\n'
    prices.write_text(f'currency = "EUR"\nas_of = 2026-01-31\nhead_hour = 0.5\n[node_hour]\n{rates}')
    done = plan(settings, "--cluster", ROOT / "cluster.yaml", "--prices", prices, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {node["instance_type"]: node["count"] for node in document["nodes"]} == {
        "p5.48xlarge": 4,
        "p5.4xlarge": 4,
        "p4d.24xlarge": 2,
    }
    assert (document["cost"]["per"], document["cost"]["with_head"]) == ("node-hour", True)


def test_the_cluster_file_beside_the_settings_is_the_usual_one(settings: Path) -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert "max_workers: 10" in text
    settings.with_name("cluster.yaml").write_text(text.replace("max_workers: 10", "max_workers: 3"))
    done = plan(settings)
    assert done.exit_code == 0, done.output
    assert "- max_workers allows 3 of the 10 nodes at once; here all of them are used" in done.stdout


def test_what_fits_nowhere_is_named_with_exit_code_1(settings: Path) -> None:
    done = plan(settings, "--nodes", "4x4H100")
    assert done.exit_code == 1
    assert done.stdout == ""
    told = done.stderr.splitlines()
    assert told[0] == "4x4H100 cannot hold what the rules may draw:"
    assert "  boss GrpoTask, models of 20 to 71 B: 8×H100 on one node: no node type has that" in told
    document = json.loads(plan(settings, "--nodes", "4x4H100", "--json").stdout)
    assert len(document["misfits"]) == len(told) - 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there is no {folder}/cluster.yaml"),
        ((*NODES, "--cluster", "cluster.yaml"), "--cluster and --nodes name two clusters"),
        ((*NODES, "--entrants", "7"), "7 entrants start no text tournament: the rules ask for 8"),
        (("--nodes", "a farm"), "'a farm' describes no nodes"),
        ((*NODES, "--prices", "none.toml"), "none.toml: No such file or directory"),
        (
            (*NODES, "--prices", "miners.json"),
            "miners.json is not TOML: ",
        ),
        ((*NODES, "--prices", "partial.toml"), "partial.toml has no price for A100"),
        ((*NODES, "--prices", "nodes.toml"), "nodes.toml has no price for machines without an instance type"),
        (
            (*NODES, "--prices", "both.toml"),
            "both.toml: document: give prices per gpu_hour or per node_hour, one of both",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(words: tuple[str, ...], says: str, settings: Path) -> None:
    folder = settings.parent
    head = 'currency = "EUR"\nas_of = 2026-01-31\n'
    (folder / "partial.toml").write_text(f"{head}[gpu_hour]\nH100 = 1.0\n")
    (folder / "nodes.toml").write_text(f"{head}[node_hour]\nbig = 1.0\n")
    (folder / "both.toml").write_text(head)
    assert refused(tourney("plan", settings, *words, cwd=folder), 2).startswith(says.format(folder=folder))
