"""The stand-in data set: three classes of flowers, drawn by code, for a machine without the photos.

Classes, numbers and folders are those of the photos (handout, Part 2), and losses on both sets are similar. Every
picture has its own random generator: the same seed draws the same set.
"""

import colorsys
import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from tqdm import tqdm

COUNTS = {"astilbe": 737, "bellflower": 873, "calendula": 978}
Color = tuple[int, ...]
SIZE = 256  # pixels, width and height, as the photos


def draw_flowers(root: str | Path, seed: int = 0, counts: Mapping[str, int] = COUNTS) -> None:
    """Writes ``root``/astilbe/0001.jpg and so on, ``counts[name]`` pictures of each class; ``root`` must not exist yet.

    The folder is renamed to ``root`` once the set is complete: an interrupted run leaves no incomplete set.
    """
    root = Path(root)
    unfinished = root.with_name(f"{root.name}.{uuid.uuid4().hex}")
    jobs = [(name, number) for name, count in counts.items() for number in range(1, count + 1)]

    def draw(job: tuple[str, int]) -> None:
        name, number = job
        rng = np.random.default_rng([seed, *name.encode(), number])
        draw_flower(name, rng).save(unfinished / name / f"{number:04}.jpg", quality=90)

    try:
        for name in counts:
            (unfinished / name).mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(tqdm(pool.map(draw, jobs), "Drawing flowers", len(jobs), unit="flower", leave=False, disable=None))
        unfinished.rename(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def draw_flower(name: str, rng: np.random.Generator) -> Image.Image:
    """A random "astilbe", "bellflower" or "calendula": SIZE x SIZE pixels, RGB."""
    picture = _background(rng)
    drawing = _Drawing(picture, rng)
    bloom = {"astilbe": drawing.plume, "bellflower": drawing.bell, "calendula": drawing.daisy}[name]
    if rng.random() < 0.55:  # a portrait of one flower
        places = [(rng.normal(SIZE / 2, 22, 2), rng.uniform(70, 150))]
    else:  # a bed of several
        places = [(rng.uniform(25, SIZE - 25, 2), rng.uniform(28, 75)) for _ in range(rng.integers(2, 8))]
    color = _COLORS[name](rng)
    for center, radius in places:
        bloom(center, radius, color)
    return _photograph(picture, rng)


def _rgb(hue: float, saturation: float, value: float) -> Color:
    """Three numbers in 0..1 -> red, green, blue in 0..255."""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _shade(color: Color, factor: float) -> Color:
    """A colour, lighter or darker."""
    return tuple(min(255, int(c * factor)) for c in color)


STEM = _rgb(0.27, 0.6, 0.4)
_ASTILBES = [(0.93, 0.45, 0.85), (0.96, 0.8, 0.75), (0.13, 0.25, 0.9), (0.82, 0.4, 0.75)]  # pink, red, cream, purple
_COLORS = {
    "astilbe": lambda rng: _rgb(*_ASTILBES[rng.integers(4)]),
    "bellflower": lambda rng: _rgb(rng.normal(0.72, 0.03), rng.uniform(0.1, 0.75), rng.uniform(0.65, 1)),
    "calendula": lambda rng: _rgb(rng.uniform(0.04, 0.145), rng.uniform(0.85, 1), rng.uniform(0.9, 1)),
}


class _Drawing:
    """Draws on a picture, with the random numbers of ``rng``; a flower has a center (x, y), a radius and a colour."""

    def __init__(self, picture: Image.Image, rng: np.random.Generator) -> None:
        self.draw, self.rng = ImageDraw.Draw(picture), rng

    def ring(self, center: Any, length: float, width: float, n: int, color: Color, tilt: float, point: float) -> None:
        """A ring of ``n`` petals around ``center``, foreshortened to ``tilt`` of its height.

        A petal is ``length`` long, ``width`` of that to either side, and fullest at 0.5 ** (1 / ``point``) of it.
        """
        rng = self.rng
        along = np.linspace(0, 1, 9)
        across = width * np.sin(np.pi * along**point)
        outline = length * np.array([[*along, *along[::-1]], [*across, *-across[::-1]]])
        for angle in rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(n) / n + rng.normal(0, 0.06, n):
            cos, sin = np.cos(angle), np.sin(angle)
            size = rng.uniform(0.88, 1.08)
            corners = size * np.array([[cos, -sin], [tilt * sin, tilt * cos]]) @ outline + np.reshape(center, (2, 1))
            petal = _shade(color, rng.uniform(0.8, 1.08))
            self.draw.polygon(corners.T.ravel().tolist(), petal, _shade(petal, 0.75))

    def disc(self, center: Any, radius: float, color: Color, tilt: float = 1.0) -> None:
        (x, y), ry = center, radius * tilt
        self.draw.ellipse([x - radius, y - ry, x + radius, y + ry], color)

    def stem(self, start: Any, width: float) -> None:
        x, y = start
        self.draw.line([x, y, x + self.rng.normal(0, 15), y + SIZE], STEM, round(width))

    def daisy(self, center: Any, radius: float, color: Color) -> None:
        """Calendula: rings of narrow petals in yellow or orange around a disc."""
        tilt = self.rng.uniform(0.55, 1)
        count: Any = self.rng.integers(13, 22)
        self.stem(center, max(3, radius / 10))
        for ring in range(self.rng.integers(2, 4)):
            self.ring(center, radius * (1 - 0.22 * ring), 0.17, count, color, tilt, 1.6)
        heart = _rgb(0.05, 0.9, self.rng.choice([0.25, 0.8]))
        self.disc(center, radius * self.rng.uniform(0.17, 0.3), heart, tilt)

    def bell(self, center: Any, radius: float, color: Color) -> None:
        """Bellflower: five broad, pointed petals in violet, blue or white, open to the viewer or hanging as a bell."""
        x, y = center
        if self.rng.random() < 0.6:
            tilt = self.rng.uniform(0.6, 1)
            self.stem(center, max(3, radius / 14))
            self.ring(center, radius, 0.33, 5, color, tilt, 0.9)
            self.disc(center, radius * 0.22, _shade(color, 0.6), tilt)
            self.disc(center, radius * 0.09, _rgb(0.15, 0.3, 0.95), tilt)
        else:
            lean = self.rng.normal(0, 0.3)
            right = [(0.12, -0.8), (0.4, -0.6), (0.5, 0), (0.85, 0.6), (0.4, 0.42), (0, 0.75)]
            outline = right + [(-u, v) for u, v in right[-2::-1]]
            self.draw.line([x, y - 0.8 * radius, x + 0.6 * radius, y - SIZE], STEM, max(3, round(radius / 12)))
            for k, shade in ((1, 0.85), (0.6, 1.1)):  # the bell, and the light on its front
                corners = [(x + radius * k * (u - lean * v), y + radius * (v + lean * u * k)) for u, v in outline]
                self.draw.polygon(corners, _shade(color, shade))

    def plume(self, center: Any, radius: float, color: Color) -> None:
        """Astilbe: a feather of many small blossoms, wide at the foot and pointed at the tip."""
        rng = self.rng
        lean = rng.normal(0, 0.25)
        height = 1.9 * radius
        foot = np.add(center, (0, 0.9 * radius))
        self.stem(foot, max(2, radius / 20))
        count = rng.integers(120, 220)
        up = rng.uniform(0, 1, count) ** 1.3
        branch = np.cos(24 * up)  # blossoms gather on branches, with gaps between
        side = (1 - up) * rng.uniform(-0.5, 0.5, count) * (0.85 + 0.3 * branch)
        places = foot + height * np.stack([side + lean * up, 0.35 * abs(side) - up], axis=1)
        shades = rng.uniform(0.6, 1.2, count)
        sizes = radius * rng.uniform(0.03, 0.075, count) * (1.2 - 0.6 * up)
        for place, size, shade in zip(places.tolist(), sizes.tolist(), shades.tolist(), strict=True):
            self.disc(place, size, _shade(color, shade))


def _background(rng: np.random.Generator) -> Image.Image:
    """Leaves out of focus: patches of a few colours, and blades of green before them."""
    hue, saturation, value = rng.choice(
        [(0.26, 0.5, 0.55), (0.24, 0.55, 0.3), (0.3, 0.3, 0.1), (0.1, 0.3, 0.6), (0.2, 0.3, 0.8), (0.6, 0.1, 0.95)],
        p=[0.33, 0.17, 0.15, 0.15, 0.1, 0.1],
    )
    cells: Any = rng.integers(3, 12)
    patches: Any = np.empty((cells, cells, 3))
    patches[..., 0] = (hue + rng.normal(0, 0.04, (cells, cells))) % 1
    patches[..., 1] = saturation
    patches[..., 2] = (value * rng.uniform(0.25, 1.8, (cells, cells))).clip(0, 1)
    patches = Image.frombytes("HSV", (cells, cells), (255 * patches).astype(np.uint8).tobytes()).convert("RGB")
    depth: Any = rng.integers(2, 7)  # drawn so much smaller and enlarged again, it is out of focus
    small = SIZE // depth
    picture = patches.resize((small, small), Image.Resampling.BICUBIC)
    drawing = _Drawing(picture, rng)
    for _ in range(rng.integers(0, 14)):
        leaf = _rgb(rng.normal(0.28, 0.03), 0.6, min(1, value * rng.uniform(0.5, 1.5)))
        length = small * rng.uniform(0.15, 0.5)
        drawing.ring(rng.uniform(0, small, 2), length, rng.uniform(0.06, 0.2), 1, leaf, tilt=1, point=1)
    return picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def _photograph(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from one side and a lens: what lies between a drawing and a photo."""
    light: Any = rng.uniform(0.7, 1.2) + rng.normal(0, 0.16, (3, 3, 1)) + rng.normal(0, 0.03, 3)
    light = Image.fromarray((255 * light.clip(0.1, 1)).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(picture, light).filter(ImageFilter.SMOOTH)
