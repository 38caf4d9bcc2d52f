"""What of a stranger's tree is sent to the engine, and what of it nobody reads with our rights."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tourney_ray.effects.engine.build_context import (
    DOCKERFILE_BYTES,
    IGNORED_BYTES,
    check_added,
    check_context,
    read_dockerfile,
)
from tourney_ray.effects.engine.dockerfile_demands import Added
from tourney_ray.errors import ImageBuildFailed

NAME = "dockerfiles/standalone-text-trainer.dockerfile"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a dockerfile and one program."""
    tree = tmp_path / "tree"
    (tree / "dockerfiles").mkdir(parents=True)
    (tree / NAME).write_bytes(b"FROM base\n")
    (tree / "train.py").write_bytes(b"print()\n")
    return tree


def test_the_dockerfile(tree: Path) -> None:
    assert read_dockerfile(tree, "text") == b"FROM base\n"


def _outside(tree: Path) -> None:
    (tree.parent / "outside").mkdir()
    (tree / NAME).rename(tree.parent / "outside" / Path(NAME).name)
    (tree / "dockerfiles").rmdir()
    (tree / "dockerfiles").symlink_to(tree.parent / "outside")


def _instead(make: Callable[[Path], object], name: str = NAME) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (tree / name).unlink(missing_ok=True)
        make(tree / name)

    return change


NO_DOCKERFILE: dict[str, Callable[[Path], None]] = {
    "missing": lambda tree: (tree / NAME).unlink(),
    "a link": _instead(lambda path: path.symlink_to("/etc/passwd")),
    "a link within the tree": _instead(lambda path: path.symlink_to("../train.py")),
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "its folder is a link": _outside,
}


@pytest.mark.parametrize("name", NO_DOCKERFILE)
def test_no_dockerfile(tree: Path, name: str) -> None:
    NO_DOCKERFILE[name](tree)
    with pytest.raises(ImageBuildFailed, match="the repository has no file dockerfiles/standalone-text-trainer"):
        read_dockerfile(tree, "text")


def test_a_dockerfile_without_end(tree: Path) -> None:
    (tree / NAME).write_bytes(b"#" * (DOCKERFILE_BYTES + 1))
    with pytest.raises(ImageBuildFailed, match="more than 64 KiB"):
        read_dockerfile(tree, "text")


IGNORING: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda path: path.symlink_to("/etc/passwd"), "is not a plain file"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "is not a plain file"),
    "a pipe": (os.mkfifo, "is not a plain file"),
    "a folder": (Path.mkdir, "is not a plain file"),
    "too long": (lambda path: path.write_bytes(b"a\n" * IGNORED_BYTES), "more than 16 KiB"),
}


@pytest.mark.parametrize("name", IGNORING)
@pytest.mark.parametrize("file", [".dockerignore", f"{NAME}.dockerignore"])
def test_what_says_what_to_leave_out(tree: Path, file: str, name: str) -> None:
    make, words = IGNORING[name]
    make(tree / file)
    with pytest.raises(ImageBuildFailed, match=words):
        check_context(tree, "text", 2**30, 100)


def test_a_tree_within_its_bounds(tree: Path) -> None:
    (tree / ".dockerignore").write_bytes(b"*.md\n")
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "loop").symlink_to(".")
    check_context(tree, "text", 100, 6)


def test_too_many_entries(tree: Path) -> None:
    """Folders count: git keeps none that is empty, but as many as it likes around one file."""
    (tree / "a/b/c").mkdir(parents=True)
    with pytest.raises(ImageBuildFailed, match="more than 5 files and folders"):
        check_context(tree, "text", 2**30, 5)


def test_too_many_bytes(tree: Path) -> None:
    os.truncate(tree / "train.py", 2**31)
    with pytest.raises(ImageBuildFailed, match=r"more than 1\.0 GiB"):
        check_context(tree, "text", 2**30, 100)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_no_plain_file(tree: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    if kind == "pipe":
        os.mkfifo("odd")
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("odd")
    with pytest.raises(ImageBuildFailed, match="odd is neither a file nor a folder"):
        check_context(tree, "text", 2**30, 100)


def _tar(name: str = "a") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def _old_tar() -> bytes:
    """Of the oldest form, without a magic word, and without a null where one can be avoided."""
    header = bytearray(b"n" * 100 + b"000644 \0" * 3 + b"00000000000 " * 2 + b" " * 8 + b"0" + b"l" * 100 + b"x" * 255)
    assert len(header) == 512
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


PACKED = {
    "gzip": gzip.compress(b"a"),
    "bzip2": bz2.compress(b"a"),
    "xz": lzma.compress(b"a"),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(20),
    "zstd behind a frame to skip": b"\x5f\x2a\x4d\x18" + bytes(20),
    "tar": _tar(),
    "old tar": _old_tar(),
}


@pytest.mark.parametrize("name", PACKED)
def test_an_archive_is_not_unpacked_by_the_engine(tree: Path, name: str) -> None:
    (tree / "data").mkdir()
    (tree / "data/x").write_bytes(PACKED[name])
    for path in ("data/x", "/data/x", "./data/../../data//x"):
        with pytest.raises(ImageBuildFailed, match="line 3: ADD"):
            check_added(tree, [Added(3, path)])
    check_added(tree, [Added(3, "data"), Added(4, ".")])


def test_a_link_is_not_added(tree: Path) -> None:
    (tree / "link").symlink_to("train.py")
    (tree / "folder").symlink_to(".")
    for path in ("link", "folder/train.py", "folder"):
        with pytest.raises(ImageBuildFailed, match="adds a link"):
            check_added(tree, [Added(2, path)])


@pytest.mark.parametrize("content", [b"", b"torch\n", b"\0" * 2000, b" " * 512, b"0" * 512, bytes(range(256)) * 4])
def test_what_is_no_archive_is_added(tree: Path, content: bytes) -> None:
    (tree / "x").write_bytes(content)
    check_added(tree, [Added(2, "x"), Added(3, "missing")])
