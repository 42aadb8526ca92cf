"""Checks of a submission against the handout's section on submissions; nothing of it is executed.

Nothing outside the folder that was handed in is read: links that lead out of it are not followed.
"""

import difflib
import functools
import itertools
import math
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from os.path import exists, isdir, lexists  # unlike those of Path, False where access is denied
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from data_processor import FlowerDataset, whole_batch
from grading.code import look_at_code
from grading.logs import best, impossible, read_log
from grading.models import NotCertain, graph_of, look_at_pytorch, sizes_of
from grading.pictures import look_at_picture
from lab.checkpoint import PYTORCH_MODELS, checkpoint_in
from lab.handout import CODE, EPOCHS, MLP_SIZES, PARTS, POINTS, asked_losses
from lab.mlp_autoencoder import MLPAutoencoder
from lab.photos import read_photos, trained_on
from lab.pytorch_training import CRITERIA, validate

# Limits: bytes of a file, of a log and of a source file; pixels of an image; names in a folder that are looked at;
# characters of a text that is printed.
LARGEST, LARGEST_LOG, LARGEST_CODE = 500_000_000, 10_000_000, 1_000_000
LARGEST_IMAGE, MOST_NAMES, LONGEST = 300 * 300, 1_000, 300
OPTIONAL, LOSS = "optional", "loss on"  # what is asked: an optional part, a loss that is computed


class Photos:
    """The teacher's photos, in a folder; each size is decoded once.

    Args:
        root: the folder.
        drawn: whether it is the stand-in set.
        missing: why there are no photos, "" if there are some.
    """

    def __init__(self, root: str, drawn: bool = False, missing: str = "") -> None:
        self.root, self.drawn, self.missing = root, drawn, missing
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


def points_of(checks: Iterable[Check]) -> dict[str, float | None]:
    """The points by part: all of them where its losses were computed and all that can be measured is as asked, 0 where
    an optional part was not handed in, and None where the teacher decides."""
    points: dict[str, float | None] = dict.fromkeys(POINTS)
    by_part = {part: [check for check in checks if check.part == part] for part in POINTS}
    for part, some in by_part.items():
        if any(check.asked == OPTIONAL for check in some):
            points[part] = 0.0
        elif any(check.asked.startswith(LOSS) for check in some) and not any(check.ok is False for check in some):
            points[part] = POINTS[part]
    return points


def checks_of(folder: Path, photos: Photos) -> Iterator[Check]:
    """All checks of a submission, part by part; of the optional parts, those that were handed in.

    The losses are computed on ``photos``; UserError if they cannot be read.
    """
    for check in _checks_of(folder, photos):
        yield check._replace(asked=check.asked[:LONGEST], found=check.found[:LONGEST])


def _checks_of(folder: Path, photos: Photos) -> Iterator[Check]:
    seen: dict[str, str] = {}
    for file in CODE["Part 1"]:
        yield Check("Part 1", file, *_look(folder, file, look_at_code, LARGEST_CODE))
    for part, name in PARTS.items():
        files = _files(folder, name)
        if name != "MLPAE" and not any(lexists(folder / file) for file in files.values()):
            yield Check(part, OPTIONAL, "not handed in", None)
            continue
        for file in CODE[part]:
            yield Check(part, file, *_look(folder, file, look_at_code, LARGEST_CODE))
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
    kinds = ["train", "valid"] if name == "MLPAE" else ["train", "valid", "random_images"]
    pictures = {kind: f"vis/{kind}_{name}.png" for kind in kinds}
    return {"model": model, "log": f"log/train_{name}.txt", **pictures}


def _look(folder: Path, file: str, look: Callable[[bytes], Any], largest: int = LARGEST) -> tuple[str, bool | None]:
    """What was found in a file, and whether it is as asked."""
    try:
        return look(_read(folder, file, largest))
    except OSError as error:
        return error.strerror or str(error), False
    except Exception as error:  # a damaged file can raise any exception
        return f"cannot be looked at ({_words(error)})", False


def _read(folder: Path, file: str, largest: int = LARGEST) -> bytes:
    """The bytes of a file below the folder.

    Raises:
        OSError: it is missing, not a file, larger than ``largest`` bytes, or not to be read; or it is a link, or in a
            folder that is one, which leads out of the submission.
    """
    path = folder / file
    if not lexists(path):
        raise FileNotFoundError(f"missing{_alike(path)}")
    place = os.path.realpath(path)
    if not Path(place).is_relative_to(os.path.realpath(folder)):
        raise OSError("a link out of the folder that was handed in; not read")
    if not os.path.isfile(place) or os.path.getsize(place) > largest:
        raise OSError("no file, or too large")
    with open(place, "rb") as content:
        return content.read()


def _alike(path: Path) -> str:
    """Words on what is there under a similar name, if anything is."""
    try:
        with os.scandir(path.parent) as entries:
            others = {entry.name for entry in itertools.islice(entries, MOST_NAMES)}
    except OSError as error:
        return "" if not isdir(path.parent) else f", or not to be seen: {error.strerror}"
    others -= {Path(asked).name for name in PARTS.values() for asked in _files(Path(), name).values()}
    alike = difflib.get_close_matches(path.name, others, n=1, cutoff=0.8)
    return f"; there is {alike[0]}" if alike else ""


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


# Models


