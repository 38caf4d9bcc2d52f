"""The licence and the notice that an operator may ask every repository to carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tourney_ray.core.record import Record
from tourney_ray.effects.findings import Finding, Rule

_LICENCE_NAMES = ("LICENSE.md", "LICENSE", "license.md", "license", "License.md", "License")
_NOTICE_NAMES = ("NOTICE", "NOTICE.txt", "notice.txt", "Notice.txt", "notice", "Notice")
_MAX_BYTES = 2**20


class LicencePolicy(Record):
    """The texts that a tree must carry, compared line by line without trailing white space."""

    licence: str
    notice: str


def licence_findings(tree: Path, policy: LicencePolicy) -> Iterator[Finding]:
    """At most one finding for the licence and one for the notice; anything unclear is a finding."""
    for rule, names, expected in (
        (Rule.LICENCE, _LICENCE_NAMES, policy.licence),
        (Rule.NOTICE, _NOTICE_NAMES, policy.notice),
    ):
        file = next((name for name in names if (tree / name).is_symlink() or (tree / name).exists()), None)
        if file is None:
            yield Finding(file=".", line=0, rule=rule, detail=f"none of {', '.join(names)}")
        elif problem := _problem(tree / file, expected):
            yield Finding(file=file, line=0, rule=rule, detail=problem)


def _problem(path: Path, expected: str) -> str:
    if path.is_symlink():
        return "symbolic links are refused"
    if not path.is_file():
        return "not a file"
    if path.stat().st_size > _MAX_BYTES:
        return f"larger than {_MAX_BYTES} bytes"
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    return "" if _lines(text) == _lines(expected) else "the text differs"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
