"""Money, in whole RAO (RULES §2): 1 TAO is 10⁹ RAO."""

from __future__ import annotations

RAO_PER_TAO = 10**9


def spell_rao(rao: int) -> str:
    """`0.2 TAO`: exact, without trailing zeros."""
    whole, rest = divmod(rao, RAO_PER_TAO)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") + " TAO"


def shortfall(coldkey: str, balance_rao: int, fee_rao: int) -> str:
    """Why an account cannot pay a fee; empty when it can."""
    if balance_rao >= fee_rao:
        return ""
    return f"the balance of {coldkey} is {spell_rao(balance_rao)}, the fee is {spell_rao(fee_rao)}"
