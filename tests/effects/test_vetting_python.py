"""Python that decodes and runs itself, in all its disguises, and honest Python."""

from __future__ import annotations

import base64
import marshal
import os
import shutil
import time
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.effects.builders_repos import HONEST_TREE, found, write_tree
from tourney_ray.core.models import TournamentType
from tourney_ray.effects.vetting import Rule, vet

TEXT = TournamentType.TEXT
PAYLOAD = base64.b64encode(b"print('hidden work')" * 4).decode()

RUNS_DECODED = {
    "plain": f'import base64\nexec(base64.b64decode("{PAYLOAD}"))',
    "nested": f'import base64, zlib\nexec(compile(zlib.decompress(base64.b64decode("{PAYLOAD}")), "x", "exec"))',
    "eval": 'eval(bytes.fromhex("7072696e74"))',
    "from import": 'from base64 import b64decode as d\nexec(d("eA=="))',
    "module alias": 'import zlib as z\nexec(z.decompress(b"x"))',
    "dunder import": 'exec(__import__("base64").b64decode("eA=="))',
    "split dunder import": 'exec(__import__("ba" + "se64").b64decode("eA=="))',
    "getattr of module": 'import base64\nexec(getattr(base64, "b64" + "decode")("eA=="))',
    "importlib": 'import importlib\nexec(importlib.import_module("zlib").decompress(b""))',
    "variable": 'import base64\ncode = base64.b64decode("eA==")\nexec(code)',
    "variables": 'import base64\na = base64.b64decode("eA==")\nb = a.decode()\nc = b + ""\nexec(c)',
    "tuple": 'import base64\na, b = base64.b64decode("eA=="), 1\nexec(a)',
    "function": 'import zlib\ndef load(x):\n    return zlib.decompress(x)\nexec(load(b"x"))',
    "argument": 'import zlib\ndef run(code):\n    exec(code)\nrun(zlib.decompress(b"x"))',
    "method": 'import zlib\nclass A:\n    def run(self, code):\n        exec(code)\nA().run(zlib.decompress(b"x"))',
    "attribute": 'import zlib\nclass A:\n    def a(self):\n        self.c = zlib.decompress(b"")\n'
    "    def b(self):\n        exec(self.c)",
    "lambda": 'import base64\nd = lambda s: base64.b64decode(s)\nexec(d("eA=="))',
    "walrus": 'import base64\nif code := base64.b64decode("eA=="):\n    exec(code)',
    "loop": 'import base64\nfor part in map(base64.b64decode, ["eA=="]):\n    exec(part)',
    "alias of exec": 'import base64\nrun = exec\nrun(base64.b64decode("eA=="))',
    "builtins": 'import base64, builtins\nbuiltins.exec(base64.b64decode("eA=="))',
    "map of exec": 'import base64\nlist(map(exec, [base64.b64decode("eA==")]))',
    "rot13 method": 'exec("cevag(1)".decode("rot13"))',
    "rot13": 'import codecs\nexec(codecs.decode("cevag(1)", "rot13"))',
    "reversed": 'exec(")1(tnirp"[::-1])',
    "characters": 'exec("".join(chr(c) for c in [112, 114]))',
    "list of bytes": "exec(bytes([112, 114]).decode())",
    "marshal": "import marshal, types\ntypes.FunctionType(marshal.loads(open('x','rb').read()), globals())()",
    "decrypted": "from cryptography.fernet import Fernet\nexec(Fernet(key).decrypt(token))",
    "system": 'import os, base64\nos.system(base64.b64decode("eA==").decode())',
    "subprocess": 'import subprocess, base64\nsubprocess.run(["python", "-c", base64.b64decode("eA==")])',
    "standard input": 'import subprocess, zlib\nsubprocess.run(["bash"], input=zlib.decompress(b""))',
    "parsed, then run": 'import base64, json\nexec(json.loads(base64.b64decode("eA=="))["code"])',
    "decoded import": 'import base64\n__import__(base64.b64decode("b3M=").decode()).system("x")',
    "python 2": 'import base64\nprint "x"\nexec(base64.b64decode("eA=="))',
}


@pytest.mark.parametrize("source", RUNS_DECODED.values(), ids=RUNS_DECODED.keys())
def test_source_that_decodes_and_runs_itself(tmp_path: Path, source: str) -> None:
    assert {rule for _, _, rule in found(tmp_path, x__py=source)} == {Rule.RUNS_DECODED_DATA}


@pytest.mark.parametrize(
    "source",
    [
        "import builtins\ngetattr(builtins, 'ex' + 'ec')(text)",
        "getattr(__builtins__, 'eval')(text)",
        "getattr(__import__('builtins'), 'exec')(text)",
        "__builtins__['exec'](text)",
        "__builtins__.__dict__['e' 'val'](text)",
        "import builtins\nvars(builtins)['exec'](text)",
        "globals()['__builtins__']['cexe'[::-1]](text)",
        "run = __builtins__.__dict__[''.join(['e', 'x', 'ec'])]\nrun(text)",
        "__builtins__[chr(101) + 'xec'](text)",
    ],
)
def test_exec_fetched_by_name(tmp_path: Path, source: str) -> None:
    assert {rule for _, _, rule in found(tmp_path, x__py=source)} == {Rule.HIDES_WHAT_IT_RUNS}


