"""Whether a stranger's tree may enter: the contract's dockerfile, no machine code, no hidden source, the licence.

Read-only and deterministic: nothing is executed, no symbolic link is followed, every read is capped. What these rules
cannot see the sandbox must bear: vetting is for openness, not for safety.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tourney_ray.core.models import TournamentType
from tourney_ray.core.quoting import shown
from tourney_ray.effects.findings import Finding, Rule, explain
from tourney_ray.effects.vet_licence import LicencePolicy, licence_findings
from tourney_ray.effects.vet_machine_code import HEAD_BYTES, machine_code_findings
from tourney_ray.effects.vet_python import python_findings
from tourney_ray.effects.vet_shell import shell_findings
from tourney_ray.errors import StorageUnavailable

__all__ = ["DOCKERFILES", "Finding", "LicencePolicy", "Rule", "explain", "vet"]

DOCKERFILES = {
    TournamentType.TEXT: "dockerfiles/standalone-text-trainer.dockerfile",
    TournamentType.IMAGE: "dockerfiles/standalone-image-trainer.dockerfile",
}
"""The dockerfile that the contract asks for, by tournament type."""

_SOURCE_CAP = 2 * 2**20
"""Bytes of a source file that a person could still review; a larger one is a finding."""
_FILE_CAP = 50_000
_FINDING_CAP = 1_000
_FROM = re.compile(rb"^\s*FROM\s+\S", re.IGNORECASE | re.MULTILINE)
_PYTHON = re.compile(r"\.(py|pyw|pyi|pyx)$", re.IGNORECASE)
_SHELL = re.compile(r"\.(sh|bash|zsh|ksh|dockerfile|mk)$|(^|/)(dockerfile|containerfile|makefile)[^/]*$", re.IGNORECASE)
_SHEBANG = re.compile(rb"#![^\n]*?\b((?P<python>python)|(ba|da|z|k|a)?sh)[0-9.]*\b")


def vet(tree: Path, tournament_type: TournamentType, licence: LicencePolicy | None = None) -> list[Finding]:
    """Every reason to refuse the tree, files in order of their names; empty when it is accepted, at most 1,000.

    Raises `StorageUnavailable` when the tree cannot be read.
    """
    try:
        return list(islice(_findings(tree, tournament_type, licence), _FINDING_CAP))
    except OSError as error:
        raise StorageUnavailable(f"vetting {shown(str(tree))}: {shown(str(error))}") from error


def _findings(tree: Path, tournament_type: TournamentType, licence: LicencePolicy | None) -> Iterator[Finding]:
    yield from _dockerfile_findings(tree, DOCKERFILES[tournament_type])
    if licence is not None:
        yield from licence_findings(tree, licence)
    for number, (file, path, mode) in enumerate(_walk(tree)):
        if number >= _FILE_CAP:
            yield Finding(file=".", line=0, rule=Rule.TOO_MANY_FILES, detail=f"more than {_FILE_CAP}")
            return
        if stat.S_ISREG(mode):
            yield from _file_findings(file, path)
        elif not stat.S_ISLNK(mode):
            yield Finding(file=file, line=0, rule=Rule.NOT_A_FILE)


def _dockerfile_findings(tree: Path, file: str) -> Iterator[Finding]:
    path = tree / file
    if path.parent.is_symlink() or path.is_symlink():
        yield Finding(file=file, line=0, rule=Rule.DOCKERFILE_UNUSABLE, detail="symbolic links are refused")
    elif not path.exists():
        yield Finding(file=file, line=0, rule=Rule.DOCKERFILE_MISSING)
    elif not path.is_file():
        yield Finding(file=file, line=0, rule=Rule.DOCKERFILE_UNUSABLE, detail="not a file")
    elif path.stat().st_size <= _SOURCE_CAP and not _FROM.search(path.read_bytes()):
        yield Finding(file=file, line=0, rule=Rule.DOCKERFILE_UNUSABLE, detail="no FROM instruction")


def _walk(tree: Path) -> Iterator[tuple[str, Path, int]]:
    """All entries below `tree` but folders: path within it, path, mode; sorted within each folder."""
    folders = [tree]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                yield os.path.relpath(entry.path, tree), Path(entry.path), mode
        folders.extend(Path(entry.path) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False))


def _file_findings(file: str, path: Path) -> Iterator[Finding]:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        compiled = list(machine_code_findings(file, head, path))
        yield from compiled
        language = "" if compiled else _language(file, head)
        if not language:
            return
        source = head + stream.read(_SOURCE_CAP + 1 - len(head))
    if len(source) > _SOURCE_CAP:
        yield Finding(file=file, line=0, rule=Rule.UNREADABLE_SOURCE, detail=f"larger than {_SOURCE_CAP} bytes")
    elif b"\0" in source:
        line = source[: source.index(b"\0")].count(b"\n") + 1
        yield Finding(file=file, line=line, rule=Rule.UNREADABLE_SOURCE, detail="null bytes")
    elif language == "python":
        yield from python_findings(file, source)
    else:
        yield from shell_findings(file, source.decode("utf-8", "replace"))


def _language(file: str, head: bytes) -> str:
    """`python`, `shell`, or empty for what is not source that runs by itself."""
    if _PYTHON.search(file):
        return "python"
    if _SHELL.search(file):
        return "shell"
    if shebang := _SHEBANG.match(head):
        return "python" if shebang["python"] else "shell"
    return ""
