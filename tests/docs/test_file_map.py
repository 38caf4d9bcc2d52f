"""The README's file map is the tree: every file has its line, every line its file.

A line reads ``- `path` — what``, with the path below `tourney_ray/`. A package's line ends in `/` and stands for its
`__init__.py`. Data of the samples are one line per folder.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tourney_ray"
LINE = re.compile(r"^\s*- `([^`]+)` — (\S.*)$")


def test_map_is_tree() -> None:
    mapped, tree = Counter(_mapped()), set(_tree())
    twice = sorted(path for path, times in mapped.items() if times > 1)
    gone = sorted(set(mapped) - tree)
    missing = [f"- `{path}` — {_summary(path)}" for path in sorted(tree - set(mapped))]
    assert not twice, f"more than one line in the file map: {twice}"
    assert not gone, f"in the file map, but not in tourney_ray/: {gone}"
    assert not missing, "not in the file map of README.md; add:\n" + "\n".join(missing)


def test_lines_are_short() -> None:
    for line in _section():
        assert len(line) <= 160, line


def _mapped() -> list[str]:
    return [match[1] for line in _section() if (match := LINE.match(line))]


def _section() -> list[str]:
    """The README's lines under `## File map`, up to the next heading."""
    after = (ROOT / "README.md").read_text().split("\n## File map\n", 1)[1]
    return after.split("\n## ", 1)[0].splitlines()


def _tree() -> list[str]:
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()]
    return [_entry(path) for path in files if "__pycache__" not in path.parts]


def _entry(path: Path) -> str:
    """The line that stands for a file."""
    if path.parts[0] == "samples" and len(path.parts) > 2:
        return f"samples/{path.parts[1]}/"
    if path.name == "__init__.py" and len(path.parts) > 1:
        return f"{path.parent}/"
    return str(path)


def _summary(path: str) -> str:
    """First line of the module's docstring, to be pasted."""
    file = PACKAGE / path / "__init__.py" if path.endswith("/") else PACKAGE / path
    if file.suffix != ".py" or not file.exists():
        return "…"
    return (ast.get_docstring(ast.parse(file.read_text())) or "…").splitlines()[0].rstrip(".")
