"""Checks of a hand-in against the handout's section on submissions, part by part.

What a file is, is found by reading it; what code does, by running it, in the process of a ``Student``. What is not
known is "?", and "NO" is said only of what is certain.
"""

import ast
import io
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import numpy as np

from data_processor import read_flowers
from lab.gradient_checks import CHECKS
from lab.models import required_losses
from lab.student_code import Wrong
from teaching.fence import Student, StudentError
from teaching.gaps import gaps, parsed
from teaching.logs import best, counted, read_log
from teaching.models import LEAST_ERROR, MLP, SIZE, Network, VarNetwork
from teaching.pictures import look_at_picture
from teaching.student_side import source
from teaching.submission import CODE, LARGEST_TEXT, RESULTS, Submission

POINTS = {"Part 1": 12.5, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}
MODELS: list[type[MLP]] = [MLP, Network, VarNetwork]  # of Parts 2 to 4; the last two are optional
# Of the errors of nodes: numbers are wrong. Others may come from terms that the check does not know.
CERTAIN = re.compile("off by|an array of shape|exit|not written yet|changes the array|returns nothing|share")
LARGEST_PICKLE = 20_000_000  # bytes that are looked through
# Without a result, also where the answers of the student's side make no sense.
NO_RESULT = (StudentError, Wrong, ArithmeticError, LookupError, TypeError, ValueError)


class Check(NamedTuple):
    """What the handout asks for, what was found, and "ok", "NO", "?" (for the teacher), or "-" (nothing is asked)."""

    part: str
    asked: str
    found: str
    mark: str


class Photos:
    """The teacher's photos in the folder ``root``, split as in training; OSError if they cannot be read."""

    def __init__(self, root: str) -> None:
        parts = zip(("train", "valid"), read_flowers(root, SIZE, SIZE).split(), strict=True)
        self.images: dict[str, np.ndarray] = {name: part[:][0].contiguous().numpy() for name, part in parts}


def points_of(checks: Sequence[Check]) -> dict[str, float | None]:
    """The points by part: all of them where all is as asked, 0 where nothing is or nothing was handed in, and None
    where the teacher decides."""
    points: dict[str, float | None] = {}
    for part, all_points in POINTS.items():
        marks = {check.mark for check in checks if check.part == part}
        points[part] = all_points if marks == {"ok"} else 0.0 if marks in ({"NO"}, {"-"}) else None
    return points


def checks_of(
    submission: Submission, photos: Photos, student: Student | None, handed_out: Callable[[str], str]
) -> Iterator[Check]:
    """All checks of a hand-in; of the optional parts, of those that were handed in.

    Args:
        photos: those on which losses are computed.
        student: runs the code of the hand-in; None: nothing is run.
        handed_out: the text of a file of the version that was handed out; OSError if there is none.
    """
    for remark in submission.remarks:
        yield Check("Hand-in", "", remark, "-")
    yield from _code("Part 1", submission, student, handed_out)
    yield from _gradients(submission, student)
    seen: dict[str, str] = {}
    for model in MODELS:
        part, name = model.part, model.name
        file, log, *pictures = RESULTS[name]
        if model is not MLP and not any(map(submission.find, RESULTS[name])):
            yield Check(part, "optional", "not handed in", "-")
            continue
        yield from _code(part, submission, student, handed_out)
        runs, of_log = _log(part, name, submission, log)
        yield from _model(model, file, submission, student, photos, [run[best(run)] for run in runs])
        yield from of_log
        for picture in pictures:
            content, words = _read(submission, picture)
            looked, mark = ("", "NO") if content is None else look_at_picture(content, seen, picture)
            yield Check(part, picture, words + looked, mark)


def _read(submission: Submission, wanted: str, *largest: int) -> tuple[bytes | None, str]:
    """The content of a file, None if there is none, and words on where it is or why it is not read."""
    file = submission.find(wanted)
    if not file:
        return None, f"missing{submission.like(wanted)}"
    try:
        return submission.read(file, *largest), "" if file == wanted else f"as {file}; "
    except OSError as error:
        return None, error.strerror or str(error)


# Code


def _code(
    part: str, submission: Submission, student: Student | None, handed_out: Callable[[str], str]
) -> Iterator[Check]:
    """Whether there are gaps as they were handed out."""
    for file in CODE[part]:
        content, words = _read(submission, file, LARGEST_TEXT)
        if content is None:
            yield Check(part, file, words, "NO")
            continue
        try:
            original = handed_out(file)
        except OSError:
            original = ""
        try:
            code = source(submission.find(file) or "", content).decode("utf-8-sig", "replace")
            left, empty = gaps(code, original), not any(map(_says_something, parsed(code).body))
        except SyntaxError as error:
            version = "{}.{}".format(*sys.version_info)
            words += f"line {error.lineno} is not of Python {version}: {error.msg}; a mistake, or newer syntax"
            yield Check(part, file, words, "?")
        except (ValueError, LookupError, TypeError, RecursionError, MemoryError) as error:
            yield Check(part, file, f"{words}cannot be parsed: {type(error).__name__}", "?")
        else:
            if empty or left:
                more = ", ..." if len(left) > 5 else ""
                words += f"gaps as they were handed out: {', '.join(left[:5])}{more}" if left else "no code in it"
                yield Check(part, file, words, "NO")
            else:
                yield Check(part, file, f"{words}no gaps{'' if student else '; not run'}", "ok" if student else "?")


def _says_something(statement: ast.stmt) -> bool:
    return not isinstance(statement, ast.Pass) and not isinstance(getattr(statement, "value", None), ast.Constant)


