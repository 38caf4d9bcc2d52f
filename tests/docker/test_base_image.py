"""The base images, in an engine: what is in them runs, without any network, and they are made once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from docker.types import Mount
from safetensors.torch import load_file

from tests.builders_training import training_spec
from tests.conftest import skip_or_fail
from tourney_ray.cli.app import cli
from tourney_ray.core.models import TaskData, TaskType, TrainingSpec
from tourney_ray.effects import contract
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.imports import find_named, import_image
from tourney_ray.effects.tar_stream import tar_stream
from tourney_ray.errors import EngineDown, StorageUnavailable
from tourney_ray.samples.base_image import BaseImage, ensure_base_image
from tourney_ray.samples.image_files import ImageFile
from tourney_ray.samples.repositories import SampleRepository, write_sample_repositories
from tourney_ray.samples.task_data import SampleTasks

MODULES = "ctypes, decimal, hashlib, json, lzma, socket, sqlite3, ssl, subprocess, zlib"


@pytest.fixture(scope="module")
def tiny(engine: Engine) -> BaseImage:
    return ensure_base_image(engine, tiny=True)


@pytest.fixture(scope="module")
def full(engine: Engine) -> BaseImage:
    return ensure_base_image(engine)


def test_python_and_a_shell_run_in_the_tiny_one(engine: Engine, tiny: BaseImage) -> None:
    assert (
        run(engine, tiny.name, ["sh", "-c", "mkdir -p /a/b && echo word | tr a-z A-Z > /a/b/c; cat /a/b/c"]) == "WORD\n"
    )
    said = run(engine, tiny.name, ["python3", "-c", f"import {MODULES}, sys; print(sys.prefix, sys.version_info[:2])"])
    assert said == f"/usr/local {sys.version_info[:2]}\n"


def test_nothing_is_compiled_again_in_it(engine: Engine, tiny: BaseImage) -> None:
    said = run(engine, tiny.name, ["python3", "-v", "-c", "import json"], stderr=True)
    assert "/usr/local/lib/python" in said
    assert "matches /usr/local" in said
    assert "bytecode is stale" not in said
    assert "wrote '/usr/local" not in said


def test_one_that_is_there_is_not_made_again(engine: Engine, tiny: BaseImage) -> None:
    again = ensure_base_image(engine, tiny=True)
    assert not again.made
    assert (again.name, again.image_id) == (tiny.name, tiny.image_id)
    latest = find_named(engine, "tourney/tiny-base:latest")
    assert latest is not None
    assert latest.image_id == tiny.image_id
    assert latest.labels["tourney.base"].startswith(tiny.name.partition(":")[2])
    assert latest.labels["tourney.packages"] == "{}"


def test_a_dockerfile_builds_on_it_without_network(engine: Engine, tiny: BaseImage, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("here\n")
    (tmp_path / "Dockerfile").write_text("FROM tourney/tiny-base\nCOPY . /workspace\nRUN chmod 600 /workspace/word\n")
    image = build(engine, tmp_path, "Dockerfile")
    assert run(engine, image, ["cat", "/workspace/word"]) == "here\n"
    engine.client.images.remove(image)


def test_the_command_line_says_which_and_how_large(engine: Engine, tiny: BaseImage) -> None:
    result = CliRunner().invoke(cli, ["images", "base", "--tiny", "--host", engine.host])
    assert result.output.splitlines()[:2] == [tiny.name, tiny.image_id]
    assert f"{tiny.size_bytes} bytes, found in" in result.output


def test_without_an_engine_it_says_so() -> None:
    result = CliRunner().invoke(cli, ["images", "base", "--host", "unix:///run/tourney-there-is-none.sock"])
    assert isinstance(result.exception, EngineDown)


def test_an_import_that_breaks_off_leaves_no_image(engine: Engine, tmp_path: Path) -> None:
    shrinking = tmp_path / "shrinking"
    shrinking.write_bytes(b"x" * 3_000_000)
    pieces = tar_stream([ImageFile("shrinking", shrinking), ImageFile("never", content=b"")])

    def halfway():
        yield next(pieces)
        shrinking.write_bytes(b"")
        yield from pieces

    with pytest.raises(StorageUnavailable, match="changed while it was packed"):
        import_image(engine, "tourney/broken", "1", halfway(), [])
    assert find_named(engine, "tourney/broken:1") is None


def test_what_the_engine_refuses_to_import_is_told(engine: Engine) -> None:
    with pytest.raises(EngineDown, match="importing the image tourney/broken:1: "):
        import_image(engine, "tourney/broken", "1", [b"this is no tar" * 100], [])


@pytest.mark.slow
def test_a_sample_miner_trains_in_the_full_one(engine: Engine, full: BaseImage, tmp_path: Path) -> None:
    sample = write_sample_repositories(tmp_path / "repositories", 1)[0]
    data = SampleTasks(tmp_path / "store").prepare("task", TaskType.INSTRUCT, b"\x07" * 32, (0, 1))
    spec = training(sample, data)
    place(spec, tmp_path / "store", tmp_path / "cache")
    (tmp_path / "out").mkdir()
    image = build(engine, sample.path, contract.dockerfile_of(spec.task_type))
    mounts = [
        Mount(contract.CACHE, str(tmp_path / "cache"), type="bind", read_only=True),
        Mount(contract.CHECKPOINTS, str(tmp_path / "out"), type="bind"),
    ]
    log = run(
        engine, image, contract.contract_arguments(spec), mounts=mounts, environment=contract.contract_environment(spec)
    )
    engine.client.images.remove(image)
    assert f"wrote {spec.expected_repo_name} after" in log
    weights = load_file(tmp_path / "out" / contract.output_folder(spec) / "model.safetensors")
    assert weights


@pytest.mark.slow
def test_the_full_one_has_the_packages_of_this_python(engine: Engine, full: BaseImage) -> None:
    script = "import torch, transformers, json; from transformers import AutoModelForCausalLM; "
    script += "print(json.dumps([torch.__version__, transformers.__version__, torch.get_num_threads()]))"
    said = run(engine, full.name, ["python3", "-c", script], environment={"OMP_NUM_THREADS": "1"})
    found = find_named(engine, full.name)
    assert found is not None
    versions = json.loads(found.labels["tourney.packages"])
    assert json.loads(said.splitlines()[-1]) == [versions["torch"], versions["transformers"], 1]


def run(
    engine: Engine,
    image: str,
    words: Sequence[str],
    mounts: Sequence[Mount] = (),
    environment: Mapping[str, str] | None = None,
    stderr: bool = False,
) -> str:
    """What a container without network prints, which has to end well."""
    said = engine.client.containers.run(
        image,
        list(words),
        network_mode="none",
        remove=True,
        mounts=list(mounts),
        environment=dict(environment or {}),
        stderr=stderr,
        cap_drop=["ALL"],
    )
    assert isinstance(said, bytes)
    return said.decode()


def build(engine: Engine, folder: Path, dockerfile: str) -> str:
    """The id of the image of a dockerfile, built as the command line tool does it without BuildKit."""
    docker = shutil.which("docker")
    if docker is None:
        skip_or_fail("the docker command line tool is not installed")
    words = [
        docker,
        "build",
        "--quiet",
        "--network=none",
        "--force-rm",
        "--file",
        str(folder / dockerfile),
        str(folder),
    ]
    env = {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def training(sample: SampleRepository, data: TaskData) -> TrainingSpec:
    return training_spec(
        data,
        attempt_id=f"task/{sample.name}/1",
        task_id="task",
        hotkey=sample.name,
        repo=str(sample.path),
        commit=sample.commit,
        tree_hash=sample.tree_hash,
        hours_to_complete=0.05,
    )


def place(spec: TrainingSpec, store: Path, cache: Path) -> None:
    """Model and training data as the contract has them."""
    model, rows = contract.model_folder(spec), contract.dataset_file(spec)
    shutil.copytree(store / model, cache / model)
    (cache / rows).parent.mkdir(parents=True)
    shutil.copyfile(store / rows, cache / rows)
