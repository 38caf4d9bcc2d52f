"""Reward functions in their processes: what they are given, what they may not do, and whose fault their faults are."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from tourney_ray.effects.bubblewrap import why_not
from tourney_ray.effects.rewards import without_network
from tourney_ray.errors import ConfigError, EvaluatorCrashed
from tourney_ray.evaluation.kinds import Launcher
from tourney_ray.evaluation.reward_process import Limits, read_function, run_function

LAUNCHERS: list[Launcher] = [list, without_network]


@pytest.fixture(params=LAUNCHERS, ids=["plain", "shut in"])
def launch(request: pytest.FixtureRequest) -> Launcher:
    if request.param is without_network and (why := why_not()):
        pytest.skip(why)
    return request.param


def run(
    source: str, launch: Launcher = list, clock_s: float = 20.0, extra: Sequence[object] | None = None
) -> list[float]:
    limits = Limits(clock_s, memory_bytes=2**30)
    return run_function(read_function(1, source), ["one", "two words", "é🙂"], extra, launch, limits)


def fault(source: str, launch: Launcher = list, clock_s: float = 20.0) -> str:
    with pytest.raises(EvaluatorCrashed) as caught:
        run(source, launch, clock_s)
    assert caught.value.hint
    assert caught.value.message.startswith("reward function 1 of the task (f) ")
    return caught.value.message.removeprefix("reward function 1 of the task (f) ")


def test_rewards(launch: Launcher) -> None:
    assert run("def f(completions, **kwargs):\n    return [len(it) for it in completions]", launch) == [3.0, 9.0, 2.0]


def test_imports_and_other_definitions() -> None:
    source = "import math\nHALF = 0.5\nclass A: pass\ndef f(completions):\n    return [math.floor(HALF)] * 3"
    assert run(source) == [0.0] * 3


def test_extra_data_is_passed_where_it_is_named() -> None:
    extra = [1, "x", None]
    named = "def f(completions, extra_data):\n    return [float(it == 'x') for it in extra_data]"
    assert run(named, extra=extra) == [0.0, 1.0, 0.0]
    assert run("def f(completions, **kwargs):\n    return [len(kwargs)] * 3", extra=extra) == [0.0] * 3
    assert run("def f(completions, extra_data=7):\n    return [extra_data] * 3") == [7.0] * 3


def test_what_it_prints_does_not_disturb() -> None:
    source = "import os, sys\ndef f(completions):\n    print('[9, 9, 9]')\n    os.write(1, b'x')\n    return [1] * 3"
    assert run(source) == [1.0] * 3


def test_chance_and_hashes_are_the_same_every_time() -> None:
    source = "import random\ndef f(completions):\n    return [random.random(), hash('a') % 1000, hash('b') % 1000]"
    assert run(source) == run(source)


def test_it_sees_nothing_of_our_environment(launch: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert run("import os\ndef f(completions):\n    return ['SECRET' in os.environ] * 3", launch) == [0.0] * 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('no \\x1b idea')", "failed with exit code 1: ValueError: no ? idea"),
        ("return None", "failed with exit code 1: TypeError"),
        ("return [None] * 3", "failed with exit code 1: TypeError"),
        ("return [1.0, 2.0]", "gave 2 rewards for 3 completions"),
        ("return [1.0, float('nan'), 2.0]", "gave nan, which is not a finite number"),
        ("return [1.0, float('inf'), 2.0]", "gave inf, which is not a finite number"),
        ("import os; os._exit(0)", "ended without an answer"),
        ("import os; os._exit(3)", "failed with exit code 3: it said nothing"),
        ("raise SystemExit(0)", "ended without an answer"),
        ("return [bytearray(4 * 2**30)]", "failed with exit code 1: MemoryError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed with exit code"),
    ],
)
def test_its_faults_are_named_and_nobodys_but_ours(body: str, words: str) -> None:
    assert words in fault(f"def f(completions):\n    {body}")


def test_it_is_ended_by_its_clock(launch: Launcher) -> None:
    started = time.monotonic()
    assert (
        fault("import time\ndef f(completions):\n    time.sleep(60)", launch, clock_s=0.5) == "did not end within 0.5 s"
    )
    assert time.monotonic() - started < 15


def test_what_it_leaves_behind_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    source = (
        "import subprocess\ndef f(completions):\n"
        f"    child = subprocess.Popen(['sleep', '60'])\n    open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "    return [1] * 3"
    )
    assert run(source) == [1.0] * 3
    try:
        descriptor = os.pidfd_open(int(mark.read_text()))
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 20)[0], "it still runs"
    os.close(descriptor)


@pytest.fixture
def listening() -> Generator[tuple[int, list[bytes]]]:
    """A server on this machine that keeps what it is told."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(100))
                connection.sendall(b"1")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        if thread.is_alive():
            socket.create_connection(server.getsockname()).close()
        thread.join()


def test_shut_in_it_has_no_network(listening: tuple[int, list[bytes]]) -> None:
    if why := why_not():
        pytest.skip(why)
    port, heard = listening
    source = (
        "import socket\ndef f(completions):\n"
        f"    with socket.create_connection(('127.0.0.1', {port}), timeout=5) as there:\n"
        "        there.sendall(completions[0].encode())\n        return [float(there.recv(1))] * 3"
    )
    assert "ConnectionRefusedError" in fault(source, without_network)
    assert heard == []
    assert run(source, list) == [1.0] * 3, "the same function, not shut in, gets through: the test can tell"
    assert heard == [b"one"]


def test_shut_in_it_sees_no_files_of_ours(tmp_path: Path) -> None:
    if why := why_not():
        pytest.skip(why)
    (tmp_path / "secret").write_text("7")
    source = f"def f(completions):\n    return [float(open({str(tmp_path / 'secret')!r}).read())] * 3"
    assert "FileNotFoundError" in fault(source, without_network)
    assert run(source, list) == [7.0] * 3
    assert "Read-only file system" in fault("def f(completions):\n    open('/x', 'w')", without_network)


def test_a_launcher_that_is_not_there_is_the_platforms_fault() -> None:
    with pytest.raises(EvaluatorCrashed, match="cannot be started: /no/such"):
        run("def f(completions):\n    return [1] * 3", lambda words: ["/no/such", *words])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(:", "reward function 2 is not Python"),
        ("x = 1", "reward function 2 defines 0 functions at its top level"),
        ("def f(a): pass\ndef g(a): pass", "reward function 2 defines 2 functions"),
        ("f = lambda completions: [1]", "defines 0 functions"),
        ("\0", "is not Python"),
    ],
)
def test_sources_that_define_no_one_function(source: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_function(2, source)
