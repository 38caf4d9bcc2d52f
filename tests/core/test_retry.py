"""What follows a failure (RULES §6)."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tourney_ray.core.models import Blame
from tourney_ray.core.retry import GiveUp, Retry, after_failure, back_off_s
from tourney_ray.core.rules import Rules


def test_a_miners_first_failure_is_retried_at_once_and_the_second_ends_it():
    assert after_failure(Blame.MINER, "exit status 1", 1, 0, Rules()) == Retry(
        0.0, "1 of 2 attempts failed: exit status 1"
    )
    given_up = after_failure(Blame.MINER, "exit status 1", 2, 0, Rules())
    assert given_up == GiveUp("2 of 2 attempts failed, the last one: exit status 1")


@given(st.sampled_from([Blame.PLATFORM, Blame.EVALUATOR]), st.integers(0, 9), st.integers(1, 19))
def test_a_fault_of_the_platform_never_costs_an_attempt(blame: Blame, miner_failures: int, platform_failures: int):
    step = after_failure(blame, "node lost", miner_failures, platform_failures, Rules())
    assert isinstance(step, Retry)
    assert step.pause_s == back_off_s(platform_failures, Rules()) > 0
    assert step.because.startswith("node lost; not the miner's fault, again after ")


@given(st.sampled_from([Blame.PLATFORM, Blame.EVALUATOR]), st.integers(0, 9), st.integers(0, 10_000))
def test_a_platform_that_keeps_failing_is_given_up_and_named(blame: Blame, miner_failures: int, more: int):
    failures = Rules().max_platform_failures + more
    assert after_failure(blame, "node lost", miner_failures, failures, Rules()) == GiveUp(
        f"the platform failed {failures} times, not the miner; the last time: node lost"
    )


@given(st.integers(0, 10_000))
def test_faults_of_the_platform_do_not_count_among_the_miners(platform_failures: int):
    assert isinstance(after_failure(Blame.MINER, "crash", 1, platform_failures, Rules()), Retry)


@pytest.mark.parametrize(("failures", "pause"), [(1, 5), (2, 10), (3, 20), (9, 1280), (10, 1800), (10**6, 1800)])
def test_the_pause_doubles_and_is_capped(failures: int, pause: float):
    assert back_off_s(failures, Rules()) == pause


@given(st.integers(1, 60), st.floats(0.1, 60), st.floats(0.1, 7200))
def test_pauses_never_shrink_and_never_pass_the_cap(failures: int, first: float, cap: float):
    rules = Rules(platform_retry_s=first, platform_retry_cap_s=cap)
    pause = back_off_s(failures, rules)
    assert 0 < pause <= cap
    assert back_off_s(failures + 1, rules) in {min(2 * pause, cap), pause}
    assert back_off_s(failures + 1, rules) >= pause
