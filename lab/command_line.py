"""Command line of the scripts: their flags, and the log on stdout."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

DATA_ROOT = "./flowers"  # if no other is given, and there is none, flowers are drawn
FOLDERS = {"model_dir": "./models", "log_dir": "./log", "vis_dir": "./vis"}
LARGEST_SIDE = 1024  # pixels, of an image


class Parser(argparse.ArgumentParser):
    """argparse with every default shown by --help, and errors in one line, with exit status 2.

    Args:
        description: of the script.
        models: those that the flag --model takes; without any, there is no such flag.
    """

    def __init__(self, description: str, models: Sequence[str] = ()) -> None:
        super().__init__(description=description, formatter_class=_ShowDefaults, allow_abbrev=False)
        if models:
            self.add_argument("--model", choices=models, required=True, help="which one")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def add_folders(self, of_training: bool = False, **words: str) -> None:
        """Adds --data-root and --drawn-root, and the folders of these names, each with words on what is in it.

        ``of_training``: --data-root is None unless given, and the photos are those that the model was trained on.
        """
        if of_training:
            self.add_argument("--data-root", help="the photos (default: those of the training)")
        else:
            self.add_argument("--data-root", default=DATA_ROOT, help="the photos: a folder of class folders")
        self.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
        for name, text in words.items():
            self.add_argument(f"--{name.replace('_', '-')}", default=FOLDERS[name], help=text)

    def parse_training(self, argv: list[str] | None, settings: Mapping[str, Mapping[str, Any]]) -> argparse.Namespace:
        """The arguments of a training.

        ``settings`` are the defaults of its flags: by model, or by model and optimizer, as in "AE with SGD".
        """
        self.add_folders(
            model_dir="where the best model is saved",
            log_dir="where the history of the losses is saved",
            vis_dir="where the pictures of --samples-every are saved",
        )
        for field, (kind, words) in SETTINGS.items():
            owners: dict[str, list[str]] = {}  # of each default
            for name, defaults in settings.items():
                if field in defaults:
                    owners.setdefault(shown(defaults[field]), []).append(name)
            if owners:
                listed = "; ".join(f"{default} for {', '.join(names)}" for default, names in owners.items())
                words += f" (default: {listed if len(owners) > 1 else next(iter(owners))})"
                self.add_argument(f"--{field.replace('_', '-')}", type=kind, help=words)
        self.add_argument("--seed", type=seed, default=0, help="of the initial weights and the order of the photos")
        self.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
        words = "save pictures of the same random numbers after every N epochs (default: never)"
        self.add_argument("--samples-every", metavar="N", type=positive_int, help=words)
        words = "where the losses are written for TensorBoard, if it is installed (default: nowhere)"
        self.add_argument("--tensorboard", metavar="DIR", help=words)
        self.add_argument("--strict", action="store_true", help="stop with an error at a file that is no photo")
        self.add_argument("--resume", action="store_true", help="resume an interrupted training")
        import torch  # which the check of Part 1 does without

        in_pytorch = "MLPAE" not in settings
        if in_pytorch:
            words = "auto: a GPU if there is one"
            self.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help=words)

        args = self.parse_args(argv)
        if "model" not in args:
            (args.model,) = settings
        name = f"{args.model} with SGD" if "optimizer" in args and args.optimizer == "SGD" else args.model
        if name not in settings:
            self.error(f"argument --optimizer: found SGD, expected AdamW for {args.model}")
        for field, default in settings[name].items():
            if getattr(args, field) is None:
                setattr(args, field, default)
        if in_pytorch:
            if any(side % 4 for side in args.image_size):
                self.error(f"argument --image-size: found {shown(args.image_size)}, expected multiples of 4")
            if args.device == "cuda" and not torch.cuda.is_available():
                self.error("argument --device: found no GPU that PyTorch can use, expected one for cuda")
            if args.device == "auto":
                args.device = "cuda" if torch.cuda.is_available() else "cpu"
        return args


class _ShowDefaults(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def shown(setting: Any) -> str:
    """A setting as --help and the log show it: (32, 24) as 32x24."""
    return "{}x{}".format(*setting) if isinstance(setting, tuple) else str(setting)


def log(line: str) -> None:
    """Prints a line of the log on stdout, at once, and above any progress bar."""
    from tqdm import tqdm  # which the check of Part 1 does without

    with tqdm.external_write_mode():
        print(line, flush=True)


# Types of arguments


def between(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], Any]:
    """A type of argument: the numbers from low to high."""

    def number(text: str) -> float:
        try:
            if low <= (value := kind(text)) <= high:
                return value
        except ValueError:
            pass
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {what} from {low:g} to {high:g}")

    return number


positive_int = between(int, 1, 10**9)
seed = between(int, 0, 2**32 - 1)
positive_float = between(float, 1e-9, 1e9)
number_from_0 = between(float, 0, 1e9)


def image_size(text: str) -> tuple[int, int]:
    """ "24" or "32x24" -> (width, height) in pixels."""
    sides = [between(int, 1, LARGEST_SIDE)(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a size as in 24 or 32x24")
    return sides[0], sides[-1]


# The settings that each training script begins with: the types of their flags, and words on what they are.
SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "image_size": (image_size, "in pixels, as in 24 or 32x24"),
    "encoding_dim": (positive_int, "size of the latent vector"),
    "batch_size": (positive_int, "images in a batch"),
    "epochs": (positive_int, "maximum number of epochs"),
    "lr": (positive_float, "maximum learning rate"),
    "patience": (positive_int, "epochs without a better model, then early stopping"),
}
