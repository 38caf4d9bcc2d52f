"""The list of a kept folder's files: the same folder gives the same bytes, and a list that could do harm is refused.

Pure. A manifest names files by the digest of their content; its own digest is the folder's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, ValidationError

from tourney_ray.core.models import Sha256
from tourney_ray.core.record import Record

MOST_FILES = 50_000
MOST_PATH_BYTES = 3_000
MOST_MANIFEST_BYTES = 32 << 20
DIGEST = re.compile(r"[0-9a-f]{64}")
PREFIX = "sha256:"
"""Before the digest wherever a fact names a kept object."""


class ManifestFile(Record):
    """One file of a folder."""

    path: str
    """Below the folder, parts joined by `/`."""
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Record):
    """All files of a folder, in the order of their paths. Folders without a file are not listed."""

    files: tuple[ManifestFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)

    def names(self) -> list[str]:
        """Digests of its files, each once."""
        return list(dict.fromkeys(file.sha256 for file in self.files))

    def content(self) -> bytes:
        """The manifest as it is kept: JSON without spaces, in ASCII, keys in a fixed order."""
        return self.model_dump_json(ensure_ascii=True).encode("ascii")


def manifest_of(files: Iterable[ManifestFile]) -> Manifest:
    """The manifest of these files; raises `ValueError` for paths that no folder can hold or that lead out of it."""
    manifest = Manifest(files=tuple(sorted(files, key=lambda file: file.path)))
    if complaint := _complaint(manifest):
        raise ValueError(complaint)
    return manifest


def read_manifest(content: bytes) -> Manifest:
    """The manifest of that content; raises `ValueError` for anything else, and for paths as `manifest_of` does."""
    if len(content) > MOST_MANIFEST_BYTES:
        raise ValueError(f"it is longer than {MOST_MANIFEST_BYTES} bytes")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(f"it is no manifest: {error.errors()[0]['msg']}") from error
    if complaint := _complaint(manifest):
        raise ValueError(complaint)
    return manifest


def digest_of(reference: str) -> str:
    """The hex digits of `sha256:…` or of a bare digest; raises `ValueError` for anything else."""
    digits = reference.removeprefix(PREFIX)
    if not DIGEST.fullmatch(digits):
        raise ValueError(f"{reference!r:.120} is no digest: expected sha256: and 64 hex digits")
    return digits


def sha256_of(content: bytes) -> str:
    """The digest of that content."""
    return hashlib.sha256(content).hexdigest()


def _complaint(manifest: Manifest) -> str:
    """Why the manifest is refused; empty when it is sound."""
    if len(manifest.files) > MOST_FILES:
        return f"it lists more than {MOST_FILES} files"
    paths = [file.path for file in manifest.files]
    if bad := next((path for path in paths if not _harmless(path)), None):
        return f"it lists {bad!r:.120}, which is no path below a folder"
    folders = {folder for path in paths for folder in _folders_of(path)}
    if len(set(paths)) != len(paths) or folders & set(paths):
        return "it lists a path twice, or as a file and as a folder"
    return "" if paths == sorted(paths) else "its paths are not in order"


def _harmless(path: str) -> bool:
    return (
        path.isprintable()
        and "\\" not in path
        and len(path.encode("utf-8")) <= MOST_PATH_BYTES
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


def _folders_of(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
