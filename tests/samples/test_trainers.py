"""The sample miners at work: real trainings of the tiny model, in the sandbox that is there."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.builders_training import training_spec
from tests.effects.builders_sandbox import nothing
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import Failed, TaskData, TaskType, Trained, TrainingOutcome
from tourney_ray.effects.artifacts import ArtifactStore, checked_out
from tourney_ray.effects.rewards import without_network
from tourney_ray.effects.sandbox import SandboxTrainer
from tourney_ray.evaluation.worker import WarmEvaluator
from tourney_ray.samples.repositories import MINERS, SampleRepository, sample_tree_hashes, write_sample_repositories
from tourney_ray.samples.sentence_tasks import MAKERS
from tourney_ray.samples.task_data import BASE_MODEL, SampleTasks


class Arena:
    """One task and the sample miners, with what it takes to let them train."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.miners = {sample.name: sample for sample in write_sample_repositories(folder / "repositories", 6)}
        tasks = SampleTasks(self.root)
        self.tasks = {kind: tasks.prepare(kind.value, kind, b"\x07" * 32, (0, 1)) for kind in MAKERS}
        self.data: TaskData = tasks.prepare("task", TaskType.INSTRUCT, b"\x07" * 32, (0, 1))
        self.trainer = SandboxTrainer(self.root, folder / "work", sample_tree_hashes())

    def checkpoint(self, outcome: TrainingOutcome) -> Path:
        """The folder that a training left."""
        store = ArtifactStore(str(self.root / "artifacts"))
        return checked_out(store, trained(outcome).checkpoint, self.root / "checkouts")

    def train(self, name: str, attempt: int = 1, hours: float = 0.05) -> TrainingOutcome:
        sample: SampleRepository = self.miners[name]
        spec = training_spec(
            self.data,
            attempt_id=f"task/{name}/{attempt}",
            task_id="task",
            hotkey=name,
            repo=str(sample.path),
            commit=sample.commit,
            tree_hash=sample.tree_hash,
            expected_repo_name=f"tournament-t-task-{name}",
            hours_to_complete=hours,
        )
        return self.trainer.train(spec, sample.path, nothing)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> Arena:
    """One for all tests of this file: making it takes git, using it takes seconds."""
    need("git")
    return Arena(tmp_path_factory.mktemp("arena"))


def test_a_training_learns_and_says_so(arena: Arena) -> None:
    outcome = trained(arena.train("cosine-full"))
    losses = [line["loss"] for line in metrics(arena, outcome)]
    assert len(losses) == 80
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    weights = load_file(arena.checkpoint(outcome) / "model.safetensors")
    base = load_file(BASE_MODEL / "model.safetensors")
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: w.shape for name, w in base.items()}
    assert any(not torch.equal(weights[name], base[name]) for name in base)
    assert (arena.checkpoint(outcome) / "config.json").read_bytes() == (BASE_MODEL / "config.json").read_bytes()


def test_adapters_are_written_as_peft_names_them(arena: Arena) -> None:
    folder = arena.checkpoint(arena.train("lora-wide"))
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    assert (config["r"], config["lora_alpha"], config["bias"]) == (16, 32, "none")
    assert len(tensors) == 2 * 7 * 3
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (16, 96)
    assert tensors["base_model.model.model.layers.2.mlp.down_proj.lora_B.weight"].shape == (96, 16)


def test_one_falls_over_once_and_then_trains(arena: Arena) -> None:
    first, second = arena.train("crash-once", 1), arena.train("crash-once", 2)
    assert isinstance(first, Failed)
    assert (first.kind, first.seconds < 1) == ("crashed", True)
    assert "trainer exited with 1" in first.reason
    assert trained(second).seconds > first.seconds


def test_one_never_writes_anything(arena: Arena) -> None:
    outcome = arena.train("no-checkpoint")
    assert isinstance(outcome, Failed)
    assert outcome.kind == "no_checkpoint"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_trainer_saves_what_it_has_before_its_time_is_up(arena: Arena, tmp_path: Path, kind: TaskType) -> None:
    output = run_outside(arena, tmp_path / "late", hours=1e-9, kind=kind)
    assert (output / "metrics.jsonl").read_text() == ""
    assert (output / "model.safetensors").exists()


