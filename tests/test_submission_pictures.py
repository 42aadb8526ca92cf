"""Pictures of a submission: refused if they cannot be as asked, and otherwise left to the teacher's eyes."""

import io
import os
import zlib

import numpy as np
import pytest
from conftest import ROOT, unix
from PIL import Image

from teaching.pictures import look_at_picture


def saved(pixels, format="PNG", **options):
    content = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(content, format, **options)
    return content.getvalue()


def look(pixels, seen=None, name="vis/train_MLPAE.png", **options):
    content = pixels if isinstance(pixels, bytes) else saved(pixels, **options)
    return look_at_picture(content, {} if seen is None else seen, name)


def page():
    """A smooth and colourful picture of 418 x 54 pixels, as photos are, on a white page."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 30, 3), np.uint8))
    pixels = np.full((600, 800, 3), 255, np.uint8)
    pixels[100:154, 50:468] = small.resize((418, 54), Image.Resampling.BICUBIC)
    return pixels


GOOD = ("418 x 54 pixels inside the border: look at it", None)


@pytest.mark.parametrize("path", sorted(ROOT.glob("vis/*.png")), ids=lambda path: path.name)
def test_our_own_pictures_are_for_the_teacher_to_look_at(path):
    words, ok = look(path.read_bytes())
    assert words.endswith(" pixels inside the border: look at it") and ok is None


@pytest.mark.parametrize("pixels", [page(), 255 - page(), page()[99:, 49:], page()[:154, :468]])
def test_margins_are_not_part_of_a_picture(pixels):
    assert look(pixels) == GOOD


@pytest.mark.parametrize(
    ("format", "mode"),
    [("PNG", "P"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("TIFF", "CMYK"), ("WEBP", "RGB")],
)
def test_formats(format, mode):
    assert look(Image.fromarray(page()).convert(mode), format=format)[1] is None


@pytest.mark.parametrize("content", [saved(page())[:3_000], b"hello", b""])
def test_a_damaged_file_is_no_picture(content):
    words, ok = look(content)
    assert words.startswith("no picture that can be read: ") and ok is False


def test_two_pictures_with_the_same_pixels_are_not_as_asked():
    seen = {}
    assert look(page(), seen, "vis/train_AE.png") == GOOD
    for again, options in (page(), {}), (page(), {"format": "TIFF"}), (page()[50:], {"compress_level": 0}):
        words, ok = look(again, seen, "vis/valid_AE.png", **options)
        assert words.endswith("the same picture as vis/train_AE.png") and ok is False
    other = page()
    other[120, 300] ^= 1
    assert look(other, seen, "vis/valid_AE.png") == GOOD
    assert look(other, seen, "vis/valid_AE.png") == GOOD  # the same file once more


def flat(*spots):
    """Black, with white inside and spots of other colours."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[50:150, 50:250] = 255
    for i, color in enumerate(spots):
        pixels[60 + 5 * i, 70:90] = color
    return pixels


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (page()[:148, :98], None),  # 48 x 48
        (page()[:147, :98], "48 x 47 pixels inside the border, expected 48 x 48 or more"),
        (page()[:148, :97], "47 x 48 pixels inside the border, expected 48 x 48 or more"),
        (page()[:100], "0 x 0 pixels inside the border, expected 48 x 48 or more"),
        (np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8), "of noise"),
        (flat(), "in 1 colours"),
        (flat(*range(1, 7)), "in 7 colours"),
        (flat(*range(1, 8)), None),
    ],
)
def test_what_cannot_be_photos(pixels, found):
    words, ok = look(pixels)
    assert (found or "look at it") in words and ok is (None if found is None else False)


def test_images_that_are_not_enlarged_are_no_noise():
    """Rows of images of 24 x 24 pixels, as they come out of the data set."""
    with Image.open(ROOT / "vis" / "valid_MLPAE.png") as picture:
        assert look(picture.convert("RGB").reduce(4))[1] is None


def header(width, height):
    """A PNG of which there is a header and no more."""
    content = bytearray(saved(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(("width", "height", "refused"), [(8_000, 5_000, False), (8_000, 5_001, True)])
def test_the_size_is_looked_at_before_the_pixels(width, height, refused):
    words, ok = look(header(width, height))
    assert ok is (None if refused else False) and ("too large to look at here" in words) is refused


@unix
def test_postscript_is_not_opened(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    words, ok = look(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n{} loop\n")
    assert words.startswith("no picture that can be read") and ok is False and not (tmp_path / "mark").exists()
