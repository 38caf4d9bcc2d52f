"""Which GPUs a training gets, as arithmetic, and the lock under which it is decided."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tourney_ray.effects.engine.gpus import choose, node_lock, taken_by
from tourney_ray.effects.engine.labels import OurLabels
from tourney_ray.errors import EngineDown

MINE = OurLabels("d", "t", "task", "hk", "task.hk.1", 1, "n1", "H100", (0, 1))


def test_rays_own_unless_a_container_has_one() -> None:
    assert choose(2, 8, (5, 4), frozenset()) == (4, 5)
    assert choose(2, 8, (5, 4), frozenset({4})) == (0, 1)
    assert choose(1, 4, (), frozenset({0, 2})) == (1,)


def test_who_holds_them_is_said() -> None:
    with pytest.raises(EngineDown, match=r"2 of the 2 GPUs are wanted and 1 are free; held: 1 by task\.hk\.1"):
        choose(2, 2, (0, 1), frozenset({1}), {1: "task.hk.1"})


@given(st.integers(1, 8), st.integers(1, 8), st.lists(st.integers(0, 9), unique=True), st.sets(st.integers(0, 9)))
def test_the_choice_is_exclusive_and_whole(wanted: int, total: int, ours: list[int], taken: set[int]) -> None:
    free = set(range(total)) - taken
    if len(free) < wanted:
        with pytest.raises(EngineDown):
            choose(wanted, total, tuple(ours), taken)
        return
    chosen = choose(wanted, total, tuple(ours), taken)
    assert len(set(chosen)) == wanted
    assert list(chosen) == sorted(chosen)
    assert set(chosen) <= free
    if len(ours) == wanted and set(ours) <= free:
        assert set(chosen) == set(ours)


def test_real_devices_are_held_whoever_holds_them() -> None:
    other = replace(MINE, attempt="task.other.1", node="n2", gpu_type="A100", gpus=(3,))
    assert taken_by([MINE, other], MINE, "nvidia") == {3: "task.other.1"}


def test_counted_ones_are_held_on_their_node_only() -> None:
    others = [replace(MINE, attempt=f"a{n}", gpus=(n,)) for n in range(3)]
    running = [others[0], replace(others[1], node="n2"), replace(others[2], gpu_type="A100")]
    assert taken_by(running, MINE, "none") == {0: "a0"}


def test_an_older_lease_of_the_same_training_holds_its_own() -> None:
    older, newer = MINE, replace(MINE, attempt="task.hk.2", epoch=2)
    assert taken_by([older], newer, "nvidia") == {0: "task.hk.1", 1: "task.hk.1"}


def test_one_at_a_time_starts_a_container(tmp_path: Path) -> None:
    with node_lock(tmp_path / "new"):
        assert not is_free(tmp_path / "new")
    assert is_free(tmp_path / "new")


def test_a_child_that_was_forked_meanwhile_holds_nothing(tmp_path: Path) -> None:
    ready, go_on = os.pipe(), os.pipe()
    with node_lock(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(go_on[1])
            os.write(ready[1], b"x")
            os.read(go_on[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    assert is_free(tmp_path)
    os.close(go_on[1])
    os.waitpid(child, 0)
    for descriptor in (*ready, go_on[0]):
        os.close(descriptor)


def is_free(folder: Path) -> bool:
    with (folder / ".start.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
