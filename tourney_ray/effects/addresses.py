"""What a repository address and a reference may look like, before anything touches them.

Syntax only: whether the host is on the operator's list, and whether the commit exists, is for `repos` to say.
"""

from __future__ import annotations

import re

_HTTPS = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+/?")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@#=-]*")
_SHA = re.compile(r"[0-9a-fA-F]{40}")
_MAX_ADDRESS = 512
"""Characters; GitHub's longest possible address is under 160."""
_MAX_REF = 255


def address_problem(repo: str) -> str:
    """Why `repo` cannot be a repository's address; empty when it can: `https://…`, `file:///…` or an absolute path."""
    if not repo or len(repo) > _MAX_ADDRESS:
        return f"must be 1 to {_MAX_ADDRESS} characters"
    if not repo.isprintable() or " " in repo or "\\" in repo:
        return "must not hold spaces, backslashes or control characters"
    if repo.startswith(("/", "file:///")):
        return "must not hold '..'" if ".." in repo.split("/") else ""
    if "@" in repo.split("://", 1)[-1].split("/", 1)[0]:
        return "must not carry credentials"
    if not repo.startswith("https://"):
        return "must start with https://"
    return "" if _HTTPS.fullmatch(repo) else "must be a plain https://host/owner/name address"


def ref_problem(ref: str) -> str:
    """Why `ref` cannot be a commit, branch or tag; empty when it can."""
    if not 1 <= len(ref) <= _MAX_REF:
        return f"must be 1 to {_MAX_REF} characters"
    if not _REF.fullmatch(ref) or ".." in ref or "@{" in ref or "//" in ref or ref.endswith(("/", ".", ".lock")):
        return "must be a commit hash or the name of a branch or tag"
    return ""


def is_commit(ref: str) -> bool:
    """Whether `ref` is a full SHA-1 of 40 hexadecimal digits."""
    return _SHA.fullmatch(ref) is not None
