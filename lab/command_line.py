"""Command line of the scripts: their flags, the log on stdout, and progress bars on stderr."""

import argparse
import difflib
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from lab.defaults import DATA_ROOT, DEFAULTS, FOLDERS, Settings
from lab.errors import UserError

quiet = False  # the flag --quiet


class Parser(argparse.ArgumentParser):
    """argparse with every default shown by --help, and errors in one line, with exit status 2."""

    models: Sequence[str] = ()

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
        )
        self.add_argument("--quiet", action="store_true", help="show no progress bars")

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The arguments without ``--quiet``, which is stored here, since no result depends on it."""
        global quiet
        arguments = super().parse_args(*args, **options)
        quiet = arguments.quiet
        del arguments.quiet
        return arguments

    def add_model(self, models: Sequence[str]) -> None:
        """Adds the flag --model, which is required, and one of ``models``."""
        self.models = models

        def model(text: str) -> str:
            if text in models:
                return text
            wrong = f"found {text!r}, expected one of {', '.join(models)}"
            if text == "MLPAE":
                wrong += "; MLPAE is trained by MLPAE_train_script.py"
            same = [name for name in models if name.casefold() == text.casefold()]
            if alike := same or difflib.get_close_matches(text, models, n=1):
                wrong += f"; did you mean {alike[0]}?"
            raise argparse.ArgumentTypeError(wrong)

        shown = "{" + ",".join(models) + "}"
        self.add_argument(
            "--model", type=model, metavar=shown, required=True, default=argparse.SUPPRESS, help="which one"
        )

    def error(self, message: str) -> NoReturn:
        if message.endswith("required: --model"):
            message = f"argument --model: missing, expected one of {', '.join(self.models)}"
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def add_training_flags(parser: Parser, models: Sequence[str]) -> None:
    """Adds the flags of all trainings; one whose default depends on the model is absent until ``fill_defaults``."""

    def add(flag: str, kind: Callable[[str], float], words: str, if_none: str = "") -> None:
        field = flag.replace("-", "_")
        owners: dict[Any, list[str]] = {}
        for (name, optimizer), settings in DEFAULTS.items():
            if name in models:
                owner = f"{name} with SGD" if optimizer == "SGD" else name
                owners.setdefault(getattr(settings, field), []).append(owner)
        default, *others = owners
        if others:
            shown = {value: if_none if value is None else value for value in owners}
            values = "; ".join(f"{shown[value]} for {', '.join(names)}" for value, names in owners.items())
            default, words = argparse.SUPPRESS, f"{words} (default: {values})"
        parser.add_argument(f"--{flag}", type=kind, default=default, help=words)

    parser.add_argument("--data-root", default=DATA_ROOT, help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    parser.add_argument("--model-dir", default=FOLDERS["model_dir"], help="where the best model is saved")
    parser.add_argument("--log-dir", default=FOLDERS["log_dir"], help="where the history of the losses is saved")
    parser.add_argument("--vis-dir", default=FOLDERS["vis_dir"], help="where the pictures of --samples-every are saved")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    add("encoding-dim", positive_int, "size of the latent vector", if_none="3 x width x height")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="images in a batch")
    add("epochs", positive_int, "maximum number of epochs")
    add("lr", positive_float, "maximum learning rate")
    add("patience", positive_int, "epochs without a better model, then early stopping", if_none="all epochs")
    parser.add_argument("--seed", type=seed, default=0, help="of the initial weights and the order of the photos")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument(
        "--samples-every",
        metavar="N",
        type=positive_int,
        default=argparse.SUPPRESS,
        help="save pictures of the same random numbers after every N epochs (default: never)",
    )
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where the losses are written for TensorBoard, if it is installed (default: nowhere)",
    )
    parser.add_argument("--strict", action="store_true", help="stop with an error at a photo that cannot be read")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted training")


def fill_defaults(args: argparse.Namespace, settings: Settings) -> None:
    """Sets the flags that are absent from the arguments to their defaults."""
    for field in "epochs", "lr", "patience", "encoding_dim":
        if field not in args:
            setattr(args, field, getattr(settings, field))
    args.patience = args.patience or args.epochs


def say_what_is_next(written: Sequence[str | Path], command: str) -> None:
    """Says on stderr which files were written, and which command comes next."""
    for path in written:
        print(f"Wrote {Path(path)}", file=sys.stderr)
    print(f"Next: python {command}", file=sys.stderr)


def folder_flags(args: argparse.Namespace, *fields: str) -> str:
    """The flags of these folders, as in " --model-dir models/48", where they are not the default ones."""
    changed = [(field, getattr(args, field)) for field in fields if getattr(args, field) != FOLDERS[field]]
    return "".join(f" --{field.replace('_', '-')} {shlex.quote(str(value))}" for field, value in changed)


def log(line: str) -> None:
    """Prints a line of the log on stdout, at once, and above any progress bar; UserError if that fails."""
    try:
        with tqdm.external_write_mode():
            print(line, flush=True)
    except OSError as error:
        raise UserError(f"stdout: the log could not be written ({error.strerror}); redirect it elsewhere") from None


def no_progress() -> bool:
    """Whether progress bars are off: after --quiet and in CI. (They are also off if stderr is not a terminal.)"""
    return quiet or bool(os.environ.get("CI"))


def progress(iterable: Iterable | None, description: str, total: int | None = None, unit: str = "it") -> tqdm:
    """The iterable with a progress bar on stderr; without an iterable, a bar to ``update`` by hand."""
    return tqdm(iterable, description, total, leave=False, unit=unit, disable=no_progress() or None)


def positive_int(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    return _number(text, int, "a whole number from 1 up", lambda value: value >= 1)


def seed(text: str) -> int:
    """An argparse type: a whole number from 0 up."""
    return _number(text, int, "a whole number from 0 to 2^32 - 1", lambda value: 0 <= value < 2**32)


def positive_float(text: str) -> float:
    """An argparse type: a number above 0."""
    return _number(text, float, "a number above 0", lambda value: 0 < value < math.inf)


def number_from_0(text: str) -> float:
    """An argparse type: a number from 0 up."""
    return _number(text, float, "a number from 0 up", lambda value: 0 <= value < math.inf)


def image_size(text: str) -> tuple[int, int]:
    """An argparse type: "24" or "32x24" -> (width, height) in pixels."""

    def sides(text: str) -> tuple[int, ...]:
        numbers = tuple(map(int, text.lower().split("x")))
        return 2 * numbers if len(numbers) == 1 else numbers

    expected = "a whole number from 1 up, or width x height as in 32x24"
    return _number(text, sides, expected, lambda sides: len(sides) == 2 and min(sides) >= 1)


def _number(text: str, kind: Callable[[str], Any], expected: str, fits: Callable[[Any], bool]) -> Any:
    try:
        if fits(value := kind(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
