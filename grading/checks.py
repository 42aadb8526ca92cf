"""Checks of a submission against the handout's section on submissions; nothing of it is executed."""

import ast
import difflib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Generator, Iterable, Iterator
from os.path import exists  # unlike Path.exists, False where access is denied
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageChops
from torch.utils.data import DataLoader

from data_processor import whole_batch
from grading.course_models import graph_of, sizes_of
from lab.checkpoint import CheckpointError, load_checkpoint, load_values
from lab.errors import UserError
from lab.handout import CODE, EPOCHS, MLP_SIZES, PARTS, asked_losses
from lab.mlp_autoencoder import MLPAutoencoder
from lab.photos import read_photos
from lab.pytorch_training import CRITERIA, validate

# Limits: bytes of a file and of a source file, pixels of an image. Ours have a hundredth of these.
LARGEST, LARGEST_CODE, LARGEST_IMAGE = 500_000_000, 1_000_000, 300 * 300
NUMBER = r"\W*?(-?\d+(?:\.\d*)?(?:e-?\d+)?)"
EPOCH_LINE = re.compile(rf"epoch\W*(\d+).*?train\w* loss{NUMBER}\b.*?valid\w* loss{NUMBER}\b", re.IGNORECASE)


class Check(NamedTuple):
    """What the handout asks for, what was found, and whether it is as asked; None: for the teacher to decide."""

    part: str
    asked: str
    found: str
    ok: bool | None


def checks_of(folder: Path, photos: str, drawn: bool) -> Iterator[Check]:
    """All checks of a submission, part by part; of the optional parts, those that were handed in.

    The losses are computed on ``photos``, a folder of photos, or of the stand-in set if ``drawn``; UserError if not.
    """
    for file in CODE["Part 1"]:
        yield Check("Part 1", file, *_code(folder / file))
    for part, name in PARTS.items():
        files = _files(folder, name)
        if name != "MLPAE" and not any(map(exists, files.values())):
            yield Check(part, "optional", "not handed in", None)
            continue
        for file in CODE[part]:
            yield Check(part, file, *_code(folder / file))
        losses = yield from _model(part, name, files.pop("model"), photos, drawn)
        yield from _log(part, name, files.pop("log"), losses)
        for path in files.values():
            yield Check(part, _shown(path), *_picture(path))
    if exists(folder / "flowers"):
        yield Check("Photos", "to be left out", "flowers is there", None)


