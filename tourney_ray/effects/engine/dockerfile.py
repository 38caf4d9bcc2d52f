"""A stranger's dockerfile, read as the builder reads it: instructions, images that it starts from, what it must not do.

Pure. Guarantee: what cannot be told for certain before the build (a variable in the name of an image) is an error here,
never a guess, so that the engine is never made to fetch anything in a stranger's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
HEREDOC = re.compile(r"(?<![<\w])<<(-?)([\"']?)([A-Za-z0-9_.]+)\2(?!<)")
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^{}]*))?\})")
REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*")
REMOTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|git@|github\.com/)|\.git(?:#|$)", re.IGNORECASE)
WITH_HEREDOCS = ("RUN", "COPY", "ADD")
NEEDS_BUILDKIT: Mapping[str, tuple[str, ...]] = {
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("link", "chmod", "parents", "exclude"),
    "ADD": ("link", "chmod", "checksum", "keep-git-dir", "unpack", "exclude"),
}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, flags by name (without `--`), the rest as written, and where."""

    line: int
    """Of its first line, from 1."""
    name: str
    flags: tuple[tuple[str, str], ...]
    value: str
    heredocs: tuple[str, ...] = ()
    """Names of the here-documents that it opens."""
    onbuild: bool = False
    """Whether it is only to happen in builds that start from this image."""

    def words(self) -> list[str]:
        """The value's words, from its JSON form where it has one."""
        return exec_form(self.value) or self.value.split()


