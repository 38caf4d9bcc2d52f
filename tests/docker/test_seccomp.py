"""What a trainer's process may ask of the kernel: each call is made from inside a container with all of its options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.effects.builders_sandbox import World
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.etc_files import write_etc
from tourney_ray.effects.engine.options import Limits, Mounts, labels_of, run_options
from tourney_ray.samples.base_image import ensure_base_image

PROBE = r"""
import ctypes, errno, json, multiprocessing, os, platform, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
said = {}
def call(name, x86, arm, *words):
    ctypes.set_errno(0)
    found = libc.syscall(x86 if X86 else arm, *words)
    said[name] = errno.errorcode[ctypes.get_errno()] if found == -1 else "done"
def attempt(name, what):
    try:
        what()
        said[name] = "done"
    except OSError as problem:
        said[name] = errno.errorcode.get(problem.errno, str(problem))
call("io_uring_setup", 425, 425, 1, ctypes.create_string_buffer(120))
call("ptrace", 101, 117, 16, 1, 0, 0)
call("process_vm_readv", 310, 270, 1, 0, 0, 0, 0, 0)
call("pidfd_getfd", 438, 438, 0, 0, 0)
call("userfaultfd", 323, 282, 1)
call("keyctl", 250, 219, 0, -3, 1)
call("add_key", 248, 217, b"user", b"k", b"v", 1, -3)
call("bpf", 321, 280, 0, 0, 0)
call("perf_event_open", 298, 241, 0, 0, 0, 0, 0)
call("unshare_user", 272, 97, 0x10000000)
call("clone_user", 56, 220, ctypes.c_ulong(0x10000011), 0, 0, 0, 0)
call("clone3", 435, 435, 0, 0)
call("mount", 165, 40, b"none", b"/tmp", b"tmpfs", 0, 0)
call("setns", 308, 268, 0, 0)
call("open_by_handle_at", 304, 265, 0, 0, 0)
call("chroot", 161, 51, b"/tmp")
call("clock_settime", 227, 112, 0, ctypes.create_string_buffer(16))
call("vsock", 41, 198, 40, 1, 0)
call("vsock_disguised", 41, 198, ctypes.c_ulong(0x100000028), 1, 0)
call("af_alg", 41, 198, 38, 5, 0)
attempt("mknod", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
attempt("proc_sys", lambda: open("/proc/sys/kernel/hostname", "w"))
attempt("cgroup", lambda: os.mkdir("/sys/fs/cgroup/x"))
attempt("setuid_root", lambda: os.setgroups([0, 999]))
attempt("cache", lambda: open("/cache/x", "w"))
for name in ("hosts", "hostname", "resolv.conf"):
    attempt(name, lambda: open("/etc/" + name, "a"))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
attempt("inet", lambda: socket.create_server(("127.0.0.1", 0)).close())
attempt("pair", lambda: [one.close() for one in socket.socketpair()])
attempt("address", lambda: socket.getaddrinfo("localhost", 80))
attempt("tmp", lambda: open("/tmp/x", "w").close())
attempt("output", lambda: open("/app/checkpoints/x", "w").close())
attempt("fifo", lambda: os.mkfifo("/tmp/f"))
thread = threading.Thread(target=lambda: said.update(thread="done")); thread.start(); thread.join()
with multiprocessing.get_context("fork").Pool(2) as pool:
    said["pool"] = "done" if pool.map(abs, [-1, -2]) == [1, 2] else "wrong"
said["shell"] = "done" if subprocess.run(["sh", "-c", "exit 3"]).returncode == 3 else "wrong"
print("SAID " + json.dumps(said), flush=True)
"""
MISSING = {"io_uring_setup", "clone3"}
ALLOWED = {"unix", "inet", "pair", "address", "tmp", "output", "fifo", "thread", "pool", "shell"}
FORGED = {"tourney.attempt": "another", "tourney.epoch": "99", "tourney.gpus": "0,1,2,3"}
READ_ONLY = {"proc_sys", "cache", "hosts", "hostname", "resolv.conf"}


@pytest.fixture(scope="module")
def said(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the kernel answered to each call of the probe."""
    folder = tmp_path_factory.mktemp("seccomp")
    world = World(folder)
    spec = world.spec(world.source("pass")).model_copy(update={"mem_limit": "512m", "nano_cpus": 10**9})
    for name in ("cache", "output"):
        (folder / name).mkdir()
    (folder / "output").chmod(0o1777)
    (folder / "cache" / "probe.py").write_text(PROBE)
    labels = labels_of(spec, "n1", "tourney", (0,))
    mounts = Mounts(folder / "cache", folder / "output", write_etc(folder / "etc"))
    image = ensure_base_image(engine, tiny=True)
    limits = Limits(devices="none", tmp_bytes=2**24)
    options = run_options(spec, engine.facts, limits, image.image_id, False, labels, mounts)
    options["command"] = ["python3", "/cache/probe.py"]
    container = engine.client.containers.create(**options)
    try:
        container.start()
        container.wait(timeout=60)
        log = container.logs().decode()
    finally:
        container.remove(force=True, v=True)
    lines = [line for line in log.splitlines() if line.startswith("SAID ")]
    assert lines, log
    return json.loads(lines[0].removeprefix("SAID "))


def test_what_training_needs_is_let_through(said: dict[str, str]) -> None:
    assert {name: said[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "done")


def test_what_libraries_do_without_is_said_to_be_missing(said: dict[str, str]) -> None:
    assert {name: said[name] for name in MISSING} == dict.fromkeys(MISSING, "ENOSYS")


def test_what_is_mounted_read_only_stays_as_it_is(said: dict[str, str]) -> None:
    assert {name: said[name] for name in READ_ONLY} == dict.fromkeys(READ_ONLY, "EROFS")
    assert said["cgroup"] in ("EROFS", "EACCES")  # by the version of control groups


def test_everything_else_is_refused(said: dict[str, str]) -> None:
    refused = said.keys() - ALLOWED - MISSING - READ_ONLY - {"cgroup"}
    assert len(refused) == 20
    assert {name: said[name] for name in refused} == dict.fromkeys(refused, "EPERM")


def test_labels_and_health_checks_of_an_image_count_for_nothing(engine: Engine, tmp_path: Path) -> None:
    world = World(tmp_path)
    spec = world.spec(world.source("pass")).model_copy(update={"mem_limit": "512m", "nano_cpus": 10**9})
    base = ensure_base_image(engine, tiny=True)
    made = engine.client.containers.create(base.image_id, ["true"], network_mode="none")
    forged = made.commit(
        repository="tourney-test/forged",
        conf={"Labels": FORGED, "StopSignal": "SIGCONT", "Healthcheck": {"Test": ["CMD", "sleep", "1000"]}},
    )
    made.remove()
    try:
        for name in ("cache", "output"):
            (tmp_path / name).mkdir()
        labels = replace(labels_of(spec, "n1", "tourney", ()), epoch=7)
        mounts = Mounts(tmp_path / "cache", tmp_path / "output", write_etc(tmp_path / "etc"))
        limits = Limits(devices="none", tmp_bytes=2**24)
        options = run_options(spec, engine.facts, limits, str(forged.id), False, labels, mounts)
        container = engine.client.containers.create(**options)
        config = engine.client.api.inspect_container(str(container.id))["Config"]
        container.remove()
    finally:
        engine.client.images.remove(str(forged.id), force=True)
    ours = {name: text for name, text in config["Labels"].items() if name in labels.words()}
    assert ours == labels.words()
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["NONE"]
