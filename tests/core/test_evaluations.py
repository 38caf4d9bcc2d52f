"""What an evaluator's process may say, and what it cannot."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tourney_ray.core.evaluations import Reply, Trouble, contradiction, is_mean, mean_of
from tourney_ray.core.models import Evaluated

HONEST: dict[str, Any] = {
    "value": 2.0,
    "per_row": (1.0, 3.0),
    "fine_tuned": True,
    "distance": 0.01,
    "digest": "ab" * 32,
    "environment": {"torch": "2.13.0"},
}
REFUSED: dict[str, Any] = {"value": math.nan, "fine_tuned": False, "refused": "'model.bin' is refused"}


@pytest.mark.parametrize(
    "fields",
    [
        HONEST,
        HONEST | {"fine_tuned": False, "distance": 0.0},
        HONEST | {"fine_tuned": False, "distance": 1e-9},
        HONEST | {"value": math.nan, "per_row": (1.0, math.inf)},
        HONEST | {"distance": math.inf},
        REFUSED,
    ],
)
def test_what_honest_evaluators_say(fields: dict[str, Any]) -> None:
    assert contradiction(Evaluated(**fields)) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (HONEST | {"value": 1.9}, "its value 1.9 is not 2.0, the mean of its rows"),
        (HONEST | {"value": math.inf}, "its value inf is not 2.0"),
        (HONEST | {"value": math.nan}, "its value nan is not 2.0"),
        (HONEST | {"per_row": ()}, "is not nan, the mean"),
        (HONEST | {"per_row": (1.0, math.inf)}, "is not nan, the mean"),
        (HONEST | {"digest": "ab"}, "no SHA-256"),
        (HONEST | {"digest": ""}, "no SHA-256"),
        (HONEST | {"distance": -1.0}, "-1.0 away"),
        (HONEST | {"distance": math.nan}, "nan away"),
        (HONEST | {"distance": 0.0}, "0.0 away from the base model's and count as fine-tuned"),
        (HONEST | {"environment": {str(i): "" for i in range(65)}}, "its environment has 65 entries"),
        (HONEST | {"environment": {"torch": "\x1b[2J"}}, "not printable"),
        (REFUSED | {"refused": "a\nb"}, "not printable"),
        (REFUSED | {"refused": "x" * 2001}, "too many"),
        (REFUSED | {"value": 0.1}, "refused and measured at once"),
        (REFUSED | {"per_row": (1.0,)}, "refused and measured at once"),
        (REFUSED | {"digest": "ab" * 32}, "refused and measured at once"),
    ],
)
def test_what_none_says(fields: dict[str, Any], words: str) -> None:
    assert words in contradiction(Evaluated(**fields))


@pytest.mark.parametrize(
    ("rows", "mean"), [((1.0, 2.0), 1.5), ((), math.nan), ((1.0, math.nan), math.nan), ((1e308, 1e308), 1e308)]
)
def test_a_mean(rows: tuple[float, ...], mean: float) -> None:
    assert is_mean(mean, rows)
    assert math.isnan(mean_of(rows)) is math.isnan(mean)


def test_an_answer_is_a_result_or_a_trouble() -> None:
    result, trouble = Evaluated(**HONEST), Trouble(message="no rows")
    assert Reply(number=1, result=result).result == result
    assert Reply(number=1, trouble=trouble).trouble == trouble
    with pytest.raises(ValueError, match="either a result or a trouble"):
        Reply(number=1)
    with pytest.raises(ValueError, match="either a result or a trouble"):
        Reply(number=1, result=result, trouble=trouble)
