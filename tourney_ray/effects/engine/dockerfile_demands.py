"""What a dockerfile demands of the engine: images, files that are added, and things that no build here gets.

Pure. Guarantee: what cannot be told for certain before the build (a variable in the name of an image) is a problem,
never a guess, so that the engine is never made to fetch anything in a stranger's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tourney_ray.effects.engine.dockerfile import BLANKS, KNOWN, Dockerfile, Instruction, Problem

VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^{}]*))?\})")
PLAIN = re.compile(r"[A-Za-z0-9._/:@-]*")
_DOMAIN = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_VERSION = r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
REFERENCE = re.compile(rf"(?=.{{1,255}}$)(?:sha256:[0-9a-f]{{64}}|(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*{_VERSION})")
"""An image's name or id, as engines take it."""

STAGE = re.compile(r"[a-z][a-z0-9._-]*")
DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(?:([^\"'\\`]*)|\"([^\"'\\`]*)\"|'([^\"'\\`$]*)'))?")
"""An ARG with or without its default, whose quotes hold one whole word."""

REMOTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|git@|github\.com/)|\.git(?:#|$)", re.IGNORECASE)
NO_PLAIN_PATH = re.compile(r"[$\"'\\`*?\[\]]")
BUILDKIT_FLAGS: Mapping[str, tuple[str, ...]] = {
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("link", "chmod", "parents", "exclude"),
    "ADD": ("link", "chmod", "checksum", "keep-git-dir", "unpack", "exclude"),
}


@dataclass(frozen=True)
class Source:
    """One image or stage that a dockerfile begins with or copies from, outside of itself."""

    line: int
    instruction: str
    name: str | None
    """None where it cannot be told."""
    platform: str = ""
    """As FROM --platform says."""


@dataclass(frozen=True)
class Added:
    """One path that ADD takes from the repository."""

    line: int
    path: str


def external_images(dockerfile: Dockerfile) -> tuple[Source, ...]:
    """Images that it takes from the node, in order of use: neither its own stages nor `scratch`."""
    return tuple(source for source in _sources(dockerfile) if source.name is not None)


def unclear_images(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """FROM and COPY --from whose image cannot be told from the dockerfile alone, and ARGs that make it so."""
    return tuple(
        Problem(source.line, f"which image {source.instruction} means cannot be told")
        for source in _sources(dockerfile)
        if source.name is None
    )


def needs_buildkit(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """Everything that the legacy builder does not know."""
    found = [dockerfile.syntax] if dockerfile.syntax else []
    for one in dockerfile.instructions:
        asked = BUILDKIT_FLAGS.get(one.name, ())
        found += [Problem(one.line, f"{one.name} --{flag}") for flag, _ in one.flags if flag in asked]
        found += [Problem(one.line, f"{one.name} <<{name}") for name in one.heredocs]
    return tuple(found)


def unknown_flags(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """Flags that no builder has."""
    return tuple(
        Problem(one.line, f"{one.name} has no flag --{flag}")
        for one in dockerfile.instructions
        for flag, _ in one.flags
        if flag not in (*KNOWN.get(one.name, ()), *BUILDKIT_FLAGS.get(one.name, ()))
    )


def volumes(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """Its VOLUME instructions."""
    return tuple(Problem(one.line, f"VOLUME {one.value}") for one in dockerfile.instructions if one.name == "VOLUME")


def added(dockerfile: Dockerfile) -> tuple[Added, ...]:
    """What ADD takes from the repository."""
    adding = (one for one in dockerfile.instructions if one.name == "ADD")
    return tuple(Added(one.line, path) for one in adding for path in one.words()[:-1])


def reaching_out(dockerfile: Dockerfile) -> tuple[Problem, ...]:
    """What the engine itself would fetch: ADD of URLs, and of paths that could be one."""
    return tuple(_reaching_out(added(dockerfile)))


def _reaching_out(files: tuple[Added, ...]) -> Iterator[Problem]:
    for one in files:
        if REMOTE.search(one.path):
            yield Problem(one.line, f"ADD {one.path}: only files of the repository can be added")
        elif NO_PLAIN_PATH.search(one.path):
            yield Problem(one.line, f"ADD {one.path}: what is added has to be a plain path; COPY takes others")


def _sources(dockerfile: Dockerfile) -> tuple[Source, ...]:
    found: list[Source] = []
    stages: list[str] = []
    arguments: dict[str, str] = {}
    for one in dockerfile.instructions:
        if one.name == "ARG" and not stages and not one.onbuild:
            found += _take_defaults(one, arguments)
        elif one.name == "FROM" and not one.onbuild:
            name, stage = _from(one, arguments)
            if name is None or (name != "scratch" and name.lower() not in stages):
                found.append(Source(one.line, one.name, _reference(name), dict(one.flags).get("platform", "")))
            stages.append(stage or f" {len(stages)}")
        else:
            before = {*stages[:-1], *(str(index) for index in range(len(stages) - 1))}  # its own is none of them
            names = [name for name in _taken_from(one) if name.lower() not in before]
            found += [Source(one.line, one.name, _reference(name)) for name in names]
    return tuple(found)


def _from(one: Instruction, arguments: Mapping[str, str]) -> tuple[str | None, str]:
    """Image and name of the stage that begins; None for an image that cannot be told, an empty name where is none."""
    image, *name = BLANKS.split(one.value)
    if name and not (len(name) == 2 and name[0].upper() == "AS" and STAGE.fullmatch(name[1].lower())):  # noqa: PLR2004
        return None, ""
    return _expanded(image, arguments) or None, name[1].lower() if name else ""


def _taken_from(one: Instruction) -> list[str]:
    """What --from names: images or stages."""
    return [value for flag, value in one.flags if flag == "from" and one.name == "COPY"]


def _reference(name: str | None) -> str | None:
    return name if name and REFERENCE.fullmatch(name) else None


def _take_defaults(one: Instruction, arguments: dict[str, str]) -> Iterator[Source]:
    """Note the defaults that an ARG before the first FROM gives, or that it cannot be told which it gives.

    Builders differ in what a second ARG of a name means, and in whether one sees those that stand on its own line.
    """
    words = BLANKS.split(one.value)
    for word in words:
        match = DEFAULT.fullmatch(word)
        if match is None or match[1] in arguments or (len(words) > 1 and "$" in word):
            yield Source(one.line, "ARG", None)
            return
        found = _expanded(match[2] or match[3] or match[4] or "", arguments)
        arguments[match[1]] = "$" if found is None else found


def _expanded(word: str, arguments: Mapping[str, str]) -> str | None:
    """`word` with its variables replaced; None where one has no value or the form is not understood."""

    def value(match: re.Match[str]) -> str:
        found = arguments.get(match[1] or match[2], "")
        if match[3] == "-":
            return found or match[4]
        return (match[4] if found else "") if match[3] == "+" else (found or "$")

    text = VARIABLE.sub(value, word)
    return text if PLAIN.fullmatch(text) else None
