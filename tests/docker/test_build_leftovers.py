"""What a build leaves, and whose disk it uses: nothing but its image, and nobody else's. On a real engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import PrivateEngine
from tests.docker.yard import LIMITS, MIB, Yard, nameless
from tourney_ray.effects.engine import builder
from tourney_ray.effects.engine.build_bounds import GROUPS
from tourney_ray.effects.engine.connection import connect
from tourney_ray.errors import ImageBuildFailed, StorageUnavailable

BASE = "FROM tourney/tiny-base\n"
STAGES = (
    "FROM tourney/tiny-base AS first\nRUN echo 1 > /one\nENV A=1\n"
    "FROM tourney/tiny-base\nRUN echo 2 > /two\nFROM tourney/tiny-base\nCOPY --from=first /one /one\nRUN true\n"
)


def test_of_several_stages_only_the_image_stays(yard: Yard) -> None:
    before = nameless(yard.engine)
    assert yard.build(STAGES).image_id
    assert nameless(yard.engine) == before


def test_nothing_stays_of_a_build_that_failed(yard: Yard) -> None:
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    with pytest.raises(ImageBuildFailed):
        yard.build(STAGES + "RUN false\n")
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before


def test_nothing_stays_of_an_image_that_is_refused(yard: Yard, engine_volume: str) -> None:
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    with pytest.raises(ImageBuildFailed, match="the image declares volumes"):
        yard.build(f"FROM {engine_volume}\nRUN true\n")
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before


@pytest.fixture
def engine_volume(yard: Yard):
    """A base image that puts a volume into whatever is built from it, by a trigger and by itself."""
    name = "tourney/with-volume"
    _operator(yard, "FROM tourney/tiny-base\nONBUILD VOLUME /data\n", name)
    yield name
    yard.engine.client.api.remove_image(name)


def test_what_somebody_else_builds_meanwhile_stays(yard: Yard) -> None:
    """The operator builds on the same base without a name while a miner's build runs and fails."""
    before = nameless(yard.engine)
    with closing(yard.engine.stream_client()) as client, ThreadPoolExecutor(1) as pool:
        events = client.api.events(filters={"type": "container", "event": "start"}, decode=True)
        miners = pool.submit(yard.build, BASE + "RUN echo mine > /x\nRUN sleep 2; false\n")
        next(events)
        other = _operator(yard, BASE + "RUN echo theirs > /x\n")
        events.close()
        assert isinstance(miners.exception(30), ImageBuildFailed)
    assert nameless(yard.engine) == before | {other}
    yard.engine.client.api.remove_image(other)


def test_whoever_announces_anothers_image_does_not_have_it_removed(yard: Yard) -> None:
    before = nameless(yard.engine)
    other = _operator(yard, BASE + "RUN echo theirs > /x\n")
    short = other.removeprefix("sha256:")[:12]
    with pytest.raises(ImageBuildFailed):
        yard.build(f"{BASE}RUN echo ' ---> {short}'; false\n")
    assert nameless(yard.engine) == before | {other}
    yard.engine.client.api.remove_image(other)


def test_words_of_the_builder_in_a_step_hide_no_image(yard: Yard) -> None:
    before = nameless(yard.engine)
    flood = "RUN python3 -c \"for i in range(10**5): print(f' ---> {i:012x}')\"\n"
    with pytest.raises(ImageBuildFailed, match="non-zero code: 1"):
        yard.build(f"{BASE}{flood}RUN false\n")
    assert nameless(yard.engine) == before


def test_a_flood_of_words_hides_no_image(yard: Yard) -> None:
    flood = "RUN python3 -c \"print('words ' * 500_000, end=' ---> 12345')\"; false\n"
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    with pytest.raises(ImageBuildFailed, match="non-zero code: 1"):
        yard.build(f"{BASE}ENV A=1\n{flood}")
    assert yard.log(yard.trees[-1]).stat().st_size < 2 * builder.LOG_BYTES
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before


def test_what_a_killed_watcher_leaves_is_removed_by_the_next(yard: Yard) -> None:
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    watcher = os.fork()
    if watcher == 0:
        with contextlib.closing(connect(yard.engine.host)) as own:
            Yard(own, yard.folder).build(BASE + "ENV A=1\nRUN echo 1 > /x\nRUN sleep 1000\n")
        os._exit(1)
    with closing(yard.engine.stream_client()) as client:
        events = client.api.events(filters={"type": "container", "event": "start"}, decode=True)
        next(events)
        next(events)
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
        events.close()
    with pytest.raises(ImageBuildFailed):
        yard.build(BASE + "RUN false\n")
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before


def test_a_base_without_a_name_is_none(yard: Yard) -> None:
    """A part of another miner's image, whose id was guessed."""
    other = yard.build(BASE + "RUN echo secret > /recipe\nENV A=1\n")
    part = yard.engine.client.api.inspect_image(other.image_id)["Parent"]
    with pytest.raises(ImageBuildFailed, match="no image of this platform, but a part of one"):
        yard.build(f"FROM tourney/tiny-base\nCOPY --from={part[7:20]} /recipe /recipe\n")


