"""What `tourney plan` shows people: a forecast as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tourney_ray.report.forecast import Cost, Forecast, RoundForecast, Spread

HEADER = ("round", "tasks", "trainings", "of these, on average", "GPU-hours", "95 %")


def described(expected: Forecast, headline: str, notes: Sequence[str]) -> str:
    """The whole page: rounds, totals, cost, and what is assumed."""
    rows = [HEADER, *(_row(drawn) for drawn in expected.rounds)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    totals = [*_totals(expected), _cost(expected.cost)]
    assumed = ["", f"over {expected.seeds} rehearsals in virtual time, where", *(f"- {note}" for note in notes)]
    return "\n".join([headline, "", *table, "", *totals, *assumed])


def _row(drawn: RoundForecast) -> tuple[str, ...]:
    name = f"{drawn.tournament_type.value} {drawn.number} {drawn.round_type.value}"
    if drawn.share < 1:
        name += f" (in {drawn.share:.0%})"
    needs = ", ".join(f"{count:.1f} on {need.gpus}×{need.gpu_type}" for need, count in drawn.requirements.items())
    hours = drawn.gpu_hours
    return name, f"{drawn.tasks.p50:g}", _range(drawn.trainings), needs, f"{hours.p50:,.1f}", f"{hours.p95:,.1f}"


def _totals(expected: Forecast) -> list[str]:
    lines = [f"trainings    {_range(expected.trainings)}, with further attempts {_range(expected.attempts)}"]
    for kind, hours in expected.gpu_hours.items():
        limit = expected.gpu_hours_at_limit[kind]
        bound = f"if all took their limit {limit.p50:,.0f} and {limit.p95:,.0f}"
        lines.append(f"{kind}-hours   half of the time at most {hours.p50:,.1f}, in 95 % {hours.p95:,.1f}; {bound}")
    for kind, wall in expected.wall_hours.items():
        took = f"half of the time at most {_days(wall.p50)}, in 95 % {_days(wall.p95)}"
        lines.append(f"wall clock   {kind.value}: {took}")
    return lines


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "cost         unknown: no table of prices was given (--prices)"
    head = "with the head" if cost.with_head else "without the head"
    by = f"by prices of {cost.as_of} per {cost.per}, {head}"
    return f"cost         half of the time at most {cost.p50:,.0f} {cost.currency}, in 95 % {cost.p95:,.0f}; {by}"


def _range(spread: Spread) -> str:
    return f"{spread.p50:g}" if spread.p50 == spread.p95 else f"{spread.p50:g}, at most {spread.p95:g} in 95 %"


def _days(hours: float) -> str:
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"  # noqa: PLR2004 - two days
