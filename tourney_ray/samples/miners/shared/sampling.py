"""Texts that a model continues by itself: several prompts at once, remembered keys and values, one seed."""

import torch

TEMPERATURE = 0.9
TOP_K = 50
"""As the task is scored."""


@torch.no_grad()
def sample(model, prompts: list[list[int]], new_tokens: int, end: int, dice: torch.Generator) -> list[list[int]]:
    """What follows each prompt: at most `new_tokens` tokens, the last of them `end` where the model ended by itself."""
    tokens, seen, positions = padded(prompts)
    past = [[] for _ in model.model.layers]
    length = tokens.shape[1]
    mask = (torch.ones(length, length, dtype=torch.bool).tril() & seen[:, None, :])[:, None]
    mask = mask | torch.eye(length, dtype=torch.bool)
    running = torch.ones(len(prompts), dtype=torch.bool)
    drawn = []
    for _ in range(new_tokens):
        tokens = draw(model.extend(tokens, positions, mask, past), dice)
        tokens = torch.where(running, tokens, end)
        drawn.append(tokens)
        running = running & (tokens != end)
        if not running.any():
            break
        tokens, positions = tokens[:, None], positions[:, -1:] + 1
        seen = torch.cat((seen, torch.ones_like(seen[:, :1])), 1)
        mask = seen[:, None, None, :]
    return [upto(row, end) for row in torch.stack(drawn, 1).tolist()]


def padded(prompts: list[list[int]]):
    """Tokens padded on the left, where they are real, and the position of each."""
    length = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), length, dtype=torch.long)
    seen = torch.zeros(len(prompts), length, dtype=torch.bool)
    for index, prompt in enumerate(prompts):
        tokens[index, length - len(prompt) :] = torch.tensor(prompt)
        seen[index, length - len(prompt) :] = True
    return tokens, seen, (seen.long().cumsum(1) - 1).clamp(min=0)


def draw(logits, dice: torch.Generator):
    """One token for each row of logits."""
    best, places = logits.topk(min(TOP_K, logits.shape[1]))
    chosen = torch.multinomial((best / TEMPERATURE).softmax(-1), 1, generator=dice)
    return places.gather(1, chosen)[:, 0]


def upto(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
