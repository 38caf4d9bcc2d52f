"""A stranger's dockerfile, read as the builder reads it: its instructions, and what can be read in two ways.

Pure. Guarantee: whatever the text, reading it does not fail; where an engine might read something else than what stands
in `instructions`, that place is in `unclear`, and nothing of the dockerfile may be trusted.
"""

from __future__ import annotations

import bisect
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from tourney_ray.core.quoting import shown

DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*)")
ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*([\\`])[ \t]*", re.IGNORECASE)
FLAG = re.compile(r"--(?:([a-z][a-z0-9-]*)(?:=([!#-&(-\[\]-~]*))?)?(?:[ \t]+|$)")
"""One flag without quotes and escapes, which the builder would take away, and in ASCII, which it splits bytewise."""

HEREDOC = re.compile(r"[0-9]*<<-?([^<\s]+)")
WITH_HEREDOCS = ("RUN", "COPY", "ADD")
BLANKS = re.compile(r"[ \t]+")
KNOWN: Mapping[str, tuple[str, ...]] = {
    "ADD": ("chown",),
    "ARG": (),
    "CMD": (),
    "COPY": ("chown", "from"),
    "ENTRYPOINT": (),
    "ENV": (),
    "EXPOSE": (),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
    "LABEL": (),
    "MAINTAINER": (),
    "ONBUILD": (),
    "RUN": (),
    "SHELL": (),
    "STOPSIGNAL": (),
    "USER": (),
    "VOLUME": (),
    "WORKDIR": (),
}
"""Instructions with their flags, as every builder has them."""


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
        return exec_form(self.value) or [word for word in BLANKS.split(self.value) if word]


@dataclass(frozen=True)
class Problem:
    """One thing that a dockerfile asks for and does not get."""

    line: int
    what: str

    def __str__(self) -> str:
        return shown(f"line {self.line}: {self.what}")


@dataclass(frozen=True)
class Dockerfile:
    """What a dockerfile says."""

    instructions: tuple[Instruction, ...]
    unclear: tuple[Problem, ...]
    """Where it cannot be told how an engine reads it; in order of lines."""
    syntax: Problem | None
    """`# syntax=`, which names an image that BuildKit fetches and runs."""
    escape: str

    def last_stage(self) -> Sequence[Instruction]:
        """The instructions of the image that comes out."""
        starts = [index for index, one in enumerate(self.instructions) if one.name == "FROM" and not one.onbuild]
        return self.instructions[starts[-1] :] if starts else self.instructions


def parse(text: str) -> Dockerfile:
    """Read a dockerfile; whatever it holds, this does not fail."""
    lines = re.split(r"\r?\n", text.removeprefix("\ufeff"))
    reading = _Reading(lines)
    instructions = tuple(reading.instructions())
    unclear = tuple(sorted(reading.unclear, key=lambda one: one.line))
    return Dockerfile(instructions, unclear, reading.syntax, reading.escape)


def exec_form(value: str) -> list[str]:
    """The words of a JSON list of texts; empty when `value` is none."""
    try:
        words = cast("object", json.loads(value))
    except (ValueError, RecursionError):
        return []
    listed = cast("list[object]", words) if isinstance(words, list) else []
    return [word for word in listed if isinstance(word, str)] if all(isinstance(w, str) for w in listed) else []


class _Reading:
    """One pass over the lines; what is doubtful is noted on the way."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._places: dict[str, list[int]] = {}
        for index, line in enumerate(lines):
            self._places.setdefault(line.strip("\t"), []).append(index)
        self.unclear = [
            Problem(number, "a control character") for number, line in enumerate(lines, 1) if not _is_plain(line)
        ]
        self.syntax: Problem | None = None
        self.escape = "\\"
        self._directives()

    def instructions(self) -> Iterator[Instruction]:
        """All of them; a here-document's text is passed over."""
        pending, started, number = "", 0, 0
        while number < len(self._lines):
            line, number = self._lines[number], number + 1
            if line.lstrip().startswith("#") or not line.strip():
                continue
            started = started or number
            continued = self._continued(line, number)
            pending += line if continued is None else continued
            if continued is not None and number < len(self._lines):
                continue
            one = self._instruction(pending.strip(), started)
            for name in one.heredocs:
                number = self._past(number, name)
            yield one
            pending, started = "", 0
        if pending.strip():
            yield self._instruction(pending.strip(), started)

    def _directives(self) -> None:
        """`# syntax=` and `# escape=`, in the comments before everything else.

        Builders differ in which of these lines they heed, but all of them heed the very first.
        """
        for number, line in enumerate(self._lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                return
            match = DIRECTIVE.fullmatch(line.strip())
            name = match[1].lower() if match else ""
            if name == "syntax" and match:
                self.syntax = self.syntax or Problem(number, f"# syntax={match[2]}")
            elif name == "escape" and (plain := ESCAPE.fullmatch(line)) and number == 1:
                self.escape = plain[1]
            elif name == "escape":
                self._doubt(number, "# escape= has to be the first line, with \\ or `")

    def _continued(self, line: str, number: int) -> str | None:
        """The line without the escape at its end; None where it has none, and the instruction ends."""
        bare = line.rstrip(" \t")
        if not bare.endswith(self.escape):
            return None
        if bare.endswith(self.escape * 2):
            self._doubt(number, f"it ends in {self.escape * 2}, which some take for the instruction's end")
        return bare[:-1]

    def _instruction(self, text: str, line: int) -> Instruction:
        name, rest = _cut(text)
        onbuild = name == "ONBUILD"
        if onbuild:
            name, rest = _cut(rest)
        if name not in KNOWN or (onbuild and name in ("FROM", "ONBUILD", "MAINTAINER")):
            self._doubt(line, f"there is no instruction {'ONBUILD ' if onbuild else ''}{name[:40]}")
        flags: list[tuple[str, str]] = []
        while rest.startswith("--"):
            match = FLAG.match(rest)
            if match is None:
                self._doubt(line, f"a flag of {name[:40]} is not plain: quotes, escapes or letters beyond ASCII")
                break
            rest = rest[match.end() :]
            if match[1] is None:
                break
            flags.append((match[1], match[2] or ""))
        heredocs = self._heredocs(rest, line) if name in WITH_HEREDOCS else ()
        return Instruction(line, name, tuple(flags), rest, heredocs, onbuild)

    def _heredocs(self, value: str, line: int) -> tuple[str, ...]:
        """Names of the here-documents: words that begin with `<<`; inside of quotes there is none."""
        if "<<" not in value:
            return ()
        words = quoted_words(value, self.escape)
        if words is None:
            self._doubt(line, "<< beside a quote that does not end")
            words = value.split()
        found = (HEREDOC.fullmatch(word) for word in words)
        return tuple(match[1].strip("\"'") for match in found if match)

    def _past(self, number: int, name: str) -> int:
        """The index behind a here-document's end; where it does not end, nothing is passed over, nothing hidden."""
        places = self._places.get(name, [])
        at = bisect.bisect_left(places, number)
        return places[at] + 1 if at < len(places) else number

    def _doubt(self, line: int, what: str) -> None:
        self.unclear.append(Problem(line, what))


def quoted_words(text: str, escape: str) -> list[str] | None:
    """The words of a shell's line with their quotes left in place; None where a quote does not end."""
    words, word, quote, skip = list[str](), list[str](), "", False
    for letter in text:
        if skip:
            skip = False
        elif letter == escape and quote != "'":
            skip = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter.isspace():
            words.append("".join(word))
            word = []
            continue
        word.append(letter)
    return None if quote else [one for one in (*words, "".join(word)) if one]


def _is_plain(line: str) -> bool:
    """Whether it has no control characters, which builders take for a space, for a line's end, or for a letter."""
    return line.isprintable() or not any(unicodedata.category(letter) == "Cc" and letter != "\t" for letter in line)


def _cut(text: str) -> tuple[str, str]:
    """The first word in capitals, and the rest without the space between; no letters beyond ASCII become capitals."""
    word, *rest = BLANKS.split(text.strip(), maxsplit=1)
    return (word.upper() if word.isascii() else word), rest[0].strip() if rest else ""
