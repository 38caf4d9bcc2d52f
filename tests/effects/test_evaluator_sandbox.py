"""What the process of an evaluator can do to this machine: nothing but read what it was given, and think."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tourney_ray.effects import bubblewrap, control_groups, evaluator_sandbox
from tourney_ray.effects.evaluator_process import EvaluatorProcess
from tourney_ray.effects.evaluator_sandbox import PARENT, EvaluatorSandbox, Reading, need_isolation
from tourney_ray.errors import EngineDown, EvaluatorDied

LONG_S = 60.0
MIB = 2**20
START = "import sys, os, json\nsay = lambda what: print(json.dumps(what), flush=True)\n"
NO_GROUPS = Path("/no/such/folder")

NETWORK = """
import socket
def reach(address):
    try:
        socket.create_connection(address, 2).close()
        return "reached"
    except OSError as problem:
        return problem.strerror
say([reach(("127.0.0.1", PORT)), reach(("169.254.169.254", 80)), os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else []])
"""  # noqa: E501

FILES = """
def tries(do):
    try:
        do()
        return "done"
    except OSError as problem:
        return problem.strerror
say({
    "reads": open(GIVEN + "/rows.json").read(),
    "secret": os.path.exists(SECRET),
    "covered": os.listdir(GIVEN + "/artifacts"),
    "accounts": os.path.exists("/etc/shadow") or os.path.exists("/var/lib"),
    "writes": tries(lambda: open(GIVEN + "/rows.json", "w")),
    "adds": tries(lambda: open(GIVEN + "/more", "w")),
    "links": tries(lambda: os.link(GIVEN + "/rows.json", "/tmp/rows")),
    "root": tries(lambda: open("/more", "w")),
    "temporary": tries(lambda: open("/tmp/more", "w")),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[-1] < 10,
    "environment": sorted(os.environ),
})
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder to read, with one to cover in it."""
    folder = tmp_path / "state" / "data"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "kept").write_text("another's")
    (folder / "rows.json").write_text("rows")
    (tmp_path / "state" / "seeds").write_text("secret")
    return folder


@pytest.fixture(params=["groups", "limits"])
def bounded_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a control group bounds it, as for root, or the process's own limits alone."""
    if request.param == "limits":
        monkeypatch.setattr(control_groups, "GROUPS", NO_GROUPS)
    else:
        request.getfixturevalue("need_groups")
    return str(request.param)


@pytest.fixture
def need_groups() -> None:
    """Skip where this user may make no control groups; root may, on a machine that has any."""
    if os.geteuid() or not control_groups.version_here():
        pytest.skip("control groups are root's")


@contextlib.contextmanager
def running(sandbox: EvaluatorSandbox, code: str) -> Generator[EvaluatorProcess]:
    with contextlib.closing(sandbox):
        words = sandbox.words([sys.executable, "-I", "-S", "-c", START + code])
        with contextlib.closing(EvaluatorProcess(words, sandbox.env)) as process:
            yield process


def said(sandbox: EvaluatorSandbox, code: str) -> Any:
    with running(sandbox, code) as process:
        return json.loads(process.hear(LONG_S))


def reading(given: Path, mem_bytes: int = 512 * MIB) -> Reading:
    return Reading((given,), (given / "artifacts",), mem_bytes)


@pytest.mark.usefixtures("need_bubblewrap", "bounded_by")
def test_it_sees_what_it_was_given_and_changes_nothing(given: Path) -> None:
    secret = given.parent / "seeds"
    code = FILES.replace("GIVEN", repr(str(given))).replace("SECRET", repr(str(secret)))
    got = said(EvaluatorSandbox(reading(given), isolated=True), code)
    environment = got.pop("environment")
    assert got == {
        "reads": "rows",
        "secret": False,
        "covered": [],
        "accounts": False,
        "writes": "Read-only file system",
        "adds": "Read-only file system",
        "links": "Invalid cross-device link",
        "root": "Read-only file system",
        "temporary": "done",
        "processes": True,
    }
    assert set(environment) <= set(evaluator_sandbox.environment()) | {"PWD", "LC_CTYPE"}


@pytest.mark.usefixtures("need_bubblewrap")
def test_what_is_added_later_is_seen(given: Path) -> None:
    code = f"say(0); sys.stdin.readline(); say(os.listdir({str(given)!r}))"
    with running(EvaluatorSandbox(reading(given), isolated=True), code) as process:
        process.hear(LONG_S)
        (given / "later").mkdir()
        assert "later" in json.loads(process.ask(b"now", LONG_S))


