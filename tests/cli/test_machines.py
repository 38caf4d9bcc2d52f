"""`tourney check-cluster` and `tourney check-host`, as people call them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tourney_ray.cli.machines import check_cluster, check_host
from tourney_ray.effects import host_checks
from tourney_ray.effects.host_checks import Host
from tourney_ray.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["cluster.yaml", "deploy/on-premise.yaml"])
def test_ours_have_nothing_to_complain_of(file: str) -> None:
    done = CliRunner().invoke(check_cluster, [str(ROOT / file)])
    assert done.exit_code == 0
    assert done.stderr.endswith(f"{file}: nothing to complain of\n")


def test_faults_are_lines_and_the_exit_is_that_of_the_users_own(tmp_path: Path) -> None:
    text = (ROOT / "cluster.yaml").read_text().replace("idle_timeout_minutes: 20", "idle_timeout_minutes: 1")
    (tmp_path / "c.yaml").write_text(text.replace("HttpTokens: required", "HttpTokens: optional"))
    done = CliRunner().invoke(check_cluster, [str(tmp_path / "c.yaml")])
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")][-1] == (
        f"error: {tmp_path / 'c.yaml'}: idle_timeout_minutes: 1 is less than booting and staging take: 15 or more"
    )


def test_a_host_prints_its_gpus_as_ray_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "look_over", lambda _engine: Host({"H100": 8}, ()))
    done = CliRunner().invoke(check_host, ["--claimed", '{"CPU": 4, "GPU": 8, "H100": 8}'])
    assert (done.exit_code, done.stdout) == (0, '{"H100": 8}\n')


@pytest.mark.parametrize(
    ("host", "claimed", "faults"),
    [
        (Host({}, ("no engine", "no GPU")), "{}", 2),
        (Host({"H100": 8}, ()), '{"GPU": 8, "A100": 8}', 1),
        (Host({"H100": 4}, ("no engine",)), '{"GPU": 8, "H100": 8}', 2),
    ],
)
def test_a_host_that_cannot_join_says_why_and_prints_no_gpus(
    host: Host, claimed: str, faults: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "look_over", lambda _engine: host)
    done = CliRunner().invoke(check_host, ["--claimed", claimed])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("error: this machine cannot be a worker: ") == faults


@pytest.mark.parametrize(("claimed", "why"), [("{", "is not JSON"), ("8", "is no mapping of resources")])
def test_claims_are_a_mapping(claimed: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "look_over", lambda _engine: Host({"H100": 8}, ()))
    done = CliRunner().invoke(check_host, ["--claimed", claimed])
    assert isinstance(done.exception, ConfigError)
    assert why in done.exception.message
