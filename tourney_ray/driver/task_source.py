"""Where the models and data of text tasks come from, by the settings, and whether all that the rules draw is there."""

from __future__ import annotations

from collections.abc import Iterator

from tourney_ray.config import Settings
from tourney_ray.core.models import RoundType, TaskType, TournamentType
from tourney_ray.core.rules import Range, Rules
from tourney_ray.core.tasks import model_range_b
from tourney_ray.effects.catalogue import CatalogueTasks, load_catalogue
from tourney_ray.effects.ports import TaskSource
from tourney_ray.errors import ConfigError
from tourney_ray.evaluation.token_counts import token_counter
from tourney_ray.samples.task_data import SampleTasks


def task_source(settings: Settings) -> TaskSource:
    """The operator's catalogue, or the bundled samples where none is named; raises `ConfigError` for a bad one."""
    catalogue = settings.tasks.catalogue
    if catalogue is None:
        return SampleTasks(settings.data)
    return CatalogueTasks(settings.data, load_catalogue(catalogue), token_counter)


def check_tasks(settings: Settings) -> None:
    """Refuse a text tournament whose rules can draw a task that there is no model or data set for.

    So too one of images with a catalogue, which holds texts only. Raises `ConfigError`, before anyone pays.
    """
    if TournamentType.IMAGE in settings.types and settings.tasks.catalogue is not None:
        raise ConfigError(
            f"image tasks could not be made: {settings.tasks.catalogue} can hold text models and data sets only",
            "leave image out of types, or the catalogue out to play on the bundled samples",
        )
    if TournamentType.TEXT not in settings.types:
        return
    source = task_source(settings)
    place = settings.tasks.catalogue or "the bundled samples"
    for task_type, sizes in drawn_tasks(settings.rules):
        if lack := source.lacking(task_type, sizes):
            raise ConfigError(
                f"the rules draw {task_type.value} that could not be made: {place} would need {lack}",
                "add it to the catalogue (tasks.catalogue), or change the rules' kinds and ranges",
            )


def known_sizes(settings: Settings) -> tuple[int, ...]:
    """Parameters of the catalogue's models; empty without a catalogue: any size may come."""
    if settings.tasks.catalogue is None:
        return ()
    return CatalogueTasks(settings.data, load_catalogue(settings.tasks.catalogue), token_counter).sizes


def drawn_tasks(rules: Rules) -> Iterator[tuple[TaskType, Range]]:
    """Every kind of text task that the rules can draw, with each range of sizes of its model (RULES §4)."""
    yield rules.group_task, rules.group_model_range_b
    for task_type, share in rules.knockout_task_shares.items():
        if share > 0:
            yield task_type, rules.knockout_model_range_b
    for task_type in dict.fromkeys(rules.boss_tasks):
        yield from ((task_type, sizes) for sizes in {model_range_b(RoundType.BOSS, rules, u) for u in (0.0, 1.0)})
