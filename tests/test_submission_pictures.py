"""Pictures of a submission: refused if they cannot be as asked, and otherwise left to the teacher's eyes."""

import io
import os
import re
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from conftest import ROOT, unix
from matplotlib.figure import Figure
from PIL import Image

from grading import pictures
from grading.pictures import look_at_picture


def png(pixels, format="PNG", **options):
    content = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(content, format, **options)
    return content.getvalue()


def look(pixels, seen=None, name="vis/train_MLPAE.png", **options):
    content = pixels if isinstance(pixels, bytes) else png(pixels, **options)
    return look_at_picture(content, {} if seen is None else seen, name)


def photo(height=54, width=418, seed=0, mode="RGB"):
    """Smooth and colourful, as photos are, with a border of one colour."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (9, 30, 3), np.uint8))
    pixels = np.array(small.resize((width, height), Image.Resampling.BICUBIC).convert(mode))
    pixels[[0, -1]] = pixels[:, [0, -1]] = 200
    return pixels


@pytest.mark.parametrize("path", sorted(ROOT.glob("vis/**/*.png")), ids=lambda path: str(path.relative_to(ROOT)))
def test_our_own_pictures(path):
    words, ok = look(path.read_bytes())
    assert re.fullmatch(r"\d+ x \d+ pixels inside the border: look at it", words) and ok is None


def test_margins():
    page = np.full((600, 800, 3), 255, np.uint8)
    page[100:154, 50:468] = photo()  # as matplotlib puts a picture on a white page
    for pixels, width, height in (
        (page, 418, 54),
        (255 - page, 418, 54),
        (page[99:, 49:], 418, 54),
        (photo(), 416, 52),
        (page[:154, :468], 418, 54),
        (page[:148, :98], 48, 48),
        (page[:147, :98], 48, 47),
        (page[:148, :97], 47, 48),
        (page[:100], 0, 0),
        (np.dstack([page, page[..., :1]]), 418, 54),
    ):
        words, ok = look(pixels)
        if min(width, height) >= 48:
            assert (words, ok) == (f"{width} x {height} pixels inside the border: look at it", None)
        else:
            assert (words, ok) == (f"{width} x {height} pixels inside the border, expected 48 x 48 or more", False)
    gray = look(page[..., 0])
    assert gray == ("418 x 54 pixels inside the border, all gray: look at it", None)


def test_formats():
    for format, options in ("JPEG", {}), ("WEBP", {}), ("GIF", {}), ("TIFF", {}), ("BMP", {}):
        assert look(photo(), format=format, **options)[1] is None
    for mode in "P", "L", "RGBA", "CMYK", "I;16":
        pixels = Image.fromarray(photo()).convert("L" if mode == "I;16" else mode).convert(mode)
        format = "TIFF" if mode == "CMYK" else "PNG"
        assert look(pixels, format=format)[1] is None
    whole = png(photo())
    for content in whole[: len(whole) // 2], b"hello", b"":
        words, ok = look(content)
        assert words.startswith("no picture that can be read: ") and ok is False


def test_the_same_picture_twice():
    seen = {}
    page = np.full((600, 800, 3), 255, np.uint8)
    page[100:154, 50:468] = photo()
    other = np.full((100, 500, 3), 7, np.uint8)
    other[10:64, 40:458] = photo()
    assert look(page, seen, "vis/train_AE.png")[1] is None
    for again, options in (page, {}), (other, {}), (other, {"format": "TIFF"}), (page[50:], {"compress_level": 0}):
        assert look(again, seen, "vis/valid_AE.png", **options) == (
            "418 x 54 pixels inside the border, the same picture as vis/train_AE.png",
            False,
        )
    page[120, 300] ^= 1
    assert look(page, seen, "vis/valid_AE.png")[1] is None
    assert look(page, seen, "vis/valid_AE.png")[1] is None  # the same file once more
    assert set(seen.values()) == {"vis/train_AE.png", "vis/valid_AE.png"}


def test_pictures_that_cannot_be_photos():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 300, 3), np.uint8)
    assert look(noise) == (
        "300 x 200 pixels inside the border, of noise: neighbouring pixels have nothing in common",
        False,
    )
    assert look(noise, format="JPEG", quality=95)[1] is False
    flat = np.zeros((200, 300, 3), np.uint8)
    assert look(flat) == ("0 x 0 pixels inside the border, expected 48 x 48 or more", False)
    flat[50:150, 50:250] = 255
    assert look(flat) == ("200 x 100 pixels inside the border, in 1 colours", False)
    flat[70:90, 70:90], flat[100:110, 100:110] = (255, 0, 0), (0, 0, 255)
    assert look(flat) == ("200 x 100 pixels inside the border, in 3 colours", False)


def test_small_images_that_are_not_enlarged_are_no_noise():
    """A row of images of 24 x 24 pixels above another, as they come out of the data set."""
    with Image.open(ROOT / "vis" / "valid_MLPAE.png") as picture:
        small = picture.convert("RGB").reduce(4)
    assert look(small)[1] is None


def test_pages_by_matplotlib():
    figure = Figure(figsize=(8, 4))
    with Image.open(ROOT / "vis" / "valid_MLPAE.png") as picture:
        images = np.asarray(picture.convert("RGB"))[::4, ::4]
    for axes in figure.subplots(2, 4).flat:
        axes.imshow(images[:24, :24])
        axes.set_axis_off()
    content = io.BytesIO()
    figure.savefig(content, format="png")
    assert look(content.getvalue())[1] is None


def header(width, height):
    """A PNG of which there is a header and no more."""
    content = bytearray(png(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("width", "height", "refused"),
    [
        (15_500, 2_002, False),  # as students' pictures have
        (8_000, 5_000, False),
        (8_000, 5_001, True),
        (65_536, 1, True),
        (1, 178_000_000, True),
        (13_300, 13_300, True),
    ],
)
def test_the_size_is_looked_at_before_the_pixels(width, height, refused):
    words, ok = look(header(width, height))
    if refused:
        assert (words, ok) == (f"{width} x {height} pixels, too large to look at here", None)
    else:
        assert words.startswith("no picture that can be read") and ok is False


def test_a_large_picture_is_no_reason_to_warn(monkeypatch):
    """Pillow warns of pictures above a limit; pictures made by matplotlib can be that large."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look(photo(100, 400))[1] is None


@unix
def test_postscript_is_not_opened(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    words, ok = look(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n{} loop\n")
    assert words.startswith("no picture that can be read") and ok is False and not (tmp_path / "mark").exists()


def test_the_largest_picture_takes_little_memory(tmp_path):
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads the peak of the memory as Linux gives it")
    gradient = np.add.outer(np.arange(2_580, dtype=np.uint8), np.arange(15_500, dtype=np.uint16) // 61).astype(np.uint8)
    Image.fromarray(np.dstack([gradient, gradient.T.reshape(gradient.shape), gradient])).save(tmp_path / "large.png")
    code = """
import re, sys
from pathlib import Path
from grading.pictures import look_at_picture

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

content = Path(sys.argv[1]).read_bytes()
before = peak()
print(look_at_picture(content, {}, "x")[1], peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "None" and int(found[1]) < 400_000, found


def test_limits_are_those_that_are_stated():
    assert (pictures.MOST_PIXELS, pictures.LONGEST_SIDE) == (40_000_000, 65_535)
