"""What is written into a table for people: some columns of one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Columns of one row of a table, its whole primary key among them."""

    table: str
    values: dict[str, Any]
    new: bool = False
    """Whether it is certain that the table does not have it yet."""
