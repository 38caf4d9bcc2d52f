"""The base image of the sample miners, made of this machine's own files: no registry, no download.

Guarantee: the same files make the same tag, and an image that is there already is not made again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata

from tourney_ray import __version__
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.imports import find_named, import_image, name_image
from tourney_ray.effects.tar_stream import tar_stream
from tourney_ray.errors import EngineDown
from tourney_ray.samples import host_files
from tourney_ray.samples.image_files import ImageFile, manifest_digest, with_folders

SAMPLE_BASE = "tourney/sample-base"
"""What the sample miners' dockerfiles begin FROM: Python, a shell, and what trains a model."""

TINY_BASE = "tourney/tiny-base"
"""Python and a shell, for trainers that train nothing."""

PACKAGES = ("torch", "transformers", "safetensors", "tokenizers", "numpy", "diffusers", "pillow")
LABELS = ("tourney.base", "tourney.version", "tourney.packages")
"""Labels of a base image: digest of its manifest, the version that made it, its packages with theirs (JSON)."""

TAG_LENGTH = 16
SYSTEM_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
SYSTEM_FOLDERS = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755}
SYSTEM_LINKS = ("bin", "sbin", "lib", "lib64")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class BaseImage:
    """A base image that the engine has."""

    name: str
    """`repository:tag`, the tag taken from the content; the tag `latest` names it, too."""
    image_id: str
    size_bytes: int
    seconds: float
    """How long it took to make or, when it was there, to find."""
    made: bool
    """False when it was there already."""


def ensure_base_image(engine: Engine, tiny: bool = False, clock: Callable[[], float] = time.monotonic) -> BaseImage:
    """The base image of the sample miners, or the tiny one; made when the engine does not have it.

    Raises `ConfigError` where this machine lacks what goes into it, `EngineDown` and `StorageUnavailable`.
    """
    begun = clock()
    repository = TINY_BASE if tiny else SAMPLE_BASE
    packages = [] if tiny else host_files.distributions(PACKAGES)
    files = _image_files(packages)
    digest = manifest_digest(files)
    name = f"{repository}:{digest[:TAG_LENGTH]}"
    found = find_named(engine, name)
    made = found is None or found.labels.get("tourney.base") != digest
    if made:
        import_image(engine, repository, digest[:TAG_LENGTH], tar_stream(files), _changes(digest, packages))
        found = find_named(engine, name)
    if found is None:
        raise EngineDown(f"the image {name} was imported and is not there", "see the engine's log on this node")
    name_image(engine, found.image_id, repository, "latest")
    return BaseImage(name, found.image_id, found.size_bytes, clock() - begun, made)


def _image_files(packages: Iterable[metadata.Distribution]) -> list[ImageFile]:
    programs = [*host_files.python_files(), *host_files.tool_files(), *host_files.package_files(packages)]
    folders = [ImageFile(path, folder=True, mode=mode) for path, mode in SYSTEM_FOLDERS.items()]
    folders += [ImageFile(f"usr/{name}", folder=True, mode=0o755) for name in SYSTEM_LINKS]
    links = [ImageFile(name, link=f"usr/{name}") for name in SYSTEM_LINKS]
    written = [ImageFile(path, content=content) for path, content in SYSTEM_FILES.items()]
    return with_folders([*folders, *links, *written, *programs, *host_files.library_files(programs)])


def _changes(digest: str, packages: Iterable[metadata.Distribution]) -> list[str]:
    """What the image says of itself, as instructions of a dockerfile."""
    versions = json.dumps({package.name: package.version for package in packages})
    labels = zip(LABELS, (digest, __version__, versions), strict=True)
    return [
        *(f"LABEL {name}={json.dumps(value)}" for name, value in labels),
        f"ENV PATH={SEARCH_PATH} LC_ALL=C.UTF-8",
        'CMD ["python3"]',
    ]
