"""The life of a miner's container: started, taken over, watched, stopped, removed; on a real engine."""

from __future__ import annotations

import time

import pytest

from tests.docker.bench import DOCKERFILE, SAVING, Bench, Heard, InBackground
from tourney_ray.core.models import Blame, Failed, GpuRequirement
from tourney_ray.effects.engine.reaper import reap
from tourney_ray.effects.ran import Ran
from tourney_ray.errors import EngineDown, InputsMissing, StorageUnavailable

WAITING = SAVING + "(output / 'model').write_text('x'); print('saved', flush=True); import time; time.sleep(600)"
"""Saves at once and then goes on for longer than any test."""


def test_a_training_that_ends_well(bench: Bench) -> None:
    script = SAVING + "(output / 'model').write_text(pathlib.Path('/cache/models/org--tiny/config.json').read_text())"
    spec, heard = bench.spec(bench.image(script)), Heard()
    bench.stage(spec)
    ran = bench.trainer().train(spec, bench.place(), heard)
    assert isinstance(ran, Ran)
    assert ran.failed is None, ran
    assert (ran.exit_code, ran.gpu_indices, ran.image_id) == (0, (0,), spec.image_id)
    assert 0 < ran.seconds < 10
    assert (heard.indices, heard.image_id) == ((0,), spec.image_id)
    assert bench.saved(spec, "model") == "{}"
    assert bench.left() == []


def test_an_image_written_as_public_miners_write_theirs(bench: Bench) -> None:
    """As root, with a workspace and a data set of its own, copied to the output at the end."""
    script = SAVING + (
        "import shutil\nassert os.getuid() == 0\n"
        "shutil.copytree('/cache/datasets', '/dataset/mine')\n"
        "open('/workspace/axolotl/outputs/model', 'w').write('weights')\n"
        "shutil.copytree('/workspace/axolotl/outputs', output, dirs_exist_ok=True)\n"
    )
    image = bench.image(script, DOCKERFILE + "RUN mkdir -p /workspace/axolotl/outputs /dataset\n")
    spec = bench.spec(image)
    ran = bench.run_spec(spec)
    assert isinstance(ran, Ran)
    assert ran.failed is None, ran
    assert bench.saved(spec, "model") == "weights"


def test_the_strict_profile_is_for_images_that_ask_for_it(bench: Bench) -> None:
    script = SAVING + "(output / 'model').write_text(str(os.getuid()))\nopen('/workspace/x', 'w')"
    ran = bench.run(script, DOCKERFILE + "LABEL tourney.profile=strict\n")
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert "Read-only file system" in ran.failed.reason
    spec = bench.spec(bench.image(script.partition("open(")[0], DOCKERFILE + "LABEL tourney.profile=strict\n"), "hk-2")
    assert isinstance(bench.run_spec(spec), Ran)
    assert bench.saved(spec, "model") == "1000"


def test_a_training_that_crashes_is_the_miners_fault(bench: Bench) -> None:
    ran = bench.run("import sys; print('no such\\x1b[2J layer'); sys.exit(3)")
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert (ran.failed.blame, ran.failed.kind) == (Blame.MINER, "crashed")
    assert ran.failed.reason == "trainer exited with 3: no such?[2J layer"
    assert bench.left() == []


def test_at_the_deadline_it_is_stopped_and_what_it_saved_counts(bench: Bench) -> None:
    spec = bench.spec(bench.image(WAITING), hours=1.5 / 3600)
    bench.stage(spec)
    ran = bench.trainer().train(spec, bench.place(), Heard())
    assert isinstance(ran, Ran)
    assert ran.stopped_at_deadline
    assert ran.failed is None
    assert 1.4 < ran.seconds < 4
    assert bench.saved(spec, "model") == "x"


def test_the_end_of_the_log_reaches_the_listener(bench: Bench) -> None:
    spec, heard = bench.spec(bench.image(WAITING)), Heard()
    bench.stage(spec)
    training = InBackground(lambda: bench.trainer().train(spec, bench.place(), heard))
    assert heard.spoke.wait(20)
    assert heard.tails == ["saved\n"]
    bench.trainer().release(spec)
    assert isinstance(training.result(), Failed)


def test_whoever_comes_later_takes_the_same_container_over(bench: Bench) -> None:
    spec, first, second = bench.spec(bench.image(WAITING), hours=6 / 3600), Heard(), Heard()
    bench.stage(spec)
    one = InBackground(lambda: bench.trainer().train(spec, bench.place(), first))
    assert first.started.wait(20)
    (container,) = bench.left()
    two = InBackground(lambda: bench.trainer().train(spec, bench.place(), second))
    assert second.started.wait(20)
    assert bench.left() == [container]
    assert one.result() == two.result()
    again = bench.trainer().train(spec, bench.place(), Heard())
    assert again == one.result()


def test_one_that_was_killed_before_anybody_listened_has_not_failed_by_itself(bench: Bench) -> None:
    spec = bench.spec(bench.image(WAITING))
    bench.stage(spec)
    container = bench.start(spec)
    bench.engine.client.api.kill(container.container_id)
    bench.engine.client.containers.get(container.container_id).wait()
    ran = bench.trainer().train(spec, bench.place(), Heard())
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert (ran.failed.blame, ran.failed.kind) == (Blame.PLATFORM, "stopped_by_hand")


def test_a_container_that_ended_while_nobody_watched(bench: Bench) -> None:
    spec = bench.spec(bench.image(SAVING + "(output / 'model').write_text('x')"))
    bench.stage(spec)
    trainer = bench.trainer()
    container = bench.start(spec)
    bench.engine.client.containers.get(container.container_id).wait()
    ran = trainer.train(spec, bench.place(), Heard())
    assert isinstance(ran, Ran)
    assert ran.failed is None
    assert ran.container_id == container.container_id


