"""Each way in which an entry can fail to follow is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta, timezone

import pytest

from tests.builders import START, credit, entries, offer, play
from tourney_ray.core.chain import Entry, chain, entry_hash
from tourney_ray.core.events import EntrantRefused, TournamentCreated, TransferCredited
from tourney_ray.core.replay import follow, judged, read_fact
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State
from tourney_ray.errors import AuditDifference, IllegalTransition

FIRST, SECOND = entries([(credit("a"), START), (credit("b"), START)])


def rehashed(entry: Entry, **changes: object) -> Entry:
    """The entry after an edit by somebody who knows how to hash."""
    e = entry.model_copy(update=changes)
    return e.model_copy(update={"hash": entry_hash(e.seq, e.at, e.kind, e.body, e.previous)})


def test_entries_that_follow_give_their_facts() -> None:
    assert read_fact(None, FIRST) == credit("a")
    assert read_fact(FIRST, SECOND) == credit("b")
    assert follow(State(), credit("a"), FIRST).balances == {"c-a": 10**9}


def created_by_an_older_version() -> Entry:
    """The first entry of a journal whose rules know nothing of a field that came later."""
    fact = next(fact for fact, _ in play(8).facts if isinstance(fact, TournamentCreated))
    return rehashed(chain(None, fact, START), body=fact.model_dump_json(exclude={"rules": {"image_text_guided_share"}}))


def test_what_an_older_version_did_not_know_has_its_default() -> None:
    fact = read_fact(None, created_by_an_older_version())
    assert isinstance(fact, TournamentCreated)
    assert fact.rules.image_text_guided_share == Rules().image_text_guided_share


def test_an_older_body_is_held_to_its_form_all_the_same() -> None:
    older = created_by_an_older_version()
    turned = json.dumps(dict(reversed(json.loads(older.body).items())), separators=(",", ":"))
    for body in (turned, older.body.replace(":", ": ", 1)):
        with pytest.raises(AuditDifference, match="its body says things twice or in another form"):
            read_fact(None, rehashed(older, body=body))


@pytest.mark.parametrize(
    ("altered", "why"),
    [
        (lambda: SECOND.model_copy(update={"seq": 3}), "fact 3 (TransferCredited): fact 2 is due"),
        (lambda: rehashed(SECOND, previous="f" * 64), "was not chained to the entry before it"),
        (lambda: SECOND.model_copy(update={"body": FIRST.body}), "its hash is not that of its content"),
        (lambda: SECOND.model_copy(update={"at": START + timedelta(days=1)}), "its hash is not that of its content"),
        (lambda: rehashed(SECOND, at=START - timedelta(seconds=1)), "is before that of the entry before it"),
        (lambda: rehashed(SECOND, body="{}"), "its body is no fact"),
        (lambda: rehashed(SECOND, body=SECOND.body.replace("1000000000", "-1")), "TransferCredited.rao: Input should"),
        (lambda: rehashed(SECOND, kind="Charged"), "its body is a TransferCredited"),
        (lambda: rehashed(SECOND, body='{"rao":1,' + SECOND.body[1:]), "its body says things twice or in another form"),
    ],
)
def test_what_does_not_follow_is_refused_by_its_reason(altered: Callable[[], Entry], why: str) -> None:
    with pytest.raises(AuditDifference) as caught:
        read_fact(FIRST, altered())
    assert why in caught.value.message
    assert "\n" not in caught.value.message


def test_a_fact_that_the_state_does_not_allow_is_refused() -> None:
    fact = EntrantRefused(tournament_id="none", hotkey=offer("a").hotkey, number=1, because="no")
    with pytest.raises(AuditDifference, match=r"fact 1 \(EntrantRefused\): there is no tournament none"):
        follow(State(), fact, chain(None, fact, START))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (KeyError("m99"), "it needs what is not there: 'm99'"),
        (OverflowError("too large"), "nothing can be computed from it: too large"),
        (IllegalTransition("it cannot\nfollow"), r"it cannot\nfollow"),
    ],
)
def test_what_the_rules_stumble_over_is_a_difference_of_the_entry(error: Exception, why: str) -> None:
    with pytest.raises(AuditDifference) as caught, judged(SECOND):
        raise error
    assert caught.value.message == f"fact 2 (TransferCredited): {why}"


def test_a_time_in_another_zone_is_refused() -> None:
    elsewhere = SECOND.model_copy(update={"at": SECOND.at.astimezone(timezone(timedelta(hours=1)))})
    with pytest.raises(AuditDifference, match=r"fact 2 \(TransferCredited\): its time is not in UTC"):
        read_fact(FIRST, elsewhere)


def test_the_first_entry_must_be_the_first() -> None:
    with pytest.raises(AuditDifference, match="fact 1 is due"):
        read_fact(None, SECOND)
    assert isinstance(read_fact(None, FIRST), TransferCredited)