def test_a_neighbour_that_fills_the_disk_costs_no_miner_anything(yard: Yard, dockerd: PrivateEngine) -> None:
    """Another writes ten times a build's share to the same disk while the build runs."""
    filled = dockerd.data / "somebody-elses"
    with closing(yard.engine.stream_client()) as client, ThreadPoolExecutor(1) as pool:
        events = client.api.events(filters={"type": "container", "event": "start"}, decode=True)
        miners = pool.submit(yard.build, BASE + "RUN echo small > /x; sleep 4\n")
        next(events)
        try:
            subprocess.run(["fallocate", "-l", str(10 * LIMITS.layer_bytes), str(filled)], check=True)
            assert miners.result(30).image_id
        finally:
            filled.unlink(missing_ok=True)
            events.close()


def test_a_greedy_neighbour_pays_alone(yard: Yard) -> None:
    greedy = BASE + "RUN dd if=/dev/zero of=/a bs=1M count=50; dd if=/dev/zero of=/b bs=1M count=50; sleep 60\n"
    with ThreadPoolExecutor(2) as pool:
        pays = pool.submit(yard.build, greedy, tree=yard.tree())
        modest = pool.submit(yard.build, BASE + "RUN echo small > /x; sleep 4\n", tree=yard.tree())
        assert isinstance(error := pays.exception(60), ImageBuildFailed), error
        assert "it wrote more than" in str(error)
        assert modest.result(60).image_id


def test_a_disk_that_runs_short_is_the_platforms_fault(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "RESERVE_BYTES", 2**50)
    with pytest.raises(StorageUnavailable, match="the engine's disk has less than"):
        yard.build(BASE + "RUN sleep 30\n")


def test_stages_count_together(yard: Yard) -> None:
    stage = "FROM tourney/tiny-base\nRUN dd if=/dev/zero of=/fill bs=1M count=25\n"
    with pytest.raises(ImageBuildFailed, match="more than"):
        yard.build(stage * 3, LIMITS)


def test_a_sparse_giant_is_not_copied(yard: Yard, dockerd: PrivateEngine) -> None:
    """The engine would write the holes out, gigabytes of nothing, when the step ends."""
    free = os.statvfs(dockerd.data)
    holes = "RUN python3 -c \"[open(f'/hole{i}', 'w').truncate(2**26) for i in range(150)]\"\n"
    with pytest.raises(ImageBuildFailed, match="it wrote more than"):
        yard.build(BASE + holes)
    after = os.statvfs(dockerd.data)
    assert (free.f_bfree - after.f_bfree) * free.f_bsize < 64 * MIB


def test_too_many_files(yard: Yard) -> None:
    many = "RUN python3 -c \"[open(f'/{i}', 'w') for i in range(2000)]\"; sleep 30\n"
    with pytest.raises(ImageBuildFailed, match="or too many files"):
        yard.build(BASE + many, replace(LIMITS, layer_files=1000))


def test_a_tree_too_deep_to_measure(yard: Yard) -> None:
    deep = "RUN python3 -c \"import os; [(os.mkdir('d' * 200), os.chdir('d' * 200)) for _ in range(40)]\"; sleep 30\n"
    with pytest.raises(ImageBuildFailed, match="or too many files"):
        yard.build(BASE + deep)


def test_its_cpus_are_bounded(yard: Yard) -> None:
    """Three busy processes of a build that may have a tenth of a CPU."""
    busy = 'RUN python3 -c "import os; os.fork(); os.fork(); [0 for _ in iter(int, 1)]"\n'
    used: list[int] = []
    with closing(yard.engine.stream_client()) as client:
        events = client.api.events(filters={"type": "container", "event": "die"}, decode=True)
        watching = threading.Timer(4.0, lambda: used.extend(_cpu_ns()))
        watching.start()
        with pytest.raises(ImageBuildFailed, match="it took longer than 6 s"):
            yard.build(BASE + busy, replace(LIMITS, deadline_s=6.0, cpus=0.1))
        events.close()
    assert used
    assert max(used) < 1.5e9


def _cpu_ns() -> list[int]:
    return [int(file.read_text()) for file in GROUPS.glob(f"cpuacct/tourney-build/{os.getpid()}-*/cpuacct.usage")]


def _operator(yard: Yard, dockerfile: str, name: str = "") -> str:
    """The id of an image that is built past us."""
    folder = Path(yard.folder, f"operator-{os.urandom(4).hex()}")
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    image: Any
    image, _ = yard.engine.client.images.build(
        path=str(folder), rm=True, forcerm=True, nocache=True, network_mode="none", tag=name or None
    )
    return str(image.id)


@pytest.mark.parametrize("deadline_s", [0.9, 1.1, 1.2, 1.3, 1.5, 1.7])
def test_nothing_stays_of_a_build_that_is_stopped_between_its_steps(yard: Yard, deadline_s: float) -> None:
    """Wherever the engine is at that moment: making a container, running it, or keeping what it wrote."""
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    step = "RUN echo {0} > /x{0}\nENV A{0}=1\nCOPY dockerfiles /copied{0}\n"
    steps = "".join(map(step.format, range(20)))
    with pytest.raises(ImageBuildFailed, match="it took longer than"):
        yard.build(BASE + steps, replace(LIMITS, deadline_s=deadline_s))
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before


def test_nothing_stays_of_a_build_that_is_made_before_it_can_be_stopped(yard: Yard) -> None:
    """None of its steps runs anything, so that none can be made to fail."""
    before = {one["Id"] for one in yard.engine.client.api.images(all=True)}
    steps = "".join(f"ENV A{number}=1\n" for number in range(30))
    with pytest.raises(ImageBuildFailed, match="it took longer than"):
        yard.build(BASE + steps, replace(LIMITS, deadline_s=0.6))
    assert {one["Id"] for one in yard.engine.client.api.images(all=True)} == before