@pytest.mark.parametrize(("kind", "steps"), [(TaskType.INSTRUCT, 8), (TaskType.DPO, 4), (TaskType.GRPO, 3)])
def test_the_same_recipe_on_the_same_rows_gives_the_same_weights(
    arena: Arena, tmp_path: Path, kind: TaskType, steps: int
) -> None:
    outputs = [run_outside(arena, tmp_path / name, kind=kind) for name in ("one", "two")]
    assert all(len((output / "metrics.jsonl").read_text().splitlines()) == steps for output in outputs)
    assert len({hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest() for output in outputs}) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--task-type", "PoetryTask"], "does not know how to train a PoetryTask, only InstructTextTask, DpoTask"),
        (["--task-type", "ChatTask"], "does not know how to train a ChatTask"),
        (["--dataset-zip", "x", "--model-type", "sdxl"], "not image models"),
        (["--task-type", "InstructTextTask"], "--dataset-type and --file-format s3 are needed"),
        (["--surprise"], "unrecognized arguments: --surprise"),
    ],
)
def test_what_it_cannot_do_it_says_in_one_line(arena: Arena, words: list[str], complaint: str) -> None:
    given = ["--task-id", "t", "--model", "m", "--expected-repo-name", "r", "--hours-to-complete", "1", *words]
    done = subprocess.run(
        [sys.executable, "train.py", *given],
        cwd=arena.miners["cosine-full"].path,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_its_model_is_the_one_that_transformers_loads(tmp_path: Path, family: str) -> None:
    """The trainer's own decoder and the library's give the same logits, in a process that has only the former's code.

    Read at once, and token by token from prompts of different lengths.
    """
    folder = BASE_MODEL if family == "qwen2" else small_llama(tmp_path / "llama")
    script = f"""
import sys; sys.path.insert(0, {str(MINERS / "shared")!r})
import json, pathlib, decoder, sampling, torch
torch.manual_seed(0)
model, _ = decoder.load(pathlib.Path({str(folder)!r}))
tokens = torch.arange(2 * 17).view(2, 17) * 29 % 128
with torch.no_grad():
    whole = model(tokens, torch.ones(2, 17, dtype=torch.bool)).view(2, 17, -1)
    given, seen, positions = sampling.padded([tokens[0].tolist(), tokens[1, :5].tolist()])
    mask = (torch.ones(17, 17, dtype=torch.bool).tril() & seen[:, None, :])[:, None] | torch.eye(17, dtype=torch.bool)
    past = [[] for _ in model.model.layers]
    first = model.extend(given, positions, mask, past)
    seen = torch.cat((seen, torch.ones(2, 1, dtype=torch.bool)), 1)
    second = model.extend(torch.tensor([[9], [9]]), positions[:, -1:] + 1, seen[:, None, None], past)
print(json.dumps([whole.sum(-1).tolist(), first[:, :9].tolist(), second[:, :9].tolist()]))
"""
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True)
    whole, first, second = map(torch.tensor, json.loads(done.stdout))
    library = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.arange(2 * 17).view(2, 17) * 29 % 128
    with torch.no_grad():
        torch.testing.assert_close(whole, library(input_ids=tokens).logits.sum(-1), rtol=1e-4, atol=1e-3)
        for row, prompt in enumerate((tokens[:1], tokens[1:, :5])):
            expected = library(input_ids=torch.cat((prompt, torch.tensor([[9]])), 1)).logits[0, -2:, :9]
            torch.testing.assert_close(torch.stack((first[row], second[row])), expected, rtol=1e-4, atol=1e-4)


def small_llama(folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_preferences_start_at_chance_and_are_learnt(arena: Arena, tmp_path: Path) -> None:
    output = run_outside(arena, tmp_path / "dpo", kind=TaskType.DPO, steps_scale=0.3)
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.5


@pytest.mark.parametrize("kind", MAKERS)
def test_half_a_training_is_better_than_none(
    arena: Arena, tmp_path: Path, kind: TaskType, need: Callable[[str], str]
) -> None:
    need("bwrap")
    data = arena.tasks[kind]
    output = run_outside(arena, tmp_path / "half", kind=kind, steps_scale=0.5)
    evaluator = WarmEvaluator(arena.root, without_network)
    base, half = (
        evaluator.evaluate(kind, data, folder, b"\x09" * 32) for folder in (arena.root / data.model_path, output)
    )
    assert (base.fine_tuned, half.fine_tuned, half.refused) == (False, True, "")
    assert METRICS[kind].better(half.value, base.value)


def run_outside(
    arena: Arena, folder: Path, hours: float = 1.0, kind: TaskType = TaskType.INSTRUCT, steps_scale: float = 0.1
) -> Path:
    """The output folder of a few steps of a variant, by the trainer itself and outside of any sandbox."""
    data = arena.tasks[kind]
    folder.mkdir()
    for path in (*(MINERS / "shared").glob("*.py"), MINERS / "cosine-full" / "train.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "variant.json").write_text(json.dumps({"steps_scale": steps_scale, "seed": 5}))
    words = ["--task-id", kind.value, "--model", data.model_id, "--expected-repo-name", "r", "--file-format", "s3"]
    words += ["--hours-to-complete", str(hours), "--task-type", kind.value, "--dataset", "x"]
    words += ["--dataset-type", data.dataset_type.model_dump_json()]
    env = {"TOURNEY_CACHE": str(arena.root), "TOURNEY_CHECKPOINTS": str(folder / "out"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "train.py", *words], cwd=folder, env=env, check=True)
    return folder / "out" / kind.value / "r"


def trained(outcome: TrainingOutcome) -> Trained:
    assert isinstance(outcome, Trained), outcome
    return outcome


def metrics(arena: Arena, outcome: TrainingOutcome) -> list[dict[str, float]]:
    path = arena.checkpoint(outcome) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
