"""Compiled files and machine code, known by name and by their first bytes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tourney_ray.effects.findings import Finding, Rule

HEAD_BYTES = 64
_COMPILED = re.compile(r"\.(bin|pyc|pyo|pyd|dll|so|dylib|exe|o|a|whl)$|\.so(\.[0-9]+)+$", re.IGNORECASE)
_MAGIC = (
    (b"\x7fELF", "ELF"),
    (b"\xfe\xed\xfa\xce", "Mach-O"),
    (b"\xfe\xed\xfa\xcf", "Mach-O"),
    (b"\xce\xfa\xed\xfe", "Mach-O"),
    (b"\xcf\xfa\xed\xfe", "Mach-O"),
    (b"\xca\xfe\xba\xbe", "Mach-O or Java class"),
    (b"\xca\xfe\xba\xbf", "Mach-O"),
    (b"\xbe\xba\xfe\xca", "Mach-O"),
    (b"\xbf\xba\xfe\xca", "Mach-O"),
    (b"!<arch>\n", "ar archive"),
    (b"!<thin>\n", "ar archive"),
    (b"\0asm", "WebAssembly"),
    (b"BC\xc0\xde", "LLVM bitcode"),
)
_PYC_NUMBERS = (range(3000, 4000), range(60000, 63000))
"""First two bytes of byte code, little-endian, of Python 3 and of Python 2."""


def machine_code_findings(file: str, head: bytes, path: Path) -> Iterator[Finding]:
    """At most one finding about the file at `path`, whose first `HEAD_BYTES` bytes are `head`."""
    if named := _COMPILED.search(file):
        yield Finding(file=file, line=0, rule=Rule.COMPILED_FILE, detail=named.group().lower())
    elif kind := _kind(head):
        yield Finding(file=file, line=0, rule=Rule.MACHINE_CODE, detail=kind)
    elif head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and (inside := _inside_zip(path)):
        yield Finding(file=file, line=0, rule=Rule.COMPILED_FILE, detail=inside)


def _kind(head: bytes) -> str:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"MZ") and b"\0" in head:
        return "PE or DOS executable"
    if head[2:4] == b"\r\n" and any(int.from_bytes(head[:2], "little") in numbers for numbers in _PYC_NUMBERS):
        return "Python byte code"
    return ""


def _inside_zip(path: Path) -> str:
    """What makes the zip archive at `path` a program: a wheel, a runnable archive, or a compiled file in it.

    A file that only begins like an archive is text or data, and nothing of it is a program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return ""
    if any(".dist-info/" in name for name in names):
        return "wheel"
    if "__main__.py" in names:
        return "runnable zip archive"
    return "zip archive of compiled files" if any(_COMPILED.search(name) for name in names) else ""