def _model(part: str, name: str, folder: Path, file: str, photos: Photos) -> Generator[Check, None, dict[str, float]]:
    """The checks of a model; returns its losses."""
    try:
        content = _read(folder, file)
        model, checkpoint = _load(name, content)
    except OSError as error:
        yield Check(part, file, error.strerror or str(error), False)
        return {}
    except NotCertain as error:
        yield Check(part, file, f"not measured: {error}", None)
        return {}
    except Exception as error:  # a damaged file can raise any exception
        yield Check(part, file, f"no usable model: {_words(error)}", False)
        return {}
    yield Check(part, file, f"{len(content) / 1e6:.1f} MB; nothing in it was run", True)
    if name == "MLPAE":
        sizes, kinds = sizes_of(model.graph), [type(node).__name__ for node in model.graph]
        asked = "-".join(["3HW", *map(str, MLP_SIZES), "3HW"])
        yield Check(part, asked, "-".join(map(str, sizes)), sizes == [*sizes[:1], *MLP_SIZES, *sizes[-1:]])
        found = f"{kinds.count('ReLU')} times ReLU, {kinds[-1] if kinds else 'nothing'} at the end"
        yield Check(part, "ReLU; output in [0, 1]", found, "ReLU" in kinds and kinds[-1] == "Sigmoid")
    try:
        losses, why_not = _compute_losses(name, model, checkpoint, photos)
    except (MemoryError, RuntimeError) as error:  # of NumPy and of PyTorch
        losses, why_not = {}, _words(error)
    if why_not:
        yield Check(part, "losses of the model", f"not computed: {why_not}", None)
    limits = asked_losses(name)
    for which, loss in losses.items():
        limit = limits.get(which, max(limits.values()))
        yield Check(part, f"{LOSS} {which} photos < {limit:g}", f"{loss:.4g}, computed anew", loss < limit)
    return losses


def _load(name: str, content: bytes) -> tuple[Any, dict | None]:
    """The model in a file, and its checkpoint, or None if it was not saved by this lab.

    Raises:
        NotCertain: an honest model that is not measured.
        Exception: of any type, if it is damaged or not safe.
    """
    try:
        checkpoint = checkpoint_in(content, name)
        return checkpoint["model"], checkpoint
    except Exception as error:
        reason = error
    if name in PYTORCH_MODELS:
        try:
            found = look_at_pytorch(content)
        except Exception:
            raise reason from None
        raise NotCertain(found)
    if re.fullmatch(rb"[0-9a-f]{64}", content[-64:]):
        raise reason  # a checksum at its end: it was saved by this lab
    graph = graph_of(content)
    return MLPAutoencoder(graph, min(sizes_of(graph)), []), None


def _compute_losses(name: str, model: Any, checkpoint: dict | None, photos: Photos) -> tuple[dict[str, float], str]:
    """Losses on "train" and "valid" photos, or on "all" if the split is unknown; or why there are none."""
    if checkpoint:
        width, height = checkpoint["image_size"]
    else:
        sizes = sizes_of(model.graph)
        width = height = math.isqrt(sizes[0] // 3)
        if not sizes[0] == sizes[-1] == 3 * width * height:
            return {}, "its input and output are not square images"
        if photos.drawn:
            return {}, "there are no photos here; give them by --data-root"
    if photos.missing:
        return {}, photos.missing
    if width * height > LARGEST_IMAGE:
        return {}, f"images of {width} x {height} pixels are too large"
    flowers = photos.read((width, height))
    if checkpoint:
        training, validation = flowers.split(checkpoint["settings"]["split_seed"])
        if not trained_on(checkpoint["data"]["fingerprint"], training, validation):
            return {}, f"it was trained on other photos than those in {flowers.root}"
        sets = {"train": training, "valid": validation}
    else:
        sets = {"all": flowers}
    loaders = {which: DataLoader(some, 16, collate_fn=whole_batch) for which, some in sets.items()}
    return {which: validate(model, loader, CRITERIA[name])[0] for which, loader in loaders.items()}, ""


# Logs


def _log(part: str, name: str, folder: Path, file: str, losses: dict[str, float]) -> Iterator[Check]:
    """The checks of a log, against the handout and against the computed losses of the model, if there are any."""
    try:
        log = read_log(_read(folder, file, LARGEST_LOG))
    except OSError as error:
        yield Check(part, file, error.strerror or str(error), False)
        return
    limits = asked_losses(name).values()
    in_time = {epoch: both for epoch, both in log.epochs.items() if epoch <= EPOCHS.get(name, epoch)} or log.epochs
    found = best(in_time)
    unclear = f"; not read: {log.unclear}" if log.unclear else ""
    if found is None:
        yield Check(part, file, f"no epoch with both losses{unclear}", None if log.unclear else False)
        return
    yield Check(part, file, f"{len(log.epochs)} epochs{unclear}", None if unclear else True)
    epoch, both = found
    met = all(loss < limit for loss, limit in zip(both, limits, strict=True))
    asked = f"within {EPOCHS[name]} epochs" if name in EPOCHS else "losses in it"
    words = f"epoch {epoch}: {_in_words(both)}"
    if any(impossible(loss, name) for loss in both):
        words, met = f"{words}, which cannot be", False
    yield Check(part, f"{asked} < {_in_words(limits)}", words, met)
    lowest = best(log.epochs)
    if losses and lowest:
        words = f"{_in_words(lowest[1])} and {_in_words(losses.values())}"
        yield Check(part, "log and model agree", words, _agree(*lowest[1], **losses))


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
