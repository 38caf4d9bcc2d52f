"""GRPO tasks: of several answers that the model gives to a prompt, those above their mean reward become likelier."""

import inspect
from dataclasses import dataclass

import batches
import sampling
import torch

LONGEST_PROMPT = 512
ANSWERS = 8
"""To each prompt of a batch."""
NEW_TOKENS = 48
CLOSENESS = 0.5
"""Weight of the distance from the base model on the prompts, as the task is scored."""
SHARE_OF_STEPS = 0.4
SHARE_OF_RATE = 0.25
"""Of the recipe's steps and learning rate."""


@dataclass
class Prompt:
    tokens: list[int]
    extra: object = None


def rows(entries: list[dict], kind: dict, encode, config: dict, end: int) -> list[Prompt]:
    """The task's prompts, each with what its rewards may want to know."""
    prompts = [encode(entry[kind["field_prompt"]])[-LONGEST_PROMPT:] for entry in entries]
    extra = kind.get("extra_column")
    made = zip(entries, prompts, strict=True)
    return [Prompt(prompt, entry.get(extra) if extra else None) for entry, prompt in made if len(prompt) > 1]


class Reward:
    """One of the task's reward functions, scaled by its range to 0–1 and by its weight."""

    def __init__(self, described: dict):
        scope: dict = {}
        exec(described["reward_func"], scope)
        self.function = next(f for f in scope.values() if inspect.isfunction(f) and f.__module__ != "typing")
        self.weight, self.low, self.high = (described[name] for name in ("reward_weight", "low", "high"))
        self.wants_extra = "extra_data" in inspect.signature(self.function).parameters

    def __call__(self, texts: list[str], extra: list):
        raw = torch.tensor(self.function(texts, **({"extra_data": extra} if self.wants_extra else {})))
        return self.weight * ((raw - self.low) / (self.high - self.low)).clamp(0, 1)


class Objective:
    def __init__(self, model, base, kind: dict, tokenizer, end: int, seed: int):
        self.model, self.base, self.tokenizer, self.end = model, base, tokenizer, end
        self.rewards = [Reward(described) for described in kind["reward_functions"]]
        self.dice = torch.Generator().manual_seed(seed)

    def loss(self, batch: list[Prompt]):
        prompts = [prompt for prompt in batch[: max(1, len(batch) // ANSWERS)] for _ in range(ANSWERS)]
        given = [prompt.tokens for prompt in prompts]
        answers = sampling.sample(self.model, given, NEW_TOKENS, self.end, self.dice)
        gains = self.gains(prompts, answers)
        rows = [batches.Row([*p, *a], len(p)) for p, a in zip(given, answers, strict=True)]
        lengths = torch.tensor([len(answer) for answer in answers])
        likelier = (gains * batches.summed(self.model, rows) / lengths).mean()
        return CLOSENESS * self.distance(batch) - likelier

    def gains(self, prompts: list[Prompt], answers: list[list[int]]):
        """Shape (answers,): how far above the mean of its prompt's answers each is, in their standard deviations."""
        texts = [self.tokenizer.decode(answer) for answer in answers]
        extra = [prompt.extra for prompt in prompts]
        rewards = sum(reward(texts, extra) for reward in self.rewards).view(-1, ANSWERS)
        spread = rewards.std(1, keepdim=True) + 1e-4
        return ((rewards - rewards.mean(1, keepdim=True)) / spread).flatten()

    def distance(self, batch: list[Prompt]):
        """Kullback–Leibler divergence of the model from the base model, nats per token of the prompts."""
        rows = [batches.Row(prompt.tokens, 1) for prompt in batch]
        tokens, wanted, _, _ = batches.collate(rows)
        with torch.no_grad():
            base = self.base(tokens, wanted).log_softmax(-1)
        return (base.exp() * (base - self.model(tokens, wanted).log_softmax(-1))).sum(-1).mean()
