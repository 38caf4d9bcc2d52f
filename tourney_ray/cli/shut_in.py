"""`tourney evaluate`, shut in: the same command once more in the evaluator's sandbox, where it reads its files only."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import click

from tourney_ray.driver.evaluator import shut_in_evaluator
from tourney_ray.errors import EngineDown, NotAllowed

INSIDE = "--shut-in"
"""What tells the command inside that it is."""


def evaluate_shut_in(options: Mapping[str, object]) -> int:
    """Exit code of `tourney evaluate` with these options, run in a sandbox; what it says is said here when it ends.

    Raises `NotAllowed` where there is no sandbox.
    """
    words, files = ["evaluate", INSIDE], list[Path]()
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is True:
            continue
        path = _existing(value)
        files += [path] if path else []
        words.append(str(path or value))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _run([sys.executable, "-m", "tourney_ray", *words], files, out, err)
        for file, to_err in ((out, False), (err, True)):
            file.seek(0)
            click.echo(file.read(), nl=False, err=to_err)
    return code


def _run(program: list[str], files: list[Path], out: BinaryIO, err: BinaryIO) -> int:
    try:
        with shut_in_evaluator(files) as sandbox:
            words = sandbox.words(program)
            done = subprocess.run(words, env=sandbox.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False)
    except EngineDown as down:
        raise NotAllowed(down.message, f"{down.hint}; or --no-sandbox, for a checkpoint that you trust") from down
    return done.returncode


def _existing(value: object) -> Path | None:
    """The absolute path of the file or folder that an option names, where there is one."""
    if isinstance(value, Path):
        return value.absolute() if value.exists() else None
    text = str(value)
    if text.lstrip().startswith("{"):  # a document, which may be longer than any name of a file
        return None
    return Path(text).absolute() if Path(text).is_file() else None
