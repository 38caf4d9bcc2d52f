"""Trainers as real processes, with and without bubblewrap: what they may see, how they end, what is taken over."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.effects.builders_sandbox import NEVER_STARTS, SAVING, Told, World, nothing
from tourney_ray.core.models import Blame, Failed, Trained, TrainingOutcome
from tourney_ray.effects.collect import OutputCaps
from tourney_ray.effects.process import LOG_CAP_BYTES
from tourney_ray.effects.provenance import load
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.errors import EngineDown, InputsMissing, RepoRejected, StorageUnavailable

ENDLESS = "import select\nwhile True: select.select([], [], [], 60)\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
WITH_CHILD = """
import subprocess
wait = [sys.executable, "-I", "-c", "import select; select.select([], [], [], 60)"]
subprocess.Popen(wait)
subprocess.Popen(wait, process_group=0)
"""


def test_output_is_taken_over_and_the_trainer_finds_what_the_contract_promises(world: World) -> None:
    script = """
import json
assert sys.argv[1::2] == ["--task-id", "--model", "--dataset", "--dataset-type", "--task-type", "--file-format",
                          "--expected-repo-name", "--hours-to-complete"], sys.argv
assert words["--task-type"] == "InstructTextTask" and words["--hours-to-complete"] == "0.01"
assert (cache / "models" / words["--model"].replace("/", "--") / "config.json").read_text() == "{}"
assert json.loads((cache / "datasets" / (words["--task-id"] + "_train_data.json")).read_text())
assert os.environ["WANDB_MODE"] == "offline" and os.environ["OMP_NUM_THREADS"] == "1"
assert os.path.isdir(os.environ["WANDB_DIR"]) and "SECRET" not in os.environ
assert os.getcwd() == os.path.dirname(os.path.abspath(__file__))
(output / "model.safetensors").write_bytes(b"weights")
print("done")
"""
    started: list[bool] = []

    outcome = world.run(SAVING + script, on_start=lambda: started.append(True))

    assert isinstance(outcome, Trained), outcome
    assert (started, outcome.stopped_at_deadline, outcome.log_tail) == ([True], False, "done\n")
    kept = world.checkpoint(outcome) / "model.safetensors"
    assert kept.read_bytes() == b"weights"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    record = load(world.store, outcome.provenance.removeprefix("sha256:"))
    assert (record.attempt_id, record.left.output_files, record.left.output_bytes) == (f"task-1/{world.hotkey}/1", 1, 7)
    assert (record.course.exit_code, record.course.seconds, record.fault) == (0, outcome.seconds, None)
    assert f"sha256:{record.left.output}" == outcome.checkpoint


def test_nothing_of_our_environment_reaches_a_trainer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    outcome = world.run("import os; print(sorted(os.environ))")
    assert "OMP_NUM_THREADS" in outcome.log_tail
    assert "SECRET_TOKEN" not in outcome.log_tail


def test_an_isolated_trainer_sees_its_inputs_and_nothing_else(isolated: World) -> None:
    found = probe(
        isolated,
        f"""