def _gradients(submission: Submission, student: Student | None) -> Iterator[Check]:
    """Part 1 against central differences."""
    if not submission.find(CODE["Part 1"][-1]):
        return
    if not student:
        yield Check("Part 1", "gradients", "not computed: --run does", "?")
        return
    for name, check in CHECKS.items():
        try:
            notes = check(student.nodes())
            yield Check("Part 1", name, "; ".join(["right", *notes]), "ok")
        except NO_RESULT as error:
            certain = isinstance(error, Wrong) and CERTAIN.search(str(error))
            yield Check("Part 1", name, str(error), "NO" if certain else "?")


# Models


def _model(
    kind: type[MLP],
    file: str,
    submission: Submission,
    student: Student | None,
    photos: Photos,
    logged: list[tuple[float, float]],
) -> Iterator[Check]:
    """The checks of a model; ``logged`` are the losses of the best epoch of each run in its log."""
    part, name = kind.part, kind.name
    content, words = _read(submission, file)
    damage = "" if content is None else _damage(content)
    if content is None or damage:
        yield Check(part, file, words + damage, "NO")
        return
    words += f"{len(content) / 1e6:.1f} MB"
    if not student:
        yield Check(part, file, f"{words}, not opened: --run does", "?")
        return
    model = kind(student)
    try:
        script = submission.find("MLPAE_train_script.py" if kind is MLP else "train_script.py")
        model.load(submission.find(file) or file, script, submission.find(CODE[part][0]))
    except NO_RESULT as error:
        yield Check(part, file, f"{words}, not opened: {error}", "?")
        return
    yield Check(part, file, words, "ok")
    try:
        for found in model.checks():
            yield Check(part, *found)
    except NO_RESULT as error:
        yield Check(part, "what it computes", f"not computed: {error}", "?")
    losses: dict[str, float] = {}
    claims: Any = zip(*logged, strict=True) if logged else [(), ()]
    for (which, limit), claimed in zip(required_losses(name)[0].items(), claims, strict=True):
        asked = f"loss on {which} photos < {limit:g}"
        try:
            losses[which] = loss = model.loss(photos.images[which])
        except NO_RESULT as error:
            yield Check(part, asked, f"not computed: {error}", "?")
            continue
        words, mark = f"{loss:.4g}, computed", "ok" if loss < limit else "NO"
        if mark == "NO" and any(some < limit for some in claimed):
            # Photos that are prepared in another way would explain it, and so would a log of another model.
            words, mark = f"{words}; by its log {min(claimed):.4g}", "?"
        elif loss < LEAST_ERROR * (16 * 3 * SIZE * SIZE if name == "VAE" else 1):
            words, mark = f"{words}; 64 numbers cannot hold so much", "?"
        yield Check(part, asked, words, mark)
    if logged and len(losses) == 2:
        agree = any(_agree(some, losses) for some in logged)
        words = f"{_in_words(logged[-1])} and {_in_words(losses.values())}"
        yield Check(part, "log and model agree", words, "ok" if agree else "?")


def _damage(content: bytes) -> str:
    """What is wrong with the file of a model, "" if nothing is known to be."""
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                size = sum(member.file_size for member in file.infolist())
                return "damaged" if size <= 2 * len(content) and file.testzip() else ""
        if content.startswith(b"\x80") and len(content) < LARGEST_PICKLE:
            for _ in pickletools.genops(io.BytesIO(content)):
                pass
    except Exception as error:  # a damaged file can raise any exception
        return f"damaged: {str(error)[:100]}"
    return "" if content.strip() else "empty"


# Logs


def _log(
    part: str, name: str, submission: Submission, file: str
) -> tuple[list[dict[int, tuple[float, float]]], list[Check]]:
    """The runs in a log, and its checks: any epoch that meets both bars is enough."""
    content, words = _read(submission, file, LARGEST_TEXT)
    if content is None:
        return [], [Check(part, file, words, "NO")]
    runs, unclear = read_log(content)
    if not runs:
        empty = not content.strip()
        found = "empty" if empty else f"not read: {unclear}"
        return [], [Check(part, file, words + found, "NO" if empty else "?")]
    several = f" in {len(runs)} runs" if len(runs) > 1 else ""
    checks = [Check(part, file, f"{words}{sum(map(len, runs))} epochs{several}", "ok")]
    required, most = required_losses(name)
    limits = required.values()
    asked = f"{f'within {most} epochs' if most else 'losses in it'} < {_in_words(limits)}"
    in_time = [(both, epoch) for run in runs for epoch, both in counted(run, most).items()]
    met = [(both, epoch) for both, epoch in in_time if all(map(float.__lt__, both, map(float, limits)))]
    if not in_time:
        return runs, [*checks, Check(part, asked, f"epochs {min(runs[0])} to {max(runs[0])} alone", "?")]
    both, epoch = min(met or in_time, key=lambda each: each[0][1])
    cannot_be = ", which cannot be" if min(both) < 0 else ""  # squared errors are above 0
    mark = "NO" if not met or cannot_be else "ok" if min(both) > 0 else "?"  # 0.0 may have too few digits
    return runs, [*checks, Check(part, asked, f"epoch {epoch}: {_in_words(both)}{cannot_be}", mark)]


def _in_words(losses: Iterable[float]) -> str:
    return " / ".join(f"{loss:.4g}" for loss in losses)


def _agree(logged: tuple[float, float], losses: dict[str, float]) -> bool:
    """Whether the losses in a log agree with computed losses, up to a quarter: another split of the photos
    gives others, and so does a training loss that is measured during training."""
    return all(abs(loss - some) <= 0.25 * some for loss, some in zip(losses.values(), logged, strict=True))
