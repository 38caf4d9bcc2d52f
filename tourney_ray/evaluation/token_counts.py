"""How long texts are in the tokens of a model, for whoever prepares tasks. Knows no model but its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tourney_ray.errors import ConfigError


def token_counter(model: Path) -> Callable[[str], int]:
    """Counts a text's tokens, without special ones, by the `tokenizer.json` in a folder; raises `ConfigError`."""
    from tokenizers import Tokenizer

    path = model / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
        whole = "model" in json.loads(text)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "restore the model") from error
    if not whole:
        raise ConfigError(f"{path} is no tokenizer", "restore the model")
    tokenizer = Tokenizer.from_str(text)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