def test_a_released_attempt_is_never_started_again(bench: Bench) -> None:
    spec = bench.spec(bench.image(WAITING))
    bench.stage(spec)
    assert bench.trainer().release(spec) == "it has no container, and will not have one"
    outcome = bench.trainer().train(spec, bench.place(), Heard())
    assert isinstance(outcome, Failed)
    assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "released")
    assert bench.left() == []


def test_an_output_that_is_gone_is_no_fault_of_its_miner(bench: Bench) -> None:
    """Once with its container released, once with nothing of it ever there."""
    spec = bench.spec(bench.image(SAVING + "(output / 'model').write_text('x')"))
    assert isinstance(bench.run_spec(spec), Ran)
    bench.trainer().release(spec)
    with pytest.raises(StorageUnavailable, match="is not on this node any more"):
        bench.saved(spec, "model")
    released = bench.trainer().train(spec, bench.place(), Heard())
    assert isinstance(released, Failed)
    assert released.kind == "released"


def test_a_release_ends_what_runs_and_its_watcher(bench: Bench) -> None:
    spec, heard = bench.spec(bench.image(WAITING)), Heard()
    bench.stage(spec)
    training = InBackground(lambda: bench.trainer().train(spec, bench.place(), heard))
    assert heard.started.wait(20)
    assert bench.trainer().release(spec) == "its container is gone"
    outcome = training.result()
    assert isinstance(outcome, Failed)
    assert outcome.kind == "released"
    assert bench.left() == []


def test_a_container_that_somebody_stops_by_hand_costs_the_miner_nothing(bench: Bench) -> None:
    spec, heard = bench.spec(bench.image("import time; time.sleep(600)")), Heard()
    bench.stage(spec)
    training = InBackground(lambda: bench.trainer().train(spec, bench.place(), heard))
    assert heard.started.wait(20)
    (container,) = bench.left()
    bench.engine.client.containers.get(container.container_id).kill()
    ran = training.result()
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert (ran.failed.blame, ran.failed.kind) == (Blame.PLATFORM, "stopped_by_hand")


def test_a_miner_that_kills_itself_pays_for_it(bench: Bench) -> None:
    ran = bench.run("import os; os.kill(os.getpid(), 9)")
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert (ran.failed.blame, ran.failed.kind, ran.exit_code) == (Blame.MINER, "crashed", 137)


def test_an_image_whose_user_is_nobody_cannot_be_started(bench: Bench) -> None:
    outcome = bench.run("", DOCKERFILE + "USER whoever\n")
    assert isinstance(outcome, Failed)
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "training_crashed")
    assert "its image cannot be started: " in outcome.reason
    assert "unable to find user whoever" in outcome.reason
    assert bench.left() == []


def test_an_image_without_its_program_ends_at_once(bench: Bench) -> None:
    ran = bench.run("", 'FROM tourney/tiny-base\nENTRYPOINT ["/nothing/here"]\n')
    assert isinstance(ran, Ran)
    assert ran.failed is not None
    assert (ran.failed.blame, ran.exit_code) == (Blame.MINER, 127)
    assert "/nothing/here" in ran.failed.reason


def test_gpus_are_those_that_no_container_has(bench: Bench) -> None:
    image, heard = bench.image(WAITING), [Heard() for _ in range(3)]
    specs = [bench.spec(image, f"hk-{i}", hours=4 / 3600, gpus=GpuRequirement.H100_2X) for i in range(3)]
    bench.stage(specs[0])
    place = bench.place(6, (0, 1))
    running = [
        InBackground(lambda s=s, h=h: bench.trainer().train(s, place, h)) for s, h in zip(specs, heard, strict=True)
    ]
    assert all(one.started.wait(30) for one in heard)
    assert sorted(i for one in heard for i in one.indices) == [0, 1, 2, 3, 4, 5]
    late = bench.spec(image, "late")
    with pytest.raises(EngineDown, match="1 of the 6 GPUs are wanted and 0 are free"):
        bench.trainer().train(late, place, Heard())
    for one in running:
        one.result()


def test_data_or_an_image_that_is_not_staged_is_the_platforms_fault(bench: Bench) -> None:
    with pytest.raises(InputsMissing, match=r"the data of task task-.* is not staged on this node any more"):
        bench.trainer().train(bench.spec(bench.image("")), bench.place(), Heard())
    unbuilt = bench.spec(f"sha256:{'0' * 64}")
    bench.stage(unbuilt)
    with pytest.raises(InputsMissing, match="the image of hk is not staged on this node any more"):
        bench.trainer().train(unbuilt, bench.place(), Heard())


def test_the_reaper_removes_what_nobody_leases(bench: Bench) -> None:
    image = bench.image(WAITING)
    kept, stale = bench.spec(image, "kept"), bench.spec(image, "stale")
    bench.stage(kept)
    for spec in (kept, stale):
        bench.start(spec)
    assert reap(bench.engine, "somebody-else", lambda _: ()) == []
    assert reap(bench.engine, "bench", lambda _: {kept.attempt_id}) == [stale.attempt_id]
    assert [c.labels.attempt for c in bench.left()] == [kept.attempt_id]


def test_its_start_counts_from_the_engines_word_where_nobody_noted_it(bench: Bench) -> None:
    spec = bench.spec(bench.image(WAITING), hours=2 / 3600)
    bench.stage(spec)
    bench.start(spec)
    for note in bench.work.glob("*/begun.json"):
        note.unlink()
    began = time.monotonic()
    ran = bench.trainer().train(spec, bench.place(), Heard())
    assert isinstance(ran, Ran)
    assert ran.stopped_at_deadline
    assert time.monotonic() - began < 4
