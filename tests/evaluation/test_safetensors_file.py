"""The header parser against lies and noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import MAX_HEADER_BYTES, parse_header, parse_object, read_header, shown

PATH = Path("model.safetensors")


def entry(begin: int = 0, end: int = 8, shape: Any = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def parse(header: Any, data_bytes: int) -> Any:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parse_header(text, 8 + len(text) + data_bytes, PATH)


def test_tensors_of_a_sound_header_in_any_order_of_names() -> None:
    tensors = parse(
        {"b": entry(8, 12, [], "F32"), "__metadata__": {"format": "pt"}, "a": entry(0, 8, [2, 2], "BF16")}, 12
    )
    assert {name: (tensor.dtype, tensor.shape, tensor.size) for name, tensor in tensors.items()} == {
        "a": ("BF16", (2, 2), 8),
        "b": ("F32", (), 4),
    }
    assert tensors["b"].start - tensors["a"].start == 8


def test_empty_tensors_take_no_room() -> None:
    assert parse({"a": entry(0, 8), "empty": entry(8, 8, [0, 5])}, 8)["empty"].size == 0


@pytest.mark.parametrize(
    ("header", "data_bytes", "words"),
    [
        ({"a": entry(0, 8), "b": entry(12, 20)}, 20, "hole or overlap at byte"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "hole or overlap"),
        ({"a": entry(4, 12)}, 12, "hole or overlap"),
        ({"a": entry(0, 8)}, 12, "its header accounts for"),
        ({"a": entry(0, 8)}, 4, "its header accounts for"),
        ({"a": entry(0, 8, [3])}, 8, "its shape and dtype do not need"),
        ({"a": entry(8, 0)}, 8, "its shape and dtype do not need"),
        ({"a": entry(0, 8, [2**41])}, 8, "impossible shape"),
        ({"a": entry(0, 8, [-2])}, 8, "impossible shape"),
        ({"a": entry(0, 8, [True, 2])}, 8, "impossible shape"),
        ({"a": entry(0, 8, [2.0])}, 8, "impossible shape"),
        ({"a": entry(0, 8, [1] * 9)}, 8, "impossible shape"),
        ({"a": entry() | {"shape": "2"}}, 8, "impossible shape"),
        ({"a": entry() | {"data_offsets": [0]}}, 8, "impossible data_offsets"),
        ({"a": entry() | {"data_offsets": [0, "8"]}}, 8, "impossible data_offsets"),
        ({"a": entry(dtype="I8", end=2)}, 2, "dtype 'I8'; allowed are F16, BF16, F32, F64"),
        ({"a": entry() | {"dtype": ["F32"]}}, 8, "dtype"),
        ({"a": entry() | {"code": 1}}, 8, "needs exactly dtype, shape and data_offsets"),
        ({"a": None}, 0, "needs exactly"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
        ({"__metadata__": []}, 0, "__metadata__"),
        (b'{"a":1,"a":2}', 0, "a key appears twice"),
        (b'{"a":NaN}', 0, "NaN is not a number"),
        (b"[1]", 0, "not a JSON object"),
        (b"\xff", 0, "not sound JSON"),
        (b"", 0, "not sound JSON"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 0, "nested deeper"),
        (b"[" * 100_000, 0, "not sound JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", 0, "not sound JSON"),
    ],
)
def test_refused_headers(header: Any, data_bytes: int, words: str) -> None:
    with pytest.raises(CheckpointInvalid, match=words):
        parse(header, data_bytes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not fit"),
        (b"\x01\x00", "does not fit"),
        ((100).to_bytes(8, "little") + b"{}", "header length 100 does not fit"),
        ((2**63).to_bytes(8, "little") + b"{}", "does not fit"),
        ((1).to_bytes(8, "little") + b"{}", "not sound JSON"),
    ],
)
def test_headers_that_lie_about_their_length(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match=words):
        read_header(file)


def test_a_header_beyond_the_cap_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as sparse:
        sparse.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        sparse.truncate(MAX_HEADER_BYTES + 100)
    with pytest.raises(CheckpointInvalid, match="is longer than"):
        read_header(file)


def test_a_link_is_not_followed(files: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(files / "base" / "model.safetensors")
    with pytest.raises(CheckpointInvalid, match="cannot be read"):
        read_header(tmp_path / "model.safetensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F16", "BF16", "F32", "F64", "I64"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), max_size=3) | JSON,
    }
)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_noise_is_refused_and_never_crashes(header: bytes, file_bytes: int) -> None:
    with pytest.raises(CheckpointInvalid):
        parse_header(header, file_bytes, PATH)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), ENTRIES | JSON, max_size=3), st.integers(0, 64))
def test_what_looks_like_a_header_is_sound_or_refused(header: dict[str, Any], data_bytes: int) -> None:
    text = json.dumps(header).encode()
    stored, refusal = sizes_or_refusal(text, data_bytes)
    assert stored == data_bytes or (refusal.isascii() and "\n" not in refusal)


@settings(deadline=None)
@given(st.data())
def test_a_flipped_byte_in_a_real_header_is_sound_or_refused(data: st.DataObject) -> None:
    header = bytearray(json.dumps({"a": entry(0, 8), "b": entry(8, 16, [2, 2], "F16")}).encode())
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    stored, refusal = sizes_or_refusal(bytes(header), 16)
    assert stored == 16 or refusal


def sizes_or_refusal(header: bytes, data_bytes: int) -> tuple[int, str]:
    try:
        tensors = parse_header(header, 8 + len(header) + data_bytes, PATH)
    except CheckpointInvalid as error:
        return -1, error.message
    return sum(tensor.size for tensor in tensors.values()), ""


def test_objects_are_objects() -> None:
    assert parse_object(b'{"r": 8}', PATH) == {"r": 8}


def test_strange_values_are_shown_short_and_plain() -> None:
    assert shown("\x1b[31m\nü") == r"'\x1b[31m\n\xfc'"
    assert len(shown("x" * 1000)) == 83
