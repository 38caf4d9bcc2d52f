"""A tournament as one document: plain JSON, every match with its values and reasons, and sums that are sums."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.builders import CHAMPION, Played, Script, Stage, play
from tests.builders_eventful import eventful
from tests.core.arena import Arena
from tourney_ray.core.models import Blame, Failed, TournamentType
from tourney_ray.report.document import Document, emission, tournament_document


@cache
def everything() -> Played:
    """Three tournaments with all that can happen: without a metric in the second one, the third one cancelled."""
    return eventful()


def documents() -> list[Document]:
    played = everything()
    return [tournament_document(t, played.state) for t in played.state.tournaments.values()]


def matches(document: Document) -> list[Document]:
    return [match for drawn in document["rounds"] for match in drawn["matches"]]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_is_json_that_any_reader_understands(number: int) -> None:
    document = documents()[number]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize("number", [0, 1])
def test_weights_and_emission_sum_to_one(number: int) -> None:
    document = documents()[number]
    assert sum(document["weights"].values()) == pytest.approx(1, abs=1e-12)
    assert sum(document["emission"].values()) == pytest.approx(1, abs=1e-12)
    assert set(document["weights"]) == set(document["points"])


@pytest.mark.parametrize("number", [0, 1])
def test_every_match_has_its_tasks_and_a_verdict_with_its_reason_on_everyone(number: int) -> None:
    document = documents()[number]
    for match in matches(document):
        hotkeys = [entrant["hotkey"] for entrant in match["entrants"]]
        tasks = {task["task_id"] for task in match["tasks"]}
        assert tasks
        assert sorted(hotkeys) == sorted(verdict["hotkey"] for verdict in match["verdicts"])
        assert all(verdict["because"] for verdict in match["verdicts"])
        assert match["because"]
        assert all(set(entrant["values"]) == tasks for entrant in match["entrants"])
        assert all(task["because"] and task["ranking"] for task in match["tasks"])


def test_every_trained_checkpoint_has_its_value() -> None:
    for match in matches(documents()[0]):
        for entrant in match["entrants"]:
            without = entrant["hotkey"] in {"m03", "m10"}  # crashed twice; its metric is no number
            assert all((value is None) == without for value in entrant["values"].values()), entrant


def test_a_metric_that_is_no_number_is_none_and_the_reason_says_it() -> None:
    for match in matches(documents()[1]):
        assert all(value is None for entrant in match["entrants"] for value in entrant["values"].values())
        assert all("nan" in verdict["because"] for verdict in match["verdicts"])


def test_who_won_and_why() -> None:
    first, second, _ = documents()
    assert (first["champion"], first["title"], first["status"]) == ("m11", "won", "completed")
    assert "m11 is the new champion" in first["because"]
    assert (second["champion"], second["title"]) == (CHAMPION, "defended")
    assert [drawn["type"] for drawn in first["rounds"]] == ["group", "knockout", "knockout", "knockout", "boss"]
    assert matches(first)[-1]["champion"] == CHAMPION
    assert len(matches(first)[-1]["tasks"]) == 6
    assert {match["champion"] for match in matches(first)[:-1]} == {None}


def test_a_cancelled_one_says_by_whom_and_why_and_what_its_trainings_came_to() -> None:
    cancelled = documents()[2]
    assert (cancelled["status"], cancelled["champion"], cancelled["title"]) == ("cancelled", None, None)
    assert cancelled["because"] == "cancelled by ada: seen on the dashboard"
    assert (cancelled["weights"], cancelled["emission"]) == ({}, {})
    retried = [a for a in cancelled["attempts"] if a["kind"] == "retried"]
    assert [(a["hotkey"], a["blame"], a["reason"]) for a in retried] == [
        ("m00", "platform", "ada began it anew: seen on the dashboard")
    ]
    assert {match["because"] for match in matches(cancelled)} == {""}


def test_who_is_in_and_who_was_refused_and_why() -> None:
    first = documents()[0]
    assert "no dockerfile" in first["refused"]["m02"]
    assert "m01" in first["refused"]
    assert {entrant["hotkey"] for entrant in first["entrants"]}.isdisjoint(first["refused"])
    assert set(first["entrants"][0]) == {"hotkey", "coldkey", "repo", "commit", "tree_hash"}


def test_attempts_tell_how_they_ended_and_whose_fault_it_was() -> None:
    attempts = documents()[0]["attempts"]
    crashed = [a for a in attempts if a["hotkey"] == "m03"]
    assert [(a["epoch"], a["status"], a["blame"], a["reason"]) for a in crashed] == [
        (1, "failure", "miner", "exit status 1"),
        (2, "failure", "miner", "exit status 1"),
    ]
    lost = [a for a in attempts if a["hotkey"] == "m04"][:4]
    assert [a["blame"] for a in lost] == ["platform", "miner", "platform", None]
    done = lost[-1]
    assert (done["status"], done["seconds"], done["kind"], done["reason"]) == ("success", 1.5, None, "")
    assert done["checkpoint"]
    assert done["started_at"] < done["ended_at"]
    assert done["gpus"] == "1xH100"


def test_seeds_are_there_to_be_checked() -> None:
    seeds = documents()[0]["seeds"]
    assert {len(seeds[name]) for name in ("draw", "secret", "final", "draw_commitment", "secret_commitment")} == {64}


def test_a_tournament_under_way_has_a_document_too() -> None:
    arena = Arena(entrants=[f"m{i:02d}" for i in range(8)]).open()
    seen: set[str] = set()
    while arena.step():
        document = tournament_document(arena.tournament, arena.stage.state)
        json.dumps(document, allow_nan=False)
        seen.add(document["status"])
        if document["status"] != "completed":
            unknown = (document["champion"], document["title"], document["weights"], document["emission"])
            assert unknown == (None, None, {}, {})
    assert seen == {"pending", "active", "completed"}


def test_without_anybody_the_title_is_vacant_and_everything_is_burnt() -> None:
    lost = Failed(blame=Blame.MINER, kind="crashed", reason="exit status 1")
    failures: dict[Any, Any] = {(1, f"m{i:02d}"): [lost, lost] for i in range(8)}
    played = play(8, champion=False, script=Script(failures=failures))
    document = tournament_document(played.tournament, played.state)
    assert (document["champion"], document["title"], document["weights"]) == (None, "vacant", {})
    assert sum(document["emission"].values()) == pytest.approx(1, abs=1e-12)
    assert document["emission"]["burn"] > 0.9
    assert all(verdict["because"] for match in matches(document) for verdict in match["verdicts"])


def test_the_emission_counts_the_latest_tournament_of_each_type() -> None:
    stage = Stage()
    play(8, stage=stage)
    text_only = emission(stage.state, next(iter(stage.state.tournaments.values())))
    both = play(8, tournament_type=TournamentType.IMAGE, stage=stage)
    shares = emission(both.state, both.tournament)
    assert shares["burn"] < text_only["burn"]
    assert sum(text_only.values()) == pytest.approx(1, abs=1e-12)
    assert set(shares) >= {CHAMPION, "m07", "burn"}
