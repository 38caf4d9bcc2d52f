"""`tourney evaluate`: the tournament's own metric, for anyone with a checkpoint."""

from __future__ import annotations

import json

import click

from tourney_ray.effects.rewards import without_network
from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.worker import Question, evaluate_files


def run_evaluate(as_json: bool, question: Question) -> None:
    """Print the metric; raises `CheckpointInvalid` (exit 2) for a checkpoint that is refused, after any JSON."""
    result = evaluate_files(question, without_network)
    if as_json:
        document = json.loads(result.model_dump_json())
        click.echo(json.dumps(document | {"is_finetune": document.pop("fine_tuned")}, ensure_ascii=False))
    if result.refused:
        raise CheckpointInvalid(f"{question.checkpoint} is refused: {result.refused}")
    if not as_json:
        click.echo(
            f"{result.value:.10f} over {len(result.per_row)} rows; {'' if result.fine_tuned else 'not '}fine-tuned"
        )
