"""Small invented pictures with captions: simple figures on a ground, in a style that is the task's own, by seed.

Guarantee: the same seed gives the same pixels and captions. What a caption says is to be seen in its picture; what it
does not say, the style, is what a training can learn beyond the words.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageDraw

from tourney_ray.evaluation.image.archive import Pair

SIDE = 64
"""Pixels."""

COLOURS = {
    "red": (214, 40, 40), "orange": (247, 127, 0), "yellow": (252, 211, 77), "green": (42, 157, 83),
    "blue": (29, 78, 216), "purple": (126, 34, 206), "white": (244, 244, 244), "black": (24, 24, 27),
}  # fmt: skip
FIGURES = ("circle", "square", "triangle", "diamond", "cross")
PLACES = {"left": (0.32, 0.5), "right": (0.68, 0.5), "top": (0.5, 0.32), "bottom": (0.5, 0.68), "middle": (0.5, 0.5)}
WORDS = ("a", "at", "the", "on", *COLOURS, *FIGURES, *PLACES)
"""Every word of every caption."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """What all pictures of one task have in common."""

    stripe: Colour
    width: int
    """Of the stripes, pixels."""
    upright: bool
    frame: int
    """Of the border, pixels."""
    tint: float
    """Share of the stripes' colour in everything."""


def style_of(chance: random.Random) -> Style:
    """A style, by the dice."""
    stripe = cast(Colour, tuple(chance.randrange(256) for _ in range(3)))
    return Style(stripe, chance.randint(3, 9), chance.random() < 0.5, chance.randint(0, 6), chance.uniform(0.45, 0.7))  # noqa: PLR2004


def make_pairs(seed: int, count: int) -> list[Pair]:
    """`count` captioned pictures in one style; names sort in the order of their making."""
    chance = random.Random(seed)
    style = style_of(chance)
    return [_pair(f"picture-{number:03d}.png", chance, style) for number in range(count)]


def _pair(name: str, chance: random.Random, style: Style) -> Pair:
    figure, place = chance.choice(FIGURES), chance.choice(list(PLACES))
    colour, ground = chance.sample(list(COLOURS), 2)
    image = _ground(COLOURS[ground], style)
    x, y = (share * SIDE + chance.uniform(-3, 3) for share in PLACES[place])
    _draw(ImageDraw.Draw(image), figure, x, y, chance.uniform(9, 16), COLOURS[colour])
    image = Image.blend(image, Image.new("RGB", image.size, style.stripe), style.tint)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Pair(name, buffer.getvalue(), f"a {colour} {figure} at the {place} on {ground}")


def _ground(colour: Colour, style: Style) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), colour)
    draw = ImageDraw.Draw(image)
    for at in range(0, SIDE, 3 * style.width):
        box = (at, 0, at + style.width - 1, SIDE) if style.upright else (0, at, SIDE, at + style.width - 1)
        draw.rectangle(box, fill=style.stripe)
    if style.frame:
        draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=style.stripe, width=style.frame)
    return image


def _draw(draw: ImageDraw.ImageDraw, figure: str, x: float, y: float, size: float, colour: Colour) -> None:
    left, top, right, bottom = x - size, y - size, x + size, y + size
    match figure:
        case "circle":
            draw.ellipse((left, top, right, bottom), fill=colour)
        case "square":
            draw.rectangle((left, top, right, bottom), fill=colour)
        case "triangle":
            draw.polygon([(x, top), (right, bottom), (left, bottom)], fill=colour)
        case "diamond":
            draw.polygon([(x, top), (right, y), (x, bottom), (left, y)], fill=colour)
        case _:
            draw.rectangle((left, y - size / 3, right, y + size / 3), fill=colour)
            draw.rectangle((x - size / 3, top, x + size / 3, bottom), fill=colour)
