"""Checkpoints whose files are not what they seem: refused by name, kind, size or header before anything is read."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import need_tool
from tests.evaluation.court import Court, court_in
from tests.evaluation.spoiling import (
    CONFIG,
    NORM,
    WEIGHTS,
    Hostile,
    content,
    deep,
    header,
    join,
    length,
    pickled,
    sized,
    torch_zip,
    zip_beside_tensors,
)

pytestmark = pytest.mark.slow

FOLDERS: dict[str, Hostile] = {
    "a pickle": Hostile(pickled("pytorch_model.bin"), "'pytorch_model.bin' is refused: weights come as .safetensors"),
    "a pickle of optimiser state": Hostile(pickled("optimizer.pt"), ".pt files are never opened"),
    "a pickle of arguments": Hostile(pickled("training_args.bin"), ".bin files are never opened"),
    "a pickle in capitals": Hostile(pickled("MODEL.CKPT"), ".ckpt files are never opened"),
    "a pickle as tensors": Hostile(pickled(WEIGHTS), "'model.safetensors' is refused: its header length"),
    "a zip of torch as tensors": Hostile(torch_zip, "'model.safetensors' is refused: its header"),
    "a zip behind the tensors": Hostile(zip_beside_tensors, "bytes where its header accounts for"),
    "an archive": Hostile(content("weights.zip", b"PK"), ".zip files are never opened"),
    "numpy's objects": Hostile(pickled("weights.npy"), ".npy files are never opened"),
    "keras's lambdas": Hostile(content("model.h5", b"\x89HDF"), ".h5 files are never opened"),
    "a quantised model": Hostile(content("model.gguf", b"GGUF"), ".gguf files are never opened"),
    "a model of code": Hostile(content("modeling_qwen2.py", b"import os"), ".py files are never opened"),
    "compiled code": Hostile(content("kernel.so", b"\x7fELF"), ".so files are never opened"),
    "a template of code": Hostile(content("tokenizer.py", b""), ".py files are never opened"),
    "a file without a name's end": Hostile(content("pytorch_model", b""), "'pytorch_model' is not on the list"),
    "a name of two lines": Hostile(content("a\nb", b""), r"'a\nb' is not on the list of files"),
    "a name of escapes": Hostile(content("\x1b[2J.json", b""), r"'\x1b[2J.json' is not on the list"),
    "a link to a file": Hostile(lambda at: (at / "vocab.json").symlink_to("/etc/passwd"), "is a symbolic link"),
    "a link as tensors": Hostile(
        lambda at: ((at / WEIGHTS).rename(at / "vocab.json"), (at / WEIGHTS).symlink_to("vocab.json")),
        "'model.safetensors' is a symbolic link",
    ),
    "a link to nowhere": Hostile(lambda at: (at / "vocab.json").symlink_to("nowhere"), "is a symbolic link"),
    "a pipe": Hostile(lambda at: os.mkfifo(at / "vocab.json"), "'vocab.json' is a special file"),
    "a pipe as config": Hostile(
        lambda at: ((at / CONFIG).unlink(), os.mkfifo(at / CONFIG)), "'config.json' is a special file"
    ),
    "a folder": Hostile(lambda at: (at / "checkpoint-1").mkdir(), "'checkpoint-1' is a folder"),
    "a folder as tensors": Hostile(
        lambda at: ((at / WEIGHTS).unlink(), (at / WEIGHTS).mkdir()), "'model.safetensors' is a folder"
    ),
    "300 files": Hostile(
        lambda at: [(at / f"model-{n:05}-of-00300.safetensors").touch() for n in range(300)], "more than 256 files"
    ),
    "a file of a terabyte": Hostile(sized("tokenizer.json", 2**40), "bytes; allowed are"),
    "tensors of a terabyte": Hostile(sized(WEIGHTS, 2**40), "bytes; allowed are"),
}
"""What lies in the folder."""

HEADERS: dict[str, Hostile] = {
    "no bytes": Hostile(content(WEIGHTS, b""), "does not fit into the file of 0 bytes"),
    "seven bytes": Hostile(content(WEIGHTS, b"\0" * 7), "does not fit into the file of 7 bytes"),
    "a length of all ones": Hostile(length(2**64 - 1), "its header length 18446744073709551615 does not fit"),
    "a header longer than the file": Hostile(length(2**30), "does not fit into the file"),
    "a header of a gigabyte": Hostile(
        lambda at: (content(WEIGHTS, struct.pack("<Q", 2**26))(at), os.truncate(at / WEIGHTS, 2**26 + 8)),
        "its header of 67108864 bytes is longer than 8388608",
    ),
    "a header of no JSON": Hostile(lambda at: join(at / WEIGHTS, b"{" * 64, b""), "it is not sound JSON"),
    "a header of nests": Hostile(deep, "it is not sound JSON"),
    "a header of no object": Hostile(lambda at: join(at / WEIGHTS, b"[]", b""), "it is not a JSON object"),
    "a header of bad letters": Hostile(lambda at: join(at / WEIGHTS, b'{"\xff": 1}', b""), "it is not sound JSON"),
    "a header of infinity": Hostile(lambda at: join(at / WEIGHTS, b'{"a": Infinity}', b""), "it is not sound JSON"),
    "a tensor twice": Hostile(
        lambda at: join(at / WEIGHTS, b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":1}', b"\0" * 4),
        "a key appears twice",
    ),
    "metadata of objects": Hostile(
        header(lambda it: it.update({"__metadata__": {"format": {"code": "pt"}}})), "__metadata__ is not an object"
    ),
    "a dtype of objects": Hostile(
        header(lambda it: it[NORM].update({"dtype": "O"})), "'model.norm.weight' has dtype 'O'; allowed are F16"
    ),
    "a dtype of integers": Hostile(header(lambda it: it[NORM].update({"dtype": "I32"})), "has dtype 'I32'"),
    "a negative shape": Hostile(header(lambda it: it[NORM].update({"shape": [-1]})), "the impossible shape [-1]"),
    "a shape beyond all": Hostile(header(lambda it: it[NORM].update({"shape": [2**62]})), "the impossible shape"),
    "a product beyond all": Hostile(
        header(lambda it: it[NORM].update({"shape": [2**40] * 8})), "which its shape and dtype do not need"
    ),
    "a shape of truths": Hostile(header(lambda it: it[NORM].update({"shape": [True]})), "the impossible shape"),
    "offsets beyond the file": Hostile(
        header(lambda it: it[NORM].update({"data_offsets": [2**39, 2**39 + 384]})), "a hole or overlap"
    ),
    "offsets into the header": Hostile(
        header(lambda it: it[NORM].update({"data_offsets": [-384, 0]})), "the impossible data_offsets"
    ),
    "two tensors in one place": Hostile(
        header(lambda it: it.update({"model.layers.0.input_layernorm.weight": it[NORM]})), "a hole or overlap"
    ),
    "bytes behind the tensors": Hostile(header(lambda it: None, b"\0" * 64), "bytes where its header accounts for"),
    "fields of its own": Hostile(header(lambda it: it[NORM].update({"code": "x"})), "needs exactly dtype, shape and"),
}
"""What the file of tensors says of itself."""


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    need_tool("bwrap")
    with court_in(tmp_path_factory.mktemp("court") / "checkouts") as opened:
        yield opened


def test_an_honest_checkpoint_passes(court: Court) -> None:
    got = court.evaluated(Hostile(lambda at: None, ""))
    assert (got.refused, got.fine_tuned, len(got.per_row)) == ("", True, 60)


@pytest.mark.parametrize("name", FOLDERS)
def test_hostile_folders(court: Court, name: str) -> None:
    court.convict(FOLDERS[name])


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers(court: Court, name: str) -> None:
    court.convict(HEADERS[name])
