"""Archives of captioned pictures, read as a stranger's: everything is judged by the table before a byte is unpacked.

Guarantee: what `read_pairs` returns are pictures of at most `MAX_PIXELS` pixels that decode, each with its caption, in
the order of their names; nothing is ever written to disk. Needs no torch.
"""

from __future__ import annotations

import hashlib
import io
import math
import stat
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from PIL import Image, UnidentifiedImageError

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.safetensors_file import shown

MIN_PAIRS, MAX_PAIRS = 10, 50
"""Pictures of an image task, before the split."""

TEST_SHARE = 0.1
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
CAPTION = ".txt"
JUNK = ("__MACOSX/", ".DS_Store", "Thumbs.db")
"""What desktops add to archives by themselves; passed over, never opened."""

MAX_ENTRIES = 512
MAX_NAME = 200
MAX_ARCHIVE_BYTES = 2 * 2**30
MAX_PICTURE_BYTES = 64 * 2**20
MAX_CAPTION_BYTES = 16 * 2**10
MAX_TOTAL_BYTES = 1 * 2**30
MAX_RATIO = 100
"""Most bytes that one packed byte may become, beyond `FREE_BYTES`; pictures are packed already and hardly shrink."""

FREE_BYTES = 64 * 2**10
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
MAX_ASPECT = 8
"""Longest picture: its long side over its short one."""

ENCRYPTED = 0x1
HINT = "make the archive again: pairs of name.png (jpg, jpeg, webp) and name.txt, in one folder"


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture, as its file has it, and what it shows."""

    name: str
    """Of the picture's file, without folders."""
    picture: bytes
    caption: str


def read_pairs(path: Path, least: int = 1, most: int = MAX_PAIRS) -> list[Pair]:
    """The pairs of the archive at `path`, by name; raises `ConfigError` naming the entry and the rule it breaks."""
    try:
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            _refuse(path, f"it has more than {MAX_ARCHIVE_BYTES} bytes")
        with zipfile.ZipFile(path) as archive:
            files = _files(path, archive)
            pictures = sorted(name for name in files if _suffix(name) != CAPTION)
            _check_partners(path, files, pictures)
            if not least <= len(pictures) <= most:
                _refuse(path, f"it holds {len(pictures)} pictures, it has to hold {least} to {most}")
            return [_pair(path, archive, files, name) for name in pictures]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        _refuse(path, f"it is not a sound zip file ({shown(str(error))})")


def split_pairs(pairs: Sequence[Pair], seed: bytes) -> tuple[list[Pair], list[Pair]]:
    """Training pairs and test pairs, each by name: 10 % for the test, at least one, chosen by `seed` and the names.

    Raises `ConfigError` for fewer than 10 pairs or more than 50.
    """
    if not MIN_PAIRS <= len(pairs) <= MAX_PAIRS:
        raise ConfigError(f"an image task has {MIN_PAIRS} to {MAX_PAIRS} pairs, not {len(pairs)}", HINT)
    chosen = sorted(pairs, key=lambda pair: hashlib.sha256(seed + b"|split|" + pair.name.encode()).digest())
    held_out = {pair.name for pair in chosen[: max(1, math.floor(len(pairs) * TEST_SHARE))]}
    by_name = sorted(pairs, key=lambda pair: pair.name)
    return [pair for pair in by_name if pair.name not in held_out], [p for p in by_name if p.name in held_out]


def packed(pairs: Sequence[Pair]) -> bytes:
    """An archive of `pairs`; the same pairs give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for pair in sorted(pairs, key=lambda pair: pair.name):
            archive.writestr(zipfile.ZipInfo(pair.name), pair.picture)
            archive.writestr(zipfile.ZipInfo(_stem(pair.name) + CAPTION), pair.caption.encode())
    return buffer.getvalue()


def open_picture(picture: bytes, formats: Sequence[str] = tuple(set(FORMATS.values()))) -> Image.Image:
    """The picture in RGB; raises `ValueError` for what is none of the formats, too big, too long or animated."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = Image.open(io.BytesIO(picture), formats=list(formats))
            _check_size(image)
            return image.convert("RGB")
        except (OSError, SyntaxError, UnidentifiedImageError, Warning, Image.DecompressionBombError) as error:
            raise ValueError(f"it does not decode ({shown(str(error))})") from error


