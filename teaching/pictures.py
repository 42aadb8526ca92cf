"""Pictures of a hand-in: what they cannot be. What they show is for the teacher to see."""

import hashlib
import io

import numpy as np
from PIL import Image, ImageChops

from lab.photo_files import FORMATS

MOST_PIXELS = 40_000_000  # looked at before decoding; pictures by matplotlib can be large
SMALLEST = 48  # pixels of a side inside the border: two images of 24 x 24 pixels, one above the other
FEWEST_COLORS = 8
NOISE = 0.2  # correlation of neighbouring pixels: photos of 24 x 24 pixels have 0.7 and more


def look_at_picture(content: bytes, seen: dict[str, str], name: str) -> tuple[str, str]:
    """What was found in the file of a picture, and a mark: "ok" if it can be as asked, "NO" if not, or "?".

    Args:
        content: of the file.
        seen: the name of each picture of the hand-in so far, by a digest of its pixels; this one is added.
        name: of the file.
    """
    try:
        picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            return f"{picture.width} x {picture.height} pixels, too large to look at here", "?"
        picture = picture.convert("RGB")
    except Image.DecompressionBombError:
        return "too large to look at here", "?"
    except Exception as error:  # a damaged file can raise any exception
        return f"no picture that can be read: {str(error) or type(error).__name__}", "NO"

    border = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    picture = picture.crop(ImageChops.difference(picture, border).getbbox() or (0, 0, 0, 0))
    width, height = picture.size
    found = f"{width} x {height} pixels inside the border"
    if min(width, height) < SMALLEST:
        return f"{found}, expected {SMALLEST} x {SMALLEST} or more", "?"
    digest = hashlib.sha256(f"{width} x {height}".encode() + picture.tobytes()).hexdigest()
    first = seen.setdefault(digest, name)
    if first != name:
        return f"{found}, the same picture as {first}", "NO"
    if colors := picture.getcolors(FEWEST_COLORS - 1):  # None if there are more
        return f"{found}, in {len(colors)} colours", "NO"
    top, left = max(0, height // 2 - 500), max(0, width // 2 - 500)  # up to a megapixel at the centre
    brightness = np.asarray(picture.convert("L"))[top : top + 1000, left : left + 1000]
    with np.errstate(invalid="ignore", divide="ignore"):  # where all is of one brightness, it is no number
        correlation = np.corrcoef(brightness[:, :-1].ravel(), brightness[:, 1:].ravel())[0, 1]
    if correlation < NOISE:
        return f"{found}, of noise: neighbouring pixels have nothing in common", "?"
    return found, "ok"
