"""Photos on disk -> pixels: which files are photos, and their decoding by Pillow.

Nothing of the project is imported here, and no model of PyTorch: ``data_processor`` makes a data set of the pixels.
"""

import hashlib
import io
import operator
import os
import sys
import unicodedata
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

# All that Pillow opens, except PostScript, for which it starts another program.
Image.init()
FORMATS = [name for name in Image.OPEN if name != "EPS"]
ENDINGS = {ending for ending, name in Image.registered_extensions().items() if name in FORMATS}

# What systems make in folders of photos: network drives, archives, recycle bins, file managers.
OF_SYSTEMS = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "__macosx"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "__pycache__"),
    *("thumbs.db", "desktop.ini"),
}


def read_photo_files(root: str | Path, width: int, height: int, strict: bool = False) -> tuple[Any, ...]:
    """All photos in the class folders of ``root``, resized to width x height pixels: pixels, (N, height, width, 3)
    uint8, labels, names, classes and digests, as in a ``FlowerDataset``.

    As in torchvision's ImageFolder, each folder in ``root`` is a class, and each file below it with the extension of a
    picture is a photo of that class. Hidden files and folders, and those that systems make, are skipped. What is left
    out otherwise is counted and named on stderr.

    Raises:
        TypeError: the width or the height is no whole number.
        OSError: ``root`` is not a folder, or holds fewer than the two photos that a split needs; or something is left
            out, if ``strict``.
    """
    root, size = Path(root), (operator.index(width), operator.index(height))
    layout = f"expected a folder of class folders with photos in them, such as {root}/astilbe/1.jpg"
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; {layout}")
    paths, left_out = _photos_in(root)
    photos: dict[Path, tuple[np.ndarray, str]] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # what Pillow warns of is decoded all the same, or left out and named
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # above 89 million pixels
        results = pool.map(lambda path: _read_photo(path, size), paths)
        bar = tqdm(results, "Reading photos", len(paths), unit="photo", leave=False, disable=None)
        for path, result in zip(paths, bar, strict=True):
            if isinstance(result, str):
                left_out[path] = result
            else:
                photos[path.relative_to(root)] = result
    if left_out:
        counts = Counter(path.suffix.lower() or "without an ending" for path in left_out)
        endings = ", ".join(f"{count} {_printable(ending)}" for ending, count in counts.most_common())
        lines = [f"\n  {_printable(f'{path} ({reason})')}" for path, reason in left_out.items()]
        notice = f"Left out {len(left_out)} files ({endings}), such as:{''.join(lines[:10])}"
        if strict:
            raise OSError(f"--strict: {notice}")
        print(notice, file=sys.stderr)
    if len(photos) < 2:
        raise FileNotFoundError(f"{root}: found {len(photos)} photos; {layout}")
    pixels, digests = zip(*photos.values(), strict=True)
    if copies := len(digests) - len(set(digests)):
        print(f"Photos with equal files: {copies}. They are kept on one side of the split.", file=sys.stderr)
    class_of = [composed(name.parts[0]) for name in photos]
    classes = sorted(set(class_of))
    labels = np.array([classes.index(name) for name in class_of])
    return np.stack(pixels), labels, [name.as_posix() for name in photos], classes, list(digests)


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): systems differ in how they write an accent."""
    return unicodedata.normalize("NFC", name)


def _printable(text: str) -> str:
    """Names of files, made safe for a terminal, on which some characters move the cursor or change the colours."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _photos_in(root: Path) -> tuple[list[Path], dict[Path, str]]:
    """The photos in the class folders, and what is left out, each with the reason."""
    photos: list[Path] = []
    unreadable: list[OSError] = []
    left_out: dict[Path, str] = {}
    for folder, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        folders[:] = filter(_is_visited, folders)
        for path in (Path(folder, name) for name in files if _is_visited(name)):
            is_picture, in_class = path.suffix.lower() in ENDINGS, path.parent != root
            if is_picture and in_class:
                photos.append(path)
            elif is_picture or in_class:
                left_out[path] = "no ending of a picture that Pillow opens" if in_class else "not in a class folder"
    left_out |= {Path(error.filename): error.strerror or "not readable" for error in unreadable}
    return sorted(photos), left_out


def _is_visited(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in OF_SYSTEMS


def _read_photo(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, str] | str:
    """The picture in a file of any mode, as RGB of this size, (height, width, 3) uint8, and the hash of the file; or
    what is wrong with it."""
    try:
        file = path.read_bytes()
        with Image.open(io.BytesIO(file), formats=FORMATS) as photo:
            # A JPEG can be decoded at a half, a quarter or an eighth of its size: twice the final size is enough.
            photo.draft("RGB", (2 * max(size), 2 * max(size)))
            pixels = np.asarray(_as_rgb(photo).resize(size, Image.Resampling.BILINEAR))
        return pixels, hashlib.sha256(file).hexdigest()
    except UnidentifiedImageError:  # whose own text names a buffer
        return "cannot be identified as a picture"
    except Exception as error:  # a damaged file can raise any exception
        return str(error) or type(error).__name__


def _as_rgb(photo: Image.Image) -> Image.Image:
    """The picture in RGB: turned as its EXIF tag says, white where it is transparent, 16-bit gray scaled to 8 bits."""
    has_16_bits = photo.mode.startswith("I;16") or (photo.mode, photo.format) == ("I", "PPM")
    photo = ImageOps.exif_transpose(photo)
    if has_16_bits:
        photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    if photo.mode in ("I", "F"):
        raise ValueError("found numbers of 32 bits, expected 8 or 16")  # which Pillow would clip
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        white = Image.new("RGB", photo.size, "white")
        white.paste(photo, mask=photo.getchannel("A"))
        return white
    return photo.convert("RGB")