@pytest.mark.usefixtures("need_bubblewrap")
async def test_it_has_no_network(given: Path) -> None:
    import asyncio

    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sandbox = EvaluatorSandbox(reading(given), isolated=True)
        local, metadata, interfaces = await asyncio.to_thread(said, sandbox, NETWORK.replace("PORT", str(port)))
    assert (local, metadata) == ("Connection refused", "Network is unreachable")
    assert interfaces in ([], ["lo"])


@pytest.mark.usefixtures("need_bubblewrap")
def test_a_process_cannot_take_more_memory_than_it_has(given: Path, bounded_by: str) -> None:
    code = "hoard = [bytearray(16 << 20) for _ in range(1000)]\nsay('it has 16 GB')"
    sandbox = EvaluatorSandbox(reading(given, 128 * MIB), isolated=True)
    with running(sandbox, code) as process, pytest.raises(EvaluatorDied, match=r"MemoryError|killed by signal 9"):
        process.hear(LONG_S)


@pytest.mark.usefixtures("need_bubblewrap", "need_groups")
def test_many_processes_cannot_take_more_memory_than_one(given: Path) -> None:
    code = "for _ in range(5): os.fork()\nhoard = [bytearray(4 << 20) for _ in range(20)]\nsay('32 x 80 MB')"
    sandbox = EvaluatorSandbox(reading(given, 256 * MIB), isolated=True)
    with running(sandbox, code) as process, pytest.raises(EvaluatorDied):
        process.hear(LONG_S)


@pytest.mark.usefixtures("need_bubblewrap")
def test_files_in_its_own_folder_are_bounded(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator_sandbox, "TMP_BYTES", MIB)
    code = """
import errno, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    for number in range(100):
        open(f"/tmp/{number}", "wb").write(bytes(900_000))
except OSError as problem:
    say([number, errno.errorcode[problem.errno]])
"""
    assert said(EvaluatorSandbox(reading(given), isolated=True), code) == [1, "ENOSPC"]


@pytest.mark.usefixtures("need_bubblewrap")
def test_it_cannot_fork_for_ever(given: Path) -> None:
    """Of root's processes a control group is the only bound, of anybody else's its own limit."""
    code = """
import time
for number in range(2000):
    try:
        if not os.fork():
            time.sleep(60)
    except OSError as problem:
        say([number < 600, problem.strerror])
        break
else:
    say("2000 processes")
"""
    got = said(EvaluatorSandbox(reading(given), isolated=True), code)
    assert got == [True, "Resource temporarily unavailable"]


def test_without_isolation_it_is_bounded_all_the_same(given: Path, bounded_by: str) -> None:
    code = "hoard = [bytearray(16 << 20) for _ in range(1000)]\nsay('it has 16 GB')"
    sandbox = EvaluatorSandbox(reading(given, 128 * MIB), isolated=False)
    with running(sandbox, code) as process, pytest.raises(EvaluatorDied, match=r"MemoryError|killed by signal 9"):
        process.hear(LONG_S)


def test_groups_go_with_it(given: Path, bounded_by: str) -> None:
    before = set(control_groups.GROUPS.glob(f"*/{PARENT}/*-*"))
    sandbox = EvaluatorSandbox(reading(given), isolated=False)
    grown = set(control_groups.GROUPS.glob(f"*/{PARENT}/*-*")) - before
    assert bool(grown) is (bounded_by == "groups" and control_groups.version_here() == "1")
    sandbox.close()
    assert not grown & set(control_groups.GROUPS.glob(f"*/{PARENT}/*-*"))


def test_limits_cannot_be_lifted_again(given: Path) -> None:
    code = "import resource\nsay([resource.getrlimit(getattr(resource, 'RLIMIT_' + n)) for n in ('DATA', 'CORE')])"
    assert said(EvaluatorSandbox(reading(given), isolated=False), code) == [[512 * MIB, 512 * MIB], [0, 0]]


def test_where_bubblewrap_is_missing_nothing_is_evaluated_until_it_is_there(
    given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = [None]
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: found[0] if name == "bwrap" else which(name))
    bubblewrap.why_not.cache_clear()
    sandbox = EvaluatorSandbox(reading(given), isolated=True)
    with contextlib.closing(sandbox):
        for _ in range(2):
            with pytest.raises(EngineDown, match=r"no stranger's checkpoint .*bubblewrap is not installed") as caught:
                sandbox.words(["true"])
            assert "apt-get install bubblewrap" in caught.value.hint
        monkeypatch.undo()
        if not bubblewrap.why_not():
            need_isolation()
