"""Archives of pictures as strangers might send them."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.image import archive as archives
from tourney_ray.evaluation.image.archive import Pair, packed, read_pairs, split_pairs
from tourney_ray.samples.pictures import make_pairs


def picture(size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 99, 199)).save(buffer, kind)
    return buffer.getvalue()


PNG = picture()


def written(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_pairs_come_by_name_whatever_the_order_and_the_folder(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.zip",
        (entry("set/", stat.S_IFDIR | 0o755), b""),
        ("set/b.JPG", picture(kind="JPEG")),
        ("__MACOSX/set/._b.JPG", b"junk"),
        ("set/.DS_Store", b"junk"),
        ("set/a.txt", " a square \n".encode("utf-8-sig")),
        ("set/b.txt", b"a ball"),
        ("set/a.webp", picture(kind="WEBP")),
    )
    pairs = read_pairs(path)
    assert [(pair.name, pair.caption) for pair in pairs] == [("a.webp", "a square"), ("b.JPG", "a ball")]
    assert pairs[1].picture == picture(kind="JPEG")


def test_what_is_packed_reads_back_and_is_the_same_every_time(tmp_path: Path) -> None:
    pairs = make_pairs(1, 4)
    path = tmp_path / "a.zip"
    path.write_bytes(packed(pairs[::-1]))
    assert read_pairs(path) == pairs
    assert packed(pairs) == packed(pairs[::-1])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../a.png", PNG), ("../a.txt", b"x")], "leads elsewhere"),
        ([("/a.png", PNG), ("/a.txt", b"x")], "is absolute"),
        ([("x/../a.png", PNG)], "leads elsewhere"),
        ([("c:a.png", PNG)], "colon"),
        ([("x\\a.png", PNG)], "backslash"),
        ([("a\n.png", PNG)], "not printable"),
        ([(f"{'a' * 300}.png", PNG)], "too long"),
        ([(".a.png", PNG)], "hidden"),
        ([(entry("a.png", stat.S_IFLNK | 0o777), b"/etc/passwd")], "symbolic link"),
        ([(entry("a.png", stat.S_IFIFO | 0o644), b"")], "special file"),
        ([("a.png", PNG), ("A.PNG", PNG)], "is in it twice"),
        ([("a.png", PNG), ("a.jpg", picture(kind="JPEG")), ("a.txt", b"x")], "more than one picture"),
        ([("a.png", PNG), ("b/b.png", PNG)], "2 folders"),
        ([("a.png", PNG)], "no caption"),
        ([("a.txt", b"x")], "has no picture"),
        ([("a.png", PNG), ("a.txt", b" \n")], "is empty"),
        ([("a.png", PNG), ("a.txt", b"\xff\xfe")], "not a sound zip file"),
        ([("a.gif", PNG)], "neither a picture"),
        ([("a.py", b"import os")], "neither a picture"),
        ([("a.png", b"GIF89a" + bytes(40)), ("a.txt", b"x")], "does not decode"),
        ([("a.png", picture(kind="JPEG")), ("a.txt", b"x")], "does not decode"),
        ([("a.png", PNG[:50]), ("a.txt", b"x")], "does not decode"),
        ([("a.png", picture((4, 4))), ("a.txt", b"x")], "sides are 4 and 4"),
        ([("a.png", picture((8, 800))), ("a.txt", b"x")], "sides are 8 and 800"),
        ([("a.png", PNG), ("a.txt", b"x" * 20_000)], "20000 bytes"),
        ([], "0 pictures"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(
    tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], words: str
) -> None:
    with pytest.raises(ConfigError, match=r"the archive a\.zip is refused") as refused:
        read_pairs(written(tmp_path / "a.zip", *entries))
    assert words in refused.value.message


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    """A PNG of a few bytes that claims 30,000 × 30,000 pixels."""
    claimed = PNG[:16] + struct.pack(">II", 30_000, 30_000) + PNG[24:29]
    header = claimed + struct.pack(">I", zlib.crc32(claimed[12:29])) + PNG[33:]
    with pytest.raises(ConfigError, match=r"30000 × 30000|does not decode"):
        read_pairs(written(tmp_path / "a.zip", ("a.png", header), ("a.txt", b"x")))


def test_bombs_are_refused_by_the_table(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", ("a.png", bytes(30_000_000)), ("a.txt", b"x"), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ConfigError, match="grows from"):
        read_pairs(path)


def test_limits_on_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.zip", ("a.png", PNG), ("a.txt", b"x"))
    for name, most, words in (
        ("MAX_TOTAL_BYTES", 10, "its files have more"),
        ("MAX_ARCHIVE_BYTES", 10, "it has more than 10 bytes"),
        ("MAX_ENTRIES", 1, "more than 1 entries"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(archives, name, most)
            with pytest.raises(ConfigError, match=words):
                read_pairs(path)


def test_encrypted_and_oddly_packed_entries_are_refused(tmp_path: Path) -> None:
    for method, words in ((zipfile.ZIP_BZIP2, "packed by method 12"), (zipfile.ZIP_LZMA, "packed by method 14")):
        with pytest.raises(ConfigError, match=words):
            read_pairs(written(tmp_path / "a.zip", ("a.png", PNG), ("a.txt", b"x"), method=method))
    content = bytearray(written(tmp_path / "a.zip", ("a.png", PNG), ("a.txt", b"x")).read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ConfigError, match="is encrypted"):
        read_pairs(tmp_path / "a.zip")


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: b"PK" + bytes(300), lambda data: b""])
def test_no_sound_zip_file(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(spoil(packed(make_pairs(1, 2))))
    with pytest.raises(ConfigError, match="not a sound zip file"):
        read_pairs(path)


def test_a_lie_about_content_is_found_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", ("a.png", PNG), ("a.txt", b"x"))
    content = bytearray(path.read_bytes())
    content[content.index(PNG) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="CRC"):
        read_pairs(path)


def test_ten_to_fifty(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for count in (9, 51):
        path.write_bytes(packed(make_pairs(1, count)))
        with pytest.raises(ConfigError, match=f"{count} pictures, it has to hold 10 to 50"):
            read_pairs(path, 10, 50)
        with pytest.raises(ConfigError, match=f"not {count}"):
            split_pairs(make_pairs(1, count), b"seed")


@pytest.mark.parametrize(("count", "tests"), [(10, 1), (19, 1), (20, 2), (50, 5)])
def test_the_split_is_a_tenth_by_seed_and_name(count: int, tests: int) -> None:
    pairs = make_pairs(2, count)
    train, test = split_pairs(pairs, b"seed")
    assert (len(train), len(test)) == (count - tests, tests)
    assert sorted([*train, *test], key=lambda pair: pair.name) == pairs
    assert split_pairs(pairs[::-1], b"seed") == (train, test)
    assert any(split_pairs(pairs, bytes([number]))[1] != test for number in range(9))


def test_a_split_looks_at_names_only() -> None:
    pairs = make_pairs(2, 20)
    other = [Pair(pair.name, PNG, "x") for pair in pairs]
    assert [pair.name for pair in split_pairs(other, b"s")[1]] == [pair.name for pair in split_pairs(pairs, b"s")[1]]
