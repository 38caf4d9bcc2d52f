"""Drawing completions: choices by hand, the loop against one without cache or padding, whose numbers are whose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tourney_ray.evaluation import sampling
from tourney_ray.evaluation.base_model import BaseModel
from tourney_ray.evaluation.language import token_ids
from tourney_ray.evaluation.sampling import NEW_TOKENS, SAMPLES, TEMPERATURE, choose, sample

EOS = 0
SEED = bytes(32)
PROMPTS = ["hugo asks for a turtle. ", "a", "Greet emma. emma asks for a bottle. Thank you!"]


class Constant(torch.nn.Module):
    """Has the same logits for every next token, and remembers what it was asked."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.shapes.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1), past_key_values=None)


def tokens(base: BaseModel, texts: list[str]) -> list[tuple[int, ...]]:
    return [tuple(token_ids(text, base.tokenizer, special=False)) for text in texts]


@pytest.mark.parametrize(
    ("random", "token"), [(0.0, 0), (0.24, 0), (0.26, 1), (0.37, 1), (0.38, 2), (0.87, 2), (0.88, 3), (0.999999, 3)]
)
def test_a_choice_by_hand(random: float, token: int) -> None:
    probabilities = torch.tensor([[0.25, 0.125, 0.5, 0.125]])
    logits = probabilities.log() * TEMPERATURE
    got = choose(logits, torch.tensor([random], dtype=torch.float64))
    assert got is not None
    assert int(got) == token


def test_every_random_number_gives_a_token_of_the_row() -> None:
    last = torch.tensor([1 - 2**-53], dtype=torch.float64)
    for vocabulary in (1, 3, 49, 1000):
        got = choose(torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary)), last)
        assert got is not None
        assert 0 <= int(got) < vocabulary


def test_only_the_fifty_likeliest_tokens_are_drawn() -> None:
    logits = torch.arange(100.0)[None] / 1000
    drawn = {int(choose(logits, torch.tensor([at / 1000]))[0]) for at in range(1000)}  # pyright: ignore[reportOptionalSubscript]
    assert drawn == set(range(50, 100))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_without_probabilities_has_no_completions(bad: float) -> None:
    assert sample(Constant([0.0, bad, 0.0]), [(1,)], EOS, SEED) is None
    assert sample(Constant([-float("inf")] * 3), [(1,)], EOS, SEED) is None


def test_a_collapsed_model_repeats_itself() -> None:
    assert sample(Constant([-50.0, -50.0, 50.0]), [(1,)], EOS, SEED) == [[(2,) * NEW_TOKENS] * SAMPLES]


def test_a_silent_model_is_asked_once_and_says_nothing() -> None:
    model = Constant([50.0, -50.0, -50.0])
    assert sample(model, [(1,)], EOS, SEED) == [[()] * SAMPLES]
    assert model.shapes == [(SAMPLES, 1)]


def test_without_eos_all_is_said() -> None:
    got = sample(Constant([1.0, 1.0, 1.0]), [(1,)], None, SEED)
    assert got is not None
    assert {len(completion) for completion in got[0]} == {NEW_TOKENS}


def test_batches_are_sixteen_prompts_in_order() -> None:
    model = Constant([50.0, -50.0])
    sample(model, [(1,) * (at + 1) for at in range(40)], EOS, SEED)
    assert model.shapes == [(32, 16), (32, 32), (16, 40)]


def test_a_completions_numbers_are_its_own() -> None:
    model = Constant([0.0] * 40)
    one = sample(model, [(1,), (1,), (2,)], None, SEED)
    other = sample(model, [(3,), (1,)], None, SEED)
    assert one is not None
    assert other is not None
    assert one[:2] == other
    assert len({completion for group in one for completion in group}) == 3 * SAMPLES
    assert sample(model, [(1,)], None, b"\1" * 32) != one[:1]


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    got = sample(Constant((probabilities.log() * TEMPERATURE).tolist()), [(1,)] * 16, None, SEED)
    assert got is not None
    drawn = torch.tensor([token for group in got for completion in group for token in completion])
    shares = torch.bincount(drawn) / len(drawn)
    assert shares.tolist() == pytest.approx(probabilities.tolist(), abs=0.02)


def test_the_loop_is_one_without_cache_and_padding(base: BaseModel) -> None:
    prompts = tokens(base, PROMPTS)
    with torch.inference_mode():
        got = sample(base.model, prompts, EOS, SEED)
        assert got is not None
        for at, prompt in enumerate(prompts):
            for index in range(SAMPLES):
                assert got[at][index][:40] == plainly(base.model, prompt, sampling._randoms(SEED, at, index))[:40]


def plainly(model: torch.nn.Module, prompt: tuple[int, ...], randoms: torch.Tensor) -> tuple[int, ...]:
    ids = list(prompt)
    for random in randoms[:40]:
        output: Any = model(input_ids=torch.tensor([ids]), use_cache=False)
        token = choose(output.logits[:, -1], random[None])
        assert token is not None
        if int(token) == EOS:
            break
        ids.append(int(token))
    return tuple(ids[len(prompt) :])