def _files(folder: Path, name: str) -> dict[str, Path]:
    """The expected paths of a model's files. The handout names models/ and model/: both are accepted."""
    ending = "pkl" if name == "MLPAE" else "pth"
    places = [folder / place / f"BestModel_{name}.{ending}" for place in ("models", "model")]
    model = min(places, key=lambda path: (not exists(path), not exists(path.parent)))
    kinds = ["train", "valid"] if name == "MLPAE" else ["train", "valid", "random_images"]
    pictures = {kind: folder / "vis" / f"{kind}_{name}.png" for kind in kinds}
    return {"model": model, "log": folder / "log" / f"train_{name}.txt", **pictures}


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a file; OSError if it is missing, not a file, or larger than ``largest`` bytes."""
    if not path.exists():
        others = {other.name for other in path.parent.iterdir()} if path.parent.is_dir() else set()
        others -= {asked.name for name in PARTS.values() for asked in _files(Path(), name).values()}
        alike = difflib.get_close_matches(path.name, others, n=1, cutoff=0.8)
        raise FileNotFoundError(f"missing; there is {alike[0]}" if alike else "missing")
    if not path.is_file() or path.stat().st_size > largest:
        raise OSError("no file, or too large")
    return path.read_bytes()


def _code(path: Path) -> tuple[str, bool]:
    """What was found at the path of a source file, and whether it is one."""
    try:
        content = _read(path, LARGEST_CODE)
        ast.parse(content)
    except OSError as error:
        return str(error), False
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python: {error}", False
    return f"{len(content.splitlines())} lines", True


def _picture(path: Path) -> tuple[str, bool]:
    """What was found at the path of a picture, and whether it has at least 48 x 48 pixels without its margins."""
    try:
        content = _read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on large pictures, which matplotlib's can be
            picture = Image.open(io.BytesIO(content)).convert("RGB")
    except Exception as error:  # a damaged file can raise any exception
        return str(error), False
    margin = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    left, top, right, bottom = ImageChops.difference(picture, margin).getbbox() or (0, 0, 0, 0)
    width, height = right - left, bottom - top
    return f"{width} x {height} pixels, without margins", width >= 48 and height >= 48


# Models


def _model(part: str, name: str, path: Path, photos: str, drawn: bool) -> Generator[Check, None, dict[str, float]]:
    """The checks of a model; returns its losses."""
    try:
        content = _read(path)
        model, checkpoint = _load(name, path, content)
    except (OSError, UserError) as error:
        yield Check(part, _shown(path), str(error), False)
        return {}
    yield Check(part, _shown(path), f"{len(content) / 1e6:.1f} MB; nothing in it was run", True)
    if name == "MLPAE":
        sizes, kinds = sizes_of(model.graph), [type(node).__name__ for node in model.graph]
        asked = "-".join(["3HW", *map(str, MLP_SIZES), "3HW"])
        yield Check(part, asked, "-".join(map(str, sizes)), sizes == [*sizes[:1], *MLP_SIZES, *sizes[-1:]])
        found = f"{kinds.count('ReLU')} times ReLU, {kinds[-1] if kinds else 'nothing'} at the end"
        yield Check(part, "ReLU; output in [0, 1]", found, "ReLU" in kinds and kinds[-1] == "Sigmoid")
    losses, why_not = _compute_losses(name, model, checkpoint, photos, drawn)
    if why_not:
        yield Check(part, "losses of the model", f"not computed: {why_not}", None)
    limits = asked_losses(name)
    for which, loss in losses.items():
        limit = limits.get(which, max(limits.values()))
        yield Check(part, f"loss on {which} photos < {limit:g}", f"{loss:.4g}, computed anew", loss < limit)
    return losses


def _load(name: str, path: Path, content: bytes) -> tuple[Any, dict | None]:
    """The model in a file, and its checkpoint, or None if it was not saved by this lab; UserError if it is not safe."""
    try:
        checkpoint = load_checkpoint(path.parent, name)
        return checkpoint["model"], checkpoint
    except CheckpointError as error:
        reason = error
    if name == "MLPAE":
        if re.fullmatch(rb"[0-9a-f]{64}", content[-64:]):
            raise reason  # a checksum at its end: it was saved by this lab
        try:
            graph = graph_of(content)
            return MLPAutoencoder(graph, min(sizes_of(graph)), []), None
        except Exception as error:  # a damaged file can raise any exception
            raise UserError(f"no usable model: {textwrap.shorten(str(error), 200)}") from None
    try:
        weights = load_values(path)
        if all(isinstance(weight, torch.Tensor) for weight in weights.values()):
            return None, None
    except Exception as error:
        raise UserError(f"no state_dict that loads safely: {textwrap.shorten(str(error), 200)}") from None
    raise reason


def _compute_losses(
    name: str, model: Any, checkpoint: dict | None, photos: str, drawn: bool
) -> tuple[dict[str, float], str]:
    """Losses on "train" and "valid" photos, or on "all" if the split is unknown; or why there are none."""
    if model is None:
        return {}, "a state_dict with layers of the student's own; look at the log and the pictures"
    if checkpoint:
        width, height = checkpoint["image_size"]
    else:
        sizes = sizes_of(model.graph)
        width = height = math.isqrt(sizes[0] // 3)
        if not sizes[0] == sizes[-1] == 3 * width * height:
            return {}, "its input and output are not square images"
        if drawn:
            return {}, "there are no photos here; give them by --data-root"
    if width * height > LARGEST_IMAGE:
        return {}, f"images of {width} x {height} pixels are too large"
    flowers = read_photos(photos, (width, height))
    if checkpoint:
        training, validation = flowers.split(checkpoint["settings"]["split_seed"])
        if training.fingerprint() != checkpoint["data"]["fingerprint"]:
            return {}, f"it was trained on other photos than those in {photos}"
        sets = {"train": training, "valid": validation}
    else:
        sets = {"all": flowers}
    loaders = {which: DataLoader(some, 16, collate_fn=whole_batch) for which, some in sets.items()}
    return {which: validate(model, loader, CRITERIA[name])[0] for which, loader in loaders.items()}, ""


# Logs


def _log(part: str, name: str, path: Path, losses: dict[str, float]) -> Iterator[Check]:
    """The checks of a log, against the handout and against the computed losses of the model, if there are any."""
    try:
        epochs = _epochs(_read(path))
    except OSError as error:
        yield Check(part, _shown(path), str(error), False)
        return
    yield Check(part, _shown(path), f"{len(epochs)} epochs", bool(epochs))
    if not epochs:
        return
    limits = asked_losses(name).values()
    in_time = {epoch: both for epoch, both in epochs.items() if epoch <= EPOCHS.get(name, epoch)} or epochs
    epoch, (train, valid) = _best(in_time)
    met = all(loss < limit for loss, limit in zip((train, valid), limits, strict=True))
    asked = f"within {EPOCHS[name]} epochs" if name in EPOCHS else "losses in it"
    yield Check(part, f"{asked} < {_in_words(limits)}", f"epoch {epoch}: {_in_words((train, valid))}", met)
    if losses:
        _, logged = _best(epochs)
        found = f"{_in_words(logged)} and {_in_words(losses.values())}"
        yield Check(part, "log and model agree", found, _agree(*logged, **losses))


def _epochs(content: bytes) -> dict[int, tuple[float, float]]:
    """The losses (train, valid) by epoch, of a log in any wording; PowerShell writes logs in UTF-16."""
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")
    lines = (EPOCH_LINE.search(line[:1000]) for line in text.splitlines())
    return {int(line[1]): (float(line[2]), float(line[3])) for line in lines if line}


def _best(epochs: dict[int, tuple[float, float]]) -> tuple[int, tuple[float, float]]:
    """The epoch with the lowest validation loss, the last one of several, and its losses."""
    return min(epochs.items(), key=lambda item: (item[1][1], -item[0]))


def _in_words(losses: Iterable[float]) -> str:
    return " / ".join(f"{loss:.4g}" for loss in losses)


def _agree(
    logged_train: float, logged_valid: float, train: float = 0, valid: float = 0, all: float | None = None
) -> bool:
    """Whether the losses in a log agree with computed losses.

    The training loss in a log is measured during training, for some models on flipped photos: it may differ by a
    quarter. So may the loss on all photos, which lies between the two.
    """
    if all is not None:
        return 0.75 * min(logged_train, logged_valid) <= all <= 1.25 * max(logged_train, logged_valid)
    return abs(train - logged_train) <= 0.25 * logged_train and abs(valid - logged_valid) <= 0.02 * logged_valid
