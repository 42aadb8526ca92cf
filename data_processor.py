"""Photos on disk -> batches for training, and batches -> pictures (handout, Part 2).

Every photo is decoded once, at the size that training asks for, and kept in memory as bytes: all 2,588 flowers take
4.5 MB at 24 x 24. From then on a batch is one indexing operation.
"""

import contextlib
import hashlib
import math
import os
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

# The formats of Pillow in which pictures are opened: not those that start another program, as PostScript does.
Image.init()
_WANTED = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "QOI")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # some may not be built in

# The endings of names that are taken for photos: all of torchvision's ImageFolder, and .gif, .avif, .jfif and others.
IMG_EXTENSIONS = tuple(ending for ending, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))

# Those of photos and drawings that are not taken, and said to be there.
OTHER_EXTENSIONS = (
    *(".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl", ".jxr", ".tga", ".exr", ".psd", ".xcf", ".svg", ".eps"),
    *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
    *(".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw", ".rwl", ".hdr", ".ico", ".icns", ".dds", ".wmf"),
)

# Folders that systems make in folders of photos: of network drives, archives, recycle bins.
LITTER = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "__macosx"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "__pycache__"),
}

# For names that Pillow's own font has no letters for, such as Chinese ones: the first of these that is installed.
FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "wqy-zenhei.ttc", "wqy-microhei.ttc", "DejaVuSans.ttf")

# Names of folders that are parts of a data set, and not kinds of flower.
PARTS_OF_A_SPLIT = {"train", "training", "valid", "val", "validation", "test", "testing"}

# A photo is decoded before it is resized: at these limits it takes up to 600 MB, and one at a time is so large. JPEGs
# are decoded smaller, except progressive ones.
MAX_PIXELS, MAX_SIDE, MAX_BYTES = 25_000_000, 65_535, 200_000_000
LARGE = 4_000_000  # pixels
_one_large_photo_at_a_time = threading.Lock()

# Limits on a folder, which a checkpoint may name: files and folders in it, and folders in each other.
MAX_ENTRIES, MAX_DEPTH = 200_000, 20


class Samples(list):
    """A list of (image, label), cut from one ``batch``: (images, labels)."""

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        super().__init__(zip(*batch, strict=True))
        self.batch = batch


