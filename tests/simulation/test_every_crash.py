"""A driver that dies once, before or after every single append and effect of a tournament: nothing is different."""

from __future__ import annotations

import pytest

from tourney_ray.simulation.run import Run, Setting
from tourney_ray.simulation.verdicts import decisions, differences

PARTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_whenever_it_dies_the_decisions_are_the_same(part: int) -> None:
    calm = Run(Setting(), 1).play()
    assert not calm.broken
    moments = range(1 + part, calm.moments + 1, PARTS)
    assert len(moments) > 50
    for moment in moments:
        died = Run(Setting(crash_at=moment), 1).play()
        assert died.lives == 2, f"nobody died at moment {moment}"
        assert not died.broken, f"at moment {moment}: {died.broken[0]}"
        assert not differences(decisions(died.state), decisions(calm.state)), f"at moment {moment}"
