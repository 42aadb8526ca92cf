"""Photos on disk -> batches for training, and batches -> pictures (handout, Part 2).

Every photo is decoded once, at the size that training asks for, and kept in memory as bytes: all 2,588 flowers take
4.5 MB at 24 x 24. From then on a batch is one indexing operation.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

# Those of torchvision's ImageFolder.
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

# A photo is decoded before it is resized: 150 MB at this limit, one per core at a time. JPEGs are decoded smaller.
MAX_PIXELS = 50_000_000


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
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor, names: list[str], classes: list[str], rows: Tensor, root: str | Path
    ) -> None:
        self.pixels, self.labels, self.names, self.classes = pixels, labels, names, classes
        self.rows, self.root = rows, root

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels[self.rows[index]].float().div_(255), self.labels[index]

    def __getitems__(self, indices: list[int]) -> Samples:
        """The samples at these indices: what DataLoader, Subset and random_split ask for, if there is this method."""
        return Samples(self[indices])

    def fingerprint(self) -> str:
        """16 hexadecimal digits of a hash of the photos' names; the folder that they lie in does not count."""
        return _digest("\n".join(sorted(self.names)))[:16]

    def split(self, seed: int = 0) -> tuple["FlowerDataset", "FlowerDataset"]:
        """(training set, validation set): 80 % and 20 % of the photos.

        Photos are sorted by a hash of seed and name, and the first fifth is for validation. So the split depends on
        nothing but these two, on any machine and in any version of any library.
        """
        order = sorted(range(len(self)), key=lambda i: _digest(f"{seed}/{self.names[i]}"))
        fifth = max(1, len(order) // 5)
        return self._subset(order[fifth:]), self._subset(order[:fifth])

    def _subset(self, indices: list[int]) -> "FlowerDataset":
        names = [self.names[i] for i in indices]
        return FlowerDataset(self.pixels, self.labels[indices], names, self.classes, self.rows[indices], self.root)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


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
    picture is a photo of that class. Hidden files and folders are skipped. A file that cannot be read as a picture is
    left out and named on stderr; more than ten are also listed in ``log_dir``. ``quiet``: without a progress bar.

    Raises:
        OSError: ``root`` is not a folder, or holds fewer than the two photos that a split needs; or a file cannot be
            read, if ``strict``.
    """
    given, root = root, Path(root)
    layout = f"expected a folder of class folders with photos in them, such as {root}/astilbe/1.jpg"
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; {layout}")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_pictures(root / name))
        paths += found
        labels += [label] * len(found)

    pixels = np.empty((len(paths), IMG_HEIGHT, IMG_WIDTH, 3), np.uint8)

    def read(row: int) -> Any:
        """Reads one photo into its row; returns what is wrong with it, if anything is."""
        try:
            pixels[row] = _read_photo(paths[row], IMG_WIDTH, IMG_HEIGHT)
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
    if unusable:
        _report_unusable(unusable, len(paths), strict, log_dir)
    if len(usable) < 2:
        raise FileNotFoundError(f"{root}: {len(usable)} usable photos in {len(classes)} class folders; {layout}")

    names = [paths[row].relative_to(root).as_posix() for row in usable]
    # The memory format in which the photos were decoded is also the one in which convolutions are fastest.
    channels_last = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return FlowerDataset(channels_last, torch.tensor(labels)[usable], names, classes, torch.tensor(usable), given)


def _pictures(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The picture files below ``folder``, by their extension; symbolic links are followed, but never in a cycle."""
    place = folder.resolve()
    if place in above:
        return
    try:
        entries = list(folder.iterdir())
    except OSError:
        yield folder  # reported with the files that cannot be read
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _pictures(entry, (*above, place))
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield entry


def _report_unusable(unusable: list[str], number: int, strict: bool, log_dir: str | Path | None) -> None:
    """Names the files that cannot be read as pictures: on stderr, or in an OSError if ``strict``."""
    shown = 10
    head = f"Left out {len(unusable)} of {number} files, which cannot be read as pictures:"
    lines = unusable[:shown]
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


def _read_photo(path: Path, width: int, height: int) -> np.ndarray:
    """The picture in a file of any format and mode, as RGB of this size: (height, width, 3) uint8."""
    if not path.is_file():  # opening a named pipe, for example, would block
        raise OSError("a folder that cannot be read" if path.is_dir() else "no file")
    photo: Image.Image
    with Image.open(path) as photo:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size: at least twice the final size is enough.
        photo.draft("RGB", (2 * max(width, height), 2 * max(width, height)))
        if photo.width * photo.height > MAX_PIXELS:
            raise ValueError(f"{photo.width} x {photo.height} pixels, more than the {MAX_PIXELS:,} that are taken")
        photo = ImageOps.exif_transpose(photo)
        if photo.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip to 8 instead of scaling
            photo = Image.fromarray((np.asarray(photo) >> 8).clip(0, 255).astype(np.uint8))
        if photo.has_transparency_data:
            photo = photo.convert("RGBA")
            photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
        return np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


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
    images: Tensor | np.ndarray, save_path: str | Path | IO[bytes] | None = None, columns: int = 8
) -> Image.Image:
    """Pictures (N, 3, H, W) in [0, 1], values outside clipped, in a grid with ``columns`` in a row.

    ``save_path`` is the path of a PNG file, or a file open for writing. Returns the grid as a Pillow image: a notebook
    displays it, ``.show()`` opens it in a window.
    """
    return _draw_rows([_rows(images, columns)], save_path)


def show_recover_results(
    images: Tensor | np.ndarray,
    recover_images: Tensor | np.ndarray,
    save_path: str | Path | IO[bytes] | None = None,
    columns: int = 8,
) -> Image.Image:
    """Originals above their reconstructions, ``columns`` in a row; arguments and result as for ``show_images``."""
    if images.shape != recover_images.shape:
        raise ValueError(f"expected two batches of one shape, found {images.shape} and {recover_images.shape}")
    return _draw_rows(list(zip(_rows(images, columns), _rows(recover_images, columns), strict=True)), save_path)


def _rows(images: Tensor | np.ndarray, columns: int) -> list[np.ndarray]:
    """(N, 3, H, W) in [0, 1] -> a list of rows of pixels, each (``columns`` or less, H, W, 3) uint8, enlarged."""
    if isinstance(images, Tensor):
        images = images.detach().float().cpu().numpy()
    pixels = (images.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    zoom = max(1, 96 // pixels.shape[2])  # a whole number, so that no pixel is blurred
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return [pixels[i : i + columns] for i in range(0, len(pixels), columns)]


def _draw_rows(groups: Sequence[Sequence[np.ndarray]], save_path: str | Path | IO[bytes] | None) -> Image.Image:
    """Draws rows of pixels as one picture, the rows of a group close together, and saves it as PNG."""
    gap, group_gap = 4, 20
    columns, height, width, _ = groups[0][0].shape
    group_height = len(groups[0]) * (height + gap) - gap
    size = columns * (width + gap) - gap, len(groups) * (group_height + group_gap) - group_gap
    picture = Image.new("RGB", size, "white")
    for g, group in enumerate(groups):
        for r, row in enumerate(group):
            for c, pixels in enumerate(row):
                top = g * (group_height + group_gap) + r * (height + gap)
                picture.paste(Image.fromarray(pixels), (c * (width + gap), top))
    if save_path is not None:
        picture.save(save_path, format="PNG")
    return picture