@pytest.mark.parametrize(
    "source",
    [
        f"import pickle\npickle.loads({marshal.dumps([1] * 20)!r})",
        f"import marshal\ncode = {marshal.dumps([1] * 20)!r}\nmarshal.loads(code)",
        f"import pickle, base64\npickle.loads(base64.b64decode('{PAYLOAD}'))",
        f"import io, pickle\npickle.load(io.BytesIO({bytes(40)!r}))",
        f"from io import BytesIO\nfrom pickle import load\nload(BytesIO({bytes(40)!r}))",
    ],
)
def test_unpickled_literals(tmp_path: Path, source: str) -> None:
    assert {rule for _, _, rule in found(tmp_path, x__py=source)} == {Rule.UNPICKLES_A_LITERAL}


@pytest.mark.parametrize(
    "value",
    [
        repr(base64.b64encode(os.urandom(9000)).decode()),
        repr(os.urandom(9000).hex()),
        '"""' + base64.encodebytes(os.urandom(9000)).decode() + '"""',
        repr(zlib.compress(os.urandom(2000))),
    ],
    ids=["base64", "hex", "base64 in lines", "bytes"],
)
def test_huge_encoded_literals(tmp_path: Path, value: str) -> None:
    assert found(tmp_path, x__py=f"\nDATA = {value}\n") == [("x.py", 2, Rule.ENCODED_LITERAL)]


HONEST_SOURCE = '''
import ast, base64, codecs, gzip, io, json, os, pickle, re, subprocess, zlib
import importlib
import torch

PROMPT = """{prose}"""
URL = "https://example.com/a/very/long/path/to/a/checkpoint/that/is/not/a/payload.json"
WORD = re.compile(r"\\w+", re.I)

def train(model, frame, path):
    model.eval()
    fast = torch.compile(model)
    value = ast.literal_eval("[1]")
    answer = eval("1 + 1")
    frame.eval("a + b")
    exec(open("version.py").read())
    exec(compile(open("setup.cfg").read(), "setup.cfg", "exec"))
    cache = pickle.load(open("datasets/preprocessed/train_cache_with_a_long_name.pkl", "rb"))
    image = base64.b64decode(frame["image"])
    settings = json.loads(base64.b64decode(os.environ["SETTINGS"]))
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    state = pickle.loads(zlib.decompress(path.read_bytes()))
    subprocess.run(["accelerate", "launch", "train.py", "--epochs", str(settings["epochs"])])
    plugin = importlib.import_module("trainers." + settings["kind"])
    klass = getattr(plugin, "Trainer")
    text = codecs.decode(b"x", "utf-8")
    backwards = "abc"[::-1]
    raise ValueError("data is neither a list nor a mapping of columns, as the data set of a task must be")

def other():
    code = "1"
    return eval(code)

def decoded():
    code = base64.b64decode("eA==")
    return code
'''


def test_honest_source_passes(tmp_path: Path) -> None:
    source = HONEST_SOURCE.replace("{prose}", "You are a careful assistant. Answer in one word.\n" * 500)
    assert found(tmp_path, x__py=source) == []


@pytest.mark.parametrize("package", ["httpx", "click", "rich"])
def test_published_packages_pass(tmp_path: Path, package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    write_tree(tmp_path, HONEST_TREE)
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(Path(spec.origin).parent, tmp_path / package, ignore=ignored)
    assert len(list((tmp_path / package).rglob("*.py"))) > 10
    assert vet(tmp_path, TEXT) == []


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        (b"x = 1\n\0exec(y)", "null bytes"),
        (b"# coding: utf-7\nx = 1\n", "encoding utf-7"),
        (b"#!x\n# -*- coding: unicode_escape -*-\n# \\u000aexec(y)\n", "encoding unicode_escape"),
        (b"# coding: miner\nx = 1\n", "unknown encoding: miner"),
        (b"x = 1\n" * 400_000, "larger than 2097152 bytes"),
        (b"x = " + b"-" * 100_000 + b"1\n", "nested too deeply"),
    ],
)
def test_source_that_cannot_be_read(tmp_path: Path, source: bytes, detail: str) -> None:
    write_tree(tmp_path, {**HONEST_TREE, "x.py": source})
    assert [(one.rule, one.detail) for one in vet(tmp_path, TEXT)] == [(Rule.UNREADABLE_SOURCE, detail)]


@pytest.mark.parametrize(
    "source",
    [
        b"print 'python 2'\n",
        "# coding: latin-1\nx = 'é'\n".encode("latin-1"),
        b"x = '\xe9'\n",
        b"",
        b'"\\d"\n',
        b"\xef\xbb\xbfx = 1\n",
    ],
)
def test_old_or_odd_source_is_no_finding_by_itself(tmp_path: Path, source: bytes) -> None:
    assert found(tmp_path, x__py=source) == []


def test_scripts_are_known_by_their_first_line(tmp_path: Path) -> None:
    source = f'#!/usr/bin/env python3\nimport base64\nexec(base64.b64decode("{PAYLOAD}"))\n'
    assert found(tmp_path, run=source) == [("run", 3, Rule.RUNS_DECODED_DATA)]


def test_hostile_source_takes_bounded_time(tmp_path: Path) -> None:
    shell = [
        "base64 -d " * 150_000,
        "eval $(" * 200_000,
        "| sh " * 300_000,
        "base64 -d >a\n" * 100_000,
        "\\x41" * 400_000,
    ]
    python = ["exec(" * 150 + ")" * 150, "a.b().c()" * 1, "x = " + "a+" * 900 + "a\n", "(x := exec)\n" * 50_000]
    files = {f"s{n}.sh": text for n, text in enumerate(shell)} | {f"p{n}.py": text for n, text in enumerate(python)}
    write_tree(tmp_path, {**HONEST_TREE, **files})
    began = time.monotonic()
    vet(tmp_path, TEXT)
    assert time.monotonic() - began < 30
