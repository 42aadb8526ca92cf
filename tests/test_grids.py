"""Names beside the rows of a grid, and above groups of pictures."""

import math
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lab import grids
from lab.grids import name_groups, name_rows

FONT = ImageFont.load_default(18)


def noise(width, height):
    pixels = np.random.default_rng(width).integers(0, 250, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def drawn(width, height, texts, pictures, anchor):
    """A white picture with texts, and with pictures whose own pixels are untouched, each at (left, top)."""
    expected = Image.new("RGB", (width, height), "white")
    for place, text in texts.items():
        ImageDraw.Draw(expected).text(place, text, "black", FONT, anchor=anchor)
    for place, picture in pictures.items():
        expected.paste(picture, place)
    return expected


def test_names_stand_beside_their_rows():
    grid = noise(150, 100)
    margin = math.ceil(FONT.getlength("reconstruction")) + 10
    texts = {(4, 25): "photo", (4, 75): "reconstruction"}
    expected = drawn(margin + 150, 100, texts, {(margin, 0): grid}, "lm")
    assert name_rows(grid, ["photo", "reconstruction"]) == expected


def test_groups_stand_below_their_names():
    wide = "a name that is wider than its pictures"
    upper, lower = noise(150, 40), noise(90, 60)
    width = 4 + math.ceil(FONT.getlength(wide))
    expected = drawn(width, 160, {(4, 26): "rose", (4, 96): wide}, {(0, 30): upper, (0, 100): lower}, "lb")
    assert name_groups({"rose": upper, wide: lower}) == expected
    assert name_groups({"a": upper}).size == (150, 70)


@pytest.mark.parametrize(
    "make", [lambda name: name_rows(noise(9, 40), [name]), lambda name: name_groups({name: noise(9, 9)})]
)
def test_names_are_one_short_line(make):
    assert make("a\x1bb\nc") == make("a?b c") and make(50 * "i") == make(40 * "i") != make(39 * "i")


def test_a_font_that_has_the_letters(monkeypatch):
    """The first one that is installed; without any, something is drawn all the same."""
    truetype = Mock(side_effect=lambda name, _: FONT if name == "PingFang.ttc" else Image.open("no such font"))
    with monkeypatch.context() as patch:
        patch.setattr(ImageFont, "truetype", truetype)
        name_rows(noise(9, 40), ["\u73ab\u7470"])
    assert [call.args[0] for call in truetype.call_args_list][-2:] == ["msyh.ttc", "PingFang.ttc"]
    monkeypatch.setattr(grids, "FONTS", ("no font.ttf",))
    assert np.asarray(name_rows(noise(9, 40), ["\u73ab\u7470"]))[:, :-9].min() < 255
