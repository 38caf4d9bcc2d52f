"""Names of everything (RULES §1)."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, strategies as st

from tourney_ray.core import ids
from tourney_ray.core.models import TournamentType

COMMITMENT = "ab" * 32
TID = "tourn_0123456789abcdef_20260101"


def test_tournament_id_has_16_hex_digits_and_the_utc_date():
    east = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=5)))
    made = ids.generate_tournament_id(TournamentType.TEXT, COMMITMENT, east)
    digits = hashlib.sha256(f"text|{COMMITMENT}".encode()).hexdigest()[:16]
    assert made == f"tourn_{digits}_20260228"
    assert re.fullmatch(r"tourn_[0-9a-f]{16}_\d{8}", made)


def test_tournament_id_follows_from_type_and_seed():
    at = datetime(2026, 3, 1, tzinfo=UTC)
    text = ids.generate_tournament_id(TournamentType.TEXT, COMMITMENT, at)
    assert text == ids.generate_tournament_id(TournamentType.TEXT, COMMITMENT, at)
    assert text != ids.generate_tournament_id(TournamentType.IMAGE, COMMITMENT, at)
    assert text != ids.generate_tournament_id(TournamentType.TEXT, "cd" * 32, at)


def test_rounds_groups_and_pairs_are_numbered_with_three_digits():
    round_id = ids.round_id(TID, 1)
    assert round_id == f"{TID}_round_001"
    assert ids.group_id(round_id, 1) == f"{TID}_round_001_group_001"
    assert ids.pair_id(round_id, 12) == f"{TID}_round_001_pair_012"


def test_task_ids_are_uuid_shaped_and_new_for_each_preparation():
    made = [ids.task_id(ids.TaskPlace("match", slot, preparation)) for slot in range(6) for preparation in (1, 2, 3)]
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in made)
    assert len(set(made)) == len(made)
    assert ids.task_id(ids.TaskPlace("match", 0, 1)) == made[0]


def test_attempt_id_names_the_intent():
    assert ids.attempt_id("task", "miner", 2) == "task.miner.2"


def test_expected_repo_takes_eight_characters():
    names = ids.expected_repo_names(TID, "t1", ["5Grwva1234", "5FHneW4633", "short"])
    assert names == {
        "5Grwva1234": f"tournament-{TID}-t1-5Grwva12",
        "5FHneW4633": f"tournament-{TID}-t1-5FHneW46",
        "short": f"tournament-{TID}-t1-short",
    }


def test_expected_repo_takes_as_many_more_as_tell_entrants_apart():
    names = ids.expected_repo_names(TID, "t1", ["abcdefgh1x", "abcdefgh2x", "abcdefgh", "other678zz"])
    assert [name.rsplit("-", 1)[1] for name in names.values()] == ["abcdefgh1", "abcdefgh2", "abcdefgh", "other678"]


@given(st.sets(st.text("ab", min_size=1, max_size=14), min_size=1, max_size=12))
def test_expected_repos_of_one_task_all_differ(hotkeys: set[str]):
    names = ids.expected_repo_names(TID, "t1", sorted(hotkeys))
    assert set(names) == hotkeys
    assert len(set(names.values())) == len(hotkeys)
    for hotkey, name in names.items():
        shown = name.removeprefix(f"tournament-{TID}-t1-")
        assert hotkey.startswith(shown)
        assert len(shown) >= min(8, len(hotkey))


def test_a_published_tree_is_named_after_type_tournament_and_place():
    made = [ids.publication_name(kind, TID, place) for kind in TournamentType for place in (1, 2)]
    assert made == [
        f"god-{kind}-tourn-0123456789abcdef-20260101-position-{n}" for kind in ("text", "image") for n in (1, 2)
    ]


def test_nobody_has_no_output():
    assert ids.expected_repo_names(TID, "t", []) == {}
