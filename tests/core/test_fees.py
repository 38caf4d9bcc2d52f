"""Money in whole RAO (RULES §2)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from tests.builders import START, offer
from tourney_ray.core import events as e
from tourney_ray.core.draw import commitment
from tourney_ray.core.evolve import evolve
from tourney_ray.core.fees import RAO_PER_TAO, shortfall, spell_rao
from tourney_ray.core.models import TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.core.state import State
from tourney_ray.errors import IllegalTransition


@pytest.mark.parametrize(
    ("rao", "spelt"),
    [
        (200_000_000, "0.2 TAO"),
        (150_000_000, "0.15 TAO"),
        (0, "0 TAO"),
        (1, "0.000000001 TAO"),
        (10 * RAO_PER_TAO, "10 TAO"),
        (2**60 + 1, "1152921504.606846977 TAO"),
    ],
)
def test_amounts_are_spelt_exactly(rao: int, spelt: str):
    assert spell_rao(rao) == spelt


@given(st.integers(0, 21_000_000 * RAO_PER_TAO))
def test_what_is_spelt_reads_back_as_the_same_integer(rao: int):
    number, unit = spell_rao(rao).split()
    assert unit == "TAO"
    assert Decimal(number) * RAO_PER_TAO == rao
    assert not number.endswith(".")


def test_who_can_pay_the_fee_to_the_last_rao_has_no_shortfall():
    assert shortfall("cold", 200_000_000, 200_000_000) == ""
    assert shortfall("cold", 199_999_999, 200_000_000) == "the balance of cold is 0.199999999 TAO, the fee is 0.2 TAO"


transfers = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from(["cold-a", "cold-b"]), st.integers(1, 2**70)), max_size=8
)
charges = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.sampled_from(["cold-a", "cold-b"]), st.integers(0, 2**70)), max_size=8
)


@given(transfers, charges, st.data())
def test_no_money_appears_or_vanishes(
    incoming: list[tuple[str, str, int]], outgoing: list[tuple[str, str, int]], data: st.DataObject
):
    state = evolve(State(), _created(), START)
    facts: list[e.Fact] = [e.TransferCredited(transfer_id=i, coldkey=c, rao=rao) for i, c, rao in incoming]
    facts += [e.Charged(tournament_id="t", hotkey=h, coldkey=c, rao=rao) for h, c, rao in outgoing]
    credited, charged = 0, 0
    for fact in data.draw(st.permutations(facts)):
        try:
            state = evolve(state, fact, START)
        except IllegalTransition:
            continue
        if isinstance(fact, e.TransferCredited):
            credited += fact.rao
        elif isinstance(fact, e.Charged):
            charged += fact.rao
    paid = sum(charge.rao for charge in state.tournaments["t"].charges.values())
    assert sum(state.balances.values()) + paid == credited
    assert paid == charged
    assert all(balance >= 0 for balance in state.balances.values())
    assert len(state.transfers) == len({i for i, _, _ in incoming})


def _created() -> e.TournamentCreated:
    return e.TournamentCreated(
        tournament_id="t",
        tournament_type=TournamentType.TEXT,
        rules=Rules(),
        draw_commitment=commitment("11" * 32),
        secret_commitment=commitment("22" * 32),
        champion=offer("champ"),
        because="tested",
    )
