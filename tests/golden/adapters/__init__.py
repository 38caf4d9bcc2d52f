"""One adapter per file of vectors; the number in a file's name is its topic, and the module's."""

from __future__ import annotations

from tests.golden.adapters import (
    t01_gpus,
    t02_rounds,
    t04_groups,
    t05_ranking,
    t06_verdicts,
    t07_weights,
    t08_emission,
    t09_differences,
    t10_schedule,
    t12_money,
    t13_tasks,
    t14_publishing,
)
from tests.golden.harness import Adapter, skip

ADAPTERS: dict[str, Adapter] = {
    **t01_gpus.ADAPTERS,
    **t02_rounds.ADAPTERS,
    **t04_groups.ADAPTERS,
    **t05_ranking.ADAPTERS,
    **t06_verdicts.ADAPTERS,
    **t07_weights.ADAPTERS,
    **t08_emission.ADAPTERS,
    **t09_differences.ADAPTERS,
    **t10_schedule.ADAPTERS,
    **t12_money.ADAPTERS,
    **t13_tasks.ADAPTERS,
    **t14_publishing.ADAPTERS,
    "15_real_winner": skip("the champion plays under its own hotkey: nothing is mapped back"),
    "18_sync_performance_legacy": skip("differences to the history are reported, and by another formula"),
}
"""By the file's name without its ending."""

SKIPPED = frozenset(
    {
        "01c_evaluation_gpus",
        "06d_task_winner_sql",
        "10g_training_attempts",
        "10h_fetch_thresholds",
        "15_real_winner",
        "18_sync_performance_legacy",
    }
)
"""Files that may be skipped as a whole; nothing else may."""
