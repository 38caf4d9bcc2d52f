"""What an attempt left, on its way from the store of the node where it ran to the operator's.

Guarantee: the record arrives last, so that a store which has it has all that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.manifest import digest_of
from tourney_ray.effects.provenance import load
from tourney_ray.effects.tar_stream import TarFile, arriving, tar_stream
from tourney_ray.errors import StorageUnavailable


def sent_objects(store: ArtifactStore, reference: str) -> Iterator[bytes]:
    """All that the record `reference` names, and itself, in pieces; raises `StorageUnavailable` for what is absent."""
    record = digest_of(reference)
    left = load(store, record).left
    folders = [folder for folder in (left.output, left.logs) if folder]
    files = dict.fromkeys(file.sha256 for folder in folders for file in store.manifest(folder).files)
    yield from tar_stream(TarFile(digest, store.file(digest)) for digest in dict.fromkeys((*files, *folders, record)))


def have_objects(store: ArtifactStore, reference: str, send: Callable[[], Iterator[bytes]]) -> None:
    """Make sure that the store holds the record `reference` and all that it names, as the other store sends it.

    Raises what `send` raises, and `StorageUnavailable` for what cannot be kept or is not what it should be.
    """
    record = digest_of(reference)
    if store.has(record):
        return
    for digest, content in arriving(send()):
        found, _ = store.put(lambda content=content: content)
        if found != digest:
            raise StorageUnavailable(f"object {digest} was sent, and something else arrived", "try again")
    if not store.has(record):
        raise StorageUnavailable(f"the record {record} was not among what was sent", "try again")
