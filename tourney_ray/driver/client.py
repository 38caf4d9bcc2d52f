"""Talking to the driver from outside: find it or start it, follow what it records, ask it."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, AuthenticationError, RayError, RayTaskError
from ray.job_config import JobConfig

from tourney_ray.config import Settings
from tourney_ray.core.events import Act
from tourney_ray.driver.actor import NAMESPACE, Driver, Update
from tourney_ray.driver.tasks import ON_THE_HEAD
from tourney_ray.errors import NotFound, TourneyError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

RESTART_PATIENCE_S = 60.0
"""How long a driver may take to come back after a crash."""

WAIT_S = 5.0
PROBE_S = 3.0
STOP_S = 10.0
"""How long a driver has to close its journal."""


def connect(address: str, tournament: str = "") -> None:
    """Connect this process to a Ray cluster; raises `UserError` when there is none, or none that lets it in.

    With the name of a driver, Ray's list of jobs says that this process is about its tournament.
    Ray's own handler of SIGTERM is taken back, so that a command still ends as its author meant it to.
    """
    hint = "start one with `ray up cluster.yaml` or `ray start --head`, or name it with --address"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _probe(address)
        about = JobConfig(metadata={"tournament": tournament} if tournament else {})
        options: dict[str, Any] = {"job_config": about, "log_to_driver": False, "logging_level": logging.WARNING}
        ray.init(address=address, namespace=NAMESPACE, **options)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        if _is_refusal(error):
            hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"
            raise UserError(f"the Ray cluster at {address} does not know this token", hint) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"no Ray cluster at {address}: {reason}", hint) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether it is about the token: of a wrong one Ray says that it cannot reach the cluster, and why in a cause."""
    while error is not None:
        if isinstance(error, AuthenticationError) or "InvalidAuthToken" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _probe(address: str) -> None:
    """Raise `OSError` unless somebody listens at `HOST:PORT`: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()


@contextlib.contextmanager
def connection(address: str, divert: bool = True, tournament: str = "") -> Generator[None]:
    """Be connected to a Ray cluster for a while; what runs there goes on after it. Raises as `connect` does.

    Ray prints news of its nodes to stdout: with `divert`, all that is printed meanwhile goes to stderr, so that a
    document can have stdout to itself.
    """
    with contextlib.redirect_stdout(sys.stderr) if divert else contextlib.nullcontext():
        connect(address, tournament)
        try:
            yield
        finally:
            ray.shutdown()


def start(settings: Settings) -> DriverClient:
    """The driver of that name: the one that runs already, or a new one."""
    actor: Any = ray.remote(Driver)
    handle = actor.options(
        name=settings.name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources=ON_THE_HEAD,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=1000,
    ).remote(settings)
    client = DriverClient(handle, settings.name)
    running: Settings = client.call("settings")
    if running != settings:
        raise UserError(
            f"a driver named {settings.name} runs already, with other settings (its state is {running.state})",
            "give this tournament another `name`, or end the running one with `tourney stop`",
        )
    return client


def find(name: str) -> DriverClient:
    """The running driver of that name; raises `NotFound` when there is none."""
    try:
        return DriverClient(ray.get_actor(name, NAMESPACE), name)
    except ValueError as error:
        raise NotFound(f"no driver named {name} runs in this cluster", "start one with `tourney run`") from error


class DriverClient:
    """A driver, as seen from another process. Survives the driver's restarts."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self.name = name

    def follow(self, after: int = 0) -> Iterator[Update]:
        """Updates without end, the first one at once; waits out a restart of the driver."""
        while True:
            update: Update = self.call("follow", after, WAIT_S)
            after += len(update.entries)
            yield update

    def query(self, sql: str) -> pa.Table:
        """The rows of one SELECT over the driver's tables, as an Arrow table."""
        return self.call("query", sql)

    def act(self, act: Act) -> int:
        """The sequence number under which the driver recorded the act of a person.

        Asked once only, since an act that is recorded twice may be done twice. Raises `NotFound` or `NotAllowed` when
        it is refused, and `UserError` when the driver went away meanwhile, so that nobody knows.
        """
        try:
            return self._once("act", act)
        except ActorUnavailableError as error:
            message = f"the driver {self.name} went away before it answered: it may have recorded this or not"
            raise UserError(message, f'see `tourney query --name {self.name} "FROM acts"` once it is back') from error

    def call(self, method: str, *args: Any) -> Any:
        """The result of one method of the driver; raises what it raised, `NotFound` when it is gone for good."""
        until = time.monotonic() + RESTART_PATIENCE_S
        while True:
            try:
                return self._once(method, *args)
            except ActorUnavailableError:
                if time.monotonic() > until:
                    raise NotFound(f"the driver {self.name} does not answer", "see `ray list actors`") from None
                time.sleep(0.2)

    def _once(self, method: str, *args: Any) -> Any:
        try:
            return ray.get(getattr(self._handle, method).remote(*args))
        except ActorDiedError as error:
            raise NotFound(f"the driver {self.name} is gone: {_cause(error)}") from error
        except RayTaskError as error:
            if isinstance(error.cause, TourneyError):
                raise error.cause from None
            raise

    def kill(self) -> None:
        """Stop the driver for good, well or not; what it has recorded stays, what trains for it is lost."""
        with contextlib.suppress(RayError):  # a driver that does not answer is ended all the same
            ray.get(self._handle.stop.remote(), timeout=STOP_S)
        ray.kill(self._handle, no_restart=True)


def _cause(error: ActorDiedError) -> str:
    """The line of Ray's long account that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line or ": " in line), lines[0])
