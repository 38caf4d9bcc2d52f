"""What the vetting found in a stranger's tree, in words that a miner can act on."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from tourney_ray.core.quoting import shown
from tourney_ray.core.record import Record


class Rule(StrEnum):
    """The rules of the vetting (RULES §2.3); the text is what a finding says of its file."""

    DOCKERFILE_MISSING = "is missing"
    DOCKERFILE_UNUSABLE = "is not a usable dockerfile"
    COMPILED_FILE = "is a compiled file"
    MACHINE_CODE = "holds machine code"
    NOT_A_FILE = "is neither a file nor a folder"
    RUNS_DECODED_DATA = "runs decoded data"
    HIDES_WHAT_IT_RUNS = "hides what it runs"
    UNPICKLES_A_LITERAL = "unpickles an embedded literal"
    ENCODED_LITERAL = "holds a huge encoded literal"
    UNREADABLE_SOURCE = "is source that cannot be read"
    LICENCE = "does not carry the licence asked for"
    NOTICE = "does not carry the notice asked for"
    TOO_MANY_FILES = "has too many files"


class Finding(Record):
    """One reason to refuse a repository."""

    file: str
    """Path within the tree, `/` between names; `.` for the tree as a whole."""
    line: int = Field(ge=0)
    """First line is 1; 0 when the finding is about the whole file."""
    rule: Rule
    detail: str = ""


def explain(findings: Sequence[Finding], most: int = 3) -> str:
    """The first `most` findings on one printable line; empty when there are none."""
    told = [_told(finding) for finding in findings[:most]]
    if len(findings) > most:
        told.append(f"and {len(findings) - most} more")
    return "; ".join(told)


def _told(finding: Finding) -> str:
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    detail = f" ({shown(finding.detail)})" if finding.detail else ""
    return f"{shown(place)} {finding.rule.value}{detail}"
