"""Checks of a submission against the handout's section on submissions; nothing of it is executed.

Nothing outside the folder that was handed in is read: links that lead out of it are not followed.
"""

import ast
import functools
import itertools
import os
import pickle
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from os.path import exists, lexists  # unlike those of Path, False where access is denied
from pathlib import Path
from typing import Any, NamedTuple

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import torch
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

from autograd import Linear
from data_processor import FlowerDataset
from lab.checkpoint import PYTORCH_MODELS, checkpoint_in, values_in
from lab.defaults import required_losses
from lab.photos import fingerprint, read_photos
from teaching.logs import best, read_log
from teaching.pictures import look_at_picture
from VarAutoencoder import VAE_loss_function

PARTS = {"Part 2": "MLPAE", "Part 3": "AE", "Part 4": "VAE"}  # and their models; the last two are optional
POINTS = {"Part 1": 12.5, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}
EPOCHS = {"AE": 15, "VAE": 20}  # within which the losses are to be reached; the handout sets no limit for the MLP
MLP_SIZES = [256, 128, 64, 128, 256]  # between 3HW and 3HW
CODE = {
    "Part 1": ["autograd/BaseNode.py", "autograd/BaseGraph.py", "autograd/Nodes.py"],
    "Part 2": ["MLPAE_train_script.py"],
    "Part 3": ["Autoencoder.py", "train_script.py", "random_generation.py"],
    "Part 4": ["VarAutoencoder.py"],
}

LARGEST, LARGEST_TEXT = 500_000_000, 10_000_000  # bytes of a file, and of a log or a source file
LARGEST_IMAGE = 300 * 300  # pixels
LONGEST = 300  # characters of an error
OPTIONAL, LOSS = "optional", "loss on"  # what is asked: an optional part, a loss that is computed


