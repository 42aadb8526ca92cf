"""The photos that the scripts use, or the drawn stand-in set; what is wrong with them is a UserError."""

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler

from data_processor import FlowerDataset, create_flower_dataloaders, read_flowers
from lab.command_line import no_progress
from lab.defaults import DATA_ROOT
from lab.drawn_flowers import draw_flowers
from lab.errors import UserError, one_line
from lab.processes import stderr_of_first_process


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """Turns the errors of reading photos, and of drawing the stand-in set, into UserErrors."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise UserError(str(error) or "out of memory") from None


@_file_errors()
def load_photos(args: argparse.Namespace, device: str = "cpu") -> tuple[DataLoader, DataLoader]:
    """(training_dataloader, validation_dataloader) by the flags of a training; see ``create_flower_dataloaders``."""
    size: tuple[int, int] = args.image_size
    with stderr_of_first_process():
        training, validation = create_flower_dataloaders(
            args.batch_size,
            photos_or_drawn(args.data_root, args.drawn_root),
            *size,
            seed=args.seed,
            split_seed=args.split_seed,
            device=device,
            strict=args.strict,
            log_dir=args.log_dir,
            quiet=no_progress(),
        )
        say_which_photos(training.dataset, validation.dataset)
    return training, validation


def say_which_photos(*parts: Any) -> None:
    """Says on stderr in which folder the photos are, and how many of which kind; ``parts`` are FlowerDatasets."""
    numbers = Counter[str]()
    for part in parts:
        numbers.update(number_by_kind(part))
    shown = ", ".join(f"{one_line(kind)[:40]} {number}" for kind, number in islice(numbers.items(), 20))
    kinds = f"{len(numbers)} kind{'s'[: len(numbers) > 1]}"
    print(f"Photos in {Path(parts[0].root).absolute()}: {kinds}: {shown}.", file=sys.stderr)
    if len(numbers) == 1:
        print("Only one kind of flower: expected a folder of folders, one for each kind.", file=sys.stderr)


@_file_errors()
def read_photos(root: str, image_size: tuple[int, int]) -> FlowerDataset:
    """All photos in ``root`` at ``image_size`` (width, height); see ``read_flowers``."""
    return read_flowers(root, *image_size, quiet=no_progress())


def hold_out(loader: DataLoader) -> tuple[DataLoader, tuple[Tensor, Tensor]]:
    """A loader of the training photos without every tenth, and those, (images, kinds): they choose a GAN's epoch.

    Raises:
        UserError: fewer than two would be held out.
    """
    photos: Any = loader.dataset
    held_out = photos[slice(None, None, 10)]
    if len(held_out[0]) < 2:
        found = f"found {len(photos)} training photos, expected 11 or more, of which every tenth chooses the epoch"
        raise UserError(f"{found}; give more photos")
    kept = [i for i in range(len(photos)) if i % 10]
    sampler = SubsetRandomSampler(kept, loader.generator)
    options: Any = {"generator": loader.generator, "collate_fn": loader.collate_fn}
    return DataLoader(photos, loader.batch_size, sampler=sampler, **options), held_out


def number_by_kind(photos: Any) -> dict[str, int]:
    """The number of photos of each kind in a FlowerDataset, by its name, in the order of the labels."""
    return dict(zip(photos.classes, photos.labels.bincount(minlength=len(photos.classes)).tolist(), strict=True))


def fingerprint(training: FlowerDataset, validation: FlowerDataset) -> str:
    """32 hexadecimal digits: 16 for the training photos, and 16 for the validation photos."""
    return training.fingerprint() + validation.fingerprint()


def trained_on(recorded: str, training: FlowerDataset, validation: FlowerDataset) -> bool:
    """Whether these are the photos, in this split, of a ``fingerprint`` that was recorded in a training."""
    if len(recorded) == 16:
        if recorded != training.fingerprint(of_names_alone=True):
            return False
        words = "Only the names of its training photos are recorded with this model, and these are the same"
        print(f"{words}; train it again to record their content.", file=sys.stderr)
        return True
    return recorded == fingerprint(training, validation)


def photos_of_training(checkpoint: dict[str, Any], args: argparse.Namespace) -> tuple[FlowerDataset, FlowerDataset]:
    """The photos of a model's training and validation, in the folder of its training or of ``--data-root``; a notice if
    they are others."""
    root = args.data_root if "data_root" in args else checkpoint["data"]["root"]
    flowers = read_photos(photos_or_drawn(root, args.drawn_root), checkpoint["image_size"])
    say_which_photos(flowers)
    training, validation = flowers.split(checkpoint["settings"]["split_seed"])
    if not trained_on(checkpoint["data"]["fingerprint"], training, validation):
        print("These are not the photos that the model was trained on.", file=sys.stderr)
    return training, validation


@_file_errors()
def photos_or_drawn(data_root: str, drawn_root: str, default: str = DATA_ROOT) -> str:
    """``data_root`` if it exists; otherwise ``drawn_root``, where the stand-in set is drawn first, and a notice.

    Raises:
        UserError: ``data_root`` does not exist and is not the ``default``: somebody meant these photos.
    """
    if Path(data_root).exists():
        return data_root
    place = Path(data_root).absolute()
    if data_root != default:
        raise UserError(f"--data-root: found no folder {place}, expected one of class folders with photos")
    if not Path(drawn_root).exists():
        Path(drawn_root).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{drawn_root}.lock"):  # another script may be drawing them
            if not Path(drawn_root).exists():
                print(f"No photos at {place}: drawing flowers into {drawn_root} instead.", file=sys.stderr)
                draw_flowers(drawn_root)
                return drawn_root
    print(f"No photos at {place}: using the drawn flowers in {drawn_root} instead.", file=sys.stderr)
    return drawn_root
