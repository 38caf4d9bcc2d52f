"""The comparison can fail: a changed row is wrong, and so is a file that nobody compares."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.golden.adapters import ADAPTERS, SKIPPED
from tests.golden.conftest import COPIED
from tests.golden.harness import Adapter, Fixed, Row, Tally, check, compare, complaint, read, same, skip

DOUBLE = Adapter(lambda given: 2 * given, lambda given, recorded: Fixed("§1", 8.0) if given == 4.0 else None)


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(i), "input": g, "output": o}) + "\n" for i, (g, o) in enumerate(rows))
    )
    return path


def test_rows_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    tally = check(DOUBLE, write(tmp_path, (1.0, 2.0), (4.0, 7.0), (4.0, 8.0), (3.0, 7.0)))
    assert (tally.recorded, tally.fixed, tally.skipped) == (3, 1, 0)
    assert tally.wrong == ["3: ours 6.0, due 7.0 (as recorded)"]
    assert "1 rows of x.jsonl differ" in complaint("x.jsonl", tally, may_be_skipped=True)


def test_a_fixed_row_still_has_to_be_what_the_rule_demands(tmp_path: Path) -> None:
    wrong = Adapter(lambda given: 9.0, DOUBLE.otherwise)
    assert check(wrong, write(tmp_path, (4.0, 7.0))).wrong == ["0: ours 9.0, due 8.0 (§1)"]


def test_a_file_without_rows_or_without_comparisons_is_no_success(tmp_path: Path) -> None:
    assert complaint("x.jsonl", check(DOUBLE, write(tmp_path)), may_be_skipped=True) == "x.jsonl has no rows"
    skipped = check(skip("no such thing"), write(tmp_path, (1.0, 2.0)))
    assert complaint("x.jsonl", skipped, may_be_skipped=False).startswith("all rows of x.jsonl are skipped")
    assert not complaint("x.jsonl", skipped, may_be_skipped=True)


@pytest.mark.parametrize("stem", sorted(set(ADAPTERS) - SKIPPED))
def test_another_decision_is_caught(stem: str) -> None:
    adapter = ADAPTERS[stem]
    row = next(iter(read(COPIED / f"{stem}.jsonl")))
    ours = adapter.ours(row.given)
    for recorded, wrong in ((ours, 0), (_changed(ours), 1)):
        tally = Tally()
        compare(Adapter(adapter.ours), Row(row.row_id, row.given, recorded), tally)
        assert (tally.recorded, len(tally.wrong)) == (1, wrong)


def _changed(value: Any) -> Any:
    """Another value of the same shape, as little different as may be."""
    match value:
        case bool():
            return not value
        case int() | float():
            return 1.0 if math.isnan(value) else value + 1e-9 * max(1.0, abs(value))
        case str() | None:
            return f"{value}!"
        case dict():
            first = next(iter(value), "")
            return {**value, first: _changed(value.get(first))}
        case _:
            return [*value[:-1], _changed(value[-1])] if value else ["!"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1.0, 1.0 + 1e-13, True),
        (1.0, 1.0 + 1e-11, False),
        (1, 1.0, True),
        (1, True, False),
        (0.0, 1e-300, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (None, 0, False),
        ("a", "b", False),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
    ],
)
def test_what_is_the_same(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


def test_numbers_that_json_lacks_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, ([{"$f": "nan"}, {"$f": "inf"}, {"$f": "-inf"}], {"a": {"$f": "inf"}, "$f": 1}))
    (row,) = read(path)
    assert math.isnan(row.given[0])
    assert row.given[1:] == [math.inf, -math.inf]
    assert row.recorded == {"a": math.inf, "$f": 1}


def test_every_copied_file_has_its_adapter_and_the_other_way_round() -> None:
    assert {path.stem for path in COPIED.glob("*.jsonl")} == set(ADAPTERS)
    assert set(ADAPTERS) >= SKIPPED
