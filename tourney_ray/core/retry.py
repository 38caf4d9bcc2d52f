"""What follows a failure (RULES §6): the miner's own cost it an attempt, the platform's cost nobody one."""

from __future__ import annotations

from dataclasses import dataclass

from tourney_ray.core.models import Blame
from tourney_ray.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not earlier than after this pause."""

    pause_s: float
    because: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The training has failed."""

    because: str


def after_failure(
    blame: Blame, reason: str, miner_failures: int, platform_failures: int, rules: Rules
) -> Retry | GiveUp:
    """The next step after a failed attempt; the counts include it.

    A miner's failure is retried at once until `max_training_attempts` are used up; any other after a pause that
    doubles, until it has lasted for `max_platform_failures`.
    """
    if blame is not Blame.MINER:
        if platform_failures >= rules.max_platform_failures:
            return GiveUp(f"the platform failed {platform_failures} times, not the miner; the last time: {reason}")
        pause_s = back_off_s(platform_failures, rules)
        return Retry(pause_s, f"{reason}; not the miner's fault, again after {pause_s:g} s")
    used = f"{miner_failures} of {rules.max_training_attempts} attempts failed"
    if miner_failures >= rules.max_training_attempts:
        return GiveUp(f"{used}, the last one: {reason}")
    return Retry(0.0, f"{used}: {reason}")


def back_off_s(failures: int, rules: Rules) -> float:
    """Pause after the n-th fault of the platform in one training, seconds; `failures` counts from 1."""
    doublings = min(failures - 1, 30)
    return min(rules.platform_retry_s * 2**doublings, rules.platform_retry_cap_s)
