"""Whether one checkpoint is better than another by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.builders import miners
from tests.core.arena import Arena, by_number
from tourney_ray.core.checker import violations
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.comparing import Comparison, compared
from tourney_ray.core.metrics import LOSS, REWARD
from tourney_ray.core.models import Evaluated, RoundType, TaskType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import Tournament

BEFORE = [1.0 + 0.1 * math.sin(7 * i) for i in range(60)]
CLEARLY = [row - 0.04 + 0.05 * math.sin(5 * i) for i, row in enumerate(BEFORE)]
HARDLY = [row - 0.004 + 0.05 * math.sin(5 * i) for i, row in enumerate(BEFORE)]


def losses(rows: Sequence[float], others: Sequence[float], seed: str = "s") -> Comparison:
    comparison = compared(LOSS, TaskType.INSTRUCT, rows, others, seed)
    assert comparison
    return comparison


def test_a_clear_lead_and_one_within_noise() -> None:
    clear, hardly = losses(CLEARLY, BEFORE), losses(HARDLY, BEFORE)
    assert clear.ahead == pytest.approx(0.04, abs=0.002)
    assert 0 < clear.low < clear.ahead < clear.high
    assert not clear.within_noise
    interval = f"95 % interval {clear.low:.3g} to {clear.high:.3g}"
    assert clear.words == f"ahead by {clear.ahead:.3g} nats per row, {interval}, 60 rows"
    assert hardly.within_noise
    assert hardly.words.startswith("within noise: ahead by 0.00")
    assert clear.reversed.words.startswith("behind by 0.04")


def test_the_interval_is_that_of_a_bootstrap() -> None:
    gains = np.array(BEFORE) - np.array(CLEARLY)
    drawn = np.random.default_rng(1).integers(0, 60, (100_000, 60))
    low, high = np.percentile(gains[drawn].mean(axis=1), [2.5, 97.5])
    ours = losses(CLEARLY, BEFORE)
    assert (ours.low, ours.high) == (pytest.approx(low, abs=8e-4), pytest.approx(high, abs=8e-4))


def test_the_same_for_everybody_and_another_for_another_seed() -> None:
    one = losses(CLEARLY, BEFORE)
    assert one == losses(CLEARLY, BEFORE)
    assert one.low.hex() == "0x1.fff86eb34c9d5p-6"  # on every machine, with every Python
    other = losses(CLEARLY, BEFORE, "t")
    assert other.ahead == one.ahead
    assert other.low != one.low
    assert other.low == pytest.approx(one.low, abs=2e-3)


def test_a_reward_is_better_when_it_is_higher() -> None:
    comparison = compared(REWARD, TaskType.GRPO, BEFORE, CLEARLY, "s")
    assert comparison
    assert comparison.ahead > 0
    assert "of value per row" in comparison.words


@pytest.mark.parametrize(
    ("rows", "others"),
    [((1.0, 2.0), (1.0,)), ((1.0,), (2.0,)), ((), ()), ((1.0, math.nan), (1.0, 2.0)), ((math.inf, 1.0), (1.0, 2.0))],
)
def test_rows_that_cannot_be_paired(rows: Sequence[float], others: Sequence[float]) -> None:
    assert compared(LOSS, TaskType.INSTRUCT, rows, others, "s") is None


@pytest.mark.parametrize("rows", [(1.0, 2.0), (1e-320, 0.0), (1e300, -1e300)])
def test_equals_and_extremes(rows: Sequence[float]) -> None:
    equal = losses(rows, rows)
    assert (equal.ahead, equal.low, equal.high) == (0, 0, 0)
    assert equal.within_noise
    assert losses(rows, (0.0, 0.0)).low <= losses(rows, (0.0, 0.0)).high


# --- in tournaments


def spread(command: Evaluate, shift: float, wobble: float = 0.05) -> Evaluated:
    """The usual metric, over 40 rows that differ."""
    honest = by_number(command)
    phase = sum(map(ord, command.hotkey)) % 11
    sign = 1 if command.task_type is not TaskType.GRPO else -1
    rows = tuple(1.0 - sign * shift + wobble * math.sin(i * (1.3 + phase)) for i in range(40))
    return honest.model_copy(update={"per_row": rows, "value": math.fsum(rows) / 40})


def played(entrants: int, shift: float, rules: Rules) -> tuple[Arena, Tournament]:
    """A tournament whose entrants differ by that much, later registered ones better; the champion is the worst."""

    def measures(command: Evaluate) -> Evaluated:
        number = int(command.hotkey[1:]) + 1 if command.hotkey[1:].isdigit() else 0
        return spread(command, shift * number)

    arena = Arena(miners(entrants), measures=measures, rules=rules)
    return arena, arena.open().run()


def reasons(t: Tournament, kind: RoundType) -> list[str]:
    matches = [m for r in t.rounds if r.round_type is kind for m in r.matches.values()]
    tasks = [t.tasks[i].decided for m in matches for i in m.tasks.values()]
    verdicts = [v.because for m in matches if m.decided for v in m.decided.verdicts]
    return [*(d.because for d in tasks if d), *verdicts, *(m.decided.because for m in matches if m.decided)]


@pytest.mark.parametrize("tie", [False, True])
def test_verdicts_say_how_clear_they_are(tie: bool) -> None:
    arena, t = played(9, 0.2, Rules(noise_is_a_tie=tie))
    for kind in (RoundType.GROUP, RoundType.KNOCKOUT, RoundType.BOSS):
        assert any("95 % interval" in because and "40 rows" in because for because in reasons(t, kind)), kind
    assert not any("within noise" in because for kind in RoundType for because in reasons(t, kind))
    assert t.completed
    assert t.completed.winner == "m08"
    assert violations([fact for fact, _ in arena.stage.facts]) == []


def test_by_the_rules_of_spec_noise_decides() -> None:
    arena, t = played(8, 0.0005, Rules(boss_margin_first=0.0, boss_margin_least=0.0))
    assert any("within noise" in because for because in reasons(t, RoundType.KNOCKOUT))
    for m in t.rounds[0].matches.values():
        assert m.decided
        decided = t.tasks[m.tasks[0]].decided
        assert decided
        assert m.decided.advancing == (decided.ranking[0].hotkey,)
    assert violations([fact for fact, _ in arena.stage.facts]) == []


def test_where_noise_is_a_tie_the_earlier_registered_and_the_champion_stay() -> None:
    rules = Rules(noise_is_a_tie=True, boss_margin_first=0.0, boss_margin_least=0.0)
    arena, t = played(8, 0.0005, rules)
    for m in (m for r in t.rounds if r.round_type is RoundType.KNOCKOUT for m in r.matches.values()):
        assert m.decided
        earlier = min(m.entrants, key=t.registration_rank)
        assert m.decided.advancing == (earlier,)
        (decided,) = (t.tasks[i].decided for i in m.tasks.values())
        assert decided
        assert decided.winner == earlier
    assert any("a tie goes to the earlier registered" in because for because in reasons(t, RoundType.KNOCKOUT))
    assert any("a tie is the champion's" in because for because in reasons(t, RoundType.BOSS))
    assert t.completed
    assert t.completed.title == "defended"
    assert violations([fact for fact, _ in arena.stage.facts]) == []


@pytest.mark.lies
def test_the_checker_knows_a_tie_for_itself() -> None:
    rules = Rules(noise_is_a_tie=True, boss_margin_first=0.0, boss_margin_least=0.0)
    arena, _ = played(8, 0.0005, rules)
    facts = [fact for fact, _ in arena.stage.facts]
    created = facts.index(next(f for f in facts if f.kind == "TournamentCreated"))
    plain = facts[created].model_copy(update={"rules": Rules(boss_margin_first=0.0, boss_margin_least=0.0)})
    found = violations([*facts[:created], plain, *facts[created + 1 :]])
    assert any(v.number == 5 and "was won by" in v.what for v in found)