@dataclass(frozen=True)
class Problem:
    """One thing that a dockerfile asks for and does not get."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}"


@dataclass(frozen=True)
class Dockerfile:
    """What a dockerfile says."""

    instructions: tuple[Instruction, ...]
    syntax: tuple[int, str] | None
    """Line and value of `# syntax=`."""
    escape: str

    @cached_property
    def external_images(self) -> tuple[str, ...]:
        """Images that it takes from the node, each once, in order of use: neither its own stages nor `scratch`."""
        return tuple(dict.fromkeys(name for _, name in self._sources if name is not None))

    @cached_property
    def unclear_images(self) -> tuple[Problem, ...]:
        """FROM and COPY --from whose image cannot be told from the dockerfile alone."""
        unclear = (one for one, name in self._sources if name is None)
        return tuple(Problem(one.line, f"which image {one.name} means cannot be told") for one in unclear)

    @property
    def needs_buildkit(self) -> tuple[Problem, ...]:
        """Everything that the legacy builder does not know."""
        found = [Problem(self.syntax[0], f"# syntax={self.syntax[1]}")] if self.syntax else []
        for one in self.instructions:
            asked = NEEDS_BUILDKIT.get(one.name, ())
            found += [Problem(one.line, f"{one.name} --{flag}") for flag, _ in one.flags if flag in asked]
            found += [Problem(one.line, f"{one.name} <<{name}") for name in one.heredocs]
        return tuple(found)

    @property
    def volumes(self) -> tuple[Problem, ...]:
        """Its VOLUME instructions."""
        return tuple(Problem(one.line, f"VOLUME {one.value}") for one in self.instructions if one.name == "VOLUME")

    @property
    def reaching_out(self) -> tuple[Problem, ...]:
        """What the engine itself would fetch or share, outside every bound of a build: ADD of URLs, cache mounts."""
        return tuple(problem for one in self.instructions for problem in self._reaching_out(one))

    def last_stage(self) -> Sequence[Instruction]:
        """The instructions of the image that comes out."""
        starts = [index for index, one in enumerate(self.instructions) if one.name == "FROM"]
        return self.instructions[starts[-1] :] if starts else self.instructions

    def _reaching_out(self, one: Instruction) -> Iterator[Problem]:
        if one.name == "ADD":
            for source in one.words()[:-1]:
                if REMOTE.search(source):
                    yield Problem(one.line, f"ADD {source}: only files of the repository can be added")
                elif set(source) & set("$\"'\\" + self.escape):
                    yield Problem(one.line, f"ADD {source}: what is added has to be a plain path; COPY takes others")
        for flag, value in one.flags:
            if flag == "mount" and not re.search(r"type=(bind|tmpfs)\b", value) and "type=" in value:
                yield Problem(one.line, f"RUN --mount={value}: only mounts of type bind and tmpfs can be had")
            if flag == "mount" and re.search(r"[$\"'\\]", value):
                yield Problem(one.line, f"RUN --mount={value}: has to be plain")
            if one.name == "RUN" and flag in ("network", "security", "device"):
                yield Problem(one.line, f"RUN --{flag}: not to be had")

    @cached_property
    def _sources(self) -> tuple[tuple[Instruction, str | None], ...]:
        found: list[tuple[Instruction, str | None]] = []
        stages: list[str] = []
        arguments: dict[str, str] = {}
        for one in self.instructions:
            if one.name == "ARG" and not stages and not one.onbuild:
                arguments |= _defaults(one.value, arguments)
            names = [_expanded(one.words()[0], arguments)] if one.name == "FROM" and one.words() else _taken_from(one)
            known = {*stages, *(str(index) for index in range(len(stages)))} if one.name != "FROM" else {*stages}
            for name in names:
                if name is not None and (name.lower() in known or name == "scratch"):
                    continue
                found.append((one, name if name is not None and REFERENCE.fullmatch(name) else None))
            if one.name == "FROM":
                words = one.words()
                named = len(words) == 3 and words[1].upper() == "AS"  # noqa: PLR2004 - FROM image AS name
                stages.append(words[2].lower() if named else f" {len(stages)}")
        return tuple(found)


def parse(text: str) -> Dockerfile:
    """Read a dockerfile; whatever it holds, this does not fail."""
    lines = re.split(r"\r?\n", text.removeprefix("\ufeff"))
    escape, syntax = _directives(lines)
    return Dockerfile(tuple(_instructions(lines, escape)), syntax, escape)


def exec_form(value: str) -> list[str]:
    """The words of a JSON list of texts; empty when `value` is none."""
    try:
        words = cast("object", json.loads(value))
    except (json.JSONDecodeError, RecursionError):
        return []
    listed = cast("list[object]", words) if isinstance(words, list) else []
    return [word for word in listed if isinstance(word, str)] if all(isinstance(w, str) for w in listed) else []


def _directives(lines: Sequence[str]) -> tuple[str, tuple[int, str] | None]:
    """The escape character and `# syntax=`: comments of that form before anything else."""
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        match = DIRECTIVE.fullmatch(line.strip())
        if not match or match[1].lower() in found:
            break
        found[match[1].lower()] = (number, match[2])
    _, escape = found.get("escape", (0, "\\"))
    return escape if escape in ("\\", "`") else "\\", found.get("syntax")


def _instructions(lines: Sequence[str], escape: str) -> Iterator[Instruction]:
    pending, started, number = "", 0, 0
    while number < len(lines):
        line, number = lines[number], number + 1
        if line.lstrip().startswith("#") or (not line.strip()):
            continue
        started = started or number
        continued = re.search(re.escape(escape) + r"[ \t]*$", line)
        pending += line[: continued.start()] if continued else line
        if continued and number < len(lines):
            continue
        one = _instruction(pending.strip(), started)
        for name in one.heredocs:
            number = _past(lines, number, name)
        yield one
        pending, started = "", 0
    if pending.strip():
        yield _instruction(pending.strip(), started)


def _instruction(text: str, line: int, onbuild: bool = False) -> Instruction:
    name, _, rest = _cut(text)
    if name.upper() == "ONBUILD" and rest:
        return _instruction(rest, line, onbuild=True)
    flags: list[tuple[str, str]] = []
    while rest.startswith("--"):
        flag, _, rest = _cut(rest)
        key, _, value = flag[2:].partition("=")
        flags.append((key.lower(), value))
    found = HEREDOC.findall(rest) if name.upper() in WITH_HEREDOCS else []
    return Instruction(line, name.upper(), tuple(flags), rest, tuple(match[2] for match in found), onbuild)


def _cut(text: str) -> tuple[str, str, str]:
    """The first word, and the rest without the space between."""
    word, *rest = text.split(maxsplit=1) or [""]
    return word, " ", rest[0] if rest else ""


def _past(lines: Sequence[str], number: int, name: str) -> int:
    """The index behind a here-document's end; where it does not end, nothing is skipped, so that nothing is hidden."""
    ends = (index for index in range(number, len(lines)) if lines[index].strip("\t") == name)
    return next(ends, number - 1) + 1


def _taken_from(one: Instruction) -> list[str | None]:
    """Images or stages named by --from, and by `from=` of mounts; None for one that holds a variable."""
    names = [value for flag, value in one.flags if flag == "from" and one.name in ("COPY", "ADD")]
    mounts = [value for flag, value in one.flags if flag == "mount"]
    names += [part[5:] for mount in mounts for part in mount.split(",") if part.startswith("from=")]
    return [name if REFERENCE.fullmatch(name) else None for name in names]


def _defaults(value: str, known: Mapping[str, str]) -> dict[str, str]:
    """The defaults that an ARG before the first FROM gives; one that cannot be told stands for itself, unexpanded."""
    pairs = (word.partition("=") for word in value.split())
    return {name: (_expanded(text.strip("\"'"), known) or "$") for name, equals, text in pairs if equals}


def _expanded(word: str, arguments: Mapping[str, str]) -> str | None:
    """`word` with its variables replaced; None where one has no value or the form is not understood."""

    def value(match: re.Match[str]) -> str:
        found = arguments.get(match[1] or match[2], "")
        if match[3] == "-":
            return found or match[4]
        return (match[4] if found else "") if match[3] == "+" else (found or "$")

    text = VARIABLE.sub(value, word.strip("\"'"))
    return text if REFERENCE.fullmatch(text) else None
