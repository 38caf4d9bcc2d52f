"""What strangers' containers try, and what stops each of them: on a real engine, beside a neighbour that goes on."""

from __future__ import annotations

import socket
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.docker.bench import DOCKERFILE, LIMITS, SAVING, Bench
from tourney_ray.core.models import Blame
from tourney_ray.effects import contract
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.collect import collect
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.trainer import output_of
from tourney_ray.effects.ran import Ran
from tourney_ray.errors import CheckpointInvalid

FILL = """
import sys
with open({path!r}, "wb") as file:
    try:
        while True:
            file.write(bytes(2**20))
            file.flush()
    except OSError as error:
        sys.exit(error.strerror)
"""
REACH = """
import socket, sys
try:
    {attempt}
except OSError as error:
    sys.exit(f"no way: {{type(error).__name__}}")
"""


@dataclass(frozen=True)
class Attack:
    """A trainer, what stopped it, and how that is told."""

    script: str
    stopped_by: str
    kind: str = "crashed"
    words: str = ""
    """Part of the reason."""
    dockerfile: str = DOCKERFILE


RUNNING: dict[str, Attack] = {
    "fork bomb": Attack(
        "import os, sys, time\ntry:\n    while os.fork():\n        pass\n    time.sleep(30)\n"
        "except OSError as error:\n    sys.exit(error.strerror)",
        "the limit of processes",
        words="Resource temporarily unavailable",
    ),
    "memory hog": Attack(
        "x = [bytearray(2**24) for _ in range(1000)]", "the limit of memory", "out_of_memory", "0.2 GiB"
    ),
    "/dev/shm fill": Attack(FILL.format(path="/dev/shm/x"), "its size", words="No space left"),
    "/tmp fill": Attack(FILL.format(path="/tmp/x"), "its size", words="No space left"),
    "output fill": Attack(FILL.format(path="/app/checkpoints/x"), "a file system of its own", words="No space left"),
    "output of many files": Attack(
        "import pathlib, sys\ntry:\n    [pathlib.Path(f'/app/checkpoints/{i}').touch() for i in range(20000)]\n"
        "except OSError as error:\n    sys.exit(error.strerror)",
        "a file system of its own",
        words="No space left",
    ),
    "layer fill": Attack(
        "import time\nopen('/workspace/x', 'wb').write(bytes(60 * 2**20))\ntime.sleep(60)",
        "the look at its layer",
        "layer_full",
        "outside of its output folder",
    ),
    "/etc/hosts fill": Attack(
        FILL.format(path="/etc/hosts"), "a read-only file of ours", words="Read-only file system"
    ),
    "log flood": Attack("import sys\nfor _ in range(300000): print('x' * 100)\nsys.exit(3)", "the size of the log"),
    "metadata address": Attack(
        REACH.format(attempt="socket.create_connection(('169.254.169.254', 80), 3)"), "no network", words="no way"
    ),
    "gateway": Attack(
        REACH.format(attempt="socket.create_connection(('172.17.0.1', 22), 3)"), "no network", words="no way"
    ),
    "a name": Attack(REACH.format(attempt="socket.gethostbyname('example.com')"), "no network", words="no way"),
    "vsock": Attack(
        REACH.format(attempt="socket.socket(socket.AF_VSOCK)"), "the system calls", words="no way: Permission"
    ),
    "engine's socket": Attack(
        "import os, sys\nsys.exit('none' if not os.path.exists('/var/run/docker.sock') else 0)", "mounts"
    ),
    "device": Attack(
        "import os, stat\nos.mknod('/tmp/sda', stat.S_IFBLK | 0o600, os.makedev(8, 0))", "no capabilities"
    ),
    "mount": Attack(
        "import ctypes, sys\nsys.exit(ctypes.CDLL(None).mount(b'a', b'/tmp', b'tmpfs', 0, None) and 5)", "system calls"
    ),
    "ptrace of init": Attack(
        "import ctypes, sys\nsys.exit(5 if ctypes.CDLL(None).ptrace(16, 1, 0, 0) else 0)", "system calls"
    ),
    "cache": Attack("open('/cache/models/x', 'w')", "read-only mounts", words="Read-only file system"),
    "kernel settings": Attack("open('/proc/sys/kernel/hostname', 'w').write('x')", "read-only /proc/sys"),
    "control groups": Attack("import os\nos.mkdir('/sys/fs/cgroup/pids/x')", "read-only /sys"),
    "preloaded library": Attack(
        "import sys\nsys.exit(4)", "it harms only itself", dockerfile=DOCKERFILE + "ENV LD_PRELOAD=/x.so\n"
    ),
    "forged labels": Attack(
        "import sys\nsys.exit(4)",
        "labels given at the start",
        dockerfile=DOCKERFILE + "LABEL tourney.attempt=victim tourney.epoch=9\n",
    ),
}

