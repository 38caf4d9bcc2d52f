"""What nothing may remove: worked out from whole tournaments, at every moment of them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime

import pytest

from tests.builders import CHAMPION, START, miners, offer
from tests.core.arena import CRASH, Arena
from tests.core.troubled import Troubled
from tourney_ray.core.commands import AskMiners, Evaluate, Train
from tourney_ray.core.events import TournamentCancelled
from tourney_ray.core.holdings import Holdings, holdings
from tourney_ray.core.models import (
    AttemptStatus,
    Failed,
    RoundStatus,
    RoundType,
    TournamentStatus,
    Trained,
    TrainingSpec,
)
from tourney_ray.core.plan import plan
from tourney_ray.core.state import State, Tournament

NOTHING = Holdings(*[frozenset()] * 7, collecting_since=None)


def trained(spec: TrainingSpec) -> Trained:
    """Kept under a digest, with its record."""
    return Trained(checkpoint=f"sha256:{spec.attempt_id}", seconds=1.0, provenance=f"sha256:record-{spec.attempt_id}")


def arena(entrants: int = 8) -> Arena:
    return Arena(miners(entrants), trains=trained)


def needed_now(state: State, at: datetime) -> tuple[set[str], set[str], set[str]]:
    """Checkpoints, tree hashes and tasks that the commands of this moment read."""
    commands = plan(state, at).commands
    evaluations = [c for c in commands if isinstance(c, Evaluate)]
    trainings = [c for c in commands if isinstance(c, Train)]
    return (
        {c.checkpoint.removeprefix("sha256:") for c in evaluations},
        {c.spec.tree_hash for c in trainings},
        {c.spec.task_id for c in trainings},
    )


def attempts(t: Tournament) -> list[str]:
    return [a.attempt_id for task in t.tasks.values() for tr in task.trainings.values() for a in tr.attempts]


def test_nothing_is_held_where_nothing_happened():
    assert holdings(State()) == NOTHING


def test_whatever_runs_or_is_evaluated_is_held_at_every_moment():
    game = arena().open()
    moments = 0
    while game.step():
        held = holdings(game.stage.state)
        checkpoints, trees, tasks = needed_now(game.stage.state, game.stage.at)
        assert checkpoints <= held.checkpoints
        assert trees <= held.trees
        assert {(tree, "text") for tree in trees} <= held.images
        assert tasks <= held.tasks
        assert not held.checkpoints & held.past_checkpoints
        assert held.live_records <= held.records
        moments += bool(checkpoints) + bool(trees)
    assert moments > 50


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_that_nobody_asked_for(seed: int):
    moments: list[bool] = []

    def look(game: Arena) -> None:
        held, state = holdings(game.stage.state), game.stage.state
        checkpoints, trees, tasks = needed_now(state, game.stage.at)
        moments.append(checkpoints <= held.checkpoints and trees <= held.trees and tasks <= held.tasks)
        leased = {lease.task_id for lease in state.leases.values()}
        moments.append(leased <= held.tasks)

    Troubled(random.Random(seed), faults=0.3, cancels=True, after=look).play()
    assert moments
    assert all(moments)


def test_a_live_tournament_keeps_all_of_its_checkpoints_and_their_logs():
    game = arena().open().until_active(2)
    state = game.stage.state
    held = holdings(state)
    done = [a for a in attempts(game.tournament) if any(a in one for one in held.checkpoints)]
    assert done
    assert held.past_checkpoints == frozenset()
    assert held.records == held.live_records == {f"record-{a}" for a in done}


def test_whoever_is_out_needs_no_image_and_what_is_decided_no_data():
    game = arena().open().until_active(2)
    held, t = holdings(game.stage.state), game.tournament
    out = set(t.entrants) - t.still_in()
    assert out
    assert not {t.entrants[hotkey].tree_hash for hotkey in out} & held.trees
    assert {t.entrants[hotkey].tree_hash for hotkey in t.still_in() - {CHAMPION}} <= held.trees
    assert held.tasks == {task.task_id for task in game.tasks(2)}
    assert {task.task_id for task in game.tasks(1)} & t.tasks.keys()


def test_whoever_is_out_and_still_holds_gpus_is_needed():
    game = arena().open().until_active(1)
    while not game.stage.state.leases:
        assert game.step()
    game.stage.record(TournamentCancelled(tournament_id=game.tournament_id, by="ada", because="tested"))
    state = game.stage.state
    assert state.leases
    held = holdings(state)
    hotkeys = {lease.hotkey for lease in state.leases.values()}
    assert held.trees == {offer(hotkey).tree_hash for hotkey in hotkeys}
    assert held.tasks == {lease.task_id for lease in state.leases.values()}
    assert held.collecting_since is None, "nobody waits for what a cancelled tournament leaves"


def test_of_an_ended_tournament_the_records_stay_and_what_won_the_title():
    game = arena().open()
    t = game.run()
    assert t.status is TournamentStatus.COMPLETED
    held, reign = holdings(game.stage.state), game.stage.state.reigns[t.tournament_type]
    won = {f"{task.task_id}" for task in game.tasks(len(t.rounds))}
    assert len(held.checkpoints) == len(won)
    assert all(reign.champion.hotkey in one and any(task in one for task in won) for one in held.checkpoints)
    assert held.checkpoints | held.past_checkpoints == set(attempts(t))
    assert held.records == {f"record-{a}" for a in attempts(t)}
    assert held.live_records == held.tasks == frozenset()
    assert held.images == {(reign.champion.tree_hash, "text")}
    assert held.trees == {reign.champion.tree_hash}


def test_a_later_champion_lets_the_checkpoints_of_the_one_before_go():
    game = arena().open()
    kind = game.run().tournament_type
    first, reign = holdings(game.stage.state).checkpoints, game.stage.state.reigns[kind]
    assert first
    game.champion, game.champion_wins = reign.champion, reign.wins
    game.entrants = [*miners(8), CHAMPION]
    game.open().run()
    assert game.stage.state.reigns[kind].tournament_id == game.tournament_id
    second = holdings(game.stage.state)
    assert second.checkpoints
    assert first <= second.past_checkpoints


def test_a_title_from_elsewhere_holds_its_image_alone():
    game = arena()
    game.champion_wins = 2
    game.open()
    state = replace(game.stage.state, tournaments={})
    held = holdings(state)
    assert held == replace(NOTHING, images=frozenset({(offer(CHAMPION).tree_hash, "text")}), trees=held.trees)
    assert held.trees == {offer(CHAMPION).tree_hash}


@pytest.mark.parametrize("round_type", [RoundType.KNOCKOUT, RoundType.BOSS])
def test_a_title_that_was_kept_without_a_checkpoint_holds_none(round_type: RoundType):
    """Nobody is left to challenge the champion, or its own trainings failed like the challenger's."""
    game = arena()

    def fails_late(spec: TrainingSpec) -> Trained | Failed:
        last = game.tournament.round
        return CRASH if last and last.round_type is round_type else trained(spec)

    game.trains, game.champion_wins = fails_late, 1
    t = game.open().run()
    assert t.completed
    assert t.completed.title == "defended"
    held = holdings(game.stage.state)
    assert held.checkpoints == frozenset()
    assert bool(held.past_checkpoints) is (round_type is RoundType.BOSS)


