"""What the vetting refuses, and the honest code that it must let pass."""

from __future__ import annotations

import base64
import compileall
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.effects.builders_repos import HONEST_DOCKERFILE, HONEST_TREE, found, write_tree
from tourney_ray.core.models import TournamentType
from tourney_ray.effects.vetting import DOCKERFILES, Finding, Rule, explain, vet

TEXT = TournamentType.TEXT
PAYLOAD = base64.b64encode(b"print('hidden work')" * 4).decode()


def test_honest_tree_passes(tmp_path: Path) -> None:
    assert vet(write_tree(tmp_path, HONEST_TREE), TEXT) == []


@pytest.mark.parametrize("tournament_type", TournamentType)
def test_each_type_needs_its_own_dockerfile(tmp_path: Path, tournament_type: TournamentType) -> None:
    other = next(file for kind, file in DOCKERFILES.items() if kind is not tournament_type)
    findings = vet(write_tree(tmp_path, {other: HONEST_DOCKERFILE}), tournament_type)
    assert findings == [Finding(file=DOCKERFILES[tournament_type], line=0, rule=Rule.DOCKERFILE_MISSING)]


def test_dockerfile_must_be_a_regular_file_with_a_base(tmp_path: Path) -> None:
    path = write_tree(tmp_path, HONEST_TREE) / DOCKERFILES[TEXT]
    path.write_text("../Dockerfile")
    assert [(one.rule, one.detail) for one in vet(tmp_path, TEXT)] == [
        (Rule.DOCKERFILE_UNUSABLE, "no FROM instruction")
    ]
    path.unlink()
    (tmp_path / "real").write_text(HONEST_DOCKERFILE)
    path.symlink_to("../real")
    assert [(one.rule, one.detail) for one in vet(tmp_path, TEXT)] == [
        (Rule.DOCKERFILE_UNUSABLE, "symbolic links are refused")
    ]
    path.unlink()
    path.mkdir()
    assert [(one.rule, one.detail) for one in vet(tmp_path, TEXT)] == [(Rule.DOCKERFILE_UNUSABLE, "not a file")]


@pytest.mark.parametrize(
    "name",
    [
        "a.bin",
        "b.pyc",
        "c.pyo",
        "d.dll",
        "e.so",
        "f.dylib",
        "g.exe",
        "h.o",
        "i.a",
        "j.whl",
        "K.SO",
        "lib.so.1.2",
        ".bin",
    ],
)
def test_compiled_files_by_name(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, {**HONEST_TREE, f"sub/{name}": b"x"})
    assert [(one.file, one.rule) for one in vet(tmp_path, TEXT)] == [(f"sub/{name}", Rule.COMPILED_FILE)]


@pytest.mark.parametrize("name", ["some.binary", "data.json", "so", "model.safetensors", "x.also", "notes.bin.md"])
def test_other_names_pass(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, **{name: "x"}) == []


@pytest.mark.parametrize(
    ("head", "detail"),
    [
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"MZ\x90\x00\x03\x00", "PE or DOS executable"),
        (b"\xcf\xfa\xed\xfe\x07\x00", "Mach-O"),
        (b"\xca\xfe\xba\xbe\x00\x00\x00\x02", "Mach-O or Java class"),
        (b"!<arch>\nx.o/", "ar archive"),
        (b"\x00asm\x01\x00\x00\x00", "WebAssembly"),
        (b"\xa7\x0d\x0d\x0a\x00\x00\x00\x00", "Python byte code"),
        (b"\x03\xf3\x0d\x0a\x00\x00\x00\x00", "Python byte code"),
    ],
)
def test_machine_code_by_its_first_bytes(tmp_path: Path, head: bytes, detail: str) -> None:
    write_tree(tmp_path, {**HONEST_TREE, "weights.txt": head + bytes(100)})
    assert vet(tmp_path, TEXT) == [Finding(file="weights.txt", line=0, rule=Rule.MACHINE_CODE, detail=detail)]


def test_this_machine_s_own_machine_code_and_byte_code(tmp_path: Path) -> None:
    write_tree(tmp_path, HONEST_TREE)
    shutil.copy(Path(sys.executable).resolve(), tmp_path / "data.csv")
    compileall.compile_file(tmp_path / "train.py", quiet=2, legacy=True)
    (tmp_path / "train.pyc").rename(tmp_path / "vocab.txt")
    assert {one.file: one.detail for one in vet(tmp_path, TEXT)} == {"data.csv": "ELF", "vocab.txt": "Python byte code"}


def test_text_that_begins_like_machine_code_passes(tmp_path: Path) -> None:
    assert (
        found(tmp_path, a__txt="MZ is a country code\n", b__txt="ab\r\nc\r\n", c__md="PK\x03\x04 is a magic number")
        == []
    )


@pytest.mark.parametrize(
    ("member", "detail"),
    [
        ("pkg-1.0.dist-info/WHEEL", "wheel"),
        ("__main__.py", "runnable zip archive"),
        ("deep/lib.so", "zip archive of compiled files"),
    ],
)
def test_programs_in_zip_archives(tmp_path: Path, member: str, detail: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "x")
    write_tree(tmp_path, {**HONEST_TREE, "data.zip": buffer.getvalue()})
    assert vet(tmp_path, TEXT) == [Finding(file="data.zip", line=0, rule=Rule.COMPILED_FILE, detail=detail)]


def test_data_in_zip_archives_passes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images/1.png", "x")
    assert found(tmp_path, data__zip=buffer.getvalue()) == []


def test_links_are_not_followed_and_special_files_are_named(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", HONEST_TREE)
    write_tree(tmp_path / "outside", {"lib.so": "x", "secret.py": "\0"})
    (tree / "folder").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to(tree)
    (tree / "script.py").symlink_to(tmp_path / "outside" / "secret.py")
    os.mkfifo(tree / "pipe")
    assert vet(tree, TEXT) == [Finding(file="pipe", line=0, rule=Rule.NOT_A_FILE)]


def test_findings_are_ordered_and_the_same_each_time(tmp_path: Path) -> None:
    source = f'import base64\nexec(base64.b64decode("{PAYLOAD}"))\neval(base64.b64decode("eA=="))\n'
    write_tree(tmp_path, {**HONEST_TREE, "b.py": source, "a/z.py": source, "c.so": "x"})
    findings = vet(tmp_path, TEXT)
    assert [(one.file, one.line) for one in findings] == [
        ("b.py", 2),
        ("b.py", 3),
        ("c.so", 0),
        ("a/z.py", 2),
        ("a/z.py", 3),
    ]
    assert findings == vet(tmp_path, TEXT)


def test_explain_names_the_first_three_on_one_line() -> None:
    findings = [
        Finding(file="train.py", line=12, rule=Rule.RUNS_DECODED_DATA, detail="exec of base64"),
        Finding(file="evil\n\x1b[31m.so", line=0, rule=Rule.COMPILED_FILE, detail=".so"),
        Finding(file=DOCKERFILES[TEXT], line=0, rule=Rule.DOCKERFILE_MISSING),
        Finding(file="x", line=0, rule=Rule.NOT_A_FILE),
    ]
    assert explain(findings) == (
        "train.py:12 runs decoded data (exec of base64); evil\\n\\x1b[31m.so is a compiled file (.so); "
        "dockerfiles/standalone-text-trainer.dockerfile is missing; and 1 more"
    )
    assert explain(findings[:1]) == "train.py:12 runs decoded data (exec of base64)"
    assert explain([]) == ""