LEAVING: dict[str, tuple[str, str]] = {
    "symbolic link": ("os.symlink('/etc/passwd', output / 'model')", "not a plain file"),
    "output folder as a link": ("output.rmdir(); os.symlink('/etc', output)", "not a folder"),
    "hard link": ("(output / 'a').touch(); os.link(output / 'a', output / 'b')", "not a plain file of its own"),
    "fifo": ("os.mkfifo(output / 'model')", "not a plain file"),
    "socket": ("socket.socket(socket.AF_UNIX).bind(str(output / 's'))", "not a plain file"),
    "sparse terabyte": ("os.truncate(os.open(output / 'm', os.O_CREAT | os.O_RDWR), 2**40)", "more than .* bytes"),
    "20,000 files": ("[(output / str(i)).touch() for i in range(20000)]", "more than 10000 files"),
    "deep tree": ("os.chdir(output); [(os.mkdir('d'), os.chdir('d')) for _ in range(500)]", "more than 8 deep"),
    "odd name": ("(output / 'a\\x1b[2J').touch()", "file of the name"),
    "a name that is no text": ("os.close(os.open(bytes(output) + b'/\\xff', os.O_CREAT))", "file of the name"),
}


@pytest.fixture(scope="module", autouse=True)
def neighbour(engine: Engine, tiny: str) -> Generator[None]:
    """Somebody else's container, which runs on whatever happens beside it."""
    one = engine.client.containers.run(tiny, ["sleep", "600"], network_mode="none", detach=True)
    yield
    one.reload()
    assert one.status == "running"
    one.remove(force=True)


@pytest.fixture(scope="module", autouse=True)
def listener() -> Generator[None]:
    """Somebody on the host listens, and is never reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("name", RUNNING)
def test_it_is_bounded_and_its_miner_pays(bench: Bench, name: str) -> None:
    attack = RUNNING[name]
    ran = bench.run(attack.script, attack.dockerfile)
    assert isinstance(ran, Ran)
    assert ran.failed is not None, ran
    assert (ran.failed.blame, ran.failed.kind) == (Blame.MINER, attack.kind), ran
    assert attack.words in ran.failed.reason
    assert len(ran.log_tail) <= 2000
    assert bench.left() == []


def test_the_hosts_own_loopback_is_another(bench: Bench) -> None:
    ran = bench.run(REACH.format(attempt="[socket.create_connection(('127.0.0.1', p), 1) for p in (22, 2024, 6379)]"))
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert "no way: ConnectionRefusedError" in ran.failed.reason


def test_whoever_ignores_the_polite_request_is_killed(bench: Bench) -> None:
    script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    ran = bench.run(script, hours=1.5 / 3600)
    assert isinstance(ran, Ran)
    assert (ran.stopped_at_deadline, ran.exit_code, ran.failed) == (True, 137, None)
    assert 2.4 < ran.seconds < 8


@pytest.mark.parametrize("name", LEAVING)
def test_what_is_no_plain_output_is_refused(bench: Bench, tmp_path: Path, name: str) -> None:
    script, words = LEAVING[name]
    bench.limits = replace(LIMITS, output_inodes=30_000)
    spec = bench.spec(bench.image(SAVING + "import socket\n" + script))
    ran = bench.run_spec(spec)
    assert isinstance(ran, Ran)
    assert ran.failed is None, ran
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with output_of(bench.work, spec, bench.limits) as checkpoints, pytest.raises(CheckpointInvalid, match=words):
        collect(checkpoints, contract.output_folder(spec), store)


def test_a_setuid_program_becomes_an_ordinary_file(bench: Bench, tmp_path: Path) -> None:
    spec = bench.spec(bench.image(SAVING + "(output / 'sh').touch(); (output / 'sh').chmod(0o6777)"))
    assert isinstance(bench.run_spec(spec), Ran)
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with output_of(bench.work, spec, bench.limits) as checkpoints:
        kept = collect(checkpoints, contract.output_folder(spec), store)
    folder = store.checkout(kept.digest, tmp_path / "out")
    assert (folder / "sh").stat().st_mode & 0o7111 == 0
