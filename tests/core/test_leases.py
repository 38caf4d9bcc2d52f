"""Who holds which GPUs: a lease begins where they are free, and ends when nothing of its attempt runs any more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import START, Stage, credit, leased, miners
from tests.core.arena import NODE_LOST, Arena
from tourney_ray.core import events as e
from tourney_ray.core.commands import Release, Train
from tourney_ray.core.evolve import evolve, is_known
from tourney_ray.core.leases import Cluster, free_gpus, news_of_nodes
from tourney_ray.core.models import AttemptStatus, Trained, TrainingStatus
from tourney_ray.core.nodes import Lease, Node
from tourney_ray.core.state import State, Training
from tourney_ray.errors import IllegalTransition

VOUCHED: dict[str, Any] = {"by": "ada", "because": "its plug is pulled"}


def cluster(**h100: int) -> Cluster:
    return Cluster(tuple(Node(name, {"H100": count}) for name, count in h100.items()))


def arena(count: int, **h100: int) -> Arena:
    """Sixteen trainings that need one GPU each, so many of them with a lease on that cluster."""
    a = Arena(miners(16), cluster=cluster(**h100)).open().until_active()
    for _ in range(count):
        a.do(next(c for c in a.plan().commands if isinstance(c, Train) and c.intent))
    return a


def lease(a: Arena, node: str | None = None) -> Lease:
    """The first open lease, of that node when one is named."""
    return next(held for held in a.stage.state.leases.values() if node in (None, held.node))


def training(a: Arena, held: Lease) -> Training:
    return a.tournament.tasks[held.task_id].trainings[held.hotkey]


def of(held: Lease, fact: Any, **rest: Any) -> Any:
    """A fact about the attempt that has the lease."""
    where = {"tournament_id": held.tournament_id, "task_id": held.task_id, "hotkey": held.hotkey}
    return fact(**where, attempt_id=held.attempt_id, **rest)


def ended(held: Lease) -> e.LeaseEnded:
    return of(held, e.LeaseEnded, because="it is gone")


def refused(state: State, fact: e.Fact, why: str) -> None:
    with pytest.raises(IllegalTransition) as caught:
        evolve(state, fact, START)
    assert why in caught.value.message


# --- holding GPUs


def test_an_intent_takes_the_gpus_and_the_end_of_its_lease_gives_them_back():
    a = arena(1, n1=8)
    held = lease(a)
    assert leased(a.stage.state) == {("n1", "H100"): 1}
    assert free_gpus(a.stage.state) == {("n1", "H100"): 7}
    a.stage.record(of(held, e.AttemptEnded, outcome=Trained(checkpoint="out", seconds=1.0)))
    assert leased(a.stage.state) == {("n1", "H100"): 1}, "its outcome is known, and its container may still be there"
    a.stage.record(ended(held))
    assert (leased(a.stage.state), free_gpus(a.stage.state)) == ({}, {("n1", "H100"): 8})


def test_gpus_that_somebody_holds_are_not_leased_again():
    a = arena(0, n1=2)
    first, second = [c.intent for c in a.plan().commands if isinstance(c, Train) and c.intent]
    a.stage.record(first)
    a.stage.see(cluster(n1=1))
    refused(a.stage.state, second, "n1 has 0 free, 1×H100 are needed")
    refused(a.stage.state, first, "the training is training")


def test_a_node_that_shrinks_owes_what_it_has_lent():
    a = arena(3, n1=8)
    a.cluster = cluster(n1=2)
    now = a.plan()
    assert free_gpus(a.stage.state) == {("n1", "H100"): -1}
    assert not [c for c in now.commands if isinstance(c, Train) and c.intent]
    assert len(a.stage.state.leases) == 3
    a.stage.record(ended(lease(a)))
    a.stage.record(ended(lease(a)))
    assert [c.node for c in a.plan().commands if isinstance(c, Train) and c.intent] == ["n1"]


def test_two_attempts_of_one_training_never_hold_gpus_under_one_epoch():
    a = arena(1, n1=8, n2=8)
    held = lease(a)
    a.stage.record(of(held, e.AttemptEnded, outcome=NODE_LOST))
    a.stage.at = a.plan().wake_at[0]
    again = next(c for c in a.plan().commands if isinstance(c, Train) and c.spec.hotkey == held.hotkey)
    assert again.intent
    refused(a.stage.state, again.intent.model_copy(update={"epoch": 1, "attempt_id": held.attempt_id}), "epoch 2 is")
    a.do(again)
    mine = [held for held in a.stage.state.leases.values() if held.hotkey == again.spec.hotkey]
    assert [(each.epoch, each.attempt_id) for each in mine] == [(1, held.attempt_id), (2, again.spec.attempt_id)]


def test_what_the_older_epoch_says_does_not_count():
    a = arena(1, n1=8)
    held = lease(a)
    a.stage.record(of(held, e.AttemptEnded, outcome=NODE_LOST))
    refused(a.stage.state, of(held, e.AttemptEnded, outcome=NODE_LOST), "is not the attempt under way")
    a.stage.at = a.plan().wake_at[0]
    a.do(next(c for c in a.plan().commands if isinstance(c, Train) and c.spec.hotkey == held.hotkey))
    state = a.stage.state
    for late in (of(held, e.AttemptRunning), of(held, e.AttemptEnded, outcome=NODE_LOST)):
        refused(state, late, f"{held.attempt_id} is not the attempt under way")
    assert training(a, held).attempts[1].status is AttemptStatus.TRAINING


# --- what waits for its release


def test_the_gpus_of_an_attempt_that_is_over_are_released_where_it_ran():
    a = arena(1, n1=8, n2=8)
    held = lease(a)
    assert not [c for c in a.plan().commands if isinstance(c, Release)]
    a.stage.record(of(held, e.AttemptEnded, outcome=NODE_LOST))
    now = a.plan()
    (release,) = [c for c in now.commands if isinstance(c, Release)]
    assert (release.command_id, release.node) == (f"release/{held.attempt_id}", held.node)
    assert (release.spec.attempt_id, release.spec.epoch, release.spec.hotkey) == (held.attempt_id, 1, held.hotkey)
    assert now.waits[f"lease.{held.attempt_id}"] == f"{held.node} makes sure that nothing of it runs any more"
    a.do(release)
    assert held.attempt_id not in a.stage.state.leases
    assert not a.plan().wants(release.command_id)


def test_of_a_lost_node_nobody_can_be_asked():
    a = arena(1, n1=8)
    held = lease(a)
    a.cluster = cluster(n2=8)
    a.plan()
    a.stage.record(of(held, e.AttemptEnded, outcome=NODE_LOST))
    now = a.plan()
    assert not [c for c in now.commands if isinstance(c, Release)]
    lost = a.stage.state.nodes["n1"].lost_at
    assert now.waits[f"lease.{held.attempt_id}"] == (
        f"1×H100 of n1, lost at {lost:%F %T} UTC, are free when it comes back or somebody fences it"
    )


# --- nodes that come and go


def test_a_lost_node_keeps_its_leases_and_lends_nothing():
    a = arena(2, n1=8, n2=2)
    held = [each for each in a.stage.state.leases.values() if each.node == "n2"]
    assert len(held) == 2
    a.cluster = cluster(n1=8)
    now = a.plan()
    assert list(a.stage.state.leases.values()) == held
    assert {c.node for c in now.commands if isinstance(c, Train) and c.intent} == {"n1"}
    assert a.stage.state.nodes["n2"].lost_at == a.stage.at
    assert {training(a, each).status for each in held} == {TrainingStatus.TRAINING}


def test_the_gpus_of_a_node_that_returns_stay_leased_until_its_leases_end():
    a = arena(2, n1=2)
    held = lease(a)
    a.cluster = Cluster()
    a.plan()
    a.stage.record(of(held, e.AttemptEnded, outcome=NODE_LOST))
    a.cluster = cluster(n1=2)
    now = a.plan()
    assert a.stage.state.nodes["n1"].lost_at is None
    assert free_gpus(a.stage.state) == {("n1", "H100"): 0}
    (release,) = [c for c in now.commands if isinstance(c, Release)]
    assert not [c for c in now.commands if isinstance(c, Train) and c.intent]
    a.do(release)
    assert free_gpus(a.stage.state) == {("n1", "H100"): 1}
    assert len([c for c in a.plan().commands if isinstance(c, Train) and c.intent]) == 1


def test_a_fence_ends_each_lease_of_its_node_and_no_other():
    a = arena(3, n1=1, n2=8)
    a.cluster = cluster(n1=1)
    a.plan()
    on_n2 = [each.attempt_id for each in a.stage.state.leases.values() if each.node == "n2"]
    a.stage.record(e.NodeFenced(node="n2", **VOUCHED))
    ends = [fact for fact, _ in a.stage.facts if isinstance(fact, e.LeaseEnded)]
    assert [end.attempt_id for end in ends] == on_n2
    assert {end.because for end in ends} == {"n2 was fenced by ada: its plug is pulled"}
    assert {end.witness for end in ends} == {"fence"}
    assert leased(a.stage.state) == {("n1", "H100"): 1}
    assert set(a.stage.state.nodes) == {"n1"}


def test_a_fence_says_nothing_about_how_the_attempts_ended():
    a = arena(1, n1=8)
    held = lease(a)
    a.cluster = Cluster()
    a.plan()
    a.stage.record(e.NodeFenced(node="n1", **VOUCHED))
    (watch,) = [c for c in a.plan().commands if isinstance(c, Train)]
    assert (watch.spec.attempt_id, watch.intent) == (held.attempt_id, None)
    a.do(watch)
    assert training(a, held).platform_failures == 1


def test_only_a_lost_node_can_be_fenced():
    state = arena(1, n1=8).stage.state
    refused(state, e.NodeFenced(node="n1", **VOUCHED), "n1 is no node that is lost")
    refused(state, e.NodeFenced(node="n9", **VOUCHED), "n9 is no node that is lost")


def test_only_a_node_that_is_there_can_be_lost():
    a = arena(1, n1=8)
    a.stage.record(e.NodeLost(node="n1"))
    refused(a.stage.state, e.NodeLost(node="n1"), "n1 is no node that is there")
    refused(a.stage.state, e.NodeLost(node="n9"), "n9 is no node that is there")


@pytest.mark.parametrize("count", [0, 1])
def test_a_lost_node_is_forgotten_once_nothing_is_leased_on_it(count: int):
    a = arena(count, n1=8)
    a.stage.record(e.NodeLost(node="n1"))
    assert set(a.stage.state.nodes) == {"n1"} if count else a.stage.state.nodes == {}
    for held in list(a.stage.state.leases.values()):
        a.stage.record(ended(held))
    assert a.stage.state.nodes == {}


def test_a_lease_ends_once_and_for_the_training_that_has_it():
    a = arena(2, n1=8)
    one, other = a.stage.state.leases.values()
    refused(a.stage.state, ended(one).model_copy(update={"hotkey": other.hotkey}), f"{one.attempt_id} holds no GPUs")
    a.stage.record(ended(one))
    refused(a.stage.state, ended(one), f"{one.attempt_id} holds no GPUs")


# --- news


def test_only_what_the_state_does_not_say_is_news():
    stage = Stage()
    seen = Cluster((Node("n1", {"H100": 8}), Node("n2", {"H100": 4, "A100": 1}), Node("head", {})))
    joined = [e.NodeJoined(node="n1", gpus={"H100": 8}), e.NodeJoined(node="n2", gpus={"H100": 4, "A100": 1})]
    assert news_of_nodes(stage.state, seen) == joined
    stage.see(seen)
    assert news_of_nodes(stage.state, seen) == []
    changed = Cluster((Node("n2", {"H100": 4}), Node("n3", {"A100": 2})))
    assert news_of_nodes(stage.state, changed) == [
        e.NodeJoined(node="n2", gpus={"H100": 4}),
        e.NodeJoined(node="n3", gpus={"A100": 2}),
        e.NodeLost(node="n1"),
    ]
    assert news_of_nodes(stage.state, Cluster()) == [e.NodeLost(node="n1"), e.NodeLost(node="n2")]


def test_a_node_without_its_gpus_is_as_good_as_lost():
    stage = Stage()
    stage.see(cluster(n1=8))
    assert news_of_nodes(stage.state, Cluster((Node("n1", {}),))) == [e.NodeLost(node="n1")]


def test_a_node_that_returns_as_it_was_is_news_all_the_same():
    a = arena(1, n1=8)
    a.stage.record(e.NodeLost(node="n1"))
    assert news_of_nodes(a.stage.state, Cluster()) == []
    assert news_of_nodes(a.stage.state, cluster(n1=8)) == [e.NodeJoined(node="n1", gpus={"H100": 8})]


# --- what may be said twice


def test_money_and_ends_of_leases_and_starts_of_code_may_be_told_twice():
    a = arena(1, n1=8)
    held = lease(a)
    runs = of(held, e.AttemptRunning)
    for fact in (credit("x"), runs, ended(held)):
        assert not is_known(a.stage.state, fact)
        a.stage.record(fact)
        assert is_known(a.stage.state, fact)
    over = of(held, e.AttemptEnded, outcome=NODE_LOST)
    a.stage.record(over)
    assert not is_known(a.stage.state, over), "an end is told by one watcher, once"
