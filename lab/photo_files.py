"""Photos on disk -> pixels: which files are photos, and their decoding by Pillow.

Nothing of the project is imported here, and no model of PyTorch: ``data_processor`` makes a data set of the pixels.
"""

import contextlib
import hashlib
import io
import operator
import os
import sys
import threading
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from tqdm import tqdm

# Formats of Pillow that are opened: not those for which it starts another program, as for PostScript.
Image.init()
_WANTED = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "QOI")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # some may not be built in
IMG_EXTENSIONS = {ending for ending, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}

# Formats that are skipped, with a notice.
OTHER_EXTENSIONS = {
    *(".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".xcf", ".svg", ".eps", ".ico"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".hdr", ".dds"),
} - IMG_EXTENSIONS

# Folders that systems make in folders of photos: of network drives, archives, recycle bins.
SYSTEM_FOLDERS = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "__macosx"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "__pycache__"),
}

# A photo is decoded before it is resized: at these limits it takes up to 600 MB. JPEGs are decoded smaller, except
# progressive ones. Photos above LARGE are decoded one at a time.
MAX_PIXELS, MAX_SIDE, MAX_BYTES = 25_000_000, 65_535, 200_000_000
LARGE = 4_000_000  # pixels
_one_large_photo_at_a_time = threading.Lock()


class Photos(NamedTuple):
    """Decoded photos."""

    pixels: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) positions in classes
    names: list[str]  # paths below the root, as in "astilbe/123.jpg"
    classes: list[str]  # names of the class folders with photos, in Unicode's composed form
    digests: list[str]  # a hash of each file; photos with the same pixels have that of the first of them


