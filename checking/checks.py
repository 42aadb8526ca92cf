"""The check of a lab, part by part, against the handout's section on submissions.

"NO" is said of what is certainly wrong, "not yet" of what is not written, and "?" of what is for a person to look at.
"""

import contextlib
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from checking.gradients import CHECKS
from checking.hand_in import CODE, LARGEST, NAMES, RESULTS, HandIn
from checking.logs import Log
from checking.messages import Unclear, Wrong
from checking.models import MLP, SIZE, Network, VarNetwork
from checking.student_process import StudentProcess
from lab.errors import one_line
from lab.models import required_losses

KINDS: dict[str, type[MLP]] = {"Part 2": MLP, "Part 3": Network, "Part 4": VarNetwork}
SECONDS = 20, 100, 100  # of all that is asked of nodes, of the MLP, and of networks
MOST_APART = 0.1  # of a loss, in a log and of its model
GAP = re.compile(r'^\s*raise NotImplementedError\("(Part \d), step (\d): (.*)"\)', re.MULTILINE)
NO_SENSE = ArithmeticError, AttributeError, LookupError, TypeError, ValueError  # of an answer of the student's process
Photos = dict[str, Any]  # "train" and "valid": (N, 3, 24, 24), float32 in [0, 1]


class Check(NamedTuple):
    part: str
    asked: str  # what the handout asks for
    found: str
    mark: str  # "ok", "NO", "not yet" or "?"


def read_photos(root: Path) -> Photos | None:
    """The photos in a folder, split as in training; None if it does not exist."""
    if not root.exists():
        return None
    from data_processor import read_flowers  # it needs PyTorch, and the check of Part 1 does not

    parts = zip(("train", "valid"), read_flowers(root, SIZE, SIZE).split(), strict=True)
    return {name: part[:][0].contiguous().numpy() for name, part in parts}


def checks_of(
    hand_in: HandIn, photos: Callable[[], Any], process: Any = StudentProcess, parts: Sequence[str] = tuple(CODE)
) -> Iterator[Check]:
    """The checks of these parts; ``process`` makes the process of the student's code."""
    for file in hand_in.unread:
        yield Check("Files", file, "not opened: unpack it", "?")
    files = hand_in.code()
    nodes = process(files, SECONDS[0])
    for model, *_ in RESULTS.values():
        with contextlib.suppress(Unclear):  # its own check says so
            files[model], _ = hand_in.read(model, LARGEST)
    mlp, networks = (process(files, seconds) for seconds in SECONDS[1:])
    with nodes, mlp, networks:  # a process is started when it is asked, and PyTorch imported once
        students = {"Part 1": nodes, "Part 2": mlp, "Part 3": networks, "Part 4": networks}
        for part in parts:
            yield from _part(part, hand_in, photos, students[part])


def _part(part: str, hand_in: HandIn, photos: Callable[[], Any], student: StudentProcess) -> Iterator[Check]:
    results = RESULTS.get(part, [])
    if part in ("Part 3", "Part 4") and not any(map(hand_in.find, [*CODE[part], *results])):
        yield Check(part, "optional", "not handed in", "not yet")
        return
    code = [_check(part, file, partial(_code, part, file, hand_in)) for file in CODE[part]]
    yield from code
    if part == "Part 1":
        yield from _nodes(student) if hand_in.find("autograd/Nodes.py") else ()
    elif any(map(hand_in.find, results)) or not any(check.mark == "not yet" for check in code):
        yield from _results(part, hand_in, photos(), student)
    else:
        yield Check(part, "model, log and pictures", "none", "not yet")


def _check(part: str, asked: str, look: Callable[[], tuple[str, str]]) -> Check:
    """The check by a function that gives what was found, and a mark, or raises."""
    try:
        return Check(part, asked, *look())
    except Unclear as found:
        return Check(part, asked, str(found), found.mark)
    except NO_SENSE as error:
        return Check(part, asked, f"what its process answers makes no sense: {error}", "?")


