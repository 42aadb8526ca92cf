"""The photos that the scripts use, or the drawn stand-in set; what is wrong with them is a UserError or OSError."""

import argparse
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch.utils.data import DataLoader

from data_processor import FlowerDataset, create_flower_dataloaders, read_flowers
from lab.command_line import no_progress
from lab.defaults import DATA_ROOT
from lab.drawn_flowers import draw_flowers
from lab.errors import UserError, one_line
from lab.files import prepare_folder


def load_photos(args: argparse.Namespace, device: str = "cpu") -> tuple[DataLoader, DataLoader]:
    """(training_dataloader, validation_dataloader) by the flags of a training; see ``create_flower_dataloaders``.

    First, it makes sure that the folders of the training can be written, which is better than an error at its end.
    """
    prepare_folder(args.model_dir)
    prepare_folder(args.log_dir)
    root = photos_or_drawn(args.data_root, args.drawn_root)
    width, height = args.image_size
    options: dict[str, Any] = {"seed": args.seed, "split_seed": args.split_seed, "device": device}
    options |= {"strict": args.strict, "quiet": no_progress()}
    training, validation = create_flower_dataloaders(args.batch_size, root, width, height, **options)
    say_which_photos(training.dataset, validation.dataset)
    return training, validation


def say_which_photos(*parts: Any) -> None:
    """Says on stderr in which folder the photos are, and how many of which class; ``parts`` are FlowerDatasets."""
    counts = Counter[str]()
    for part in parts:
        counts.update(class_counts(part))
    shown = ", ".join(f"{one_line(name)[:40]} {count}" for name, count in islice(counts.items(), 20))
    classes = f"{len(counts)} class{'es' if len(counts) > 1 else ''}"
    print(f"Photos in {Path(parts[0].root).absolute()}: {classes}: {shown}.", file=sys.stderr)
    if len(counts) == 1:
        print("Only one class: expected a folder of folders, one for each class.", file=sys.stderr)


def read_photos(root: str, image_size: tuple[int, int]) -> FlowerDataset:
    """All photos in ``root`` at ``image_size`` (width, height); see ``read_flowers``."""
    return read_flowers(root, *image_size, quiet=no_progress())


def class_counts(photos: Any) -> dict[str, int]:
    """The number of photos of each class in a FlowerDataset, by its name, in the order of the labels."""
    return dict(zip(photos.classes, photos.labels.bincount(minlength=len(photos.classes)).tolist(), strict=True))


def fingerprint(training: Any, validation: Any) -> str:
    """32 hexadecimal digits: 16 for the training photos, and 16 for the validation photos, both FlowerDatasets."""
    return training.fingerprint() + validation.fingerprint()


def photos_of_training(checkpoint: dict[str, Any], args: argparse.Namespace) -> tuple[FlowerDataset, FlowerDataset]:
    """The photos of a model's training and validation, in the folder of its training or of ``--data-root``; a notice if
    they are others."""
    root = args.data_root if "data_root" in args else checkpoint["data"]["root"]
    flowers = read_photos(photos_or_drawn(root, args.drawn_root), checkpoint["image_size"])
    say_which_photos(flowers)
    training, validation = flowers.split(checkpoint["settings"]["split_seed"])
    if fingerprint(training, validation) != checkpoint["data"]["fingerprint"]:
        print("These are not the photos that the model was trained on.", file=sys.stderr)
    return training, validation


def photos_or_drawn(data_root: str, drawn_root: str, default: str = DATA_ROOT) -> str:
    """``data_root`` if it exists; otherwise ``drawn_root``, where the stand-in set is drawn first, and a notice.

    Raises:
        UserError: ``data_root`` does not exist and is not the ``default``: somebody meant these photos.
    """
    if Path(data_root).exists():
        return data_root
    place = Path(data_root).absolute()
    if data_root != default:
        raise UserError(f"found no folder {place}, expected one of class folders with photos; give --data-root")
    if not Path(drawn_root).exists():
        try:
            Path(drawn_root).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{drawn_root}.lock"):  # another script may be drawing them
                if not Path(drawn_root).exists():
                    print(f"No photos at {place}: drawing flowers into {drawn_root} instead.", file=sys.stderr)
                    draw_flowers(drawn_root)
                    return drawn_root
        except OSError as error:
            found = f"no photos at {place}, and flowers cannot be drawn into {Path(drawn_root).absolute()}"
            raise UserError(f"{found} ({error.strerror or error}); give --data-root, or another --drawn-root") from None
    print(f"No photos at {place}: using the drawn flowers in {drawn_root} instead.", file=sys.stderr)
    return drawn_root
