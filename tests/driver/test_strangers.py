"""Without containers nobody's code but the bundled samples' is run, and nobody pays to learn that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effects.builders_repos import make_repo
from tourney_ray.config import Settings
from tourney_ray.core.models import TournamentType
from tourney_ray.driver import work
from tourney_ray.errors import RepoRejected
from tourney_ray.samples.repositories import write_base_contestant


def test_a_strangers_honest_repository_is_refused_before_its_code_is_touched(
    settings: Settings, tmp_path: Path
) -> None:
    commit = make_repo(tmp_path / "stranger")
    where = (tmp_path / "stranger").as_uri()
    with pytest.raises(RepoRejected, match="is not a bundled sample: without containers") as caught:
        work.vet_repository(settings, TournamentType.TEXT, "h", "c", where, commit)
    assert where in caught.value.message


def test_a_bundled_sample_is_accepted(settings: Settings, tmp_path: Path) -> None:
    base = write_base_contestant(tmp_path)
    entrant = work.vet_repository(settings, TournamentType.TEXT, "h", "c", base.path.as_uri(), base.commit)
    assert (entrant.commit, entrant.tree_hash) == (base.commit, base.tree_hash)
