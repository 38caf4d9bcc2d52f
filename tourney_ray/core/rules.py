"""Every number of a tournament, with its unit and its reason: one frozen model, recorded in the first fact.

`RULES §n` beside a field names the section of `docs/rules.md` that it implements.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from tourney_ray.core.models import Record, TaskOrigin, TaskType, TournamentType
from tourney_ray.core.presets import preset_fields

ROUNDING = 1e-9
"""How far from 1 shares may sum."""

Range = tuple[float, float]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BossEquality = Literal["champion", "challenger"]
WeightMapping = Literal["spread", "geometric"]

RANGES = ("group_model_range_b", "knockout_model_range_b", "boss_model_range_b", "image_hours", "replacement_size")


class HoursBand(Record):
    """How long a training may last for a data set of up to `rows` rows: a whole number of hours, both ends included."""

    rows: int = Field(gt=0)
    hours: tuple[int, int]


class Rules(Record):
    """The rules of one tournament, every number finite. `Rules()` is `spec`, `Rules.preset` has the others."""

    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    def preset(cls, name: str) -> Self:
        """The rules of that preset; raises `ValueError` with the presets' names for any other."""
        return cls.model_validate(preset_fields(name))

    # Registration (RULES §1, §2)
    tournament_interval_hours: Positive = 72
    """Rest between the end of a tournament and the next of its type, hours."""
    min_miners: int = Field(default=8, ge=2)
    """Accepted entrants, the champion not counted, that start a tournament."""
    reask_minutes: Positive = 30
    """How long to wait before asking the miners again when too few were accepted, minutes."""
    fee_rao: dict[TournamentType, Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: {
            TournamentType.TEXT: 200_000_000,
            TournamentType.IMAGE: 150_000_000,
        }
    )
    """Price of entering, RAO; one charge per (tournament, hotkey)."""

    # Rounds (RULES §3)
    knockout_at_most: int = Field(default=8, ge=2)
    """With more entrants than this, a group round comes first."""
    group_advance: int = Field(default=8, ge=1)
    """How many of a group advance."""
    group_size: int | None = Field(default=None, ge=2)
    """Entrants of a group round per group, rounded up to whole groups; None: one group, so that all are compared on the
    same task.
    """
    group_size_least: int = Field(default=20, ge=2)
    """Where the groups would be smaller than this, there is one fewer: in a small group most would advance."""
    champion_evens_rounds: bool = False
    """Whether the champion joins or leaves the players to make them even; else it waits for the boss round."""

    # Tasks (RULES §4)
    group_task: TaskType = TaskType.INSTRUCT
    """What a text group trains: one task, so that all are compared on the same."""
    knockout_task_shares: dict[TaskType, Share] = Field(
        default_factory=lambda: {
            TaskType.INSTRUCT: 0.5,
            TaskType.DPO: 0.1875,
            TaskType.GRPO: 0.3125,
        }
    )
    """Chances of the task types in a text knock-out, laid end to end over [0, 1) in this order; they sum to 1."""
    boss_tasks: tuple[TaskType, ...] = (
        TaskType.INSTRUCT,
        TaskType.INSTRUCT,
        TaskType.DPO,
        TaskType.DPO,
        TaskType.GRPO,
        TaskType.GRPO,
    )
    image_boss_tasks: int = Field(default=6, ge=1)
    group_model_range_b: Range = (0.1, 4.0)
    """Size of a group task's model, 10⁹ parameters, both ends included."""
    knockout_model_range_b: Range = (0.1, 12.0)
    boss_model_range_b: Range = (12.0, 71.0)
    boss_big_model_share: Share = 1.0
    """Chance that a new task of the boss round has a model of the boss range, else of the knock-out range."""
    replacement_size: Range = (0.8, 1.2)
    """Smallest and largest model, relative to that of a task that could not be prepared, of the one in its place."""
    history_min_scores: int = Field(default=2, ge=1)
    """Finite scores that make a past task fit for a boss round: fewer may have been an accident."""
    history_from: AwareDatetime | None = None
    """Past tasks made before this moment are not used; None: however old they are."""
    history_until: AwareDatetime | None = None
    """Past tasks made at this moment or later are not used; None: however new they are."""
    group_hours: int = Field(default=2, ge=1)
    """Time limit of a group task, hours."""
    text_hours: tuple[HoursBand, ...] = (
        HoursBand(rows=10_000, hours=(1, 3)),
        HoursBand(rows=25_000, hours=(2, 4)),
        HoursBand(rows=50_000, hours=(3, 5)),
        HoursBand(rows=100_000, hours=(3, 6)),
        HoursBand(rows=500_000, hours=(4, 6)),
    )
    """Time limits by rows; the first band that holds the rows counts, the last one for anything larger."""
    image_hours: tuple[int, int] = (1, 2)
    hours_scale: Positive = 1.0
    """Every time limit is multiplied by this: 1 on real GPUs, less in a demonstration."""

    # GPUs (RULES §5)
    dpo_gpu_multiplier: Positive = 3
    """DPO holds two models and two completions per row, so it counts as a model this many times larger."""
    grpo_gpu_multiplier: Positive = 2
    gpu_threshold_for_2x_h100: Positive = 4.0
    """Largest size on one H100, 10⁹ parameters after the multiplier, the bound included."""
    gpu_threshold_for_4x_h100: Positive = 12.0
    gpu_threshold_for_8x_h100: Positive = 40.0

    # Trainings (RULES §6)
    max_training_attempts: int = Field(default=2, ge=1)
    """The miner's own failures that end a training."""
    platform_retry_s: Positive = 5.0
    """First pause after a fault of the platform, seconds; doubled at each further one."""
    platform_retry_cap_s: Positive = 1800.0
    max_platform_failures: int = Field(default=20, ge=1)
    """Faults of the platform that end a training, so that a round cannot wait for ever; 20 last about six hours."""
    max_evaluator_deaths: int = Field(default=2, ge=2)
    """Deaths of the evaluator at one checkpoint that make them the miner's: one may be an accident."""
    repeat_above_share: Share = 0.5
    """A task is repeated as a whole when the platform ended more than this share of its trainings."""
    max_repetitions: int = Field(default=1, ge=0)
    """How often a task may be repeated as a whole."""
    training_mem_limit: str = Field(default="24g", pattern=r"^[1-9][0-9]*[kmg]$")
    """Memory of a training container."""
    training_nano_cpus: int = Field(default=8_000_000_000, gt=0)
    """Processor time of a training container, 10⁻⁹ CPUs."""
    priority: dict[TaskOrigin, int] = Field(
        default_factory=lambda: {TaskOrigin.ORGANIC: 1, TaskOrigin.TOURNAMENT: 2, TaskOrigin.BENCHMARK: 3}
    )
    """Place in the queue for GPUs by who wants the training, the lowest number first: whoever pays waits least."""

    # Ranking and verdicts (RULES §7, §8)
    max_evaluations: int = Field(default=4, ge=1)
    """How often a task is evaluated, in all, when nobody has a valid metric."""
    score_best: int = 3
    """Score of the best valid entrant of a task."""
    score_other: int = 0
    """Score of the valid ones behind it, and of everybody where nobody is valid."""
    score_worst: int = -1
    """Score of the last ones of a large field, and of the invalid where anybody is valid."""
    penalised_above: int = Field(default=8, ge=1)
    """With more valid entrants than this, the last `penalised_share` of them score worst."""
    penalised_share: Share = 0.25
    image_text_guided_share: Share = 0.25
    """Weight of the losses with a text prompt in an image loss; those without have the rest, being harder to game."""
    noise_is_a_tie: bool = False
    """Whether of two whose difference is within noise (docs/rules.md) the champion, else the earlier registered, has
    the task; groups are ranked as they are measured."""
    boss_margin_first: Share = 0.10
    """Margin that a challenger must beat a champion of one win by, as a share of the champion's metric."""
    boss_margin_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Each further win makes the margin smaller by this factor: a long reign grows easier to end."""
    boss_margin_least: Share = 0.03
    boss_equality: BossEquality = "champion"
    """Whose a task is when the challenger is better by the margin exactly: who holds the title need not be better."""

    # Points and weights (RULES §9)
    type_weight: dict[TournamentType, Share] = Field(
        default_factory=lambda: {TournamentType.TEXT: 0.15, TournamentType.IMAGE: 0.10}
    )
    """Points of a task in round 1; also the base share of the type in the emission."""
    weight_mapping: WeightMapping = "spread"
    """`spread`: first and last place are a fixed factor apart, however many places there are between them;
    `geometric`: each place is worth a fixed share of the one before it.
    """
    weight_decay_rate: Annotated[float, Field(ge=1)] = 8
    """`spread`: how much more the first place is worth than the last."""
    weight_decay_base: Annotated[float, Field(gt=0, le=1)] = 0.3
    """`geometric`: what a place is worth of the one before it."""
    emission_cap: dict[TournamentType, Share] = Field(
        default_factory=lambda: {TournamentType.TEXT: 0.6, TournamentType.IMAGE: 0.4}
    )
    emission_boost_threshold: Share = 0.05
    """Performance difference up to which a new champion earns no boost."""
    emission_boost_factor: Positive = 2.0
    emission_boost_decay: Share = 0.01
    """Boost lost with each further win of the same reign."""
    participation_share: Share = 0.0001
    """Emission of each active participant."""
    burn_hotkey: str = "burn"
    """Receives every remainder of the emission."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _check_tasks(self)
        _check_ranges(self)
        _check_shares(self)
        _check_groups(self)
        return self