def writes(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
facts = dict(
    store=os.path.exists({str(isolated.root)!r}),
    datasets=os.listdir("/cache/datasets"),
    hidden=[path for path in ("/etc/passwd", "/proc/1/root/etc/passwd", "/var")
            if os.path.exists(path)],
    processes=[name for name in os.listdir("/proc") if name.isdigit()],
    capabilities=[line for line in open("/proc/self/status") if line.startswith("CapEff")],
    written=[path for path in ("/x", "/workspace/x", "/cache/x", "/cache/models/org--tiny/x", "/usr/x", "/app/x")
             if writes(path)],
)
""",
    )
    assert found["store"] is False
    assert found["datasets"] == ["task-1_train_data.json"]
    assert found["hidden"] == []
    assert len(found["processes"]) == 2
    assert found["capabilities"] == ["CapEff:\t0000000000000000\n"]
    assert found["written"] == []


def test_an_isolated_trainer_has_no_network(isolated: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        socket.create_connection(address).close()
        script = f"""
import socket
try:
    socket.create_connection({address!r}, timeout=5)
    facts = "connected"
except OSError as problem:
    facts = type(problem).__name__
"""
        assert probe(isolated, script) == "ConnectionRefusedError"


def test_a_plain_process_is_announced_as_isolating_nothing(tmp_path: Path) -> None:
    trainer = SandboxTrainer(tmp_path, tmp_path, frozenset(), "process")
    assert trainer.isolation == "none"
    assert "nothing is isolated" in trainer.warning
    assert "\n" not in trainer.warning


def test_bubblewrap_is_taken_where_it_works_and_warns_of_nothing(need_bubblewrap: str, tmp_path: Path) -> None:
    trainer = SandboxTrainer(tmp_path, tmp_path, frozenset())
    assert (trainer.isolation, trainer.warning) == ("bubblewrap", "")


def test_without_bubblewrap_it_falls_back_unless_it_must_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tourney_ray.effects.bubblewrap.why_not", lambda: "bubblewrap is not installed")
    trainer = SandboxTrainer(tmp_path, tmp_path, frozenset(), "auto")
    assert trainer.isolation == "none"
    assert "bubblewrap is not installed" in trainer.warning
    with pytest.raises(EngineDown, match="not installed"):
        SandboxTrainer(tmp_path, tmp_path, frozenset(), "bubblewrap")


def test_a_crash_is_the_miners_and_says_its_last_words(world: World) -> None:
    outcome = failed(world.run("import sys\nprint('\\x1b[31mbad\\x1b[0m')\nsys.exit('no such luck')\n"))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "crashed")
    assert outcome.reason == "trainer exited with 1: no such luck"
    assert outcome.log_tail == "?[31mbad?[0m\nno such luck\n"
    assert outcome.seconds > 0


def test_a_kill_that_is_not_ours_is_told_apart(world: World) -> None:
    outcome = failed(world.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "crashed")
    assert "killed by signal 9" in outcome.reason


def test_a_good_end_without_a_checkpoint_is_a_failure(world: World) -> None:
    outcome = failed(world.run(SAVING))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "no_checkpoint")
    assert "task-1/tournament-1-hk-a" in outcome.reason


def test_an_entry_point_that_is_not_there_is_the_miners(world: World) -> None:
    source = world.source("", dockerfile='ENTRYPOINT ["no-such-program"]\n')
    outcome = failed(world.trainer().train(world.spec(source), source, nothing))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "crashed")
    assert "no-such-program" in outcome.reason


def test_at_the_deadline_what_is_there_counts(world: World) -> None:
    outcome = world.run(SAVING + "(output / 'model.safetensors').write_text('half')\n" + ENDLESS, max_seconds=0.5)
    assert isinstance(outcome, Trained)
    assert outcome.stopped_at_deadline
    assert 0.5 <= outcome.seconds < 2.4
    assert (world.checkpoint(outcome) / "model.safetensors").read_text() == "half"


def test_at_the_deadline_with_nothing_there_the_miner_failed(world: World) -> None:
    outcome = failed(world.run(ENDLESS, max_seconds=0.3))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "no_checkpoint")
    assert "deadline" in outcome.reason


def test_the_hours_of_the_task_are_the_deadline(world: World) -> None:
    source = world.source(ENDLESS)
    outcome = world.trainer().train(world.spec(source, hours=0.4 / 3600), source, nothing)
    assert 0.4 <= outcome.seconds < 2.4


def test_a_trainer_may_save_when_it_is_asked_to_stop(world: World) -> None:
    script = """
import select, signal
def save(*_):
    (output / "model.safetensors").write_text("saved in time")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
while True: select.select([], [], [], 60)
"""
    outcome = world.run(SAVING + script, max_seconds=0.5)
    assert isinstance(outcome, Trained), outcome
    assert (world.checkpoint(outcome) / "model.safetensors").read_text() == "saved in time"


def test_a_trainer_that_ignores_the_request_is_killed_after_the_grace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tourney_ray.effects.sandbox.GRACE_S", 0.3)
    outcome = world.run(SAVING + STUBBORN + "(output / 'x').write_text('x')\n" + ENDLESS, max_seconds=0.5)
    assert isinstance(outcome, Trained)
    assert 0.8 <= outcome.seconds < 3
    assert living(world) == []


@pytest.mark.parametrize("ending", ["", "sys.exit(3)\n", ENDLESS], ids=["well", "crashed", "deadline"])
def test_no_child_outlives_its_trainer(world: World, ending: str) -> None:
    world.run(SAVING + WITH_CHILD + ending, max_seconds=1.0)
    assert living(world) == []


def test_an_interrupt_ends_the_trainer(world: World) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run(ENDLESS, on_start=interrupt)
    assert living(world) == []


def test_a_second_attempt_finds_the_logs_of_the_first_and_nothing_else(world: World) -> None:
    script = """
mark = pathlib.Path(os.environ["WANDB_DIR"]) / "mark"
if not mark.exists():
    mark.write_text("")
    (output / "stale").write_text("")
    sys.exit("first")
(output / "model.safetensors").write_text("second")
"""
    source = world.source(SAVING + script)
    first = world.trainer().train(world.spec(source, attempt=1), source, nothing)
    second = world.trainer().train(world.spec(source, attempt=2), source, nothing)
    assert failed(first).reason == "trainer exited with 1: first"
    assert isinstance(second, Trained)
    assert os.listdir(world.checkpoint(second)) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("(output / 'model.safetensors').symlink_to('/etc/passwd')", "not a plain file"),
        ("(output / 'deep').symlink_to('/etc')", "not a plain file"),
        ("output.rmdir(); output.symlink_to('/etc')", "not a folder"),
        ("output.rmdir(); output.parent.rmdir(); output.parent.symlink_to('/')", "not a folder"),
        ("os.mkfifo(output / 'pipe')", "not a plain file"),
        ("(output / 'a').write_text(''); os.link(output / 'a', output / 'b')", "not a plain file of its own"),
        ("(output / 'a').touch(); os.truncate(output / 'a', 10**12)", "bytes"),
        ("[(output / str(n)).touch() for n in range(30)]", "more than 20 files"),
        ("(output / 'a/b/c/d/e/f/g/h/i').mkdir(parents=True)", "deep"),
        ("(output / 'a\\nb').touch()", "of the name"),
    ],
)
def test_output_that_is_no_plain_output_is_refused(world: World, planted: str, complaint: str) -> None:
    outcome = failed(world.run(f"{SAVING}\n{planted}\n", caps=OutputCaps(files=20)))
    assert (outcome.blame, outcome.kind) == (Blame.MINER, "output_refused")
    assert complaint in outcome.reason
    record = load(world.store, outcome.provenance.removeprefix("sha256:"))
    assert record.fault is not None
    assert complaint in record.fault.reason
    assert [found.name for found in world.store.objects()] == [outcome.provenance.removeprefix("sha256:")]


def test_a_flood_of_log_is_capped_and_its_end_kept(world: World) -> None:
    outcome = world.run("import sys\nfor _ in range(300): sys.stdout.write('x' * 9_999 + '\\n')\nsys.exit('the end')\n")
    assert outcome.log_tail.endswith("the end\n")
    assert len(outcome.log_tail) <= 2_000
    assert (world.work / f"task-1_{world.hotkey}_1" / "log.txt").stat().st_size == LOG_CAP_BYTES


def test_a_strangers_tree_never_starts(world: World) -> None:
    source = world.source("print('hello')")
    world.trees.clear()
    with pytest.raises(RepoRejected, match="bundled samples only; Docker is needed"):
        world.trainer().train(world.spec(source), source, NEVER_STARTS)
    assert not world.work.exists()


def test_a_source_that_is_not_the_tree_it_should_be_never_starts(world: World) -> None:
    source = world.source("print('hello')")
    spec = world.spec(source)
    (source / "train.py").write_text("print('changed')")
    with pytest.raises(StorageUnavailable, match="holds tree"):
        world.trainer().train(spec, source, NEVER_STARTS)


def test_missing_inputs_are_the_platforms_fault(world: World) -> None:
    source = world.source("")
    (world.root / "datasets/task-1_train_data.json").unlink()
    with pytest.raises(InputsMissing, match=r"data of task task-1 is not here"):
        world.trainer().train(world.spec(source), source, NEVER_STARTS)


def test_a_repository_without_the_dockerfile_is_refused(world: World) -> None:
    source = world.source("")
    (source / "dockerfiles/standalone-text-trainer.dockerfile").unlink()
    spec = world.spec(source)
    world.trees.add(spec.tree_hash)
    with pytest.raises(RepoRejected, match=r"has no dockerfiles/standalone-text-trainer\.dockerfile"):
        world.trainer().train(spec, source, NEVER_STARTS)


class TestAdopt:
    """What the next watcher finds."""

    def test_never_started(self, world: World) -> None:
        source = world.source("")
        assert world.trainer().adopt(world.spec(source)) is None

    def test_finished(self, world: World) -> None:
        source = world.source(SAVING + "(output / 'x').touch()")
        outcome = world.trainer().train(world.spec(source), source, nothing)
        assert isinstance(outcome, Trained)
        assert world.trainer().adopt(world.spec(source)) == outcome

    def test_failed(self, world: World) -> None:
        source = world.source("raise SystemExit(1)")
        outcome = world.trainer().train(world.spec(source), source, nothing)
        assert world.trainer().adopt(world.spec(source)) == outcome

    def test_finished_in_another_epoch_counts_as_never_started(self, world: World) -> None:
        source = world.source("")
        world.trainer().train(world.spec(source), source, nothing)
        assert world.trainer().adopt(world.spec(source, epoch=2)) is None

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_lost_with_its_watcher(self, world: World, tmp_path: Path) -> None:
        source = world.source(STUBBORN + ENDLESS)
        lose_watcher(world, source)
        outcome = world.trainer().adopt(world.spec(source))
        assert living(world) == []
        assert isinstance(outcome, Failed)
        assert (outcome.blame, outcome.kind) == (Blame.PLATFORM, "lost")
        assert world.trainer().adopt(world.spec(source)) == outcome

    def test_taken_from_a_watcher_that_still_lives(self, world: World) -> None:
        """A second watcher ends the training; the first one then reports the same outcome, not a crash of the miner."""
        source = world.source(SAVING + ENDLESS)
        adopted: list[TrainingOutcome | None] = []
        trainer = world.trainer(max_seconds=20)
        taken_over = Told(lambda: adopted.append(trainer.adopt(world.spec(source))))
        if world.kind == "bubblewrap":
            with pytest.raises(EngineDown):
                trainer.train(
                    world.spec(source), source, Told(lambda: adopted.append(trainer.adopt(world.spec(source))))
                )
        else:
            watched = trainer.train(world.spec(source), source, taken_over)
            assert watched == adopted[0]
        assert isinstance(adopted[0], Failed)
        assert adopted[0].kind == "lost"

    def test_a_new_start_ends_what_an_older_epoch_left_running(self, world: World) -> None:
        source = world.source(SAVING + "(output / 'x').touch()")
        endless = world.source(STUBBORN + ENDLESS, "endless")
        lose_watcher(world, endless)
        outcome = world.trainer().train(world.spec(source, epoch=2), source, nothing)
        assert isinstance(outcome, Trained)
        assert living(world) == []


def probe(world: World, script: str) -> Any:
    """The `facts` that a trainer finds out inside the sandbox."""
    saving = "import json\n(output / 'facts.json').write_text(json.dumps(facts))\n"
    outcome = world.run(SAVING + script + saving)
    assert isinstance(outcome, Trained), outcome
    return json.loads((world.checkpoint(outcome) / "facts.json").read_text())


def failed(outcome: TrainingOutcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def living(world: World) -> list[str]:
    """Command lines of living processes that name this test's folder or miner in words or environment."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state != "Z" and (str(world.folder).encode() in about or world.hotkey.encode() in about):
            found.append(about.decode(errors="replace"))
    return found


def lose_watcher(world: World, source: Path) -> None:
    """Start a training in another process, and kill that process without a word as soon as the trainer runs."""
    read, write = os.pipe()
    trainer = world.trainer()
    watcher = os.fork()
    if watcher == 0:
        trainer.train(world.spec(source), source, Told(lambda: os.write(write, b"x")))
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)
