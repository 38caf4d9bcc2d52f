"""The operator's store of what is kept: outputs, logs and records, each named by the SHA-256 of its content.

Guarantee: what is read is what was kept, or `StorageUnavailable` says which object is not; a folder is checked out
whole or not at all, and no path of a manifest leads out of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pyarrow import fs
from pyarrow.lib import ArrowException

from tourney_ray.effects.manifest import (
    DIGEST,
    MOST_MANIFEST_BYTES,
    PREFIX,
    Manifest,
    ManifestFile,
    digest_of,
    manifest_of,
    read_manifest,
    sha256_of,
)
from tourney_ray.effects.objects import LocalObjects, Objects, StoredObject, is_full
from tourney_ray.effects.objects_remote import RemoteObjects
from tourney_ray.effects.pieces import BLOCK_BYTES, Piece, pieces
from tourney_ray.effects.removal import GONE, remove_tree
from tourney_ray.errors import ConfigError, StorageUnavailable


class ArtifactStore:
    """Objects at `uri`: a folder's path, or any URI that `pyarrow.fs` knows (`file://`, `s3://`, `gs://`, …).

    Raises `ConfigError` for a URI that it does not know. Makes nothing before something is kept.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._objects = _objects_at(uri)

    def put_bytes(self, content: bytes) -> str:
        """Keep that content; its digest."""
        return self.put(lambda: [content])[0]

    def put_file(self, path: Path) -> str:
        """Keep the content of a file, holes as holes; its digest."""
        with self._doing(f"{path} could not be kept"), path.open("rb") as file:
            return self._objects.put(lambda: pieces(file.fileno()))[0]

    def put(self, read: Callable[[], Iterable[Piece]]) -> tuple[str, int]:
        """Keep what `read` gives, pieces of content and lengths of holes; digest and bytes. May read twice."""
        with self._doing("something could not be kept"):
            return self._objects.put(read)

    def put_folder(self, folder: Path) -> str:
        """Keep a folder of our own: the digest of its manifest. For a stranger's folder there is `collect`.

        Raises `StorageUnavailable` for anything in it but folders and plain files.
        """
        with self._doing(f"{folder} could not be kept"):
            found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
            if odd := next((path for path in found if path.is_symlink() or not path.is_file()), None):
                raise StorageUnavailable(f"{odd} could not be kept: it is not a plain file")
        return self.put_manifest(self._kept(path, path.relative_to(folder).as_posix()) for path in found)

    def put_manifest(self, files: Iterable[ManifestFile]) -> str:
        """Keep the list of a folder whose files are kept already; the folder's digest."""
        try:
            return self.put_bytes(manifest_of(files).content())
        except ValueError as error:
            raise StorageUnavailable(f"a folder could not be kept in {self.uri}: {error}") from error

    def get_bytes(self, digest: str, most_bytes: int = MOST_MANIFEST_BYTES) -> bytes:
        """The object's content, checked; raises `StorageUnavailable` where it is absent, too long or another."""
        with self._doing(f"object {digest} could not be read"), self._open(digest) as stream:
            content = stream.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise StorageUnavailable(f"object {digest} in {self.uri} is longer than {most_bytes} bytes")
        if sha256_of(content) != digest:
            raise self._spoilt(digest)
        return content

    def manifest(self, digest: str) -> Manifest:
        """The files of the folder `digest`; raises `StorageUnavailable` where it is absent or no manifest."""
        content = self.get_bytes(digest)
        try:
            return read_manifest(content)
        except ValueError as error:
            raise StorageUnavailable(f"object {digest} in {self.uri} is not a folder's: {error}") from error

    def checkout(self, digest: str, target: Path, share: bool = True) -> Path:
        """The folder `digest` as `target`, which must not be there yet: every byte checked, for reading only.

        With `share` a store on the same file system shares its files with the folder: whoever may change them there
        would spoil the store. Raises `StorageUnavailable`.
        """
        manifest = self.manifest(digest)
        if target.exists():
            raise StorageUnavailable(f"{target} is there already: nothing was checked out to it")
        staged = target.with_name(f"{GONE}{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            with self._doing(f"{digest} could not be checked out to {target}"):
                staged.mkdir(parents=True, mode=0o700)
                for file in manifest.files:
                    self._place(file, staged, share)
                staged.rename(target)
        finally:
            remove_tree(staged)
        return target

    def has(self, digest: str) -> bool:
        """Whether there is an object of that digest; its content is checked when it is read."""
        if not DIGEST.fullmatch(digest):
            return False
        with self._doing(f"object {digest} could not be looked for"):
            return self._objects.has(digest)

    def file(self, digest: str) -> Path:
        """The object's own file; raises `StorageUnavailable` where it is absent, or the store is elsewhere."""
        path = self._objects.path(digest)
        if path is None or not path.is_file():
            raise StorageUnavailable(f"object {digest} of {self.uri} is no file of this machine")
        return path

    def objects(self) -> Iterator[StoredObject]:
        """All objects, and what was never finished, in no order."""
        with self._doing("the objects could not be listed"):
            yield from self._objects.list()

    def remove(self, name: str, unless_after: datetime | None = None) -> int:
        """Remove an object unless it was kept again after that moment; the bytes freed, 0 where it is gone or stays.

        In a folder of this machine nobody can keep it again meanwhile; elsewhere the moment has to lie well before now.
        """
        with self._doing(f"object {name} could not be removed"):
            return self._objects.remove(name, unless_after)

    def _kept(self, path: Path, name: str) -> ManifestFile:
        with self._doing(f"{path} could not be kept"), path.open("rb") as file:
            digest, size = self._objects.put(lambda: pieces(file.fileno()))
        return ManifestFile(path=name, sha256=digest, bytes=size)

    def _place(self, file: ManifestFile, folder: Path, share: bool) -> None:
        """Check an object and put it at its path, with `share` as a link where that can be."""
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if share and (own := self._objects.path(file.sha256)) and _linked(own, target):
            self._check(file)
            return
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            self._check(file, copy)
        target.chmod(0o400)

    def _check(self, file: ManifestFile, copy: BinaryIO | None = None) -> None:
        """Read an object to its end, into `copy` where there is one; `StorageUnavailable` unless it is the file."""
        hashing, size = hashlib.sha256(), 0
        with self._open(file.sha256) as stream:
            while block := stream.read(BLOCK_BYTES):
                hashing.update(block)
                size += len(block)
                if copy:
                    copy.write(block)
        if (hashing.hexdigest(), size) != (file.sha256, file.bytes):
            raise self._spoilt(file.sha256)

    def _open(self, digest: str) -> BinaryIO:
        if not DIGEST.fullmatch(digest):
            raise StorageUnavailable(f"{digest!r:.100} is no digest of an object in {self.uri}")
        try:
            return self._objects.open(digest)
        except FileNotFoundError as missing:
            hint = "restore it from a copy of the store; if it was removed as unused, nothing brings it back"
            raise StorageUnavailable(f"object {digest} is not in {self.uri}", hint) from missing

    def _spoilt(self, digest: str) -> StorageUnavailable:
        return StorageUnavailable(
            f"object {digest} in {self.uri} is spoilt: its content is another", "restore it from a copy of the store"
        )

    @contextlib.contextmanager
    def _doing(self, failed: str) -> Generator[None]:
        """Say of any error of disk or network what it kept from being done."""
        try:
            yield
        except OSError as problem:
            if is_full(problem):
                raise StorageUnavailable(f"{failed}: no room is left in {self.uri}", "make room there") from problem
            first = (str(problem).splitlines() or [type(problem).__name__])[0]
            raise StorageUnavailable(f"{failed} ({self.uri}): {first}") from problem


def checked_out(store: ArtifactStore, reference: str, folder: Path) -> Path:
    """The kept folder that a fact names, as `{folder}/{digest}`: checked when it was put there, and then only used.

    Raises `StorageUnavailable` where the fact names none or it cannot be had.
    """
    if not reference.startswith(PREFIX):
        raise StorageUnavailable(
            f"no checkpoint at {reference!r:.200}: it is named by a path, and outputs are kept by their content",
            "this journal was written by an older version; hold the tournament again",
        )
    try:
        target = folder / digest_of(reference)
    except ValueError as error:
        raise StorageUnavailable(f"a fact names a checkpoint that cannot be: {error}") from error
    if not target.is_dir():
        try:
            return store.checkout(target.name, target)
        except StorageUnavailable:
            if not target.is_dir():  # else somebody else was faster
                raise
    with contextlib.suppress(PermissionError):  # only its age is wrong then
        os.utime(target)
    return target


def _linked(source: Path, target: Path) -> bool:
    """Whether `target` is now a link to the file at `source`; False where links cannot be."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError:  # another file system, too many links, not allowed: a copy does as well
        return False
    return True


def _objects_at(uri: str) -> Objects:
    if "://" not in uri:
        return LocalObjects(Path(uri).absolute())
    try:
        files, root = fs.FileSystem.from_uri(uri)
    except (ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"artifacts cannot be kept at {uri}: {first}", "name a folder, or a URI such as s3://bucket/folder"
        ) from error
    return LocalObjects(Path(root)) if isinstance(files, fs.LocalFileSystem) else RemoteObjects(files, root)