class FlowerDataset(Dataset):
    """Photos in memory, with the kind of flower of each.

    Indexing with an int, a slice, a list or a tensor of indices gives ``(images, labels)``: images float32 in [0, 1] of
    shape (3, H, W) or (B, 3, H, W), labels int64 of shape () or (B,), positions in ``classes``.

    Attributes:
        labels: (N,) int64.
        names: for each photo, its path below the root, as in "astilbe/123.jpg".
        classes: the kinds of flower, by label.
        pixels: (M, 3, H, W) uint8, shared by all subsets of a data set, so that a split copies no pixels.
        rows: (N,) int64, the rows of ``pixels`` with the photos of this set.
        root: the folder that the photos were read from.
        digests: for each photo, a hash of its file, the same one for photos with the same pixels; by default its name.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        names: list[str],
        classes: list[str],
        rows: Tensor,
        root: str | Path,
        digests: list[str] | None = None,
    ) -> None:
        self.pixels, self.labels, self.names, self.classes = pixels, labels, names, classes
        self.rows, self.root, self.digests = rows, root, names if digests is None else digests

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels[self.rows[index]].float().div_(255), self.labels[index]

    def __getitems__(self, indices: list[int]) -> Samples:
        """The samples at these indices: what DataLoader, Subset and random_split ask for, if there is this method."""
        return Samples(self[indices])

    def fingerprint(self, of_names_alone: bool = False) -> str:
        """16 hexadecimal digits of a hash of the photos' names and files; the folder that they lie in does not count.

        Of files, and not of decoded pixels, which can differ by 1 between versions of a decoder.
        """
        names = map(_in_one_form, self.names)
        lines = names if of_names_alone else map(" ".join, zip(self.digests, names, strict=True))
        return _digest("\n".join(sorted(lines)))[:16]

    def split(self, seed: int = 0) -> tuple["FlowerDataset", "FlowerDataset"]:
        """(training set, validation set): 80 % and 20 % of the photos.

        Photos are sorted by a hash of seed and name, and the first fifth is for validation. So the split depends on
        nothing but these two, on any machine and in any version of any library. Only photos with the same pixels are
        kept together: if some are for training, all are.
        """
        order = sorted(range(len(self)), key=lambda i: _digest(f"{seed}/{_in_one_form(self.names[i])}"))
        fifth = max(1, len(order) // 5)
        trained = {self.digests[i] for i in order[fifth:]}
        validation = [i for i in order[:fifth] if self.digests[i] not in trained]
        if not validation:
            validation = [i for i in order if self.digests[i] == self.digests[order[0]]]
        if len(validation) == len(order):  # there is one photo, many times
            validation = order[:fifth]
        chosen = set(validation)
        return self._subset([i for i in order if i not in chosen]), self._subset(validation)

    def _subset(self, indices: list[int]) -> "FlowerDataset":
        names, digests = ([parts[i] for i in indices] for parts in (self.names, self.digests))
        labels, rows = self.labels[indices], self.rows[indices]
        return FlowerDataset(self.pixels, labels, names, self.classes, rows, self.root, digests)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _in_one_form(name: str) -> str:
    """The name in composed Unicode (NFC): systems differ in how they write an accent."""
    return unicodedata.normalize("NFC", name)


def read_flowers(
    root: str | Path,
    IMG_WIDTH: int,
    IMG_HEIGHT: int,
    strict: bool = False,
    log_dir: str | Path | None = None,
    quiet: bool = False,
) -> FlowerDataset:
    """All photos below ``root`` as a FlowerDataset of IMG_WIDTH x IMG_HEIGHT pixels.

    As in torchvision's ImageFolder, each folder in ``root`` is a class, and each file below it with the extension of a
    picture is a photo of that class. Hidden files and folders, and those that systems make, are skipped. What is left
    out otherwise is named on stderr: files that cannot be read as pictures (more than ten are also listed in
    ``log_dir``), pictures in formats that are not read, photos outside the class folders. So is a layout that may not
    be what it should, and the number of photos with the same pixels as another. ``quiet``: without a progress bar.

    Raises:
        OSError: ``root`` is not a folder, or holds fewer than the two photos that a split needs, or far more files than
            a folder of photos; or something is left out, if ``strict``.
        MemoryError: the photos of this size do not fit in the memory of the machine.
    """
    given, root = root, Path(root)
    layout = f"expected a folder of class folders with photos in them, such as {root}/astilbe/1.jpg"
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; {layout}")
    folders, outside = _find_photos(root)
    others = [file for files in (*folders.values(), outside) for file in files if not _is_taken(file)]
    photos = {path: taken for path, files in folders.items() if (taken := list(filter(_is_taken, files)))}
    left_out = _outside_the_layout(root, list(filter(_is_taken, outside)), layout) + _in_other_formats(others)
    doubts = _doubts_of_the_layout(photos, layout)

    paths = [file for files in photos.values() for file in files]
    classes = list(dict.fromkeys(_in_one_form(folder.name) for folder in photos))
    labels = [classes.index(_in_one_form(folder.name)) for folder, files in photos.items() for _ in files]
    needed = len(paths) * IMG_HEIGHT * IMG_WIDTH * 3
    if needed > (there := memory_of_the_machine()):
        size = f"{len(paths)} photos of {IMG_WIDTH} x {IMG_HEIGHT} pixels"
        raise MemoryError(
            f"{size} take {needed / 1e9:,.1f} GB of memory, found {there / 1e9:.1f} GB; take smaller ones"
        )
    pixels = np.empty((len(paths), IMG_HEIGHT, IMG_WIDTH, 3), np.uint8)
    details: list[Any] = [None] * len(paths)

    def read(row: int) -> Any:
        """Reads one photo into its row; returns what is wrong with it, if anything is."""
        try:
            pixels[row], details[row] = _read_photo(paths[row], IMG_WIDTH, IMG_HEIGHT)
        except Exception as error:  # a damaged file can raise anything at all
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(read, range(len(paths)))
        try:
            bar = tqdm(decoded, "Reading photos", len(paths), unit="photo", leave=False, disable=quiet or None)
            errors = list(bar)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    usable = [row for row, error in enumerate(errors) if error is None]
    unusable = [
        f"{path} ({str(error) or type(error).__name__})"
        for path, error in zip(paths, errors, strict=True)
        if error is not None
    ]
    if strict and left_out:
        raise OSError(f"--strict: {_printable(left_out[0])}")
    for line in left_out + doubts:
        print(_printable(line), file=sys.stderr)
    if unusable:
        _report_unusable(unusable, len(paths), strict, log_dir)
    if len(usable) < 2:
        raise FileNotFoundError(f"{root}: {len(usable)} usable photos in {len(folders)} class folders; {layout}")
    digests, copies = _join_copies([(paths[row], pixels[row], details[row]) for row in usable])
    if copies:
        one, both = ("photo has", "both are") if copies == 1 else ("photos have", "copies are")
        print(f"{copies} {one} the same pixels as another one: {both} kept on one side of the split.", file=sys.stderr)

    names = [paths[row].relative_to(root).as_posix() for row in usable]
    # The memory format in which the photos were decoded is also the one in which convolutions are fastest.
    channels_last = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    rows = torch.tensor(usable)
    return FlowerDataset(channels_last, torch.tensor(labels)[usable], names, classes, rows, given, digests)


def memory_of_the_machine() -> float:
    """Bytes of physical memory; infinite where the system does not tell, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


