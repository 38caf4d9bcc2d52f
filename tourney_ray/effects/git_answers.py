"""What git said, understood: entries of a tree, the commit behind a name, and whose fault a failure is."""

from __future__ import annotations

import re
from typing import NamedTuple

from tourney_ray.core.quoting import shown
from tourney_ray.errors import RepoRejected, StorageUnavailable, TourneyError


class RepoUnreachable(RepoRejected):
    """The repository's host did not answer, or not in time.

    At registration a refusal like any other, since nothing is charged then. Whoever fetches a commit that was accepted
    before should treat it as the platform's (RULES §6, download failed).
    """


class TreeEntry(NamedTuple):
    """One file, link or submodule of a commit's tree."""

    mode: str
    path: bytes
    size: int
    """Bytes; 0 for a submodule."""


class _Sign(NamedTuple):
    """Words in lower case that tell a failure, whose fault that is, and what to say; empty says what git said."""

    words: tuple[str, ...]
    error: type[TourneyError]
    meaning: str = ""


_SIGNS = (
    _Sign(("no space left", "disk quota", "read-only file system", "input/output error"), StorageUnavailable),
    _Sign(("dubious ownership",), StorageUnavailable, "the repository on disk belongs to another user"),
    _Sign(("not our ref", "couldn't find remote ref", "unadvertised object"), RepoRejected, "it has no such commit"),
    _Sign(("error: 3", "redirect"), RepoRejected, "the host redirects elsewhere, which is not followed"),
    _Sign(
        (
            "not appear to be a git repository",
            "not found",
            "could not read username",
            "authentication failed",
            "error: 40",
        ),
        RepoRejected,
        "the repository does not exist or is not public",
    ),
    _Sign(("out of memory", "malloc", "mmap failed"), RepoRejected, "it needs too much memory to unpack"),
    _Sign(("could not resolve", "failed to connect", "couldn't connect", "connection", "curl"), RepoUnreachable),
    _Sign(("timed out", "timeout", "error: 5", "error: 429", "early eof", "hung up"), RepoUnreachable),
    _Sign(("ssl", "tls", "certificate"), RepoUnreachable),
    _Sign(("",), RepoRejected),
)
"""The first whose words occur decides."""
_NOT_WHY = re.compile(r"(hint|warning|remote|note):|^\s*$", re.IGNORECASE)


def fault_of(what: str, said: str) -> TourneyError:
    """The error for a git command that failed on `what` (repo and commit) and `said` why on stderr."""
    lowered = said.lower()
    sign = next(sign for sign in _SIGNS if any(words in lowered for words in sign.words))
    return sign.error(f"{what}: {sign.meaning or _line(said)}")


def tree_entries(listing: bytes) -> list[TreeEntry]:
    """The entries of `git ls-tree -r -l -z`."""
    return [_entry(row) for row in listing.split(b"\0") if row]


def chosen_commit(advertised: str, ref: str) -> str | None:
    """The commit that `ref` names among the rows of `git ls-remote`; None when none or several do.

    A full reference name wins, then a branch, then a tag (what an annotated tag points at), then a short SHA of 7 or
    more digits that begins the tip of exactly one commit.
    """
    tips: dict[str, str] = {}
    for row in advertised.splitlines():
        commit, _, name = row.partition("\t")
        tips[name] = commit
    for name in (f"{ref}^{{}}", ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
        if name in tips:
            return tips[name]
    if not re.fullmatch(r"[0-9a-fA-F]{7,39}", ref):
        return None
    short = {commit for commit in tips.values() if commit.startswith(ref.lower())}
    return short.pop() if len(short) == 1 else None


def _entry(row: bytes) -> TreeEntry:
    facts, _, path = row.partition(b"\t")
    mode, _, _, size = facts.decode("ascii").split()
    return TreeEntry(mode, path, 0 if size == "-" else int(size))


def _line(said: str) -> str:
    """The most telling line of what git said."""
    lines = [line.removeprefix("fatal: ").strip() for line in said.splitlines() if not _NOT_WHY.match(line)]
    return shown(lines[-1] if lines else "git gave no reason")
