"""A container engine for tests: private, on a disk of its own, without bridge, firewall rules or registry.

It meets no other engine on the machine, and when it is ended nothing of it is left: no process, mount or loop device.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Generator
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException
from requests import RequestException

DISK_GIB = 12
START_S = 60.0
STOP_S = 30.0
GPU_HOOK = """#!/bin/sh
# Stands in for the vendor's: the engine calls it before a container with device requests starts.
exit 0
"""


class PrivateEngine:
    """One engine and its folder; `start` and `kill` may follow each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.data = folder / "data"
        self.log = folder / "dockerd.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self._daemon is not None
        return self._daemon.pid

    def mount(self, disk_gib: float = DISK_GIB) -> None:
        """Give it a disk: everything that it ever writes is on that."""
        for folder in (self.data, self.folder / "exec", self.folder / "bin"):
            folder.mkdir(parents=True)
        image = self.folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(int(disk_gib * 2**30))
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(self.data))
        hook = self.folder / "bin" / "nvidia-container-runtime-hook"
        hook.write_text(GPU_HOOK)
        hook.chmod(0o755)

    def start(self, *options: str, live_restore: bool = True) -> None:
        """Start the daemon and return once it answers."""
        assert os.path.ismount(self.data)
        words = ["dockerd", f"--data-root={self.data}", f"--exec-root={self.folder}/exec", "-H", self.host]
        words += [f"--pidfile={self.folder}/pid", "--bridge=none", "--iptables=false", "--ip-masq=false"]
        words += [
            "--log-opt=max-size=10m",
            "--log-opt=max-file=2",
            *(["--live-restore"] if live_restore else []),
            *options,
        ]
        path = (
            f"{self.folder}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
        )
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                words,
                env=os.environ | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon, politely or not; with live-restore its containers go on."""
        assert self._daemon is not None
        helper = self.folder / "exec" / "containerd" / "containerd.pid"
        with _opened(int(helper.read_text())) as containerd:
            self._daemon.send_signal(number)
            self._daemon.wait(STOP_S)
            if number is signal.SIGKILL:  # which its helper follows a moment later
                select.select([containerd], [], [], STOP_S)
                helper.unlink()
        self._daemon = None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon and start it anew."""
        self.stop(number)
        self.start()

    def close(self) -> None:
        """Remove everything: containers, daemon, mounts, disk."""
        if self._daemon is not None:
            with contextlib.suppress(DockerException, RequestException), contextlib.closing(self.client()) as client:
                for container in client.containers.list(all=True):
                    container.remove(force=True, v=True)
            self._daemon.terminate()
            self._daemon.wait(STOP_S)
        _end_orphans(self.folder)
        for mount in reversed(mounts_below(self.folder)):
            _run("umount", mount)
        shutil.rmtree(self.folder)

    def client(self) -> docker.DockerClient:
        """A client of it; whoever asks closes it."""
        return docker.DockerClient(base_url=self.host, version="1.41")

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + START_S
        daemon = self._daemon
        assert daemon is not None
        ended = os.pidfd_open(daemon.pid)
        try:
            while True:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(self.host.removeprefix("unix://"))
                    probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                    if b"200 OK" in probe.recv(100):
                        return
                assert time.monotonic() < until, self.log.read_text()[-2000:]
                assert not select.select([ended], [], [], 0.05)[0], self.log.read_text()[-2000:]
        finally:
            os.close(ended)


@contextlib.contextmanager
def private_engine(disk_gib: float = DISK_GIB) -> Generator[PrivateEngine]:
    """A started engine; the folder's path is short, for a socket's may have 107 bytes only."""
    engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="tourney-engine-")))
    try:
        engine.mount(disk_gib)
        engine.start()
        yield engine
    finally:
        engine.close()


def forget_refused_connections() -> None:
    """Collect the sockets that docker-py leaves open when nobody listens, before they are taken for leaks of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def why_not() -> str:
    """Why no private engine can be started here; empty when it can."""
    if os.geteuid() != 0:
        return "a private engine needs root"
    for tool in ("dockerd", "mkfs.ext4", "mount", "docker"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
            return f"{tool} is not installed"
    control = Path("/dev/loop-control")
    if not control.exists() or not stat.S_ISCHR(control.stat().st_mode):
        return "there are no loop devices"
    return ""


def mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, outer ones first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return sorted(point for line in lines if Path(point := line.split()[1]).is_relative_to(folder))


def _end_orphans(folder: Path) -> None:
    """Kill what a daemon that was killed left behind: its containerd, the shims, and what runs in containers."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if Path(words[0]).name.startswith("containerd") and any(str(folder) in word for word in words):
            for one in (*process.children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
                    one.wait(STOP_S)


@contextlib.contextmanager
def _opened(pid: int) -> Generator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
