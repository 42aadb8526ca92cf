"""What the handout's section on submissions asks for, held against what is in a folder; nothing of it is run."""

import ast
import difflib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageChops
from torch.utils.data import DataLoader

from autograd import MSE, BaseGraph
from checkpoint import CheckpointError, load_checkpoint, load_values
from course_models import graph_of, sizes_of
from data_processor import FlowerDataset, read_flowers
from handout import CODE, EPOCHS, MLP_SIZES, PARTS, asked_losses
from tasks import TASKS, validate

# Of what is looked at: bytes of a file and of a file of code, pixels of an image. Ours have a hundredth of it.
LARGEST, LARGEST_CODE, LARGEST_IMAGE = 500_000_000, 1_000_000, 300 * 300
NUMBER = r"\W*?(-?\d+(?:\.\d*)?(?:e-?\d+)?)"
EPOCH_LINE = re.compile(rf"epoch\W*(\d+).*?train\w* loss{NUMBER}\b.*?valid\w* loss{NUMBER}\b", re.IGNORECASE)


class Check(NamedTuple):
    """One thing that the handout asks for, what was found of it, and whether that will do; None: look for yourself."""

    part: str
    asked: str
    found: str
    ok: bool | None


def checks_of(folder: Path, photos: str, drawn: bool) -> Iterator[Check]:
    """All checks of a submission, part by part; of the optional ones, of those that were handed in.

    Args:
        folder: what was handed in.
        photos: the folder of the photos, to compute losses on.
        drawn: whether they are no photos, but the stand-in set.

    Raises:
        OSError: ``photos`` is no folder of photos.
    """
    for file in CODE["Part 1"]:
        yield Check("Part 1", file, *_code(folder / file))
    for part, name in PARTS.items():
        files = _files(folder, name)
        if name != "MLPAE" and not any(path.exists() for path in files.values()):
            yield Check(part, "optional", "not handed in", None)
            continue
        for file in CODE[part]:
            yield Check(part, file, *_code(folder / file))
        losses = yield from _model(part, name, files.pop("model"), photos, drawn)
        yield from _log(part, name, files.pop("log"), losses)
        for path in files.values():
            yield Check(part, _shown(path), *_picture(path))
    if (folder / "flowers").exists():
        yield Check("Photos", "to be left out", "flowers is there", None)


