"""Names beside the rows of a grid of pictures, and above groups of them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data_processor import show_images
from lab.errors import one_line
from lab.files import atomic_write, say_written

# For names that Pillow's own font has no letters for, such as Chinese ones: the first of these that is installed.
FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "wqy-zenhei.ttc", "wqy-microhei.ttc", "DejaVuSans.ttf")
MOST_LETTERS = 40  # of a name


def sample_grid(title: str, images: Tensor, labels: Tensor | None, classes: Sequence[str]) -> Image.Image:
    """Images (N, 3, H, W) below the title, about as many in a row as there are rows, five or more; those of a class
    together, below its name, if ``labels`` (N,) are given."""
    columns = max(5, math.ceil(math.sqrt(len(images))))
    groups = {title: images}
    if labels is not None:
        groups = {f"{title}, {classes[label]}": images[labels == label] for label in labels.unique().tolist()}
    return name_groups({name: show_images(group, columns=columns) for name, group in groups.items()})


def name_rows(grid: Image.Image, names: Sequence[str]) -> Image.Image:
    """A grid of ``show_images`` with a name to the left of each of its rows."""
    names = [one_line(name)[:MOST_LETTERS] for name in names]
    margin = max(math.ceil(_font(name).getlength(name)) for name in names) + 10
    picture = Image.new("RGB", (margin + grid.width, grid.height), "white")
    picture.paste(grid, (margin, 0))
    for row, name in enumerate(names):
        middle = (row + 0.5) * grid.height / len(names)
        ImageDraw.Draw(picture).text((4, middle), name, "black", _font(name), anchor="lm")
    return picture


def side_by_side(groups: Mapping[str, Image.Image]) -> Image.Image:
    """Grids of equal height from left to right, each below its name."""
    named = [name_groups({name: grid}) for name, grid in groups.items()]
    gap = 12
    width = sum(gap + each.width for each in named) - gap
    picture = Image.new("RGB", (width, named[0].height), "white")
    left = 0
    for each in named:
        picture.paste(each, (left, 0))
        left += each.width + gap
    return picture


def name_groups(groups: Mapping[str, Image.Image]) -> Image.Image:
    """Grids one below the other, each below its name."""
    heading = 30
    names = [one_line(name)[:MOST_LETTERS] for name in groups]
    widths = [4 + math.ceil(_font(name).getlength(name)) for name in names]
    width = max(*widths, *(grid.width for grid in groups.values()))
    picture = Image.new("RGB", (width, sum(heading + grid.height for grid in groups.values())), "white")
    top = 0
    for name, grid in zip(names, groups.values(), strict=True):
        ImageDraw.Draw(picture).text((4, top + heading - 4), name, "black", _font(name), anchor="lb")
        picture.paste(grid, (0, top + heading))
        top += heading + grid.height
    return picture


def save_picture(picture: Image.Image, path: str | Path, **options: Any) -> None:
    """Writes a picture atomically, in the format of its ending, with Pillow's options; says so on stderr."""
    with atomic_write(path) as file:
        picture.save(file, format=Path(path).suffix[1:], **options)
    say_written(path)


def _font(text: str, size: int = 18) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font for the text: Pillow's own for ASCII, otherwise the first of ``FONTS`` that is installed."""
    for name in () if text.isascii() else FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
