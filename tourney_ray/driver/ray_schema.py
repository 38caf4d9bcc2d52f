"""What Ray itself would say of a cluster file before `ray up`: its own preparation and schema, offline."""

from __future__ import annotations

import copy
from pathlib import Path

import click
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tourney_ray.effects.cluster_file import read_document


def ray_complaints(path: Path) -> list[str]:
    """Why Ray would refuse a cluster file; empty when it would not. Raises `ConfigError` when it cannot be read."""
    try:
        validate_config(prepare_config(copy.deepcopy(read_document(path))))
    except ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path)) or 'document'}: {error.message}"]
    except (ValueError, RuntimeError, KeyError, click.ClickException) as error:
        return [str(error).strip() or type(error).__name__]
    return []
