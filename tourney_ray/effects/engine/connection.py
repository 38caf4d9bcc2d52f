"""The connection to a container engine: what it is, what it can, and what its errors mean.

Guarantee: every way in which an engine fails becomes one line that says which it is and what to do about it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker import DockerClient
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import APIError, DockerException
from requests import RequestException

from tourney_ray.core.quoting import shown
from tourney_ray.errors import EngineDown, PlatformFault, StorageUnavailable

OLDEST_API = (1, 41)
"""Of engine 20.10, the oldest that is tested."""

ANSWER_S = 60.0
"""How long the engine may take to answer one call; starting a container on a busy disk takes seconds."""

POOL = 10
DEFAULT_SOCKET = "unix:///var/run/docker.sock"

API_VERSION = re.compile(r"\d+\.\d+")
OUT_OF_DISK = re.compile(r"no space left on device|disk quota exceeded|not enough space", re.IGNORECASE)


@dataclass(frozen=True)
class EngineFacts:
    """What an engine says of itself."""

    engine_id: str
    version: str
    api_version: str
    cpus: int
    mem_total_bytes: int
    cgroup_version: str
    """`1` or `2`."""
    cgroup_driver: str
    """`cgroupfs` or `systemd`."""
    storage_driver: str
    layer_quota: bool
    """Whether the size of a container's own layer can be bounded by the engine."""
    root_dir: Path
    """Where it keeps images and layers."""
    runtimes: tuple[str, ...]
    live_restore: bool
    """Whether containers outlive the engine's own restart."""
    rootless: bool


class Engine:
    """A connection to one engine, for one process. Safe for several threads; streams take a client of their own."""

    def __init__(self, host: str, client: DockerClient, facts: EngineFacts) -> None:
        self.host = host
        """Its address, as the command line tool takes it in DOCKER_HOST."""
        self.client = client
        self.facts = facts

    def stream_client(self) -> DockerClient:
        """A client of its own for one long stream; whoever asks for it closes it."""
        return _client(self.host, self.client.api.api_version, timeout_s=None)

    def close(self) -> None:
        """Let the connection go."""
        self.client.close()


def connect(host: str = "") -> Engine:
    """The engine at `host` (default: DOCKER_HOST, else the socket of Debian's and Docker's packages).

    Raises `EngineDown` when it is absent, may not be used by this user, does not answer or is too old.
    """
    address = host or os.environ.get("DOCKER_HOST", "") or DEFAULT_SOCKET
    with translated(f"reaching the container engine at {address}"), contextlib.ExitStack() as undone:
        client = _client(address, _spoken(address), ANSWER_S)
        undone.callback(client.close)
        facts = _facts(client)
        undone.pop_all()
    return Engine(address, client, facts)


@contextlib.contextmanager
def translated(doing: str) -> Generator[None]:
    """Turn what the engine's client raises into `EngineDown`, or `StorageUnavailable` where a disk is full.

    `doing` is what was attempted, such as "starting the container of …": the reasons follow it.
    """
    try:
        yield
    except PlatformFault:
        raise
    except (DockerException, RequestException, OSError) as error:
        raise _fault(doing, error) from error


def _client(address: str, api_version: str, timeout_s: float | None) -> DockerClient:
    return docker.DockerClient(base_url=address, version=api_version, timeout=timeout_s, max_pool_size=POOL)


def _spoken(address: str) -> str:
    """The newest version of the API that both sides speak; the client leaks a socket where nobody listens."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_S)
            probe.connect(address.removeprefix("unix://"))
    with contextlib.closing(_client(address, ".".join(map(str, OLDEST_API)), ANSWER_S)) as client:
        answer: Any = client.version(api_version=False)
    if not isinstance(answer, dict) or not API_VERSION.fullmatch(str(answer.get("ApiVersion"))):
        raise EngineDown(f"what listens at {address} is no container engine", "set sandbox.host to the engine's socket")
    theirs = _numbers(str(answer["ApiVersion"]))
    if theirs < OLDEST_API:
        found = f"engine {shown(str(answer.get('Version', '?')))} speaks API {answer['ApiVersion']}"
        raise EngineDown(f"{found}, which is too old", "install Docker 20.10 or newer on this node")
    return ".".join(map(str, min(theirs, _numbers(DEFAULT_DOCKER_API_VERSION))))


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _facts(client: DockerClient) -> EngineFacts:
    version: Mapping[str, Any] = client.version()
    info: Mapping[str, Any] = client.info()
    root = Path(str(info["DockerRootDir"]))
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    return EngineFacts(
        engine_id=str(info["ID"]),
        version=str(version["Version"]),
        api_version=str(version["ApiVersion"]),
        cpus=int(info["NCPU"]),
        mem_total_bytes=int(info["MemTotal"]),
        cgroup_version=str(info.get("CgroupVersion", "1")),
        cgroup_driver=str(info.get("CgroupDriver", "cgroupfs")),
        storage_driver=str(info["Driver"]),
        layer_quota=_has_layer_quota(str(info["Driver"]), root),
        root_dir=root,
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        rootless=any("rootless" in option for option in options),
    )


def _has_layer_quota(driver: str, root: Path) -> bool:
    """Whether layers can be bounded: some drivers always can, overlay2 on xfs with project quotas."""
    if driver in ("btrfs", "zfs", "devicemapper"):
        return True
    if driver != "overlay2":
        return False
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    below = [m.split()[1:4] for m in mounts if root.is_relative_to(m.split()[1])]
    _, kind, options = max(below, key=lambda mount: len(mount[0]), default=("", "", ""))
    return kind == "xfs" and any(word in options.split(",") for word in ("prjquota", "pquota"))


def _fault(doing: str, error: Exception) -> PlatformFault:
    """What an error of the client means, by its cause."""
    causes = list(_causes(error))
    words = shown(_explanation(error))
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError)}
    if errno.ENOSPC in numbers or OUT_OF_DISK.search(words):
        return StorageUnavailable(
            f"{doing}: its disk is full ({words})", "make room on this node, or give the engine a larger data root"
        )
    if errno.EACCES in numbers or errno.EPERM in numbers:
        return EngineDown(f"{doing}: this user may not use it", "add the user to the group `docker`, then log in anew")
    if errno.ENOENT in numbers or errno.ECONNREFUSED in numbers:
        return EngineDown(
            f"{doing}: no engine listens there", "install Docker 20.10 or newer and start it, or set sandbox.host"
        )
    if isinstance(error, RequestException):
        return EngineDown(f"{doing}: it does not answer ({words})", "see the engine's log on this node")
    return EngineDown(f"{doing}: {words}", "see the engine's log on this node")


def _causes(error: BaseException) -> Generator[BaseException]:
    """The error and everything it came from, arguments included: the client wraps the system's errors in its own."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        pending += [cause for cause in inner if isinstance(cause, BaseException)]


def _explanation(error: Exception) -> str:
    if isinstance(error, APIError) and error.explanation:
        return str(error.explanation)
    return str(error) or type(error).__name__
