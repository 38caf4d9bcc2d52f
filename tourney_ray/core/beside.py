"""Where a checkpoint is evaluated: beside it, where nothing has to be moved and many nodes evaluate at once.

That is no rule of the tournament: the metric is the same wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tourney_ray.core.nodes import Node


def evaluation_node(trained_on: str, nodes: Mapping[str, Node], unfit: Collection[str]) -> str | None:
    """The node on which a checkpoint is evaluated: the one where it was trained, since it lies there.

    None, which is the head, where that node is gone or `unfit`, that is where nothing can be evaluated for now.
    """
    node = nodes.get(trained_on)
    return trained_on if node and node.lost_at is None and trained_on not in unfit else None
