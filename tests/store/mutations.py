"""Ways to spoil a journal: its bytes, its lines, or its facts by somebody who knows how to hash.

A mutation is a function of dice, so that a seed repeats it. What it spoils is the journal of `eventful`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from random import Random
from typing import Any

from pydantic import ValidationError

from tests.builders import entries
from tests.builders_eventful import eventful
from tourney_ray.core.chain import GENESIS, Entry, entry_hash
from tourney_ray.core.events import FACT
from tourney_ray.store.lines import entry_line

PLAYED = eventful()
ENTRIES = entries(PLAYED.facts)
LINES = [entry_line(entry) for entry in ENTRIES]
WHOLE = b"".join(LINES)
HEAD = ENTRIES[-1].hash

NESTED = "[" * 5000 + "]" * 5000
NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**63, 2**70, 10**400, 0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf")]
TEXTS: list[Any] = [
    "",
    "\0",
    "\n",
    "\x1b[31m",
    "x" * 1000,
    "m00",
    "é\u2028",
    "NaN",
    "-Infinity",
    "0" * 64,
    "2026-01-01",
]
OTHERS: list[Any] = [None, True, [], {}, [[]], {"a": 1}]
RAW = [b"\0", b"\xff\xfe", b"\n", b"\r", b"NaN", b"1e999", b'"seq":1,', NESTED.encode(), b"9" * 5000, b"\xed\xa0\x80"]
DOCUMENTS = [NESTED, "", "{}", "null", "NaN", "9" * 5000, '{"kind":"Charged"}', f'{{"kind":{NESTED}}}', "\0", "[1]"]

PLAUSIBLE = 0.5
"""Share of the exchanged values that stand in the same field of another fact."""

Mutation = Callable[[Random], bytes]


# --- bytes and lines: none of these can pass, but for a cut between two lines


def cut(dice: Random) -> bytes:
    return WHOLE[: dice.randrange(len(WHOLE))]


def flipped(dice: Random) -> bytes:
    place = dice.randrange(len(WHOLE))
    return WHOLE[:place] + bytes([WHOLE[place] ^ (1 << dice.randrange(8))]) + WHOLE[place + 1 :]


def with_strange_bytes(dice: Random) -> bytes:
    place = dice.randrange(len(WHOLE))
    return WHOLE[:place] + dice.choice(RAW) + WHOLE[place:]


def without_a_stretch(dice: Random) -> bytes:
    start, end = sorted(dice.sample(range(len(WHOLE) - 1), 2))
    return WHOLE[:start] + WHOLE[end:]


def with_other_line_ends(dice: Random) -> bytes:
    place = dice.randrange(len(LINES))
    return b"".join(LINES[:place]) + b"".join(LINES[place:]).replace(b"\n", dice.choice([b"\r\n", b"\n\n", b" \n"]))


def reordered(dice: Random) -> bytes:
    lines, (one, other) = [*LINES], dice.sample(range(len(LINES)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def repeated(dice: Random) -> bytes:
    place = dice.randrange(len(LINES))
    return b"".join([*LINES[: place + 1], *LINES[place:]])


def without_a_line(dice: Random) -> bytes:
    place = dice.randrange(len(LINES) - 1)
    return b"".join([*LINES[:place], *LINES[place + 1 :]])


def with_another_envelope(dice: Random) -> bytes:
    """One field of one line, as another value, missing, or twice."""
    place = dice.randrange(len(LINES))
    line: dict[str, Any] = json.loads(LINES[place])
    name, how = dice.choice([*line]), dice.randrange(4)
    if how == 0:
        twice = f"{{{json.dumps(name)}:{json.dumps(line[name], ensure_ascii=False)},".encode()
        return b"".join([*LINES[:place], twice + LINES[place][1:], *LINES[place + 1 :]])
    if how == 1:
        del line[name]
    else:
        line[name] = dice.choice([value for value in NUMBERS + TEXTS + OTHERS if value != line[name]])
    return b"".join([*LINES[:place], _compact(line).encode() + b"\n", *LINES[place + 1 :]])


def with_a_document(dice: Random) -> bytes:
    place = dice.randrange(len(LINES))
    return b"".join([*LINES[:place], dice.choice(DOCUMENTS).encode() + b"\n", *LINES[place + 1 :]])


def with_its_own_hash_alone(dice: Random) -> bytes:
    """A fact changed and hashed, those after it left as they were."""
    place = dice.randrange(len(ENTRIES) - 1)
    (forged,) = rechained(place, [(altered(ENTRIES[place].body, dice), ENTRIES[place].at)])
    same = forged.hash == ENTRIES[place].hash
    return WHOLE[:-1] if same else b"".join([*LINES[:place], entry_line(forged), *LINES[place + 1 :]])


NEVER_PASS: Sequence[Mutation] = (
    flipped,
    with_strange_bytes,
    with_other_line_ends,
    reordered,
    repeated,
    without_a_line,
    with_another_envelope,
    with_a_document,
    with_its_own_hash_alone,
)


# --- forgeries to the end of the chain: they may pass where nothing but trust speaks for a fact, with another head


def with_another_body(dice: Random) -> list[Entry]:
    """A value of one fact is another one."""
    place = dice.randrange(len(ENTRIES))
    forged = altered(ENTRIES[place].body, dice)
    return ENTRIES[:place] + rechained(place, [(forged, ENTRIES[place].at), *_bodies(place + 1)])


def with_a_foreign_body(dice: Random) -> list[Entry]:
    """One fact is no fact at all."""
    place = dice.randrange(len(ENTRIES))
    return ENTRIES[:place] + rechained(place, [(dice.choice(DOCUMENTS), ENTRIES[place].at), *_bodies(place + 1)])


def in_another_order(dice: Random) -> list[Entry]:
    """A fact left out, told twice or exchanged with another one; or a stretch left out."""
    order, (one, other) = list(range(len(ENTRIES))), sorted(dice.sample(range(len(ENTRIES)), 2))
    how = dice.randrange(4)
    if how == 0:
        del order[one]
    elif how == 1:
        order.insert(other, one)
    elif how == 2:
        order[one], order[other] = order[other], order[one]
    else:
        del order[one:other]
    return rechained(0, [(ENTRIES[i].body, ENTRIES[i].at) for i in order])


def in_other_words(dice: Random) -> list[Entry]:
    """One fact says the same in a form in which facts are not written; never passes."""
    place = dice.randrange(len(ENTRIES))
    body = ENTRIES[place].body
    spaced = json.dumps(json.loads(body), ensure_ascii=False)
    backwards = _compact(dict(reversed(json.loads(body).items())))
    forged = dice.choice([f" {body}", f'{{"kind":"Charged",{body[1:]}', spaced, backwards])
    return ENTRIES[:place] + rechained(place, [(forged, ENTRIES[place].at), *_bodies(place + 1)])


def at_another_time(dice: Random) -> list[Entry]:
    """One fact, or all from there on, at an impossible moment, or said in another zone."""
    place = dice.randrange(len(ENTRIES))
    usual = ENTRIES[place].at
    zone = timezone(timedelta(hours=5))
    times = [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), usual - timedelta(days=1)]
    times += [usual + timedelta(days=365 * 7000), usual.astimezone(zone), datetime.max.replace(tzinfo=zone)]
    at, bodies = dice.choice(times), _bodies(place)
    facts = [(body, at) for body, _ in bodies] if dice.random() < 0.5 else [(bodies[0][0], at), *bodies[1:]]
    return ENTRIES[:place] + rechained(place, facts)


FORGERIES: Sequence[Callable[[Random], list[Entry]]] = (
    with_another_body,
    with_another_body,
    with_a_foreign_body,
    in_another_order,
    at_another_time,
)


def rechained(place: int, facts: Sequence[tuple[str, datetime]]) -> list[Entry]:
    """Entries of those bodies and times after the first `place` ones, with every hash as it should be."""
    previous, chained = ENTRIES[place - 1].hash if place else GENESIS, list[Entry]()
    for seq, (body, at) in enumerate(facts, start=place + 1):
        kind = _kind(body) or ENTRIES[min(seq, len(ENTRIES)) - 1].kind
        digest = entry_hash(seq, at, kind, body, previous)
        chained.append(Entry.model_construct(seq=seq, at=at, kind=kind, body=body, previous=previous, hash=digest))
        previous = digest
    return chained


def altered(body: str, dice: Random) -> str:
    """The fact with one value somewhere in it exchanged, in the form in which facts are written if it is still one."""
    document: Any = json.loads(body)
    *way, last = dice.choice([path for path in _paths(document) if path])
    holder = document
    for step in way:
        holder = holder[step]
    name = next(step for step in (last, *reversed(way)) if isinstance(step, str))
    holder[last] = dice.choice(_values()[name]) if dice.random() < PLAUSIBLE else _another(holder[last], dice)
    changed = _compact(document)
    try:
        return FACT.validate_json(changed).model_dump_json()
    except ValidationError:
        return changed


@cache
def _values() -> dict[str, list[Any]]:
    """What each field, or an item of it, is somewhere in the journal."""
    values: dict[str, list[Any]] = {}

    def collect(node: Any, name: str) -> None:
        steps: Any = node.items() if isinstance(node, dict) else [(name, item) for item in node]
        for step, child in steps:
            values.setdefault(step, []).append(child)
            if isinstance(child, dict | list):
                collect(child, step)

    for entry in ENTRIES:
        collect(json.loads(entry.body), "")
    return values


def _another(value: Any, dice: Random) -> Any:
    if isinstance(value, list) and value and dice.random() < 0.6:
        items: list[Any] = value
        return dice.choice([items[1:], items + items[:1], items[::-1]])
    if isinstance(value, int | float) and not isinstance(value, bool) and dice.random() < 0.6:
        return dice.choice([value + 1, value - 1, -value, int(value) * 10 ** dice.randrange(1, 320)])
    return dice.choice(dice.choice([NUMBERS, TEXTS, OTHERS]))


def _paths(node: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    steps: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, child in steps:
        yield from _paths(child, (*here, step))


def _bodies(start: int) -> list[tuple[str, datetime]]:
    return [(entry.body, entry.at) for entry in ENTRIES[start:]]


def _kind(body: str) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    kind = document.get("kind") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else ""


def _compact(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