def read_photo_files(root: str | Path, width: int, height: int, strict: bool = False, quiet: bool = False) -> Photos:
    """All photos in the class folders of ``root``, resized to width x height pixels.

    As in torchvision's ImageFolder, each folder in ``root`` is a class, and each file below it with the extension of a
    picture is a photo of that class. Hidden files and folders, and those that systems make, are skipped. What is left
    out otherwise is named on stderr: files that cannot be read as pictures, formats that are not read, photos outside
    the class folders. ``quiet``: without a progress bar.

    Raises:
        TypeError: the width or the height is no whole number.
        OSError: ``root`` is not a folder, or holds fewer than the two photos that a split needs; or something is left
            out, if ``strict``.
    """
    root, width, height = Path(root), operator.index(width), operator.index(height)
    layout = f"expected a folder of class folders with photos in them, such as {root}/astilbe/1.jpg"
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; {layout}")
    folder = PhotoFolder(root)
    _report(_skipped(root, folder, layout), strict)
    samples = sorted(folder.samples, key=lambda sample: [composed(part) for part in Path(sample[0]).parts])

    def read(sample: tuple[str, int]) -> Any:
        try:
            return _read_photo(Path(sample[0]), width, height)
        except Exception as error:  # a damaged file can raise any exception
            return error

    with _threads() as pool:
        try:
            bar = {"desc": "Reading photos", "unit": "photo", "leave": False, "disable": quiet or None}
            decoded = list(tqdm(pool.map(read, samples), total=len(samples), **bar))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    read_photos, unusable = [], [f"{error.filename} ({error.strerror})" for error in folder.unreadable]
    for (path, label), photo in zip(samples, decoded, strict=True):
        if isinstance(photo, Exception):
            unusable.append(f"{path} ({str(photo) or type(photo).__name__})")
        else:
            read_photos.append((Path(path), label, *photo))
    if unusable:
        more = [f"and {len(unusable) - 10} more"] if len(unusable) > 10 else []
        words = f"Left out {len(unusable)} files, which cannot be read as pictures:"
        _report(["\n  ".join(map(printable, [words, *unusable[:10], *more]))], strict)
    if len(read_photos) < 2:
        raise FileNotFoundError(f"{root}: found {len(read_photos)} photos in {len(folder.classes)} folders; {layout}")
    paths, all_labels, pixels, details = zip(*read_photos, strict=True)
    digests = _digests(paths, pixels, details)
    if copies := len(digests) - len(set(digests)):
        words = "Photos with the same pixels as another one"
        print(f"{words}: {copies}. Copies are kept on one side of the split.", file=sys.stderr)
    used, labels = np.unique(all_labels, return_inverse=True)
    names = [path.relative_to(root).as_posix() for path in paths]
    return Photos(np.stack(pixels), labels, names, [folder.classes[label] for label in used], digests)


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): systems differ in how they write an accent."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """Names of files, made safe for a terminal, on which some characters move the cursor or change the colours."""
    return "".join(char if char.isprintable() else "?" for char in text)


# Which files are photos


class PhotoFolder(ImageFolder):
    """torchvision's ImageFolder, without hidden files and system folders; each folder is visited once for a class, so
    that links in a circle end.

    Attributes:
        skipped: the number of files in each of OTHER_EXTENSIONS.
        unreadable: errors of folders that could not be listed.
    """

    def __init__(self, root: str | Path) -> None:
        self.skipped = Counter[str]()
        self.unreadable: list[OSError] = []
        super().__init__(root)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        folders = sorted((path.name for path in Path(directory).iterdir() if path.is_dir()), key=composed)
        folders = list(filter(_is_visited, folders))
        classes = list(dict.fromkeys(map(composed, folders)))
        return classes, {name: classes.index(composed(name)) for name in folders}

    def make_dataset(self, directory: str | Path, class_to_idx: dict[str, int], **_: Any) -> list[tuple[str, int]]:  # type: ignore[override]
        samples = []
        for name, label in class_to_idx.items():
            visited = {os.path.realpath(directory)}  # a link to the root does not lead to the other classes
            top = os.path.join(directory, name)
            for folder, folders, files in os.walk(top, onerror=self.unreadable.append, followlinks=True):
                place = os.path.realpath(folder)
                folders[:] = [] if place in visited else sorted(filter(_is_visited, folders), key=composed)
                paths = [] if place in visited else [Path(folder, file) for file in files if file[0] != "."]
                visited.add(place)
                samples += [(str(path), label) for path in paths if path.suffix.lower() in IMG_EXTENSIONS]
                self.skipped.update(path.suffix.lower() for path in paths if path.suffix.lower() in OTHER_EXTENSIONS)
        return samples


def _is_visited(folder: str) -> bool:
    return not folder.startswith(".") and folder.casefold() not in SYSTEM_FOLDERS


def _skipped(root: Path, folder: PhotoFolder, layout: str) -> list[str]:
    """Notices on photos that are not read: outside the class folders, and in other formats."""
    outside = [path for path in root.iterdir() if path.suffix.lower() in IMG_EXTENSIONS and path.is_file()]
    lines = []
    if outside:
        lines.append(f"Left out {len(outside)} photos in {root} itself, such as {min(outside).name}: {layout}.")
    if folder.skipped:
        shown = ", ".join(f"{count} {ending}" for ending, count in folder.skipped.most_common())
        number = folder.skipped.total()
        lines.append(f"Left out {number} photos in formats that are not read ({shown}); convert them to JPEG or PNG.")
    return list(map(printable, lines))


def _report(notices: list[str], strict: bool) -> None:
    if strict and notices:
        raise OSError(f"--strict: {notices[0]}")
    for notice in notices:
        print(notice, file=sys.stderr)


# Decoding


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode photos, without Pillow's warnings: what cannot be read is named in a notice."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        yield pool


class _Details(NamedTuple):
    """What was read of a photo besides its pixels at the size of training."""

    file: str  # a hash of the bytes of its file
    size: tuple[int, int]  # its sides in pixels, the shorter one first
    content: str  # a hash of its pixels in full, "" if it was decoded smaller


def _read_photo(path: Path, width: int, height: int) -> tuple[np.ndarray, _Details]:
    """The picture in a file of any mode, as RGB of this size: (height, width, 3) uint8."""
    file = _read(path)
    with Image.open(io.BytesIO(file), formats=FORMATS) as photo:
        whole = photo.size
        # A JPEG can be decoded at a half, a quarter or an eighth of its size: at least twice the final size is enough.
        photo.draft("RGB", (2 * max(width, height), 2 * max(width, height)))
        is_whole = photo.size == whole
        # For a progressive one the decoder keeps the whole picture nevertheless.
        rgb = _as_rgb(photo, *(whole if photo.info.get("progressive") else photo.size))
        pixels = np.asarray(rgb.resize((width, height), Image.Resampling.BILINEAR))
        content = _hash_of_pixels(rgb) if is_whole else ""
    return pixels, _Details(hashlib.sha256(file).hexdigest(), (min(whole), max(whole)), content)


def _read(path: Path) -> bytes:
    if not path.is_file():  # opening a named pipe, for example, would block
        raise OSError("no file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"found {path.stat().st_size:,} bytes, expected {MAX_BYTES:,} or less")
    return path.read_bytes()


def _digests(paths: Sequence[Path], pixels: Sequence[np.ndarray], details: Sequence[_Details]) -> list[str]:
    """A hash for each photo, the same for those with the same pixels.

    The pixels are those of the whole photo: at the size of training, different ones may be equal. Of JPEGs that were
    decoded smaller, only those are decoded again that may be copies: equal at this size, or as large as a photo of
    another format.
    """
    resized = [hashlib.sha256(picture.tobytes()).digest() for picture in pixels]
    alike = Counter(resized)
    sizes = {one.size for one in details if one.content}
    again = {
        one.file: path
        for path, key, one in zip(paths, resized, details, strict=True)
        if not one.content and (alike[key] > 1 or one.size in sizes)
    }
    with _threads() as pool:
        contents = dict(zip(again, pool.map(_content, again.values()), strict=True))
    first: dict[str, str] = {}
    return [first.setdefault(one.content or contents.get(one.file, one.file), one.file) for one in details]


def _content(path: Path) -> str:
    """``content`` of a photo that was decoded smaller before."""
    try:
        with Image.open(io.BytesIO(_read(path)), formats=FORMATS) as photo:
            return _hash_of_pixels(_as_rgb(photo, *photo.size))
    except Exception:  # too large to be decoded in full, for example
        return str(path)


def _hash_of_pixels(rgb: Image.Image) -> str:
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def _as_rgb(photo: Image.Image, width: int, height: int) -> Image.Image:
    """The picture decoded, in RGB, at ``width`` x ``height`` pixels; a ValueError if these are too many."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"{MAX_PIXELS:,} or less in all and {MAX_SIDE:,} of a side"
        raise ValueError(f"found {width} x {height} pixels, expected {limits}")
    with _one_large_photo_at_a_time if width * height > LARGE else contextlib.nullcontext():
        photo = ImageOps.exif_transpose(photo)
        if photo.mode.startswith(("I", "F")):
            photo = _with_8_bits(photo)
        if photo.has_transparency_data:
            photo = photo.convert("RGBA")
            white = Image.new("RGB", photo.size, "white")
            white.paste(photo, mask=photo.getchannel("A"))
            return white
        return photo.convert("RGB")


def _with_8_bits(photo: Image.Image) -> Image.Image:
    """A gray picture of 16 bits or more, or of floats, with 8 bits, which Pillow would clip to instead of scaling.

    Numbers of 16 bits are scaled by the range of the bits that are in use: cameras give 12 or 14 of them. Others have
    no range, so that it is from the lowest to the highest number in the picture. A thousandth at either end does not
    count: a defective pixel would make the others black.
    """
    values = np.asarray(photo)
    low, high = np.percentile(values, (0.1, 99.9), method="nearest")
    if photo.mode.startswith("I;16"):
        low, high = 0, max(255, 2 ** int(high).bit_length() - 1)
    if not np.isfinite(values).all() or low == high:
        found = f"found gray values from {values.min():g} to {values.max():g}"
        raise ValueError(f"{found}, nearly all of them {low:g}, expected a range of finite numbers")
    low, high = np.float32(low), np.float32(high)
    scaled = (values.astype(np.float32).clip(low, high) - low) * (np.float32(255) / (high - low))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
