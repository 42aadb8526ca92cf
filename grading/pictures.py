"""Pictures of a submission: what they cannot be. What they show is for the teacher to see."""

import hashlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from data_processor import FORMATS

MOST_PIXELS, LONGEST_SIDE = 40_000_000, 65_535  # looked at before decoding; pictures by matplotlib can be large
SMALLEST = 48  # pixels of a side inside the border: two images of 24 x 24 pixels, one above the other
FEWEST_COLORS = 8
NOISE = 0.2  # correlation of neighbouring pixels: photos of 24 x 24 pixels have 0.7 and more
ROWS = 256  # looked at together, so that a large picture is not copied as a whole


def look_at_picture(content: bytes, seen: dict[str, str], name: str) -> tuple[str, bool | None]:
    """What was found in the file of a picture, and False if it cannot be as asked; otherwise None, to be looked at.

    Args:
        content: of the file.
        seen: the name of each picture of the submission so far, by a digest of its pixels; this one is added.
        name: of the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on large pictures
        return _look(content, seen, name)


def _look(content: bytes, seen: dict[str, str], name: str) -> tuple[str, bool | None]:
    try:
        picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = picture.size
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
            return f"{width} x {height} pixels, too large to look at here", None
        picture.load()
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("RGB")
    except Exception as error:  # a damaged file can raise any exception
        return f"no picture that can be read: {str(error) or type(error).__name__}", False

    box = left, top, right, bottom = _without_margins(picture)
    width, height = right - left, bottom - top
    found = f"{width} x {height} pixels inside the border"
    if min(width, height) < SMALLEST:
        return f"{found}, expected {SMALLEST} x {SMALLEST} or more", False
    digest = hashlib.sha256(f"{width} x {height}".encode())
    colors: set[int] = set()
    gray = True
    for pixels in _strips(picture, box):
        digest.update(pixels.tobytes())
        gray = gray and bool((pixels[..., :1] == pixels).all())
        if len(colors) < FEWEST_COLORS:
            colors |= set(np.unique(pixels @ np.array([1, 256, 65536])).tolist())
    first = seen.setdefault(digest.hexdigest(), name)
    if first != name:
        return f"{found}, the same picture as {first}", False
    if len(colors) < FEWEST_COLORS:
        return f"{found}, in {len(colors)} colours", False
    if _correlation(picture, box) < NOISE:
        return f"{found}, of noise: neighbouring pixels have nothing in common", False
    return f"{found}{', all gray' if gray else ''}: look at it", None


def _strips(picture: Image.Image, box: tuple[int, int, int, int]) -> Iterator[np.ndarray]:
    """The pixels in a box, (rows, columns, 3) uint8, some rows at a time."""
    left, top, right, bottom = box
    for row in range(top, bottom, ROWS):
        yield np.asarray(picture.crop((left, row, right, min(row + ROWS, bottom))))


def _without_margins(picture: Image.Image) -> tuple[int, int, int, int]:
    """The box of all pixels that differ from the one in the corner: left, top, right, bottom; all 0 if none does."""
    whole = 0, 0, *picture.size
    differs = [(pixels != picture.getpixel((0, 0))).any(2) for pixels in _strips(picture, whole)]
    rows = np.flatnonzero(np.concatenate([part.any(1) for part in differs]))
    columns = np.flatnonzero(np.any([part.any(0) for part in differs], axis=0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)


def _correlation(picture: Image.Image, box: tuple[int, int, int, int]) -> float:
    """Of the brightness of pixels with that of their neighbours to the right, in up to a megapixel at the centre."""
    left, top, right, bottom = box
    x, y = (left + right) // 2, (top + bottom) // 2
    part = max(left, x - 500), max(top, y - 500), min(right, x + 500), min(bottom, y + 500)
    brightness = np.asarray(picture.crop(part).convert("L"), float)
    if not brightness.std():
        return 1.0
    with np.errstate(invalid="ignore"):  # where all but one column are of one brightness
        return float(np.corrcoef(brightness[:, :-1].ravel(), brightness[:, 1:].ravel())[0, 1])
