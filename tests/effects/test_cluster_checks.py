"""What is wrong with a cluster file beyond Ray's schema, fault by fault; ours have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tourney_ray.effects.cluster_checks import complaints

ROOT = Path(__file__).parents[2]
RENTED = (ROOT / "cluster.yaml").read_text()
OWN = (ROOT / "deploy" / "on-premise.yaml").read_text()

FAULTS = [
    ('"GPU": 8, "H100": 8', '"GPU": 8, "H100": 4', "h100x8: GPU is 8, but its types of GPU make 4"),
    ('"GPU": 8, "H100": 8', '"GPU": 4, "H100": 4', "h100x8: a p5.48xlarge has 8×H100, not 4×H100"),
    ('"GPU": 8, "A100": 8', '"GPU": 8, "H100": 8', "a100x8: a p4d.24xlarge has 8×A100, not 8×H100"),
    ('"CPU": 16', '"CPU": 17', "h100x1: a p5.4xlarge has 16 CPUs, not 17"),
    ("min_workers: 0\n    max_workers: 2", "min_workers: 3\n    max_workers: 2", "a100x8: min_workers 3 is more than"),
    ("max_workers: 10", "max_workers: 9", "max_workers: 9 is less than all node types together, 10"),
    ("idle_timeout_minutes: 20", "idle_timeout_minutes: 5", "idle_timeout_minutes: 5 is less than booting and staging"),
    ("HttpPutResponseHopLimit: 1", "HttpPutResponseHopLimit: 2", "h100x8: containers could read the machine's"),
    ("HttpTokens: required", "HttpTokens: optional", "head: containers could read the machine's credentials"),
    ('{"CPU": 4}', '{"CPU": 4, "GPU": 1, "H100": 1}', "head: the head has GPUs"),
    ("max_workers: 0", "max_workers: 1", "head: max_workers has to be 0"),
    ("docker: {}", "docker: {image: x}", "docker: Ray would run in a container"),
    ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=none", "worker_start_ray_commands: `ray start` without RAY_AUTH_MODE=token"),
]
OWN_FAULTS = [
    ("  - >-\n    ulimit", "  - ray stop\n  - >-\n    ulimit", "worker_start_ray_commands: `ray stop` ends every Ray"),
    ("--port=16379", "", "head_start_ray_commands: no --port: another Ray on a shared host may have"),
    ("--temp-dir=$HOME/tourney/ray", "", "head_start_ray_commands: no --temp-dir: another Ray"),
    ("worker_start_ray_commands:", "_:", "worker_start_ray_commands: nothing starts Ray, or Ray's own commands do"),
]


@pytest.mark.parametrize("text", [RENTED, OWN], ids=["rented", "own"])
def test_ours_are_fine(text: str, tmp_path: Path) -> None:
    assert _complaints(text, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "right", "wrong", "complaint"),
    [*((RENTED, *fault) for fault in FAULTS), *((OWN, *fault) for fault in OWN_FAULTS)],
    ids=[fault[2].split(": ", 1)[1][:40] for fault in (*FAULTS, *OWN_FAULTS)],
)
def test_a_fault_is_named_with_its_place(text: str, right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    assert right in text
    found = _complaints(text.replace(right, wrong), tmp_path)
    assert any(complaint in one for one in found), found


def test_an_unknown_machine_is_taken_at_its_word(tmp_path: Path) -> None:
    assert _complaints(RENTED.replace("p5.48xlarge", "x9.metal"), tmp_path) == []


def test_all_that_have_to_be_there_are_no_more_than_there_may_be(tmp_path: Path) -> None:
    text = RENTED.replace("min_workers: 0\n    max_workers: 4", "min_workers: 4\n    max_workers: 4")
    found = _complaints(text.replace("max_workers: 10", "max_workers: 7"), tmp_path)
    assert any("max_workers: 7 is less than all min_workers together, 8" in one for one in found), found


def _complaints(text: str, folder: Path) -> list[str]:
    path = folder / "machines.yaml"
    path.write_text(text)
    return complaints(path)