def _files(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by their names without folders; refuses whatever is not a plain file with a plain name."""
    entries = [entry for entry in archive.infolist() if not _is_junk(entry.filename)]
    if len(entries) > MAX_ENTRIES:
        _refuse(path, f"it has more than {MAX_ENTRIES} entries")
    files: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        _check_name(path, entry.filename)
        if entry.is_dir():
            continue
        _check_entry(path, entry)
        place = PurePosixPath(entry.filename)
        folders.add(place.parent.as_posix())
        key = unicodedata.normalize("NFC", place.name).casefold()
        if key in folded:
            _refuse(path, f"{shown(entry.filename)} is in it twice")
        folded.add(key)
        files[place.name] = entry
    if len(folders) > 1:
        _refuse(path, f"its files lie in {len(folders)} folders, they have to lie in one")
    if sum(entry.file_size for entry in files.values()) > MAX_TOTAL_BYTES:
        _refuse(path, f"its files have more than {MAX_TOTAL_BYTES} bytes")
    return files


def _is_junk(name: str) -> bool:
    return name.startswith(JUNK[0]) or PurePosixPath(name).name in JUNK[1:]


def _check_name(path: Path, name: str) -> None:
    parts = name.rstrip("/").split("/")
    if len(name) > MAX_NAME or not name.isprintable() or "\\" in name or ":" in name:
        _refuse(path, f"the name {shown(name)} is too long, not printable, or has a backslash or a colon in it")
    if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        _refuse(path, f"the name {shown(name)} is absolute, leads elsewhere or is hidden")


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name, kind = shown(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        _refuse(path, f"{name} is a {'symbolic link' if kind == stat.S_IFLNK else 'special file'}")
    if entry.flag_bits & ENCRYPTED:
        _refuse(path, f"{name} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse(path, f"{name} is packed by method {entry.compress_type}; allowed are stored and deflated")
    suffix = _suffix(entry.filename)
    if suffix != CAPTION and suffix not in FORMATS:
        _refuse(path, f"{name} is neither a picture ({', '.join(FORMATS)}) nor a caption ({CAPTION})")
    most = MAX_CAPTION_BYTES if suffix == CAPTION else MAX_PICTURE_BYTES
    if entry.file_size > most:
        _refuse(path, f"{name} has {entry.file_size} bytes; allowed are {most}")
    if entry.file_size > FREE_BYTES + MAX_RATIO * entry.compress_size:
        _refuse(
            path, f"{name} grows from {entry.compress_size} to {entry.file_size} bytes, more than {MAX_RATIO} times"
        )


def _check_partners(path: Path, files: dict[str, zipfile.ZipInfo], pictures: Sequence[str]) -> None:
    stems = [_stem(name) for name in pictures]
    for name, stem in zip(pictures, stems, strict=True):
        if stems.count(stem) > 1:
            _refuse(path, f"more than one picture is called {shown(stem)}")
        if stem + CAPTION not in files:
            _refuse(path, f"{shown(name)} has no caption {shown(stem + CAPTION)}")
    for name in files:
        if _suffix(name) == CAPTION and _stem(name) not in stems:
            _refuse(path, f"the caption {shown(name)} has no picture")


def _pair(path: Path, archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], name: str) -> Pair:
    picture = archive.read(files[name])
    try:
        open_picture(picture, [FORMATS[_suffix(name)]])
    except ValueError as error:
        _refuse(path, f"{shown(name)} is refused: {error}")
    caption = archive.read(files[_stem(name) + CAPTION]).decode("utf-8-sig").strip()
    if not caption:
        _refuse(path, f"the caption of {shown(name)} is empty")
    return Pair(name, picture, caption)


def _check_size(image: Image.Image) -> None:
    short, long = sorted(image.size)
    if short * long > MAX_PIXELS:
        raise ValueError(f"it has {image.width} × {image.height} pixels; allowed are {MAX_PIXELS}")
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        raise ValueError(f"sides are {image.width} and {image.height}; allowed are {MIN_SIDE} up, 1 to {MAX_ASPECT}")
    if getattr(image, "n_frames", 1) != 1:
        raise ValueError("it is animated")


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    return name[: -len(PurePosixPath(name).suffix)]


def _refuse(path: Path, why: str) -> NoReturn:
    raise ConfigError(f"the archive {path.name} is refused: {why}", HINT)
