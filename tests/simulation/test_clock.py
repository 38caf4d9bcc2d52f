"""Virtual time: what happens, in the order of its moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tourney_ray.simulation.clock import VirtualClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_events_happen_in_the_order_of_their_moments_and_then_of_asking():
    clock, seen = VirtualClock(START), list[str]()
    for seconds, name in ((5.0, "late"), (1.0, "first"), (5.0, "later"), (0.0, "now")):
        clock.after(seconds, lambda name=name: seen.append(name))
    while clock.next():
        pass
    assert seen == ["now", "first", "late", "later"]


def test_time_stands_still_between_events_and_never_goes_back():
    clock, moments = VirtualClock(START), list[float]()

    def again() -> None:
        moments.append(clock.seconds)
        if len(moments) < 3:
            clock.after(2.5, again)

    clock.after(1.0, again)
    clock.after(3.0, lambda: moments.append(clock.seconds))
    while clock.next():
        pass
    assert moments == [1.0, 3.0, 3.5]  # so the third `again` was not asked for
    assert clock.seconds == 3.5
    assert not clock.next()


def test_the_drivers_machine_may_show_another_time_than_the_true_one():
    clock = VirtualClock(START)
    clock.skew_s = -60.0
    assert clock.shown() == START - timedelta(seconds=60)
    assert clock.seconds_until(START) == 60.0
    assert clock.seconds_until(START - timedelta(hours=1)) == 0.0
