"""Where checkpoints are evaluated."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tourney_ray.core.beside import evaluation_node
from tourney_ray.core.nodes import Node

NODES = {
    "a": Node("a", {"H100": 8}),
    "b": Node("b", {"H100": 8}),
    "gone": Node("gone", {"H100": 8}, lost_at=datetime(2026, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize(
    ("trained_on", "unfit", "node"),
    [
        ("a", (), "a"),
        ("b", ("a",), "b"),
        ("a", ("a",), None),
        ("gone", (), None),
        ("never seen", (), None),
    ],
)
def test_a_checkpoint_is_evaluated_where_it_lies_as_long_as_that_can_be(
    trained_on: str, unfit: tuple[str, ...], node: str | None
) -> None:
    assert evaluation_node(trained_on, NODES, unfit) == node