def _files(folder: Path, name: str) -> dict[str, Path]:
    """Where everything of a model should be. The handout has models/ here and model/ there: both will do."""
    ending = "pkl" if name == "MLPAE" else "pth"
    places = [folder / place / f"BestModel_{name}.{ending}" for place in ("models", "model")]
    model = min(places, key=lambda path: (not path.exists(), not path.parent.exists()))
    kinds = ["train", "valid"] if name == "MLPAE" else ["train", "valid", "random_images"]
    pictures = {kind: folder / "vis" / f"{kind}_{name}.png" for kind in kinds}
    return {"model": model, "log": folder / "log" / f"train_{name}.txt", **pictures}


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it is missing, no file, or larger than ``largest`` bytes.
    """
    if not path.exists():
        others = {other.name for other in path.parent.iterdir()} if path.parent.is_dir() else set()
        others -= {asked.name for name in PARTS.values() for asked in _files(Path(), name).values()}
        alike = difflib.get_close_matches(path.name, others, n=1, cutoff=0.8)
        raise FileNotFoundError(f"missing; there is {alike[0]}" if alike else "missing")
    if not path.is_file() or path.stat().st_size > largest:
        raise OSError("no file, or too large")
    return path.read_bytes()


def _code(path: Path) -> tuple[str, bool]:
    """What is found of a file of code, and whether it is one."""
    try:
        content = _read(path, LARGEST_CODE)
        ast.parse(content)
    except OSError as error:
        return str(error), False
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python: {error}", False
    return f"{len(content.splitlines())} lines", True


def _picture(path: Path) -> tuple[str, bool]:
    """What is found of a picture, and whether it shows as much as two photos above two others, margins left aside."""
    try:
        content = _read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, on large pictures, which matplotlib's can be
            picture = Image.open(io.BytesIO(content)).convert("RGB")
    except Exception as error:  # a damaged file can raise anything at all
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
    except OSError as error:
        yield Check(part, _shown(path), str(error), False)
        return {}
    yield Check(part, _shown(path), f"{len(content) / 1e6:.1f} MB; nothing in it was run", True)
    if name == "MLPAE":
        sizes, kinds = sizes_of(model), [type(node).__name__ for node in model]
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
    """The model in a file, and the checkpoint that it is part of; None for what is not of this lab's making.

    Raises:
        OSError: it cannot be loaded without running what is in it.
    """
    try:
        checkpoint = load_checkpoint(path.parent, name)
        return checkpoint["model"], checkpoint
    except CheckpointError as error:
        reason = error
    if name == "MLPAE":
        if re.fullmatch(rb"[0-9a-f]{64}", content[-64:]):
            raise reason  # with a checksum at its end, it was one of ours
        try:
            return graph_of(content), None
        except Exception as error:  # a damaged file can raise anything at all
            raise OSError(f"no usable model: {textwrap.shorten(str(error), 200)}") from None
    try:
        weights = load_values(path)
        if all(isinstance(weight, torch.Tensor) for weight in weights.values()):
            return None, None
    except Exception as error:
        raise OSError(f"no state_dict that loads safely: {textwrap.shorten(str(error), 200)}") from None
    raise reason


def _compute_losses(
    name: str, model: Any, checkpoint: dict | None, photos: str, drawn: bool
) -> tuple[dict[str, float], str]:
    """Losses on "train" and "valid" photos, or on "all" where nobody knows which these were; or why there are none."""
    if model is None:
        return {}, "a state_dict with layers of the student's own; look at the log and the pictures"
    if checkpoint:
        width, height = checkpoint["image_size"]
    else:
        numbers = sizes_of(model)[0]
        width = height = math.isqrt(numbers // 3)
        if not numbers == sizes_of(model)[-1] == 3 * width * height:
            return {}, "it does not lead from square images to such"
        if drawn:
            return {}, "there are no photos here; give them by --data-root"
    if width * height > LARGEST_IMAGE:
        return {}, f"images of {width} x {height} pixels are too large"
    flowers = read_flowers(photos, width, height)
    if checkpoint:
        training, validation = flowers.split(checkpoint["settings"]["split_seed"])
        if training.fingerprint() != checkpoint["data"]["fingerprint"]:
            return {}, f"it was trained on other photos than those in {photos}"
        sets = {"train": training, "valid": validation}
    else:
        sets = {"all": flowers}
    return {which: _loss(model, some) for which, some in sets.items()}, ""


def _loss(model: Any, photos: FlowerDataset) -> float:
    """The loss as training has it, in batches of 16."""
    loader = DataLoader(photos, 16, collate_fn=tuple)
    if not isinstance(model, BaseGraph):
        return validate(model, loader, TASKS[model.name])["Loss"]
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += MSE().forward(model.forward(x), x) * len(x)
    return total / len(photos)


# Logs


def _log(part: str, name: str, path: Path, losses: dict[str, float]) -> Iterator[Check]:
    """The checks of a log, against the handout and against the losses of the model, if there are any."""
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
    """The losses (train, valid) by epoch, in whatever words; PowerShell writes a log as UTF-16."""
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
    """Whether the losses in a log can be those of a model with such losses.

    The training loss in a log is that of a model still learning, and on mirrored photos for some: it may be off by a
    quarter. So may the loss on all photos, which is somewhere between the two.
    """
    if all is not None:
        return 0.75 * min(logged_train, logged_valid) <= all <= 1.25 * max(logged_train, logged_valid)
    return abs(train - logged_train) <= 0.25 * logged_train and abs(valid - logged_valid) <= 0.02 * logged_valid
