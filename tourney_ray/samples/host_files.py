"""What this machine has that an image needs: this Python, a shell with its tools, packages, and their shared libraries.

Guarantee: it only reads. Nothing is downloaded, and what is found is what this process itself runs on.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from tourney_ray.errors import ConfigError
from tourney_ray.samples.image_files import ImageFile, from_host

PREFIX = "usr/local"
"""Where Python lies in the image."""

NOT_OF_THE_LIBRARY = frozenset(
    {"__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter"}
    | {"turtledemo"}
)
"""Folders of Python's standard library that no trainer needs, the site's own packages among them."""

TOOLS = """
    [ awk base64 basename bash cat chgrp chmod chown cp cut date dd df dirname du echo env expr false find grep
    gzip head hostname id kill ln ls mkdir mkfifo mknod mktemp mount mv nice nohup nproc od printf ps pwd readlink
    realpath rm rmdir sed seq setsid sh sha256sum sleep sort stat sync tail tar tee test timeout touch tr true
    truncate uname uniq wc whoami xargs yes
"""
"""Those of them that this machine has."""

REQUIRED_TOOLS = frozenset({"cat", "chmod", "cp", "dd", "env", "ln", "ls", "mkdir", "mv", "rm", "sh", "sleep"})
LOADED_BY_NAME = ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1")
"""Libraries that programs open while they run, so that no list of theirs names them."""

PRUNED = ("torch/test/", "torch/include/", "torch/share/")
"""What a training never opens."""

FOUND = re.compile(r"^\s+(?:(\S+) => )?(/.+?) \(0x[0-9a-f]+\)$", re.MULTILINE)
"""A line of ldd: the name that was asked for, unless it is a path, and the file."""

UNUSED_MODULES = ("_tkinter", "_test", "_ctypes_test", "_xx", "xxlimited")
"""How the names of compiled modules begin that serve a screen or Python's own tests."""

AT_ONCE = 100


def python_files() -> list[ImageFile]:
    """This interpreter and its standard library, compiled where it is compiled here.

    Raises `ConfigError` where they are not to be found.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(sys.base_prefix, "bin", version).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    if sys.platform != "linux" or not program.is_file() or not library.is_relative_to(sys.base_prefix):
        raise ConfigError(
            f"no base image can be made of this Python: {program}, {library}",
            "use CPython on Linux, as packages have it",
        )
    inside = f"{PREFIX}/{library.relative_to(sys.base_prefix).as_posix()}"
    links = [ImageFile(f"{PREFIX}/bin/{name}", link=version) for name in ("python", "python3")]
    links.append(ImageFile(f"{inside}/dist-packages", link="site-packages"))
    links.append(ImageFile(f"{inside}/site-packages", folder=True, mode=0o755))
    return [from_host(f"{PREFIX}/bin/{version}", program), *links, *_library_files(library, inside)]


def site_folder() -> str:
    """Where the image's Python looks for packages."""
    library = Path(sysconfig.get_path("stdlib")).relative_to(sys.base_prefix)
    return f"{PREFIX}/{library.as_posix()}/site-packages"


def tool_files() -> list[ImageFile]:
    """The shell and the tools that build steps call. Raises `ConfigError` where one is missing that has to be there."""
    files: list[ImageFile] = []
    for tool in TOOLS.split():
        if found := shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin"):
            real = Path(found).resolve()
            files.append(from_host(f"usr/bin/{real.name}", real))
            if real.name != tool:
                files.append(ImageFile(f"usr/bin/{tool}", link=real.name))
        elif tool in REQUIRED_TOOLS:
            raise ConfigError(f"no base image can be made here: `{tool}` is missing", "install it")
    return files


def distributions(names: Sequence[str]) -> list[metadata.Distribution]:
    """The installed packages of those names and what they require, sorted by name.

    What is required on other platforms only is not installed here and left out. Raises `ConfigError` for a missing one
    of `names`.
    """
    found: dict[str, metadata.Distribution] = {}
    pending = [_normal(name) for name in names]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name not in names:
                continue
            hint = "pip install 'tourney-ray[eval]', or ask for the tiny image"
            raise ConfigError(f"the base image takes {name} from this Python, which does not have it", hint) from None
        pending += [_name_of(line) for line in found[name].requires or () if not re.search(r"\bextra\s*==", line)]
    return [found[name] for name in sorted(found)]


def package_files(packages: Iterable[metadata.Distribution]) -> Iterator[ImageFile]:
    """The files of installed packages, their programs left out."""
    site = site_folder()
    for package in packages:
        if package.files is None:
            raise ConfigError(f"{package.name} does not say which files it has", "install it anew with pip")
        for file in package.files:
            path = file.as_posix()
            if ".." in file.parts or file.suffix == ".pyc" or path.startswith(PRUNED):
                continue
            source = Path(str(file.locate()))
            if source.is_file():
                yield from _with_compiled(f"{site}/{path}", source)


def library_files(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The shared libraries and the loader that `files` need and do not bring, where the loader looks for them.

    Raises `ConfigError` where `ldd` is missing.
    """
    brought = {file.source.resolve() for file in files if file.source}
    wanted = sorted({str(file.source) for file in files if file.source and _is_linked(file)})
    found: dict[str, Path] = {}
    for at in range(0, len(wanted), AT_ONCE):
        for name, path in FOUND.findall(_ldd(wanted[at : at + AT_ONCE])):
            found.setdefault(name or path, Path(path))
    folder = found["libc.so.6"].parent
    found |= {name: path for name in LOADED_BY_NAME if (path := folder / name).exists()}
    return [
        from_host(_usr(Path(name) if name.startswith("/") else folder / name), path.resolve())
        for name, path in sorted(found.items())
        if path.resolve() not in brought
    ]


def _library_files(library: Path, inside: str) -> Iterator[ImageFile]:
    for folder, folders, names in os.walk(library):
        folders[:] = [f for f in folders if f not in NOT_OF_THE_LIBRARY and not f.startswith("config-")]
        for name in names:
            source = Path(folder, name)
            if source.is_file() and not (source.suffix == ".so" and name.startswith(UNUSED_MODULES)):
                yield from _with_compiled(f"{inside}/{source.relative_to(library).as_posix()}", source)


def _with_compiled(path: str, source: Path) -> Iterator[ImageFile]:
    """A file and, of Python's, its compiled form where that is there: an image cannot always keep what it compiles."""
    yield from_host(path, source)
    if source.suffix == ".py":
        compiled = Path(importlib.util.cache_from_source(source, optimization=""))
        if compiled.is_file():
            place = Path(path).parent / "__pycache__" / compiled.name
            yield from_host(place.as_posix(), compiled)


def _is_linked(file: ImageFile) -> bool:
    name = Path(file.path).name
    if not (".so" in name or file.mode & 0o100) or file.source is None:
        return False
    with file.source.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _ldd(paths: Sequence[str]) -> str:
    """What ldd says of these files; it exits with 1 when one of them is linked to nothing."""
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    try:
        return subprocess.run(["ldd", *paths], env=env, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError as missing:
        raise ConfigError(
            "no base image can be made here: `ldd` is missing", "install it with the C library"
        ) from missing


def _usr(path: Path) -> str:
    """The path without its slash, below `usr`: the image's /bin, /lib and so on are links into it."""
    inside = path.as_posix().lstrip("/")
    return inside if inside.startswith("usr/") else f"usr/{inside}"


def _name_of(requirement: str) -> str:
    return _normal(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
