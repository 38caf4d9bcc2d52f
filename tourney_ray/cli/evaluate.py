"""`tourney evaluate`: the tournament's own metric, for anyone with a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from tourney_ray.errors import CheckpointInvalid
from tourney_ray.evaluation.worker import evaluate_files


def run_evaluate(
    as_json: bool,
    kind: str,
    base: Path,
    checkpoint: Path,
    rows: Path,
    dataset_type: str | None,
    sequence_len: int | None,
) -> None:
    """Print the metric; raises `CheckpointInvalid` (exit 1) for a checkpoint that is refused, unless as JSON."""
    result = evaluate_files(kind, base, checkpoint, rows, dataset_type, sequence_len)
    if as_json:
        click.echo(result.model_dump_json())
    elif result.refused:
        raise CheckpointInvalid(f"{checkpoint} is refused: {result.refused}")
    else:
        click.echo(
            f"{result.value:.10f} over {len(result.per_row)} rows; {'' if result.fine_tuned else 'not '}fine-tuned"
        )
