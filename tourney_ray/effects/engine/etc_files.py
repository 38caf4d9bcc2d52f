"""The three files of /etc that the engine would give a container to write to, past every bound: on its own disk.

Mounted read-only in their place, they are the same for every container of a node.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tourney_ray.errors import StorageUnavailable

HOSTNAME = "trainer"
ETC_FILES = {
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
    "hostname": f"{HOSTNAME}\n",
    "resolv.conf": "",
}
"""Name → content: a loopback with names, and nobody to ask for others."""


def write_etc(folder: Path) -> Path:
    """`folder` with the files in it, each whole at any moment. Raises `StorageUnavailable`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in ETC_FILES.items():
            _write(folder / name, content)
    except OSError as problem:
        raise StorageUnavailable(f"{folder} cannot be written: {problem.strerror}", "see this node's disk") from problem
    return folder


def _write(file: Path, content: str) -> None:
    """Left alone where it is right: a container may have it mounted."""
    if file.is_file() and file.read_text(encoding="utf-8") == content:
        return
    descriptor, staged = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    with open(descriptor, "w", encoding="utf-8") as whole:
        whole.write(content)
    os.chmod(staged, 0o644)
    os.replace(staged, file)
