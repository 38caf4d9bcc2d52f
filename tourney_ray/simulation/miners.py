"""Scripted miners: what they answer, train and score follows from a seed, whatever goes wrong around them.

So the same seed has the same champion, with faults of the platform and without.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from tourney_ray.core import events as e
from tourney_ray.core.ids import TaskPlace
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import (
    Answer,
    Blame,
    Entrant,
    Evaluated,
    Failed,
    Refusal,
    TaskData,
    TaskType,
    TournamentType,
    Trained,
)

RAO = 1_000_000_000
RARELY = 0.1
"""Share of miners that pay or answer late, and of tasks that cannot be prepared at first."""

STEPS = (1 / 32, 1 / 8)
"""Metrics lie on a grid, fine or coarse by the task, so that some are equal or the margin apart; exact in binary."""

MIDDLES = (2.0, -1.0)
"""What a miner without skill reaches: a reward may be negative, in some tasks."""


class Trait(StrEnum):
    """What becomes of a miner's attempt."""

    GOOD = "good"
    CRASHES = "crashes"
    CRASHES_ONCE = "crashes once"
    REFUSED_ONCE = "refused once"
    NOT_A_NUMBER = "not a number"
    INFINITE = "infinite"
    UNTRAINED = "untrained"
    COPIED = "copied"
    ALL_NOT_A_NUMBER = "nobody valid"


TRAITS: tuple[tuple[float, Trait], ...] = (
    (0.72, Trait.GOOD),
    (0.76, Trait.CRASHES),
    (0.84, Trait.CRASHES_ONCE),
    (0.88, Trait.REFUSED_ONCE),
    (0.91, Trait.NOT_A_NUMBER),
    (0.93, Trait.INFINITE),
    (0.96, Trait.UNTRAINED),
    (1.00, Trait.COPIED),
)
"""Upper ends of the shares."""

NEVER_BUILT, NOT_BUILT_AT_FIRST = 0.03, 0.06
"""Shares of miners whose image cannot be built at all, and of trainings that cannot be staged at first."""

