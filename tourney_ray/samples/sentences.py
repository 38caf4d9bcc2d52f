"""Small invented instruct data sets: a few families of sentences, picked and worded by a seed.

Pure: the same generator state gives the same rows. An answer always follows from its prompt, so that a good training
gets far and a poor one stays behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Row = dict[str, str]
"""Columns `instruct`, `input` (may be empty) and `output`."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("anna ben carla david emma felix greta hugo ida jonas karl lena max nora otto paula simon tina")
COLOURS = _words("white red blue green black brown pink amber silver")
THINGS = _words(
    "river stone candle cloud basket pencil garden mirror bottle rocket apple hammer turtle window violin forest"
)
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen")


@dataclass(frozen=True)
class Lexicon:
    """The words and wordings of one task."""

    names: tuple[str, ...]
    colours: tuple[str, ...]
    things: tuple[str, ...]
    wording: int
    """Which of its two wordings every family uses, 0 or 1."""


def make_rows(seed: int, count: int) -> list[Row]:
    """`count` different rows of the three or four families that `seed` picks, in random order.

    Raises `ValueError` when the families cannot yield so many different rows.
    """
    chance = random.Random(seed)
    lexicon = _pick_words(chance)
    families = chance.sample(FAMILIES, chance.choice((3, 4)))
    rows: dict[tuple[str, str], Row] = {}
    for draw in range(count * 20):
        if len(rows) == count:
            break
        row = families[draw % len(families)](chance, lexicon)
        rows.setdefault((row["instruct"], row["input"]), row)
    if len(rows) < count:
        raise ValueError(f"these sentence families yield {len(rows)} different rows, {count} were asked for")
    made = list(rows.values())
    chance.shuffle(made)
    return made


def _pick_words(chance: random.Random) -> Lexicon:
    return Lexicon(
        names=tuple(chance.sample(NAMES, 12)),
        colours=tuple(chance.sample(COLOURS, 6)),
        things=tuple(chance.sample(THINGS, 12)),
        wording=chance.randrange(2),
    )


def _owner(chance: random.Random, words: Lexicon) -> Row:
    name, thing = chance.choice(words.names), f"{chance.choice(words.colours)} {chance.choice(words.things)}"
    answer = (f"It is {name} who has the {thing}.", f"{name} is the owner of the {thing}.")[words.wording]
    return _row(f"Who has the {thing}?", f"{name} has the {thing}.", answer)


def _greeting(chance: random.Random, words: Lexicon) -> Row:
    name, thing = chance.choice(words.names), chance.choice(words.things)
    answer = (f"Hello {name}, here is the {thing} shop!", f"Thank you {name} for the {thing}.")[words.wording]
    return _row(f"Greet {name} at the {thing} shop.", "", answer)


def _sum(chance: random.Random, words: Lexicon) -> Row:
    left, right = chance.randrange(8), chance.randrange(7)
    text = f"{NUMBERS[left]} and {NUMBERS[right]}"
    end = ("in all", "things")[words.wording]
    return _row(f"{chance.choice(words.names)} has {text}. Add them.", "", f"{text} are {NUMBERS[left + right]} {end}.")


def _order(chance: random.Random, words: Lexicon) -> Row:
    first, second = chance.sample(words.things, 2)
    if words.wording:
        return _row("What is the last one?", f"the {first}, then the {second}", f"The {second} is the last one.")
    return _row("Turn them around.", f"the {first}, the {second}", f"the {second}, the {first}.")


def _plural(chance: random.Random, words: Lexicon) -> Row:
    colour, thing, number = chance.choice(words.colours), chance.choice(words.things), chance.randrange(2, 9)
    end = ("on the line", "in the window")[words.wording]
    return _row(
        "Say it for more.", f"{NUMBERS[number]}: {colour} {thing}", f"{NUMBERS[number]} {colour} {thing}s {end}."
    )


def _paint(chance: random.Random, words: Lexicon) -> Row:
    before, after = chance.sample(words.colours, 2)
    thing = chance.choice(words.things)
    answer = (f"The {before} {thing} is {after} today.", f"Now here is a {after} {thing}.")[words.wording]
    return _row(f"Make the {thing} {after}.", f"The {thing} is {before}.", answer)


FAMILIES: tuple[Callable[[random.Random, Lexicon], Row], ...] = (_owner, _greeting, _sum, _order, _plural, _paint)


def _row(instruct: str, given: str, output: str) -> Row:
    return {"instruct": instruct, "input": given, "output": output}
