"""Command line of the scripts: their flags, the log on stdout, and progress bars on stderr."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from lab.defaults import DATA_ROOT, DEFAULTS, FOLDERS

quiet = False  # the flag --quiet

TRAINED_BY = {"MLPAE": "MLPAE_train_script.py", "GAN": "-m generative.train_GAN", "DDPM": "-m generative.train_DDPM"}
LARGEST_SIDE = 1024  # pixels
LAB = Path(__file__).resolve().parent.parent


class Parser(argparse.ArgumentParser):
    """argparse with every default shown by --help, and errors in one line, with exit status 2.

    Args:
        description: of the script.
        models: those that the flag --model takes; without any, there is no such flag.
    """

    def __init__(self, description: str, models: Sequence[str] = ()) -> None:
        super().__init__(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
        )
        self.models = models
        self.add_argument("--quiet", action="store_true", help="show no progress bars")
        if models:
            shown, absent = "{" + ",".join(models) + "}", argparse.SUPPRESS
            self.add_argument(
                "--model", type=self._model, metavar=shown, required=True, default=absent, help="which one"
            )

    def _model(self, name: str) -> str:
        if name in self.models:
            return name
        other = f"; {name} is trained by: python {TRAINED_BY[name]}" if name in TRAINED_BY else ""
        raise argparse.ArgumentTypeError(f"found {name!r}, expected one of {', '.join(self.models)}{other}")

    def add_folders(self, of_training: bool = False, **words: str) -> None:
        """Adds --data-root and --drawn-root, and the folders of these names, each with words on what is in it.

        ``of_training``: --data-root is absent unless given, and the photos are those that the model was trained on.
        """
        photos: dict[str, Any] = {"default": DATA_ROOT, "help": "the photos: a folder of class folders"}
        if of_training:
            photos = {"default": argparse.SUPPRESS, "help": "the photos (default: those of the training)"}
        self.add_argument("--data-root", **photos)
        self.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
        for name, text in words.items():
            self.add_argument(f"--{name.replace('_', '-')}", default=FOLDERS[name], help=text)

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The arguments without ``--quiet``, which is stored here, since no result depends on it."""
        global quiet
        arguments = super().parse_args(*args, **options)
        quiet = arguments.quiet
        del arguments.quiet
        return arguments

    def parse_training(self, argv: list[str] | None, name: str = "") -> argparse.Namespace:
        """The arguments of a training: of the model of this name, or of the one that --model names."""
        if name != "MLPAE":
            devices = ["auto", "cpu", "cuda"]
            self.add_argument("--device", choices=devices, default="auto", help="auto: a GPU if there is one")
        self._add_training_flags([name] if name else [key for key in DEFAULTS if key.split()[0] in self.models])
        args = self.parse_args(argv)
        if name != "MLPAE":
            if any(side % 4 for side in args.image_size):
                self.error("argument --image-size: found {} x {}, expected multiples of 4".format(*args.image_size))
            if args.device == "cuda" and not torch.cuda.is_available():
                self.error("argument --device: found no GPU that PyTorch can use, expected one for cuda")
            if args.device == "auto":
                args.device = "cuda" if torch.cuda.is_available() else "cpu"
            args.model = name or args.model
        key = f"{args.model} with SGD" if vars(args).get("optimizer") == "SGD" else name or args.model
        if key not in DEFAULTS:
            self.error(f"argument --optimizer: found SGD, expected AdamW for {args.model}")
        for field, value in DEFAULTS[key]._asdict().items():
            vars(args).setdefault(field, value)
        args.patience = args.patience or args.epochs
        return args

    def _add_training_flags(self, names: Sequence[str]) -> None:
        def add(flag: str, kind: Callable[[str], float], words: str) -> None:
            """Adds a flag with the default of these models; where they differ, it is absent unless given."""
            owners: dict[Any, list[str]] = {}
            for name in names:
                owners.setdefault(getattr(DEFAULTS[name], flag.replace("-", "_")), []).append(name)
            default = next(iter(owners))
            if default is None:
                return
            if len(owners) > 1:
                values = "; ".join(f"{value} for {', '.join(some)}" for value, some in owners.items())
                default, words = argparse.SUPPRESS, f"{words} (default: {values})"
            self.add_argument(f"--{flag}", type=kind, default=default, help=words)

        self.add_folders(
            model_dir="where the best model is saved",
            log_dir="where the history of the losses is saved",
            vis_dir="where the pictures of --samples-every are saved",
        )
        self.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
        add("encoding-dim", positive_int, "size of the latent vector")
        add("batch-size", positive_int, "images in a batch")
        add("epochs", positive_int, "maximum number of epochs")
        add("lr", positive_float, "maximum learning rate")
        add("patience", positive_int, "epochs without a better model, then early stopping")
        self.add_argument("--seed", type=seed, default=0, help="of the initial weights and the order of the photos")
        self.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
        self.add_argument(
            "--samples-every",
            metavar="N",
            type=positive_int,
            default=argparse.SUPPRESS,
            help="save pictures of the same random numbers after every N epochs (default: never)",
        )
        self.add_argument(
            "--tensorboard",
            metavar="DIR",
            default=argparse.SUPPRESS,
            help="where the losses are written for TensorBoard, if it is installed (default: nowhere)",
        )
        self.add_argument("--strict", action="store_true", help="stop with an error at a photo that cannot be read")
        self.add_argument("--resume", action="store_true", help="resume an interrupted training")

    def error(self, message: str) -> NoReturn:
        if message.endswith("required: --model"):
            message = f"argument --model: missing, expected one of {', '.join(self.models)}"
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def say_what_is_next(written: Sequence[str | Path], script: str = "", arguments: str = "") -> None:
    """Says on stderr which files were written, and which command comes next, if one does, as it runs in this folder."""
    for path in written:
        print(f"Wrote {Path(path)}", file=sys.stderr)
    if script:
        path = Path(script) if Path.cwd() == LAB else LAB / script
        print(f"Next: python {shlex.quote(str(path))} {arguments}", file=sys.stderr)


