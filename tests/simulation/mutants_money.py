"""Planted bugs about money, seeds and the life of a tournament."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.planting import CALM, HALT, VECTORS, Mutant, deaf, everywhere
from tourney_ray.core import events as e, evolve, plan as planning, resources, schedule, settle
from tourney_ray.core.commands import Announce
from tourney_ray.core.models import TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State, Tournament
from tourney_ray.simulation.effects import VirtualDispatcher
from tourney_ray.simulation.run import Setting

CANCELLED = replace(CALM, cancels=True)


def double_charge(patch: pytest.MonkeyPatch) -> None:
    honest = settle._registration

    def register(state: State, t: Tournament) -> list[e.Fact]:
        facts = honest(state, t)
        if t.passes > 1 and facts and t.charges:
            return [next(iter(t.charges.values())), *facts]
        return facts

    patch.setattr(settle, "_registration", register)
    deaf(patch, "it was charged before")


def fee_kept(patch: pytest.MonkeyPatch) -> None:
    honest = evolve._cancelled

    def cancelled(t: Tournament, fact: e.TournamentCancelled) -> Tournament:
        last = next(reversed(t.charges))
        return replace(honest(t, fact), charges={h: paid for h, paid in t.charges.items() if h != last})

    patch.setattr(evolve, "_cancelled", cancelled)


def refunded_twice(patch: pytest.MonkeyPatch) -> None:
    honest = settle._refund
    patch.setattr(settle, "_refund", lambda t, hotkey, because: honest(t, hotkey, because) * 2)
    deaf(patch, "it was refunded before")


def credited_twice(patch: pytest.MonkeyPatch) -> None:
    honest = evolve.is_known

    def known(state: State, fact: e.Fact) -> bool:
        return not isinstance(fact, e.TransferCredited) and honest(state, fact)

    everywhere(patch, honest, known)
    deaf(patch, "the transfer was credited before")


def half_the_fee(patch: pytest.MonkeyPatch) -> None:
    honest = settle._registration

    def register(state: State, t: Tournament) -> list[e.Fact]:
        facts = honest(state, t)
        return [f.model_copy(update={"rao": f.rao // 2}) if isinstance(f, e.Charged) else f for f in facts]

    patch.setattr(settle, "_registration", register)


def other_seeds(patch: pytest.MonkeyPatch) -> None:
    honest = VirtualDispatcher._seed_of
    patch.setattr(VirtualDispatcher, "_seed_of", lambda self, t, purpose: honest(self, t, f"another {purpose}"))
    deaf(patch, "the seed is not the one committed to")


def one_secret_for_all(patch: pytest.MonkeyPatch) -> None:
    honest = VirtualDispatcher._seed

    def seed(self: VirtualDispatcher, kind: Any, number: int, purpose: str) -> str:
        return honest(self, kind, 1 if purpose == "secret" else number, purpose)

    patch.setattr(VirtualDispatcher, "_seed", seed)


def wins_forgotten(patch: pytest.MonkeyPatch) -> None:
    def announce(kind: Any, number: int, champion: Any, wins: int, rules: Rules) -> Announce:
        return Announce(kind, number, champion, 0, rules)

    patch.setattr(planning, "Announce", announce)


def an_hour_early(patch: pytest.MonkeyPatch) -> None:
    honest = schedule.process_tournament_scheduling

    def due(*given: Any) -> Any:
        moment = honest(*given)
        return moment and max(given[-1], moment - timedelta(hours=1))

    everywhere(patch, honest, due)


def few_gpus(patch: pytest.MonkeyPatch) -> None:
    honest = resources.get_tournament_gpu_requirement

    def requirement(task_type: TaskType, params: int, rules: Rules, *others: Any) -> Any:
        return honest(task_type, params, rules.model_copy(update={"dpo_gpu_multiplier": 2}), *others)

    everywhere(patch, honest, requirement)


def _mutant(name: str, bug: str, plant: Any, caught_by: str, setting: Setting = CALM, vectors: str = "") -> Mutant:
    return Mutant(name, bug, plant, caught_by, setting, vectors)


MUTANTS: Sequence[Mutant] = (
    _mutant("double charge", "Each pass charges somebody who is in.", double_charge, "invariant 7"),
    _mutant("fee kept", "Of a cancelled tournament one fee stays.", fee_kept, "invariant 7", setting=CANCELLED),
    _mutant("refund twice", "Every fee goes back twice.", refunded_twice, "invariant 7", setting=CANCELLED),
    _mutant("credit twice", "A transfer counts each time it is shown.", credited_twice, "invariant 7"),
    _mutant("half the fee", "Everybody pays half.", half_the_fee, "invariant 7"),
    _mutant("other seeds", "Other seeds are revealed than were committed to.", other_seeds, "invariant 11"),
    _mutant(
        "one secret", "All have the secret seed of the first.", one_secret_for_all, "invariant 11", setting=CANCELLED
    ),
    _mutant(
        "wins forgotten",
        "A champion that goes on has no wins.",
        wins_forgotten,
        HALT,
        setting=replace(CALM, tournaments=2),
    ),
    _mutant(
        "an hour early", "The next tournament starts after 71 hours.", an_hour_early, VECTORS, vectors="10c_schedule"
    ),
    _mutant("few GPUs", "A DPO model counts twice, not three times.", few_gpus, VECTORS, vectors="01_gpu_requirement"),
)
