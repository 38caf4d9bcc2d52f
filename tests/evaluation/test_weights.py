"""Tensors in memory: read, compared and lent."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest
import torch

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.safetensors_file import StoredTensor, open_regular, read_header
from tourney_ray.evaluation.weights import difference, lent, read_tensor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_what_was_saved_is_read(tmp_path: Path, save_tensors, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.arange(math.prod(shape)) * 0.5).reshape(shape).to(dtype)
    save_tensors(tmp_path / "model.safetensors", {"first": torch.ones(3), "a": tensor})
    read = read_tensor("a", read_header(tmp_path / "model.safetensors")["a"])
    assert read.dtype is torch.float32
    assert torch.equal(read, tensor.float())


def test_a_file_that_shrank_after_the_scan(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 10)
    with pytest.raises(CheckpointInvalid, match="ends inside of tensor 'a'"):
        read_tensor("a", StoredTensor(tmp_path / "model.safetensors", "F32", (3,), 0, 12))


def test_a_file_that_vanished_is_not_its_owners_doing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_regular(tmp_path / "none")
    assert caught.value.errno == errno.ENOENT


def test_distance_is_relative_and_blind_to_rounding() -> None:
    base = {"a": torch.full((4,), 3.0), "b": torch.full((4,), 4.0)}
    assert difference({}, base).distance == 0
    assert not difference({"a": base["a"] * (1 + 1e-4)}, base).fine_tuned  # vanishes in bf16
    moved = difference({"b": torch.full((4,), 5.0)}, base)
    assert moved.distance == pytest.approx(0.2)
    assert moved.fine_tuned


def test_distance_from_nothing_is_infinite() -> None:
    assert difference({"a": torch.ones(1)}, {"a": torch.zeros(1)}).distance == math.inf


def test_the_digest_tells_names_shapes_and_values_apart() -> None:
    tensors = [{"a": torch.ones(4)}, {"b": torch.ones(4)}, {"a": torch.ones(2, 2)}, {"a": torch.ones(4) * 2}]
    assert len({difference({}, each).digest for each in tensors}) == 4
    assert difference({"a": torch.ones(4)}, {"a": torch.zeros(4)}).digest == difference({}, tensors[0]).digest


def test_what_is_lent_is_given_back_whatever_happens() -> None:
    place = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(KeyError), lent({"a": place}, {"a": torch.ones(2)}):  # noqa: PT012 - looks inside
        assert torch.equal(place, torch.ones(2))
        raise KeyError
    assert torch.equal(place, torch.zeros(2))