class Photos:
    """The teacher's photos, in the folder ``root``; each size is decoded once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.decoded: dict[tuple[int, int], FlowerDataset] = {}

    def read(self, size: tuple[int, int]) -> FlowerDataset:
        """All photos at a size (width, height) in pixels; UserError if they cannot be read."""
        if size not in self.decoded:
            self.decoded[size] = read_photos(self.root, size)
        return self.decoded[size]


class Check(NamedTuple):
    """What the handout asks for, what was found, and whether it is as asked; None: for the teacher to decide."""

    part: str
    asked: str
    found: str
    ok: bool | None


def points_of(checks: Sequence[Check]) -> dict[str, float | None]:
    """The points by part: all of them where its losses were computed and all that can be measured is as asked, 0 where
    an optional part was not handed in, and None where the teacher decides."""
    points: dict[str, float | None] = {}
    for part, all_points in POINTS.items():
        some = [check for check in checks if check.part == part]
        measured = any(check.asked.startswith(LOSS) for check in some) and all(check.ok is not False for check in some)
        points[part] = all_points if measured else None
        if any(check.asked == OPTIONAL for check in some):
            points[part] = 0.0
    return points


def checks_of(folder: Path, photos: Photos) -> Iterator[Check]:
    """All checks of a submission, part by part; of the optional parts, those that were handed in.

    The losses are computed on ``photos``; UserError if they cannot be read.
    """
    seen: dict[str, str] = {}
    for file in CODE["Part 1"]:
        yield Check("Part 1", file, *_look(folder, file, look_at_code, LARGEST_TEXT))
    for part, name in PARTS.items():
        files = _files(folder, name)
        if name != "MLPAE" and not any(lexists(folder / file) for file in files.values()):
            yield Check(part, OPTIONAL, "not handed in", None)
            continue
        for file in CODE[part]:
            yield Check(part, file, *_look(folder, file, look_at_code, LARGEST_TEXT))
        losses = yield from _model(part, name, folder, files.pop("model"), photos)
        yield from _log(part, name, folder, files.pop("log"), losses)
        for file in files.values():
            look = functools.partial(look_at_picture, seen=seen, name=file)
            yield Check(part, file, *_look(folder, file, look))
    if exists(folder / "flowers"):
        yield Check("Photos", "to be left out", "flowers is there", None)


# Files


def _files(folder: Path, name: str) -> dict[str, str]:
    """The files of a model that are asked for, below the folder.

    The handout names models/ and model/, and the course's scripts write Best_X where it has BestModel_X: the first that
    is there, or else the first whose folder is there.
    """
    ending = "pth" if name in PYTORCH_MODELS else "pkl"
    starts = itertools.product(("models", "model"), ("BestModel", "Best"))
    models = [f"{place}/{start}_{name}.{ending}" for place, start in starts]
    model = min(models, key=lambda file: (not lexists(folder / file), not exists((folder / file).parent)))
    pictures = ["train", "valid"] if name == "MLPAE" else ["train", "valid", "random_images"]
    return {"model": model, "log": f"log/train_{name}.txt"} | {which: f"vis/{which}_{name}.png" for which in pictures}


def _look(folder: Path, file: str, look: Callable[[bytes], Any], largest: int = LARGEST) -> tuple[str, bool | None]:
    """What was found in a file, and whether it is as asked."""
    try:
        return look(_read(folder, file, largest))
    except OSError as error:
        return error.strerror or str(error), False


def _read(folder: Path, file: str, largest: int = LARGEST) -> bytes:
    """The bytes of a file below the folder.

    Raises:
        OSError: it is missing, not a file, larger than ``largest`` bytes, or not to be read; or it is a link, or in a
            folder that is one, which leads out of the submission.
    """
    try:
        place = os.path.realpath(folder / file, strict=True)
    except FileNotFoundError:
        raise OSError("missing") from None
    if not Path(place).is_relative_to(os.path.realpath(folder)):
        raise OSError("a link out of the folder that was handed in; not read")
    if not os.path.isfile(place) or os.path.getsize(place) > largest:
        raise OSError("no file, or too large")
    with open(place, "rb") as content:
        return content.read()


# Code

MARK = re.compile("todo|your code|你的代码|补全", re.IGNORECASE)


def look_at_code(content: bytes) -> tuple[str, bool | None]:
    """What was found in a source file, which is parsed and not run; False if it is empty, or has a gap as it was handed
    out. Whether the rest is right is for the teacher to read."""
    try:
        statements = ast.parse(content).body
    except SyntaxError as error:
        version = "{}.{}".format(*sys.version_info)
        return f"line {error.lineno} is not of Python {version}: {error.msg}; a mistake, or newer syntax", None
    except (ValueError, RecursionError, MemoryError) as error:
        return f"cannot be parsed: {_words(error)}", None
    if all(isinstance(some, ast.Pass) or isinstance(getattr(some, "value", None), ast.Constant) for some in statements):
        return "no code in it", False
    if gaps := [gap for some in statements for node in ast.walk(some) if (gap := _gap(node))]:
        return f"gaps as they were handed out: {_few(gaps)}", False
    lines = content.decode(errors="replace").splitlines()
    marks = [str(number) for number, line in enumerate(lines, 1) if MARK.search(line.partition("#")[2])]
    marked = f"; marks of gaps in line {_few(marks)}" if marks else ""
    return f"{len(lines)} lines, not run: read them yourself{marked}", None


def _gap(node: ast.AST) -> str:
    """What ``raise NotImplementedError("Part 1, step 2: Linear.forward")`` says is not there, "" of other code."""
    match node:
        case ast.Raise(ast.Call(ast.Name("NotImplementedError"), [ast.Constant(str(words))])):
            found = re.fullmatch(r"Part \d, step \d: ([\w ,.]{1,80})", words)
            return found[1] if found else ""
    return ""


def _few(words: list[str]) -> str:
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:LONGEST]


# Models


def _model(part: str, name: str, folder: Path, file: str, photos: Photos) -> Generator[Check, None, dict[str, float]]:
    """The checks of a model; returns its losses."""
    try:
        content = _read(folder, file)
    except OSError as error:
        yield Check(part, file, error.strerror or str(error), False)
        return {}
    try:
        checkpoint = checkpoint_in(content, name)
    except Exception as error:  # a damaged file can raise any exception
        if _is_of_this_lab(content, name):
            yield Check(part, file, f"no usable model: {_words(error)}", False)
        else:
            yield Check(part, file, "none of this lab's checkpoints, so not opened: look at it yourself", None)
        return {}
    yield Check(part, file, f"{len(content) / 1e6:.1f} MB; nothing in it was run", True)
    if name == "MLPAE":
        nodes = checkpoint["model"].graph
        weights = [node.params[0] for node in nodes if isinstance(node, Linear)]
        sizes = [weight.shape[0] for weight in weights[:1]] + [weight.shape[1] for weight in weights]
        layers = [type(node).__name__ for node in nodes]
        asked = "-".join(["3HW", *map(str, MLP_SIZES), "3HW"])
        yield Check(part, asked, "-".join(map(str, sizes)), sizes[1:-1] == MLP_SIZES)
        found = f"{layers.count('ReLU')} times ReLU, {layers[-1] if layers else 'nothing'} at the end"
        yield Check(part, "ReLU; output in [0, 1]", found, "ReLU" in layers and layers[-1] == "Sigmoid")
    try:
        losses, why_not = _compute_losses(name, checkpoint, photos)
    except (MemoryError, RuntimeError) as error:  # of NumPy and of PyTorch
        losses, why_not = {}, _words(error)
    if why_not:
        yield Check(part, "losses of the model", f"not computed: {why_not}", None)
    for which, loss in losses.items():
        limit = required_losses(name)[which]
        yield Check(part, f"{LOSS} {which} photos < {limit:g}", f"{loss:.4g}, computed anew", loss < limit)
    return losses


def _is_of_this_lab(content: bytes, name: str) -> bool:
    """Whether a file is one of this lab's checkpoints, though a damaged one: a pickle with a checksum at its end, or a
    file of PyTorch that holds the parts of a checkpoint, or of which nothing can be read."""
    if name not in PYTORCH_MODELS:
        return not content or bool(re.fullmatch(rb"[0-9a-f]{64}", content[-64:]))
    try:
        values = values_in(content)
    except pickle.UnpicklingError:  # it asks for classes: a whole model, perhaps
        return False
    except Exception:  # a damaged file can raise any exception
        return True
    return isinstance(values, dict) and {"name", "model"} <= values.keys()


def _compute_losses(name: str, checkpoint: dict[str, Any], photos: Photos) -> tuple[dict[str, float], str]:
    """Losses on "train" and "valid" photos; or why there are none."""
    width, height = checkpoint["image_size"]
    if width * height > LARGEST_IMAGE:
        return {}, f"images of {width} x {height} pixels are too large"
    flowers = photos.read((width, height))
    training, validation = flowers.split(checkpoint["settings"]["split_seed"])
    if checkpoint["data"]["fingerprint"] != fingerprint(training, validation):
        return {}, f"it was trained on other photos than those in {flowers.root}"
    model = checkpoint["model"]
    return {"train": mean_loss(name, model, training), "valid": mean_loss(name, model, validation)}, ""


@torch.no_grad()
def mean_loss(name: str, model: Any, photos: FlowerDataset) -> float:
    """The mean loss over the images, for the VAE per 16 images; random numbers are the same in each call."""
    model.eval()
    model.antithetic = True  # for the VAE, as in train_script.py
    total = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, _ in DataLoader(photos, 16):  # which draws a random number first, as in training
            outputs = model(images)
            if name == "VAE":
                total += 16 * float(VAE_loss_function(outputs, images))
            else:
                total += len(images) * float(mse_loss(outputs, images))
    return total / len(photos)


# Logs


def _log(part: str, name: str, folder: Path, file: str, losses: dict[str, float]) -> Iterator[Check]:
    """The checks of a log, against the handout and against the computed losses of the model, if there are any."""
    try:
        epochs, unclear = read_log(_read(folder, file, LARGEST_TEXT))
    except OSError as error:
        yield Check(part, file, error.strerror or str(error), False)
        return
    if not epochs:
        yield Check(part, file, f"not read: {unclear}" if unclear else "empty", None if unclear else False)
        return
    yield Check(part, file, f"{len(epochs)} epochs", True)
    limits = required_losses(name).values()
    in_time = {epoch: both for epoch, both in epochs.items() if epoch <= EPOCHS.get(name, epoch)} or epochs
    epoch = best(in_time)
    words = f"epoch {epoch}: {_in_words(in_time[epoch])}"
    met = all(loss < limit for loss, limit in zip(in_time[epoch], limits, strict=True))
    if min(in_time[epoch]) <= 0:  # squared errors are above 0
        words, met = f"{words}, which cannot be", False
    asked = f"within {EPOCHS[name]} epochs" if name in EPOCHS else "losses in it"
    yield Check(part, f"{asked} < {_in_words(limits)}", words, met)
    if losses:
        logged = epochs[best(epochs)]
        words = f"{_in_words(logged)} and {_in_words(losses.values())}"
        yield Check(part, "log and model agree", words, _agree(logged, losses))


def _in_words(losses: Iterable[float]) -> str:
    return " / ".join(f"{loss:.4g}" for loss in losses)


def _agree(logged: tuple[float, float], losses: dict[str, float]) -> bool:
    """Whether the losses in a log agree with computed losses.

    The training loss in a log is measured during training, for some models on flipped photos: it may differ by a
    quarter.
    """
    train, valid = logged
    return abs(losses["train"] - train) <= 0.25 * train and abs(losses["valid"] - valid) <= 0.02 * valid