def _check_groups(rules: Rules) -> None:
    """Every group round leaves fewer than it had, so that there is a last one."""
    if rules.group_advance > rules.knockout_at_most:
        raise ValueError("group_advance must not be above knockout_at_most, or groups would follow groups for ever")
    if rules.champion_evens_rounds and rules.group_advance == rules.knockout_at_most:
        raise ValueError("group_advance must be below knockout_at_most where the champion may join those who advance")
    if rules.group_size is None:
        return
    if not rules.group_advance < rules.group_size_least <= rules.group_size:
        raise ValueError("group_advance < group_size_least ≤ group_size must hold, or groups would follow for ever")


def _check_tasks(rules: Rules) -> None:
    if not rules.boss_tasks or not rules.text_hours:
        raise ValueError("boss_tasks and text_hours must not be empty")
    if TaskType.IMAGE in {rules.group_task, *rules.knockout_task_shares, *rules.boss_tasks}:
        raise ValueError(f"group_task, knockout_task_shares and boss_tasks are of text: {TaskType.IMAGE} is not")
    shares = sum(rules.knockout_task_shares.values())
    if abs(shares - 1.0) > ROUNDING:
        raise ValueError(f"knockout_task_shares sum to {shares:g}, they must sum to 1")


def _check_ranges(rules: Rules) -> None:
    _rising("gpu thresholds", (getattr(rules, f"gpu_threshold_for_{n}x_h100") for n in (2, 4, 8)))
    _rising("rows of text_hours", (band.rows for band in rules.text_hours))
    ranges: dict[str, Range] = {f"text_hours up to {band.rows} rows": band.hours for band in rules.text_hours}
    for name in RANGES:
        ranges[name] = getattr(rules, name)
    for name, (low, high) in ranges.items():
        if not 0 < low <= high:
            raise ValueError(f"{name} must be a range of positive numbers, not {low:g} to {high:g}")
    if rules.history_from and rules.history_until and rules.history_from >= rules.history_until:
        raise ValueError("history_from must be before history_until")


