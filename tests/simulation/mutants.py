"""All planted bugs. Each has to be caught, and by whom it says."""

from __future__ import annotations

from tests.simulation import mutants_driver, mutants_money, mutants_staging, mutants_trainings, mutants_verdicts

MUTANTS = (
    *mutants_trainings.MUTANTS,
    *mutants_staging.MUTANTS,
    *mutants_driver.MUTANTS,
    *mutants_money.MUTANTS,
    *mutants_verdicts.MUTANTS,
)
