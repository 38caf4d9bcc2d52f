"""What Ray's errors mean: a kind for machines, a line for people, and never the miner's fault."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ray import exceptions as x

from tourney_ray.driver.faults import FAULTS, fault
from tourney_ray.errors import ConfigError, StorageUnavailable, TourneyError

TRACEBACK = 'ray::work()\n  File "work.py", line 7, in work\nZeroDivisionError: division by zero\n'
DISK = StorageUnavailable("the disk is full", "make room")


def raised(cause: Exception, traceback: str = TRACEBACK) -> x.RayTaskError:
    """What `ray.get` raises when a task raised `cause`."""
    error: Any = x.RayTaskError("work", traceback, cause)
    return cast(x.RayTaskError, error.as_instanceof_cause())


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (x.NodeDiedError("gone"), "node_lost", "its node was lost"),
        (x.TaskUnschedulableError("no such node"), "node_lost", "its node is not there any more"),
        (x.OutOfMemoryError("5 of 5 GB"), "node_out_of_memory", "its node ran out of memory"),
        (x.TaskCancelledError(), "cancelled", "it was cancelled"),
        (x.WorkerCrashedError(), "worker_lost", "its worker process died"),
        (x.ActorDiedError(), "actor_lost", "its actor died"),
        (x.ActorUnavailableError("busy", b"0" * 16), "actor_unavailable", "its actor does not answer"),
        (x.ObjectLostError("00" * 28, None, ""), "ray_error", "Ray could not run it"),
        (x.RayError("something new"), "ray_error", "Ray could not run it"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_of_rays_errors_has_a_kind_and_words(error: x.RayError, kind: str, reason: str) -> None:
    assert fault(error) == (kind, reason)


def test_every_line_of_the_table_can_be_reached() -> None:
    """No line stands behind one that takes all of its errors."""
    for number, (error, _, _) in enumerate(FAULTS):
        assert not any(issubclass(error, before) for before, _, _ in FAULTS[:number])


def test_an_error_of_ours_keeps_its_own_words_through_ray() -> None:
    assert fault(raised(DISK)) == ("storage_unavailable", "the disk is full")
    assert fault(DISK) == ("storage_unavailable", "the disk is full")
    assert fault(ConfigError("bad")) == ("config_error", "bad")
    assert fault(TourneyError("odd")) == ("tourney_error", "odd")


def test_any_other_error_of_a_task_is_a_defect_with_its_last_line() -> None:
    assert fault(raised(ZeroDivisionError("division by zero"))) == (
        "defect",
        "the task raised an error: ZeroDivisionError: division by zero",
    )


def test_a_long_complaint_is_cut_and_an_empty_one_is_no_accident() -> None:
    kind, reason = fault(raised(ValueError("x"), "ValueError: " + "x" * 1000))
    assert kind == "defect"
    assert len(reason) < 250
    assert "\n" not in reason
    assert fault(x.RayTaskError("work", "", ValueError("x")))[0] == "defect"
