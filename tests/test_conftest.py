"""Skips have a reason, and under CI they are failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROBES, need_tool, skip_or_fail


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes an executable shell script into a folder that is the whole PATH; its path."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name: str, body: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


def test_skips_outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no engine"):
        skip_or_fail("no engine")


@pytest.mark.parametrize("ci", ["true", "True"])
def test_fails_under_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match="no engine"):
        skip_or_fail("no engine")


def test_a_tool_that_is_there_is_its_path(need: Callable[[str], str]) -> None:
    assert Path(need("git")).name == "git"


def test_a_missing_tool(tools: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        need_tool("no-such-tool")


def test_a_tool_without_a_probe_needs_only_to_be_there(tools: Callable[[str, str], Path]) -> None:
    path = tools("chromium", "exit 1")
    assert "chromium" not in PROBES
    assert need_tool("chromium") == str(path)


@pytest.mark.parametrize(
    ("body", "reason"),
    [("echo no namespaces here >&2; exit 1", "no namespaces here"), ("exit 3", "exit status 3")],
    ids=["with-words", "silent"],
)
def test_a_tool_that_does_not_work(
    tools: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    monkeypatch.delenv("CI", raising=False)
    tools("bwrap", body)
    with pytest.raises(pytest.skip.Exception, match=f"bwrap is installed but does not work here: {reason}"):
        need_tool("bwrap")
