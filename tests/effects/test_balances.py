"""The transfers file: read anew each time, every transfer once, and refused in one line when it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tourney_ray.core.events import TransferCredited
from tourney_ray.effects.balances import TransfersFile
from tourney_ray.errors import ConfigError

FIRST = {"id": "a", "coldkey": "c-1", "rao": 5}


def feed(tmp_path: Path, content: object) -> TransfersFile:
    path = tmp_path / "transfers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return TransfersFile(path)


def test_transfers_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    given = feed(tmp_path, [FIRST, {"id": "b", "coldkey": "c-2", "rao": 7}, {"id": "c", "coldkey": "c-1", "rao": 5}])
    assert given.transfers() == [
        TransferCredited(transfer_id="a", coldkey="c-1", rao=5),
        TransferCredited(transfer_id="b", coldkey="c-2", rao=7),
        TransferCredited(transfer_id="c", coldkey="c-1", rao=5),
    ]


def test_each_id_counts_once_and_nothing_is_no_transfer(tmp_path: Path) -> None:
    given = feed(
        tmp_path, [FIRST, {"id": "b", "coldkey": "c", "rao": 0}, {"id": "d", "coldkey": "c", "rao": -3}, FIRST]
    )
    assert [transfer.transfer_id for transfer in given.transfers()] == ["a"]


def test_without_a_file_there_is_no_money() -> None:
    assert TransfersFile(None).transfers() == []


def test_the_file_is_read_anew_at_every_call(tmp_path: Path) -> None:
    given = feed(tmp_path, [])
    assert given.transfers() == []
    feed(tmp_path, [FIRST])
    assert len(given.transfers()) == 1


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", "Invalid JSON"),
        ("[{", "Invalid JSON"),
        ({"transfers": []}, "valid array"),
        ([{**FIRST, "rao": "much"}], "0.rao"),
        ([{**FIRST, "rao": 1.5}], "0.rao"),
        ([{**FIRST, "rao": 2**70}], "0.rao"),
        ([{**FIRST, "coldkey": "not a key"}], "0.coldkey"),
        ([FIRST, {"id": "b", "rao": 1}], "1.coldkey"),
        ([{**FIRST, "amount": 1}], "0.amount"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, content: Any, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        feed(tmp_path, content).transfers()
    assert caught.value.message.startswith(f"transfers file {tmp_path / 'transfers.json'} is not a list of ")
    assert place in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json: No such file"):
        TransfersFile(tmp_path / "gone.json").transfers()