def folder_flags(args: argparse.Namespace, *fields: str) -> str:
    """The flags of these folders, as in " --model-dir models/48", where they are not the default ones."""
    changed = [(field, getattr(args, field)) for field in fields if getattr(args, field) != FOLDERS[field]]
    return "".join(f" --{field.replace('_', '-')} {shlex.quote(str(value))}" for field, value in changed)


def log(line: str) -> None:
    """Prints a line of the log on stdout, at once, and above any progress bar."""
    with tqdm.external_write_mode():
        print(line, flush=True)


def no_progress() -> bool:
    """Whether progress bars are off: after --quiet and in CI. (They are also off if stderr is not a terminal.)"""
    return quiet or bool(os.environ.get("CI"))


def progress(iterable: Iterable | None, description: str, total: int | None = None, unit: str = "it") -> tqdm:
    """The iterable with a progress bar on stderr; without an iterable, a bar to ``update`` by hand."""
    return tqdm(iterable, description, total, leave=False, unit=unit, disable=no_progress() or None)


# Types of arguments


def positive_int(text: str) -> int:
    return _number(text, int, "a whole number from 1 up", lambda value: value >= 1)


def seed(text: str) -> int:
    return _number(text, int, "a whole number from 0 to 2^32 - 1", lambda value: 0 <= value < 2**32)


def positive_float(text: str) -> float:
    return _number(text, float, "a number above 0", lambda value: 0 < value < math.inf)


def number_from_0(text: str) -> float:
    return _number(text, float, "a number from 0 up", lambda value: 0 <= value < math.inf)


def image_size(text: str) -> tuple[int, int]:
    """ "24" or "32x24" -> (width, height) in pixels."""

    def sides(text: str) -> tuple[int, ...]:
        numbers = tuple(map(int, text.lower().split("x")))
        return 2 * numbers if len(numbers) == 1 else numbers

    expected = f"a whole number from 1 to {LARGEST_SIDE}, or width x height as in 32x24"
    return _number(
        text, sides, expected, lambda sides: len(sides) == 2 and 1 <= min(sides) <= max(sides) <= LARGEST_SIDE
    )


def _number(text: str, kind: Callable[[str], Any], expected: str, fits: Callable[[Any], bool]) -> Any:
    try:
        if fits(value := kind(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
