"""The photos that the scripts use, or the drawn stand-in set; what is wrong with them is a UserError."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from torch.utils.data import DataLoader

from data_processor import FlowerDataset, create_flower_dataloaders, read_flowers
from lab.command_line import no_progress
from lab.drawn_flowers import draw_flowers
from lab.errors import UserError
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
        return create_flower_dataloaders(
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


@_file_errors()
def read_photos(root: str, image_size: tuple[int, int]) -> FlowerDataset:
    """All photos in ``root`` at ``image_size`` (width, height); see ``read_flowers``."""
    return read_flowers(root, *image_size, quiet=no_progress())


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


@_file_errors()
def photos_or_drawn(data_root: str, drawn_root: str) -> str:
    """``data_root`` if it exists; otherwise ``drawn_root``, where the stand-in set is drawn first, and a notice."""
    if Path(data_root).exists():
        return data_root
    if not Path(drawn_root).exists():
        Path(drawn_root).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{drawn_root}.lock"):  # another script may be drawing them
            if not Path(drawn_root).exists():
                print(f"No photos at {data_root}: drawing flowers into {drawn_root} instead.", file=sys.stderr)
                draw_flowers(drawn_root)
                return drawn_root
    print(f"No photos at {data_root}: using the drawn flowers in {drawn_root} instead.", file=sys.stderr)
    return drawn_root
