"""Strangers' text, made fit for a log line or a terminal: one line, printable, capped."""

from __future__ import annotations


def shown(text: str | bytes, cap: int = 200) -> str:
    """`text` on one line: control, bidirectional and undecodable characters escaped, cut to `cap` characters."""
    words = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words[: cap + 1])
    return safe if len(safe) <= cap else safe[: cap - 1] + "…"
