"""Files, images and outputs as streams between the nodes of a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders_training import tiny_task_data, training_spec
from tests.ray.asking import ask
from tourney_ray.config import Registry, Sandbox, Settings
from tourney_ray.driver.cluster import LocalCluster
from tourney_ray.driver.folders import artifact_store
from tourney_ray.effects.manifest import PREFIX
from tourney_ray.effects.provenance import Left, keep, provenance_of

pytestmark = pytest.mark.ray

WEIGHTS = bytes(range(256)) * 40_000
SCRIPT = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tourney_ray.config import Settings
from tourney_ray.core.models import TrainingSpec
from tourney_ray.driver import client, tasks, work
from tourney_ray.effects.artifacts import ArtifactStore
from tourney_ray.effects.carried import have
from tourney_ray.effects.kept_elsewhere import have_objects
from tourney_ray.errors import PlatformFault

address, settings, spec, record, here = sys.argv[1:]
settings, spec, here = Settings.model_validate_json(settings), TrainingSpec.model_validate_json(spec), Path(here)

def said(call):
    try:
        return call()
    except PlatformFault as fault:
        return f"{fault.kind}: {fault.message}"

def both(there):
    carrier = tasks.RayCarrier(settings, spec, ())
    with ThreadPoolExecutor(max_workers=1) as beside:
        other = beside.submit(have, there / "beside", ["data/models/org--tiny"], carrier.files)
        have(there, ["data/models/org--tiny"], carrier.files)
        other.result()

with client.connection(address):
    import ray
    found, until = [], time.monotonic() + 60
    while not found and time.monotonic() < until:
        found = [n["NodeID"] for n in ray.nodes() if n["Alive"] and tasks.HEAD not in n["Resources"]]
    (far,) = found
    carrier = tasks.RayCarrier(settings, spec, (far,))
    have(here, ["data/models/org--tiny"], carrier.files)
    sending = tasks.on_node(work.sent_objects, "send", far, **tasks.STREAM)
    have_objects(ArtifactStore(str(here / "kept")), record, lambda: tasks._arriving(sending, "x", settings, record))
    tasks.REMOTE[both] = ray.remote(both)
    ray.get(tasks.on_node(both, "both", far).remote(here / "far"))
    answers = {
        "missing": said(lambda: have(here, ["data/gone"], carrier.files)),
        "no engine": said(lambda: carrier.image("sha256:" + "a" * 64)),
        "no node": tasks.RayCarrier(settings, spec, ("ab" * 28,)).image("sha256:" + "a" * 64),
    }
print(json.dumps(answers))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    sandbox = Sandbox(kind="docker", host=f"unix://{tmp_path}/nobody.sock")
    return Settings(state=tmp_path / "state", registry=Registry(miners=tmp_path / "miners.json"), sandbox=sandbox)


def test_what_a_node_lacks_arrives_and_what_nobody_has_is_named(
    cluster: LocalCluster, settings: Settings, tmp_path: Path
) -> None:
    spec = training_spec(tiny_task_data())
    weights = settings.data / spec.data.model_path / "weights"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(WEIGHTS)
    store = artifact_store(settings)
    left = Left(output=store.put_folder(weights.parent))
    record = f"{PREFIX}{keep(store, provenance_of(spec).model_copy(update={'left': left}))}"
    here = tmp_path / "here"
    here.mkdir()
    given = [settings.model_dump_json(), spec.model_dump_json(), record, str(here)]
    told = ask(cluster, SCRIPT, *given)
    assert (here / "data" / spec.data.model_path / "weights").read_bytes() == WEIGHTS
    for copy in (here / "far", here / "far" / "beside"):  # by two threads of one task
        assert (copy / "data" / spec.data.model_path / "weights").read_bytes() == WEIGHTS
    assert any(path.read_bytes() == WEIGHTS for path in (here / "kept").rglob("*") if path.is_file())
    assert told["missing"].startswith("inputs_missing: its files cannot be brought from the head")
    assert "does not hold data/gone" in told["missing"]
    assert told["no engine"].startswith("platform_fault: its image cannot be brought from")
    assert "nobody.sock" in told["no engine"]
    assert told["no node"] is None
