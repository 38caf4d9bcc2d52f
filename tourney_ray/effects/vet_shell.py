"""Shell scripts and dockerfiles that decode a payload and run it.

A heuristic over whole commands: a decoder whose output reaches an interpreter by pipe, substitution or a file. Its time
is linear in the text, whatever the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from tourney_ray.effects.findings import Finding, Rule

_PYTHON_DECODER = re.compile(
    r"\b(?:\w*b(?:16|32|64|85)decode|a85decode|a2b_\w+|unhexlify|decompress|decodebytes|fromhex|marshal\.loads|codecs\.decode)\s*\("
)
_DECODER = re.compile(
    r"\bbase(?:64|32)\s+(?:-\w+\s+){0,4}(?:-\w*[dD]\w*|--decode)\b"
    r"|\bopenssl\s+(?:enc|base64)\b[^|;]{0,200}?\s-d\b"
    r"|\bxxd\s+(?:-\w+\s+){0,4}-\w*r"
    r"|\b(?:gunzip|zcat|bzcat|xzcat|zstdcat|unxz|bunzip2|uudecode|rev)\b"
    r"|\b(?:gzip|xz|bzip2|zstd)\s+(?:-\w*d|--decompress)"
    r"|\btr\s+[^|;]{0,60}[nN]-z"
    r"|(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3}){8}"
    rf"|{_PYTHON_DECODER.pattern}"
)
_NAME = r"(?:(?:ba|da|z|k|a)?sh|python[0-9.]*|perl|ruby|node|php|source|eval)\b"
_READS_STDIN = re.compile(
    rf"\s*(?:(?:\S*/)?(?:sudo|env|exec|command|nohup|busybox|nice|time)\s[^'\"]*?)?(?:\S*/)?{_NAME}"
    rf"(?!\s+(?:-[mc]\b|(?!/dev/stdin)[\w./$\"']))|\s*xargs\b.*\s-c\b"
)
"""The start of a pipe's stage; an interpreter given a script or a module reads its input as data."""
_SUBSTITUTION = re.compile(rf"(?:\b{_NAME}|(?:^|[;&|\s])\.)\s+(?:-\w+\s+){{0,6}}(?:<\s+|<<<\s*)?[\"']?(?:<\(|\$\(|`)")
_EXEC = re.compile(r"\b(?:exec|eval)\s*\(")
_WRITES = re.compile(r"(?:>\s*|\s-o\s*|\btee\s+)[\"']?([\w./~-]+)")
_RUNS = re.compile(
    rf"(?:\b{_NAME}\s+(?:-\w+\s+){{0,6}}|\bchmod\s+\S*[x1357]\S*\s+|(?:^|[;&|\s])\.\s+)[\"']?([\w./~-]+)", re.MULTILINE
)
_PIPELINES = re.compile(r";|&&|\|\|")
_ENDS_OPEN = ("\\", "|", "&&")


def shell_findings(file: str, text: str) -> Iterator[Finding]:
    """At most one finding per command of a shell script, dockerfile or makefile."""
    run = set(_RUNS.findall(text))
    for line, command in _commands(text):
        if how := _how(command, run):
            yield Finding(file=file, line=line, rule=Rule.RUNS_DECODED_DATA, detail=how)


def runs_decoded_text(text: str) -> int:
    """The first line, from 1, of Python text that looks as if it ran decoded data; 0 when none does."""
    lines = enumerate(text.splitlines(), start=1)
    return next((number for number, line in lines if _execs_decoded(line)), 0)


def _how(command: str, run: set[str]) -> str:
    decoders = [match.start() for match in _DECODER.finditer(command)]
    if not decoders:
        return ""
    if _execs_decoded(command):
        return "exec of decoded data"
    if _substituted(command, decoders):
        return "interpreter started on a decoder's output"
    for pipeline in _PIPELINES.split(command):
        if how := _piped(pipeline, run):
            return how
    return ""


def _execs_decoded(text: str) -> bool:
    call = _EXEC.search(text)
    return call is not None and _PYTHON_DECODER.search(text, call.end()) is not None


def _substituted(command: str, decoders: list[int]) -> bool:
    """Whether a decoder stands inside `$(…)`, `<(…)` or backquotes that an interpreter is started on."""
    for start in _SUBSTITUTION.finditer(command):
        close = command.find("`" if start.group().endswith("`") else ")", start.end())
        first = bisect_left(decoders, start.end())
        if first < len(decoders) and (close < 0 or decoders[first] < close):
            return True
    return False


def _piped(pipeline: str, run: set[str]) -> str:
    stages = pipeline.split("|")
    decoding = next((number for number, stage in enumerate(stages) if _DECODER.search(stage)), len(stages))
    if any(_READS_STDIN.match(stage) for stage in stages[decoding + 1 :]):
        return "decoder piped into an interpreter"
    if any(name in run for stage in stages[decoding:] for name in _WRITES.findall(stage)):
        return "decoded to a file that is run"
    return ""


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Commands with their first line's number: continuation lines joined, lines of comment left out."""
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#"):
            continue
        start = start or number
        parts.append(line.removesuffix("\\"))
        if not line.endswith(_ENDS_OPEN):
            yield start, " ".join(parts)
            start, parts = 0, []
    if parts:
        yield start, " ".join(parts)
