"""What the scripts share towards the person at the keyboard: arguments, and errors in one line."""

import argparse
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

import progress

AUTOENCODERS = ["MLPAE", "AE", "VAE", "VAE_calibrated"]
MODELS = [*AUTOENCODERS, "GAN", "DDPM"]


class Parser(argparse.ArgumentParser):
    """argparse with every default shown by --help, and a wrong argument answered in one line, with exit status 2."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
        )
        self.add_argument("--quiet", action="store_true", help="show no progress bars")

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The arguments but for ``--quiet``, which is done with: what comes out of a script does not depend on it."""
        arguments = super().parse_args(*args, **options)
        progress.quiet = arguments.quiet
        del arguments.quiet
        return arguments

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def add_training_flags(parser: Parser, **defaults: float | str) -> None:
    """Adds the flags that all trainings share.

    Args:
        defaults: of those flags whose defaults differ, as in ``epochs=100``. A default in words is for --help alone:
            where nobody gave the flag, it is absent, and the script knows what to fill in.
    """

    def add(flag: str, kind: Callable[[str], float], words: str) -> None:
        default = defaults[flag]
        if isinstance(default, str):
            default, words = argparse.SUPPRESS, f"{words} (default: {default})"
        parser.add_argument(f"--{flag.replace('_', '-')}", type=kind, default=default, help=words)

    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model goes")
    parser.add_argument("--log-dir", default="./log", help="where the history of the losses goes")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    add("encoding_dim", positive_int, "numbers in a latent vector")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="images in a batch")
    add("epochs", positive_int, "times through the training photos, at most")
    add("lr", positive_float, "highest learning rate")
    add("patience", positive_int, "epochs to wait for a better model")
    parser.add_argument("--seed", type=seed, default=0, help="of the first weights and the order of the photos")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="where the losses go for TensorBoard as well, if it is installed (default: nowhere)",
    )
    parser.add_argument("--strict", action="store_true", help="make an error of a photo that cannot be read")
    parser.add_argument("--resume", action="store_true", help="go on with a training that was cut off")


def log(line: str) -> None:
    """Prints a line of the log: on stdout, at once, and clear of any progress bar."""
    with tqdm.external_write_mode():
        print(line, flush=True)


def log_settings(args: argparse.Namespace, data_root: str, training: Any, validation: Any) -> None:
    """Logs the settings of a training in one line, those that nobody gave included, and the photos in another."""
    settings = vars(args) | {"image_size": "{}x{}".format(*args.image_size)}
    log("Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items() if name != "resume"))
    log(f"Data: {data_root}, {len(training.dataset)} training and {len(validation.dataset)} validation photos")


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a script's ``main``: trouble with files or folders ends in one line on stderr and exit status 2.

    Such trouble is always an OSError here, whether Python raises it or our own code; any other exception is a mistake
    in the program, and keeps its traceback. Ctrl-C ends in one line and exit status 130.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr: no name of a folder ends a training
        try:
            return main(argv)
        except OSError as error:
            print(f"{Path(sys.argv[0]).name}: error: {one_line(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapper


def one_line(text: str) -> str:
    """Text from anywhere, fit for a terminal: in one line, and without what could move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def positive_int(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    return _number(text, int, "a whole number from 1 up", lambda value: value >= 1)


def seed(text: str) -> int:
    """An argparse type: a whole number from 0 up."""
    return _number(text, int, "a whole number from 0 to 2^32 - 1", lambda value: 0 <= value < 2**32)


def positive_float(text: str) -> float:
    """An argparse type: a number above 0."""
    return _number(text, float, "a number above 0", lambda value: 0 < value < math.inf)


def image_size(text: str) -> tuple[int, int]:
    """An argparse type: "24" or "32x24" -> (width, height) in pixels."""
    expected = "a whole number from 1 up, or width x height as in 32x24"
    sides = text.lower().split("x")
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    width, height = (_number(side, int, expected, lambda value: value >= 1) for side in (sides[0], sides[-1]))
    return width, height


def _number(text: str, kind: type, expected: str, fits: Callable[[Any], bool]) -> Any:
    try:
        if fits(value := kind(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
