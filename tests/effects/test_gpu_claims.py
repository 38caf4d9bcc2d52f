"""GPUs that evaluators hold: claimed by processes, and free again when these end, however they do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tourney_ray.effects.engine.gpu_claims import EVALUATOR, GpuClaims

HOLDER = """
import sys
from pathlib import Path
from tourney_ray.effects.engine.gpu_claims import GpuClaims
GpuClaims(Path(sys.argv[1]), "n1", "H100", sys.argv[2]).claim(int(sys.argv[3]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["nvidia", "none"])
def claims(tmp_path: Path, request: pytest.FixtureRequest) -> GpuClaims:
    return GpuClaims(tmp_path, "n1", "H100", request.param)


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[subprocess.Popen[str]]:
    """Another process, which holds GPU 3."""
    devices = request.node.callspec.params["claims"]
    words = [sys.executable, "-c", HOLDER, str(tmp_path), devices, "3"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nobody_holds_any_at_first(claims: GpuClaims) -> None:
    assert claims.holders() == {}


def test_what_a_process_holds_is_seen_and_cannot_be_had(claims: GpuClaims, holder: subprocess.Popen[str]) -> None:
    assert claims.holders() == {3: EVALUATOR}
    with pytest.raises(BlockingIOError):
        claims.claim(3)


def test_a_process_that_is_killed_holds_nothing(claims: GpuClaims, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert claims.holders() == {}


def test_counted_ones_are_held_on_their_node_and_of_their_type_only(
    tmp_path: Path, claims: GpuClaims, holder: subprocess.Popen[str]
) -> None:
    others = [GpuClaims(tmp_path, "n2", "H100", "none"), GpuClaims(tmp_path, "n1", "A100", "none")]
    assert [other.holders() for other in others] == [{}, {}]