def test_repositories_that_were_offered_are_held_while_the_registration_is_open():
    game = arena(4).open()
    game.unpaid = ()
    while not game.tournament.answers:
        command = game.plan().commands[0]
        assert isinstance(command, AskMiners)
        game.step()
    t = game.tournament
    assert t.status is TournamentStatus.PENDING
    assert holdings(game.stage.state).trees >= {offer(hotkey).tree_hash for hotkey in miners(4)}


def test_what_the_earliest_open_attempt_may_have_left_is_known_by_its_beginning():
    game = arena().open()
    while not game.stage.state.leases:
        assert game.step()
    began = holdings(game.stage.state).collecting_since
    assert began is not None
    assert began > START
    game.until_active(2)
    state = game.stage.state
    open_ones = [
        a.started_at
        for task in game.tournament.tasks.values()
        for training in task.trainings.values()
        for a in training.attempts
        if a.status is AttemptStatus.TRAINING
    ]
    assert holdings(state).collecting_since == min(open_ones, default=None)


def test_an_outcome_without_a_record_holds_none():
    game = Arena(miners(8))
    game.open().until_active(2)
    outcomes = [
        a.outcome
        for task in game.tournament.tasks.values()
        for training in task.trainings.values()
        for a in training.attempts
    ]
    assert outcomes
    assert not any(outcome.provenance for outcome in outcomes if isinstance(outcome, Trained | Failed))
    assert holdings(game.stage.state).records == frozenset()
    assert game.tournament.rounds[0].status is RoundStatus.COMPLETED
