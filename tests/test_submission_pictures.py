"""Pictures of a submission: refused if they cannot be as asked, and otherwise left to the teacher's eyes."""

import io

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from teaching.pictures import look_at_picture


def look(pixels, seen=None, name="vis/train_MLPAE.png", format="PNG"):
    content = pixels
    if not isinstance(pixels, bytes):
        file = io.BytesIO()
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        picture.save(file, format)
        content = file.getvalue()
    return look_at_picture(content, {} if seen is None else seen, name)


def page():
    """A smooth and colourful picture of 418 x 54 pixels, as photos are, on a white page."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 30, 3), np.uint8))
    pixels = np.full((600, 800, 3), 255, np.uint8)
    pixels[100:154, 50:468] = small.resize((418, 54), Image.Resampling.BICUBIC)
    return pixels


def flat():
    """Black, with white inside."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[50:150, 50:250] = 255
    return pixels


@pytest.mark.parametrize("path", sorted(ROOT.glob("vis/*.png")), ids=lambda path: path.name)
def test_our_own_pictures_are_for_the_teacher_to_look_at(path):
    assert look(path.read_bytes())[1] == "ok"


def test_images_that_are_not_enlarged_are_no_noise():
    """Rows of images of 24 x 24 pixels, as they come out of the data set."""
    with Image.open(ROOT / "vis" / "valid_MLPAE.png") as picture:
        assert look(picture.convert("RGB").reduce(4))[1] == "ok"


@pytest.mark.parametrize(("format", "mode"), [("PNG", "P"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "RGB")])
def test_formats(format, mode):
    assert look(Image.fromarray(page()).convert(mode), format=format)[1] == "ok"


def test_two_pictures_with_the_same_pixels_are_not_as_asked():
    seen = {}
    assert look(page(), seen, "vis/train_AE.png")[1] == "ok"
    words, ok = look(page()[50:], seen, "vis/valid_AE.png", format="TIFF")  # with another margin
    assert words.endswith("the same picture as vis/train_AE.png") and ok == "NO"
    other = page()
    other[120, 300] ^= 1
    assert look(other, seen, "vis/valid_AE.png")[1] == "ok"


@pytest.mark.parametrize(
    ("pixels", "found", "ok"),
    [
        (page()[:148, :98], "48 x 48 pixels", "ok"),
        (page()[:147, :98], "48 x 47 pixels", "?"),
        (page()[:148, :97], "47 x 48 pixels", "?"),
        (page()[:100], "0 x 0 pixels", "?"),
        (np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8), "of noise", "?"),
        (flat(), "in 1 colours", "NO"),
        (b"hello", "no picture that can be read", "NO"),
        ((ROOT / "vis" / "valid_MLPAE.png").read_bytes()[:3_000], "no picture that can be read", "NO"),
        (b"", "no picture that can be read", "NO"),
    ],
)
def test_what_cannot_be_photos(pixels, found, ok):
    words, as_asked = look(pixels)
    assert found in words and as_asked == ok
