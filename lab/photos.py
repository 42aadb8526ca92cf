"""The photos that the scripts use, or the drawn stand-in set; what is wrong with them is a UserError or OSError."""

import argparse
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_processor import FlowerDataset, FlowerLoader, create_flower_dataloaders, read_flowers
from lab.checkpoint import Checkpoint
from lab.command_line import DATA_ROOT
from lab.drawn_flowers import draw_flowers
from lab.errors import UserError


def load_photos(args: argparse.Namespace, device: str = "cpu") -> tuple[FlowerLoader, FlowerLoader]:
    """(training_dataloader, validation_dataloader) by the flags of a training; see ``create_flower_dataloaders``."""
    root = photos_or_drawn(args.data_root, args.drawn_root)
    width, height = args.image_size
    options: dict[str, Any] = {"seed": args.seed, "split_seed": args.split_seed, "device": device}
    return create_flower_dataloaders(args.batch_size, root, width, height, strict=args.strict, **options)


def class_counts(photos: FlowerDataset) -> dict[str, int]:
    """The number of photos of each class, by its name, in the order of the labels."""
    return dict(zip(photos.classes, photos.labels.bincount(minlength=len(photos.classes)).tolist(), strict=True))


def fingerprint(training: FlowerDataset, validation: FlowerDataset) -> str:
    """32 hexadecimal digits: 16 for the training photos, and 16 for the validation photos."""
    return training.fingerprint() + validation.fingerprint()


def photos_of_training(checkpoint: Checkpoint, args: argparse.Namespace) -> tuple[FlowerDataset, FlowerDataset]:
    """The photos of a model's training and validation, in the folder of its training or of ``--data-root``; a notice if
    they are others."""
    root = photos_or_drawn(args.data_root or checkpoint["data"]["root"], args.drawn_root)
    flowers = read_flowers(root, *checkpoint["image_size"])
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
    print(f"No photos at {place}: using drawn flowers in {drawn_root} instead.", file=sys.stderr)
    if not Path(drawn_root).exists():
        Path(drawn_root).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{drawn_root}.lock"):  # another script may be drawing them
            if not Path(drawn_root).exists():
                draw_flowers(drawn_root)
    return drawn_root