def _check_shares(rules: Rules) -> None:
    if any(set(table) != set(TournamentType) for table in (rules.fee_rao, rules.type_weight, rules.emission_cap)):
        raise ValueError("fee_rao, type_weight and emission_cap need a value for each of text and image")
    if set(rules.priority) != set(TaskOrigin):
        raise ValueError("priority needs a value for each of organic, tournament and benchmark")
    if any(rules.type_weight[kind] > cap for kind, cap in rules.emission_cap.items()):
        raise ValueError("emission_cap must not be below type_weight, the share without any boost")
    caps = sum(rules.emission_cap.values())
    if caps > 1.0:
        raise ValueError(f"emission_cap sums to {caps:g}: more than there is")


def _rising(what: str, numbers: Iterable[float]) -> None:
    given = list(numbers)
    if given != sorted(set(given)):
        raise ValueError(f"{what} must rise, not {given}")


OVERVIEW_NAMES = {
    "TOURNAMENT_INTERVAL_HOURS": "tournament_interval_hours",
    "MIN_MINERS_FOR_TOURN": "min_miners",
    "TOURNAMENT_DPO_GPU_MULTIPLIER": "dpo_gpu_multiplier",
    "TOURNAMENT_GRPO_GPU_MULTIPLIER": "grpo_gpu_multiplier",
    "TOURNAMENT_GPU_THRESHOLD_FOR_2X_H100": "gpu_threshold_for_2x_h100",
    "TOURNAMENT_GPU_THRESHOLD_FOR_4X_H100": "gpu_threshold_for_4x_h100",
    "TOURNAMENT_GPU_THRESHOLD_FOR_8X_H100": "gpu_threshold_for_8x_h100",
    "MAX_TRAINING_ATTEMPTS": "max_training_attempts",
    "DEFAULT_TRAINING_CONTAINER_MEM_LIMIT": "training_mem_limit",
    "DEFAULT_TRAINING_CONTAINER_NANO_CPUS": "training_nano_cpus",
    "TOURNAMENT_WEIGHT_DECAY_RATE": "weight_decay_rate",
}
"""Names of the published overview and the fields they stand for."""


def overview_number(rules: Rules, name: str) -> float | int | str:
    """The number that the published overview calls `name`; raises `KeyError` for a name that it does not have."""
    if name == "TOURNAMENT_TEXT_WEIGHT":
        return rules.type_weight[TournamentType.TEXT]
    if name == "TOURNAMENT_IMAGE_WEIGHT":
        return rules.type_weight[TournamentType.IMAGE]
    return getattr(rules, OVERVIEW_NAMES[name])