# Which files are photos


def _find_photos(root: Path) -> tuple[dict[Path, list[Path]], list[Path]]:
    """The files that look like photos: by the folder in ``root`` that they are below, and those in ``root`` itself."""
    entries = iter(range(MAX_ENTRIES))
    classes: dict[Path, list[Path]] = {}
    outside: list[Path] = []
    for path in _sorted(_entries_of(root, entries)):
        if path.is_dir():
            classes[path] = _sorted(list(filter(_looks_like_a_photo, _files_below(path, entries))))
        elif _looks_like_a_photo(path):
            outside.append(path)
    return classes, outside


def _files_below(folder: Path, entries: Iterator[int], above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files below ``folder``; symbolic links are followed, but never in a cycle."""
    place = folder.resolve()
    if place in above:
        return
    if len(above) == MAX_DEPTH:
        raise OSError(f"{folder}: more than {MAX_DEPTH} folders in each other, so this is no folder of photos")
    try:
        inside = _entries_of(folder, entries)
    except PermissionError:
        yield folder  # reported with the files that cannot be read
        return
    for entry in inside:
        if entry.is_dir():
            yield from _files_below(entry, entries, (*above, place))
        else:
            yield entry


def _entries_of(folder: Path, entries: Iterator[int]) -> list[Path]:
    """What is in a folder, without litter; OSError if ``entries`` are used up, by one for each."""
    found = []
    for path in folder.iterdir():
        if next(entries, None) is None:
            raise OSError(f"{folder}: found more than {MAX_ENTRIES:,} files up to here, so this is no folder of photos")
        if not path.name.startswith(".") and path.name.casefold() not in LITTER:
            found.append(path)
    return found


def _sorted(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [_in_one_form(part) for part in path.parts])


def _looks_like_a_photo(path: Path) -> bool:
    """Whether a file has the ending of a picture; a folder here is one that cannot be read, and is to be named."""
    return path.name.lower().endswith(IMG_EXTENSIONS + OTHER_EXTENSIONS) or path.is_dir()


def _is_taken(path: Path) -> bool:
    return path.name.lower().endswith(IMG_EXTENSIONS) or path.is_dir()


# What is left out, and said


def _outside_the_layout(root: Path, outside: list[Path], layout: str) -> list[str]:
    if not outside:
        return []
    return [f"Left out {len(outside)} photos in {root} itself, such as {outside[0].name}: {layout}."]


def _in_other_formats(others: list[Path]) -> list[str]:
    if not others:
        return []
    counts = Counter(path.suffix.lower() for path in others)
    shown = ", ".join(f"{count} {ending}" for ending, count in counts.most_common())
    return [f"Left out {len(others)} photos in formats that are not read ({shown}); convert them to JPEG or PNG."]


def _doubts_of_the_layout(photos: dict[Path, list[Path]], layout: str) -> list[str]:
    """What seems not to be meant: folders that are one too deep, and a split that is there already."""
    lines = []
    for path, files in photos.items():
        inside = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
        if len(inside) > 1 and not any(file.parent == path for file in files):
            shown = ", ".join(inside[:3]) + (", ..." if len(inside) > 3 else "")
            lines.append(f"Found no photos in {path}, but in folders in it ({shown}), taken as one class: {layout}.")
    parts = [path.name for path in photos if path.name.casefold() in PARTS_OF_A_SPLIT]
    if parts:
        lines.append(f"Took {' and '.join(parts)} for kinds of flower, and split all photos again: {layout}.")
    return lines


def _report_unusable(unusable: list[str], number: int, strict: bool, log_dir: str | Path | None) -> None:
    """Names the files that cannot be read as pictures: on stderr, or in an OSError if ``strict``."""
    shown = 10
    head = f"Left out {len(unusable)} of {number} files, which cannot be read as pictures:"
    lines = [_printable(line) for line in unusable[:shown]]
    if len(unusable) > shown:
        rest = f"and {len(unusable) - shown} more"
        if log_dir is not None:
            path = Path(log_dir, "unusable_photos.txt")
            path.write_bytes("".join(f"{line}\n" for line in unusable).encode(errors="backslashreplace"))
            rest += f"; {path} names them all"
        lines.append(rest)
    if strict:
        raise OSError(" ".join([f"--strict: found {len(unusable)} of {number} files that are no pictures:", lines[0]]))
    print(head, *lines, sep="\n  ", file=sys.stderr)


def _printable(text: str) -> str:
    """Names of files, made safe for a terminal, on which some characters move the cursor or change the colours."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _join_copies(photos: list[tuple[Path, np.ndarray, "_Read"]]) -> tuple[list[str], int]:
    """A digest for each photo, the same for those with the same pixels; and how many are copies of another one.

    The pixels are those of the whole photo: at the size of training, different ones may be equal. Of JPEGs that were
    decoded smaller, only those are decoded again that may be copies: equal at this size, or as large as a photo of
    another format.
    """
    paths, pictures, read = zip(*photos, strict=True)
    keys = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
    alike = Counter(keys)
    sizes = {one.size for one in read if one.content}
    again = {
        one.file: path
        for path, key, one in zip(paths, keys, read, strict=True)
        if not one.content and (alike[key] > 1 or one.size in sizes)
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = dict(zip(again, pool.map(_content, again.values()), strict=True))
    first: dict[str, str] = {}
    digests = [first.setdefault(one.content or contents.get(one.file, one.file), one.file) for one in read]
    return digests, len(read) - len(first)


# Decoding


def _open(path: Path) -> Image.Image:
    """The picture in a file, in one of ``FORMATS``, not decoded yet; an exception of any type if there is none."""
    if not path.is_file():  # opening a named pipe, for example, would block
        raise OSError("a folder that cannot be read" if path.is_dir() else "no file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.stat().st_size:,} bytes, more than the {MAX_BYTES:,} that are taken")
    return Image.open(path, formats=FORMATS)


class _Read(NamedTuple):
    """What was read of a photo besides its pixels.

    Args:
        file: a hash of the bytes of its file.
        size: its sides in pixels, the shorter one first.
        content: a hash of its pixels in full, "" if it was decoded smaller.
    """

    file: str
    size: tuple[int, int]
    content: str


def _read_photo(path: Path, width: int, height: int) -> tuple[np.ndarray, _Read]:
    """The picture in a file of any mode, as RGB of this size: (height, width, 3) uint8."""
    with _open(path) as photo:
        whole = photo.size
        # A JPEG can be decoded at a half, a quarter or an eighth of its size: at least twice the final size is enough.
        photo.draft("RGB", (2 * max(width, height), 2 * max(width, height)))
        is_whole = photo.size == whole
        # For a progressive one the decoder keeps the whole picture nevertheless.
        rgb = _as_rgb(photo, *(whole if photo.info.get("progressive") else photo.size))
        picture = np.asarray(rgb.resize((width, height), Image.Resampling.BILINEAR))
        content = _digest_of(rgb) if is_whole else ""
    file = hashlib.sha256()
    with open(path, "rb") as opened:
        while piece := opened.read(1_000_000):
            file.update(piece)
    return picture, _Read(file.hexdigest(), (min(whole), max(whole)), content)


def _content(path: Path) -> str:
    """``content`` of a photo that was decoded smaller before."""
    try:
        with _open(path) as photo:
            return _digest_of(_as_rgb(photo, *photo.size))
    except Exception:  # too large to be decoded in full, for example
        return str(path)


def _digest_of(rgb: Image.Image) -> str:
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def _as_rgb(photo: Image.Image, width: int, height: int) -> Image.Image:
    """The picture decoded, in RGB, at ``width`` x ``height`` pixels; a ValueError if these are too many."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        limits = f"{MAX_PIXELS:,} in all and {MAX_SIDE:,} of a side"
        raise ValueError(f"{width} x {height} pixels, more than the {limits} that are taken")
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

    Numbers of 16 bits are scaled by their range, 65,536. Where that would be nearly black, because no more than 12 bits
    are in use, and where no range is given, it is from the lowest to the highest number in the picture.
    """
    values = np.asarray(photo)
    low, high = values.min(), values.max()
    if photo.mode.startswith("I;16") and high >= 2**12:
        return Image.fromarray((values >> 8).astype(np.uint8))
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"gray values from {low:g} to {high:g}, expected a range of finite numbers")
    scaled = values.astype(np.float32)
    scaled -= np.float32(low)  # in place: the picture may be large
    scaled *= np.float32(255) / (np.float32(high) - np.float32(low))
    np.rint(scaled, out=scaled)
    return Image.fromarray(np.clip(scaled, 0, 255, out=scaled).astype(np.uint8))


def create_flower_dataloaders(
    batch_size: int,
    root: str | Path,
    IMG_WIDTH: int,
    IMG_HEIGHT: int,
    num_worker: int = 0,
    seed: int = 0,
    split_seed: int = 0,
    device: str = "cpu",
    strict: bool = False,
    log_dir: str | Path | None = None,
    quiet: bool = False,
) -> tuple[DataLoader, DataLoader]:
    """(training_dataloader, validation_dataloader) over the photos in ``root``; see ``read_flowers``.

    ``for images, labels in loader`` gives images (B, 3, IMG_HEIGHT, IMG_WIDTH), float32 in [0, 1], and labels (B,),
    int64; B is ``batch_size``, or less in the last batch. Training photos are shuffled in each epoch, by ``seed``;
    which photos they are depends on ``split_seed`` and the names of the files.

    All photos are copied to ``device`` once, and the batches are made there. Worker processes (``num_worker``) can only
    be used with photos on the CPU.
    """
    photos = read_flowers(root, IMG_WIDTH, IMG_HEIGHT, strict, log_dir, quiet)
    photos.pixels, photos.labels = photos.pixels.to(device), photos.labels.to(device)
    training, validation = photos.split(split_seed)
    order = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_worker, "collate_fn": whole_batch}
    return DataLoader(training, shuffle=True, generator=order, **options), DataLoader(validation, **options)


