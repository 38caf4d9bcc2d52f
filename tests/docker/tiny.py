"""A tiny base image for tests, from this machine's own files: a shell, some tools and Python. Nothing is downloaded."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from tourney_ray.effects.engine.connection import Engine

TAG = "tourney-tests/tiny:1"
TOOLS = ("/bin/sh", "/bin/sleep", "/bin/cat", "/bin/dd", "/bin/ls", "/bin/mkdir", "/bin/true", "/usr/bin/python3")
UNNEEDED = {"__pycache__", "test", "dist-packages", "idlelib", "lib2to3", "ensurepip"}


def tiny_base(engine: Engine) -> str:
    """Tag of the image, made where it is not there yet."""
    if not engine.client.images.list(name=TAG):
        name, _, tag = TAG.partition(":")
        engine.client.api.import_image_from_data(
            _tar(), repository=name, tag=tag, changes=["ENV PATH=/usr/bin:/bin", "LABEL tourney-tests.tiny=1"]
        )
    return TAG


def _tar() -> bytes:
    """Every file once, at the place where its program looks for it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for folder in ("tmp", "etc", "proc", "dev", "sys"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(member)
        for target, source in sorted(_files().items()):
            tar.add(source, target.lstrip("/"), recursive=False)
    return buffer.getvalue()


def _files() -> dict[str, str]:
    """Where each file lies in the image, and here; all links are followed."""
    files = {tool: os.path.realpath(tool) for tool in TOOLS}
    asked = [TOOLS[-1], "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['stdlib'])"]
    library = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for parent, folders, names in os.walk(library):
        folders[:] = [folder for folder in folders if folder not in UNNEEDED and not folder.startswith("config-")]
        files |= {f"{parent}/{name}": os.path.realpath(f"{parent}/{name}") for name in names}
    programs = [path for path in files.values() if path.endswith(".so") or path in map(os.path.realpath, TOOLS)]
    return files | {path: os.path.realpath(path) for path in _libraries(programs)}


def _libraries(programs: list[str]) -> set[str]:
    """Shared libraries that the programs name."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+\.so[.\d]*) \(0x", said))