def _code(part: str, file: str, hand_in: HandIn) -> tuple[str, str]:
    """Whether a file is there, is Python, and has no gaps."""
    content, words = hand_in.read(file)
    try:
        compile(content, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        version = ".".join(map(str, sys.version_info[:2]))
        return f"{words}a mistake, or newer than Python {version}: {error}", "?"
    text = content.decode("utf-8-sig", "replace")
    # Part 4, step 4 is not graded.
    left = [name for of, step, name in GAP.findall(text) if of == part and (of, step) != ("Part 4", "4")]
    if left:
        return f"{words}not written yet: {', '.join(left)}", "not yet"
    empty = not re.search(r"^\s*(def|class|for|while) ", text, re.MULTILINE)
    return (f"{words}no code in it", "NO") if empty else (f"{words}no gaps", "ok")


def _nodes(student: StudentProcess) -> Iterator[Check]:
    def look(check: Callable[[Any], Any]) -> tuple[str, str]:
        check(student)
        return "right", "ok"

    imported = _check("Part 1", "autograd/ can be imported", partial(look, lambda student: student.new("Autograd")))
    if imported.mark != "ok":
        yield imported
        return
    for name, check in CHECKS.items():
        yield _check("Part 1", name, partial(look, check))


def _results(part: str, hand_in: HandIn, photos: Photos | None, student: StudentProcess) -> Iterator[Check]:
    file, log_file, *pictures = RESULTS[part]
    log = None
    try:
        content, words = hand_in.read(log_file)
        log = Log(content)
        of_log = [Check(part, log_file, f"{words}{len(log.epochs)} epochs", "ok"), *_log(part, log, photos)]
    except Unclear as found:
        of_log = [Check(part, log_file, str(found), found.mark)]
    try:
        content, words = hand_in.read(file, LARGEST)
        if not content:
            raise Wrong("empty")
        model = KINDS[part](student, file, CODE[part][0])
        yield Check(part, file, f"{words}{len(content) / 1e6:.1f} MB", "ok")
        yield from _model(part, model, photos, log)
    except Unclear as found:
        yield Check(part, file, str(found), found.mark)
    yield from of_log
    for picture in pictures:
        yield _check(part, picture, partial(_picture, picture, hand_in))


def _model(part: str, model: MLP, photos: Photos | None, log: Log | None) -> Iterator[Check]:
    try:
        for check in model.checks(photos["valid"] if photos else None):
            yield Check(part, *check)
    except (Unclear, *NO_SENSE) as error:
        yield Check(part, "what it computes", f"not computed: {error}", "?")
    losses: dict[str, float] = {}

    def look(which: str, limit: float) -> tuple[str, str]:
        if photos is None:
            return "not computed: there are no photos", "?"
        losses[which] = loss = model.loss(photos[which])
        claimed = [best[which == "valid"] for best in log.best] if log else []
        if loss < model.least:
            return f"{loss:.4g}; 64 numbers cannot hold so much", "?"
        if loss >= limit and any(some < limit for some in claimed):
            # Photos that are prepared in another way would explain it, and so would a log of another model.
            return f"{loss:.4g}; by its log {min(claimed):.4g}", "?"
        return f"{loss:.4g}, computed", "ok" if loss < limit else "NO"

    for which, limit in required_losses(NAMES[part])[0].items():
        yield _check(part, f"loss on {which} photos < {limit:g}", partial(look, which, limit))
    if log and photos and len(losses) == 2:
        # Either: photos in another split have another validation loss, and dropout another training loss.
        pairs = [pair for best in log.best for pair in zip(best, losses.values(), strict=True)]
        agree = any(abs(claim - loss) < MOST_APART * loss for claim, loss in pairs)
        words = f"{log.best[-1][1]:.4g} and {losses['valid']:.4g} on valid photos"
        yield Check(part, "log and model agree", words, "ok" if agree else "?")


def _log(part: str, log: Log, photos: Photos | None) -> Iterator[Check]:
    """Any epoch that meets both limits is enough."""
    required, most = required_losses(NAMES[part])
    train, valid = required.values()
    found, mark = f"it begins with epoch {log.epochs[0][0]}", "?"
    if in_time := log.within(most):
        met = [epoch for epoch in in_time if epoch[1] < train and epoch[2] < valid]
        number, *losses = min(met or in_time, key=lambda epoch: epoch[2])
        cannot_be = ", which cannot be" if min(losses) <= 0 else ""  # a mean of squared errors
        found = f"epoch {number}: {losses[0]:.4g} / {losses[1]:.4g}{cannot_be}"
        mark = "ok" if met and not cannot_be else "NO"
    yield Check(part, f"{f'within {most} epochs' if most else 'losses in it'} < {train:g} / {valid:g}", found, mark)
    for root, *counts in log.data:
        ours = [len(some) for some in photos.values()] if photos else counts
        found = f"{root}, {counts[0]} and {counts[1]}" + ("" if counts == ours else f"; here {ours[0]} and {ours[1]}")
        mark = "NO" if "drawn_flowers" in root else "ok" if counts == ours else "?"
        yield Check(part, "trained on the photos", found, mark)


def _picture(file: str, hand_in: HandIn) -> tuple[str, str]:
    """Whether a picture is there and can be opened. What it shows is for a person to see."""
    from PIL import Image  # which the check of Part 1 does not need

    content, words = hand_in.read(file, LARGEST)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as picture:
            picture.load()
            return f"{words}{picture.width} x {picture.height} pixels", "ok"
    except Exception as error:  # a damaged file can raise any exception
        return f"{words}no picture that can be opened: {error}", "NO"


def print_checks(checks: Iterable[Check]) -> list[Check]:
    """Prints checks as they come, by part, with what was found below if it is long; and how many there are."""
    done: list[Check] = []
    for check in checks:
        if not done or done[-1].part != check.part:
            print(check.part)
        found = [one_line(line) for line in check.found.split("\n")]
        beside = len(found) == 1 and len(found[0]) <= 34
        print(f"  {check.mark:8}{one_line(check.asked):36}{found[0] if beside else ''}".rstrip(), flush=True)
        for line in [] if beside else found:
            print(textwrap.fill(line, 80, initial_indent=" " * 10, subsequent_indent=" " * 10), flush=True)
        done.append(check)
    marks = [check.mark for check in done]
    print(f"\n{', '.join(f'{marks.count(mark)} {mark}' for mark in ('ok', 'NO', '?', 'not yet'))}")
    return done