def whole_batch(samples: Any) -> tuple[Tensor, Tensor]:
    """A ``collate_fn`` for a FlowerDataset: the batch that was indexed at once, where others stack the samples."""
    return samples.batch


def random_horizontal_flip(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> the same shape; each image is mirrored left to right with probability 1/2."""
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(flipped, images.flip(3), images)


def show_images(
    images: Tensor | np.ndarray,
    save_path: str | Path | IO[bytes] | None = None,
    columns: int = 8,
    row_names: Sequence[str] = (),
) -> Image.Image:
    """Pictures (N, 3, H, W) in [0, 1], values outside clipped, in a grid with ``columns`` in a row.

    ``save_path`` is the path of a PNG file, or a file open for writing; ``row_names`` stand to the left of the rows.
    Returns the grid as a Pillow image: a notebook displays it, ``.show()`` opens it in a window.
    """
    return _draw_rows([_rows(images, columns)], save_path, row_names=row_names)


def show_recover_results(
    images: Tensor | np.ndarray,
    recover_images: Tensor | np.ndarray,
    save_path: str | Path | IO[bytes] | None = None,
    columns: int = 8,
    row_names: Sequence[str] = ("photo", "reconstruction"),
) -> Image.Image:
    """Originals above their reconstructions, ``columns`` in a row; arguments and result as for ``show_images``."""
    if images.shape != recover_images.shape:
        raise ValueError(f"expected two batches of one shape, found {images.shape} and {recover_images.shape}")
    pairs = list(zip(_rows(images, columns), _rows(recover_images, columns), strict=True))
    return _draw_rows(pairs, save_path, row_names=row_names)


def show_groups(
    groups: Mapping[str, Tensor | np.ndarray], save_path: str | Path | IO[bytes] | None = None, columns: int = 8
) -> Image.Image:
    """Pictures in groups, each below its name; arguments and result as for ``show_images``."""
    return _draw_rows([_rows(images, columns) for images in groups.values()], save_path, list(groups))


def _rows(images: Tensor | np.ndarray, columns: int) -> list[np.ndarray]:
    """(N, 3, H, W) in [0, 1] -> a list of rows of pixels, each (``columns`` or less, H, W, 3) uint8, enlarged."""
    if isinstance(images, Tensor):
        images = images.detach().float().cpu().numpy()
    pixels = (images.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    zoom = max(1, 96 // pixels.shape[2])  # a whole number, so that no pixel is blurred
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return [pixels[i : i + columns] for i in range(0, len(pixels), columns)]


def _draw_rows(
    groups: Sequence[Sequence[np.ndarray]],
    save_path: str | Path | IO[bytes] | None,
    names: Sequence[str] = (),
    row_names: Sequence[str] = (),
) -> Image.Image:
    """Draws rows of pixels as one picture, and saves it as PNG: the rows of a group close together below its name, and
    to the right of theirs."""
    gap, group_gap, name_height = 4, 20, 26 if names else 0
    names, row_names = ([_printable(name)[:40] for name in texts] for texts in (names, row_names))
    heading, margin = (
        max((math.ceil(_font(text).getlength(text)) for text in texts), default=0) for texts in (names, row_names)
    )
    margin += 10 * bool(row_names)
    _, height, width, _ = groups[0][0].shape
    columns = max(len(group[0]) for group in groups)
    heights = [name_height + len(group) * (height + gap) - gap for group in groups]
    size = max(heading, margin + columns * (width + gap) - gap), sum(heights) + (len(groups) - 1) * group_gap
    picture = Image.new("RGB", size, "white")
    top = 0
    for g, group in enumerate(groups):
        if names:
            ImageDraw.Draw(picture).text((0, top), names[g], "black", _font(names[g]))
        for r, row in enumerate(group):
            y = top + name_height + r * (height + gap)
            for name in row_names[r : r + 1]:
                ImageDraw.Draw(picture).text((0, y + height // 2), name, "black", _font(name), anchor="lm")
            for c, pixels in enumerate(row):
                picture.paste(Image.fromarray(pixels), (margin + c * (width + gap), y))
        top += heights[g] + group_gap
    if save_path is not None:
        picture.save(save_path, format="PNG")
    return picture


def _font(text: str, size: int = 18) -> Any:
    """A font for the text: Pillow's own for ASCII, otherwise the first of ``FONTS`` that is installed."""
    for name in () if text.isascii() else FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