HALF = 0.5
HOPELESS = 0.03
"""Share of tasks on which nobody's metric is a number."""


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that a seed decides about the miners."""

    seed: int
    entrants: int

    def chance(self, *what: object) -> float:
        """A number in [0, 1) that belongs to these words and to this seed."""
        text = "|".join(map(str, (self.seed, *what)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64

    # --- registration

    def hotkeys(self, tournament_type: TournamentType) -> list[str]:
        """The registered miners of a type: the entrants, and two that have no repository or no money."""
        return [f"{tournament_type.value}-{i:03d}" for i in range(self.entrants + 2)]

    def transfers(self, tournament_type: TournamentType, number: int) -> list[e.TransferCredited]:
        """What the feed of money shows at the `number`-th pass of a tournament: all so far, each time again."""
        hotkeys = self.hotkeys(tournament_type)[:-1]
        paid = [h for h in hotkeys if number > 1 or self.chance("pays late", h) > RARELY]
        return [e.TransferCredited(transfer_id=f"transfer-{h}", coldkey=_coldkey(h), rao=RAO) for h in paid]

    def answer(self, hotkey: str, number: int) -> Answer:
        """What a miner answers at that pass; the last but one is always refused, some only at first."""
        nothing = int(hotkey[-3:]) == self.entrants
        if nothing or (number == 1 and self.chance("late", hotkey) < RARELY):
            return Refusal(hotkey=hotkey, reason="no dockerfile")
        return entrant(hotkey)

    # --- tasks

    def prepares(self, place: TaskPlace) -> bool:
        """Whether the task at that place can be prepared."""
        return place.preparation > 1 or self.chance("prepares", place) > RARELY

    def params(self, place: TaskPlace, low_b: float, high_b: float) -> int:
        """Size of the model of the task at that place, within the range."""
        return max(1, int((low_b + self.chance("size", place) * (high_b - low_b)) * 1e9))

    # --- trainings

    def trait(self, place: TaskPlace, hotkey: str) -> Trait:
        """How that miner's trainings at that place go."""
        if self.chance("hopeless", place) < HOPELESS:
            return Trait.ALL_NOT_A_NUMBER
        u = self.chance("trait", place, hotkey)
        return next(trait for upper, trait in TRAITS if u < upper)

    def builds(self, place: TaskPlace, hotkey: str, failures: int) -> bool:
        """Whether a training can be staged, of a miner that has failed so often in it.

        Some fail at first whether or not the image is there: whom it costs what must not depend on which of a miner's
        trainings happens to be staged first.
        """
        if self.chance("never built", hotkey) < NEVER_BUILT:
            return False
        return failures > 0 or self.chance("not built", place, hotkey) >= NOT_BUILT_AT_FIRST

    def outcome(self, place: TaskPlace, hotkey: str, failures: int, attempt_id: str) -> Trained | Failed:
        """How the attempt ends of a miner that has failed so often in this training."""
        trait = self.trait(place, hotkey)
        if trait is Trait.CRASHES or (trait is Trait.CRASHES_ONCE and failures == 0):
            return Failed(blame=Blame.MINER, kind="training_crashed", reason="trainer exited with 1", seconds=1.0)
        return Trained(checkpoint=f"checkpoints/{attempt_id}", seconds=1.0)

    def share_of_time(self, place: TaskPlace, hotkey: str, failures: int) -> float:
        """How much of its time limit the attempt takes; above 1 it is stopped at the deadline."""
        return 0.2 + self.chance("time", place, hotkey, failures)

    # --- evaluation

    def evaluated(self, task_type: TaskType, place: TaskPlace, hotkey: str, failures: int) -> Evaluated:
        """The metric of that miner's checkpoint."""
        trait = self.trait(place, hotkey)
        if trait is Trait.REFUSED_ONCE and failures == 0:
            return Evaluated(value=float("nan"), refused="config.json: hidden_size differs from the base model's")
        if trait in (Trait.NOT_A_NUMBER, Trait.ALL_NOT_A_NUMBER):
            return Evaluated(value=float("nan"), digest=_digest(place, hotkey))
        if trait is Trait.INFINITE:
            return Evaluated(value=float("inf"), digest=_digest(place, hotkey))
        skill = self.chance("skill", hotkey) + 0.5 * self.chance("luck", place, hotkey)
        step = STEPS[self.chance("coarse", place) < HALF]
        middle = MIDDLES[task_type is TaskType.GRPO and self.chance("negative", place) < HALF]
        value = METRICS[task_type].improved(middle, round(skill / step) * step)
        digest = _digest(place, "everybody" if trait is Trait.COPIED else hotkey)
        return Evaluated(value=value, per_row=(value,), fine_tuned=trait is not Trait.UNTRAINED, digest=digest)


def entrant(hotkey: str) -> Entrant:
    """What that miner offers, whenever it is asked."""
    frozen = hashlib.sha1(hotkey.encode()).hexdigest()
    repo = f"https://git.invalid/{hotkey}.git"
    return Entrant(hotkey=hotkey, coldkey=_coldkey(hotkey), repo=repo, commit=frozen, tree_hash=frozen)


def image_of(tree_hash: str, number: int) -> str:
    """Id of the image that is built from that tree, the `number`-th time."""
    return f"sha256:{hashlib.sha256(f'{tree_hash}|{number}'.encode()).hexdigest()}"


def task_data(place: TaskPlace, params: int) -> TaskData:
    """The data of the task at that place."""
    return TaskData(
        model_id="org/simulated",
        model_params=params,
        model_path="models/simulated",
        dataset_path=f"data/{place.match}.json",
        dataset_sha256=hashlib.sha256(str(place).encode()).hexdigest(),
        dataset_rows=20_000,
        test_path=f"data/{place.match}.test.json",
        test_sha256=hashlib.sha256(f"{place}/test".encode()).hexdigest(),
        test_rows=1,
        sequence_len=512,
    )


def _coldkey(hotkey: str) -> str:
    """Two neighbours share an account."""
    return f"cold-{hotkey[:-3]}{int(hotkey[-3:]) // 2:03d}"


def _digest(place: TaskPlace, hotkey: str) -> str:
    return hashlib.sha256(f"{place}|{hotkey}".encode()).hexdigest()
