"""Photos on disk -> batches for training, and batches -> pictures (handout, Part 2).

Every photo is decoded once, at the size that training asks for, and kept in memory as bytes: all 2,588 flowers take
4.5 MB at 24 x 24. From then on a batch is one indexing operation.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler
from torchvision.utils import make_grid

from lab.photo_files import composed, read_photo_files


@dataclass(eq=False)
class FlowerDataset(Dataset):
    """Photos in memory, each with the label of its class.

    Indexing with an int, a slice, a list or a tensor of indices gives ``(images, labels)``: images float32 in [0, 1] of
    shape (3, H, W) or (B, 3, H, W), labels int64 of shape () or (B,), positions in ``classes``.
    """

    pixels: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64
    names: list[str]  # paths below the root, as in "astilbe/123.jpg"
    classes: list[str]  # names of the class folders with photos, in Unicode's composed form
    digests: list[str]  # a hash of the file of each photo
    root: str | Path

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> tuple[Tensor, Tensor]:
        return self.pixels[index].float().div_(255), self.labels[index]

    def fingerprint(self) -> str:
        """16 hexadecimal digits of a hash of the photos' names and files; the folder that they lie in does not count.

        Of files, and not of decoded pixels, which can differ by 1 between versions of a decoder.
        """
        lines = [f"{digest} {composed(name)}" for digest, name in zip(self.digests, self.names, strict=True)]
        return _sha256("\n".join(sorted(lines)))[:16]

    def split(self, seed: int = 0) -> tuple["FlowerDataset", "FlowerDataset"]:
        """(training set, validation set): 80 % and 20 % of the photos.

        Photos are sorted by a hash of seed and name, and the first fifth is for validation. So the split depends on
        nothing but these two, on any machine and in any version of any library. Only photos with equal files are kept
        together: if one of them is for training, all are.
        """
        order = sorted(range(len(self)), key=lambda i: _sha256(f"{seed}/{composed(self.names[i])}"))
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
        names, digests = ([values[i] for i in indices] for values in (self.names, self.digests))
        return FlowerDataset(self.pixels[indices], self.labels[indices], names, self.classes, digests, self.root)


class FlowerLoader(DataLoader):
    """A DataLoader of a FlowerDataset."""

    dataset: FlowerDataset


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def read_flowers(root: str | Path, IMG_WIDTH: int, IMG_HEIGHT: int, strict: bool = False) -> FlowerDataset:
    """All photos below ``root`` as a FlowerDataset of IMG_WIDTH x IMG_HEIGHT pixels; ``strict`` and errors are those of
    ``read_photo_files``."""
    pixels, labels, names, classes, digests = read_photo_files(root, IMG_WIDTH, IMG_HEIGHT, strict)
    # The memory format in which the photos were decoded is also the one in which convolutions are fastest.
    channels_last = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return FlowerDataset(channels_last, torch.from_numpy(labels), names, classes, digests, root)


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
) -> tuple[FlowerLoader, FlowerLoader]:
    """(training_dataloader, validation_dataloader) over the photos in ``root``.

    ``for images, labels in loader`` gives images (B, 3, IMG_HEIGHT, IMG_WIDTH), float32 in [0, 1], and labels (B,),
    int64; B is ``batch_size``, or less in the last batch. Training photos are shuffled in each epoch, by ``seed``;
    which photos they are depends on ``split_seed`` and the names of the files.

    All photos are copied to ``device`` once, and the batches are made there. Worker processes (``num_worker``) can only
    be used with photos on the CPU. ``strict`` and errors are those of ``read_photo_files``.
    """
    photos = read_flowers(root, IMG_WIDTH, IMG_HEIGHT, strict)
    photos.pixels, photos.labels = photos.pixels.to(device), photos.labels.to(device)
    training, validation = photos.split(split_seed)
    order = torch.Generator().manual_seed(seed)
    # batch_size=None, and a sampler of lists of indices: the data set is indexed once for a batch.
    shuffled = BatchSampler(RandomSampler(training, generator=order), batch_size, drop_last=False)
    in_order = BatchSampler(SequentialSampler(validation), batch_size, drop_last=False)
    return (
        FlowerLoader(training, batch_size=None, sampler=shuffled, num_workers=num_worker, generator=order),
        FlowerLoader(validation, batch_size=None, sampler=in_order, num_workers=num_worker),
    )


def random_horizontal_flip(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> the same shape; each image is mirrored left to right with probability 1/2."""
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(flipped, images.flip(3), images)


def show_images(images: Tensor, save_path: Any = None, columns: int = 8) -> Image.Image:
    """Pictures (N, 3, H, W) in [0, 1], values outside clipped, in a grid with ``columns`` in a row, enlarged.

    Returns the grid as a Pillow image, which a notebook displays; ``save_path`` is the path of a PNG file, or a file.
    """
    zoom = -(-96 // images.shape[3])  # to 96 pixels or more, by a whole number, so that no pixel is blurred
    enlarged = images.detach().cpu().float().clamp(0, 1).repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    grid = make_grid(enlarged, columns, padding=4, pad_value=1)
    picture = Image.fromarray((grid * 255).round().byte().permute(1, 2, 0).numpy())
    if save_path is not None:
        picture.save(save_path, format="PNG")
    return picture


def show_recover_results(
    images: Tensor, recover_images: Tensor, save_path: Any = None, columns: int = 8
) -> Image.Image:
    """Rows of originals, each above the row of their reconstructions; arguments and result as for ``show_images``."""
    columns = min(columns, len(images))
    pairs = torch.stack([each.detach().cpu() for each in (images, recover_images)])
    blank = torch.ones(2, -len(images) % columns, *images.shape[1:])  # fills the last row
    rows = torch.cat([pairs, blank], dim=1).unflatten(1, (-1, columns)).transpose(0, 1)
    return show_images(rows.flatten(0, 2), save_path, columns)
