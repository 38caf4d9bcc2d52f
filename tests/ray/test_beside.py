"""Evaluators on a real cluster: one beside the checkpoint, on a node with a disk of its own, and the head's."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data
from tests.ray.asking import ask
from tourney_ray.config import Evaluation, Registry, Sandbox, Settings
from tourney_ray.core.dataset_types import InstructDatasetType
from tourney_ray.core.models import TaskData
from tourney_ray.driver.cluster import LocalCluster
from tourney_ray.driver.folders import artifact_store, carried_folder
from tourney_ray.effects.manifest import PREFIX

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FILES = Path(__file__).parents[1] / "fixtures" / "evaluation"
SCRIPT = """
import asyncio, json, os, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Some
from tourney_ray.config import Settings
from tourney_ray.core.commands import Evaluate
from tourney_ray.core.models import TaskData, TaskType
from tourney_ray.core.nodes import Node
from tourney_ray.driver import client, evaluators, gpu_evaluators
from tourney_ray.driver.evaluator_worker import EvaluatorWorker

address, settings, data, checkpoint, far_state = sys.argv[1:]
settings, data = Settings.model_validate_json(settings), TaskData.model_validate_json(data)
now = 0.0

with client.connection(address):
    import ray
    from ray.exceptions import RayError

    found, until = [], time.monotonic() + 60
    while not found and time.monotonic() < until:
        found = [n["NodeID"] for n in ray.nodes() if n["Alive"] and evaluators.HEAD not in n["Resources"]]
    (far,) = found

    class OnItsOwnDisk(EvaluatorWorker):
        def __init__(self, settings, *gpu):
            away = ray.get_runtime_context().get_node_id() == far
            super().__init__(settings.model_copy(update={"state": Path(far_state)}) if away else settings, *gpu)

    evaluators.EvaluatorWorker = gpu_evaluators.EvaluatorWorker = OnItsOwnDisk
    state = Some(nodes={far: Node(far, {"A100": 2})}, leases={})
    where = {"trained_on": far, "gpu_type": "A100"}
    command = Evaluate("t", "task-1", TaskType.INSTRUCT, "m00", "a", checkpoint, data, 1, 0, **where)
    evaluating = evaluators.Evaluators(settings, lambda: state, lambda: now)
    evaluating.see(ray.nodes())

    on_gpus = gpu_evaluators.GpuEvaluators(settings)
    on_gpus.see(ray.nodes())

    def process(where):
        actor = evaluating._actors[where]
        return ray.get(actor.__ray_call__.remote(lambda _: (os.getpid(), ray.get_runtime_context().get_node_id())))

    def on_a_gpu():
        (actor,) = on_gpus._idle[far, "A100"]
        node = lambda: ray.get_runtime_context().get_node_id()
        seen = lambda _: (os.environ["CUDA_VISIBLE_DEVICES"], ray.get_gpu_ids(), node())
        return ray.get(actor.__ray_call__.remote(seen))

    async def main():
        global now
        said = {"far": far}
        said["beside"] = json.loads((await evaluating.evaluate(command, bytes(32), ())).model_dump_json())
        said["ran"] = process(far)
        said["at the head"] = json.loads((await evaluating.evaluate(command, bytes(32), (far,))).model_dump_json())
        said["head ran"] = process(evaluators.HEAD)
        ray.kill(evaluating._actors[far])
        try:
            said["killed"] = str(await evaluating.evaluate(command, bytes(32), ()))
        except RayError as error:
            said["killed"] = type(error).__name__
        now += evaluators.UNFIT_S
        said["again"] = json.loads((await evaluating.evaluate(command, bytes(32), ())).model_dump_json())
        said["ran again"] = process(far)
        seated = replace(command, node=far)
        said["on a gpu"] = json.loads((await on_gpus.evaluate(seated, bytes(32))).model_dump_json())
        said["sees"] = on_a_gpu()
        on_gpus.give_way((far, "A100"), 1)
        until = time.monotonic() + 20
        while ray.available_resources().get("A100") != ray.cluster_resources()["A100"]:
            assert time.monotonic() < until, "its GPU is still held"
            await asyncio.sleep(0.2)
        return said

    answers = asyncio.run(main())
print(json.dumps(answers))
"""


@pytest.fixture
def settings(tmp_path: Path, need: Callable[[str], str]) -> Settings:
    """A head with a task's base model and test rows, and a checkpoint."""
    need("bwrap")
    settings = Settings(
        state=tmp_path / "head",
        registry=Registry(miners=tmp_path / "miners.json"),
        sandbox=Sandbox(kind="bubblewrap", devices="none"),
        evaluation=Evaluation(mem_gib=2.0, deadline_hours=0.1, cpus=0.5),
    )
    shutil.copytree(FILES / "base", settings.data / "models" / "base")
    (settings.data / "tests").mkdir()
    shutil.copy(FILES / "data" / "instruct_test.json", settings.data / "tests" / "rows.json")
    return settings


@pytest.fixture
def data(settings: Settings) -> TaskData:
    rows = (settings.data / "tests" / "rows.json").read_bytes()
    return tiny_task_data(
        model_path="models/base",
        test_path="tests/rows.json",
        test_sha256=hashlib.sha256(rows).hexdigest(),
        test_rows=60,
        dataset_type=InstructDatasetType(field_instruction="instruct", field_input="input", field_output="output"),
    )


def test_a_checkpoint_gets_the_same_number_beside_it_on_a_gpu_of_its_own_and_on_the_head(
    cluster: LocalCluster, settings: Settings, data: TaskData, tmp_path: Path
) -> None:
    far = settings.model_copy(update={"state": tmp_path / "far"})
    for one in (settings, far):
        digest = artifact_store(one).put_folder(FILES / "instruct_full")
    said = ask(cluster, SCRIPT, settings.model_dump_json(), data.model_dump_json(), PREFIX + digest, str(far.state))
    beside, head, again = said["beside"], said["at the head"], said["again"]
    expected = json.loads((FILES / "expected.json").read_text())["instruct_full"]["value"]
    assert beside["value"] == pytest.approx(expected, abs=1e-5)
    assert beside["environment"] == head["environment"]
    for one in (head, again, said["on a gpu"]):
        assert [one[name] for name in ("value", "per_row", "digest", "distance")] == [
            beside[name] for name in ("value", "per_row", "digest", "distance")
        ]
    (pid, node), (head_pid, head_node), (new_pid, new_node) = said["ran"], said["head ran"], said["ran again"]
    assert node == new_node == said["far"] != head_node
    assert len({pid, head_pid, new_pid}) == 3
    assert said["killed"] == "ActorDiedError"
    visible, held, there = said["sees"]
    assert ([visible], there) == ([str(index) for index in held], said["far"])
    carried = carried_folder(far) / "data"
    assert (carried / data.test_path).read_bytes() == (settings.data / data.test_path).read_bytes()
    assert {path.name for path in carried.iterdir()} == {"models", "tests"}
    assert not any(carried_folder(settings).iterdir())
    assert not (far.data / "tests").exists()
