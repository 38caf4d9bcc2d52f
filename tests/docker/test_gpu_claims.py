"""An evaluator's GPU is no container's, and a container's is no evaluator's, whatever Ray's books say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from tests.docker.bench import SAVING, Bench
from tests.docker.engine import PrivateEngine
from tourney_ray.config import Registry, Sandbox, Settings

WAITING = SAVING + "print('up', flush=True); import time; time.sleep(600)"
EVALUATOR = """
import os, sys
from tourney_ray.config import Settings
from tourney_ray.driver.gpu_claims import Gpu, claim_gpu
index = claim_gpu(Settings.model_validate_json(sys.argv[1]), Gpu(sys.argv[2], "H100", 8))
assert os.environ["CUDA_VISIBLE_DEVICES"] == str(index)
print(index, flush=True)
sys.stdin.read()
"""
Evaluator = subprocess.Popen[str]


@pytest.fixture
def evaluator(bench: Bench, dockerd: PrivateEngine) -> Generator[Callable[[], tuple[int, Evaluator]]]:
    """Starts an evaluator's process to which Ray gave GPU 0; the index that it took, and the process."""
    sandbox = Sandbox(kind="docker", host=dockerd.host, devices="none")
    settings = Settings(state=bench.folder, registry=Registry(miners=bench.folder / "none.json"), sandbox=sandbox)
    words = [sys.executable, "-c", EVALUATOR, settings.model_dump_json(), bench.node]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0"}
    with ExitStack() as opened:

        def start() -> tuple[int, Evaluator]:
            pipe = subprocess.PIPE
            process = opened.enter_context(subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True))
            opened.callback(process.kill)
            assert process.stdout
            return int(process.stdout.readline()), process

        yield start


def test_each_takes_what_nobody_holds(bench: Bench, evaluator: Callable[[], tuple[int, Evaluator]]) -> None:
    image = bench.image(WAITING)
    specs = [bench.spec(image, f"hk-{number}") for number in range(3)]
    for spec in specs:
        bench.stage(spec)
    assert bench.start(specs[0]).labels.gpus == (0,)
    (one, process), (two, _) = evaluator(), evaluator()
    assert (one, two) == (1, 2)
    assert bench.start(specs[1]).labels.gpus == (3,)
    process.kill()
    process.wait()
    assert bench.start(specs[2]).labels.gpus == (1,)
