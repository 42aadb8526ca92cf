"""For teachers: checks what students have handed in, as check.py does, in a sandbox, and gives points.

    python -m teaching.grade ../class/zhang
    python -m teaching.grade ../class/* --csv class.csv

in the folder of the lab, and never in a student's. A hand-in is a folder or a zip file. Of one, every check is printed;
of several a line each, and which files are equal. The exit status is 1 if something is wrong.
"""

import ast
import contextlib
import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

from tqdm import tqdm

from checking.checks import Check, Photos, checks_of, print_checks, read_photos
from checking.hand_in import CODE, LARGEST, RESULTS, HandIn
from checking.messages import Unclear
from checking.student_process import StudentProcess
from lab.command_line import Parser, log
from lab.errors import UserError, one_line, one_line_errors
from lab.files import atomic_write
from teaching.gaps import LAB, handed_out
from teaching.sandbox import sandbox

POINTS = {"Part 1": 12.5, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}
COMPARED = [*chain(*CODE.values()), *chain(*(files[:2] for files in RESULTS.values()))]  # no pictures


class Result(NamedTuple):
    """The name of a hand-in, its checks, and its files as ``contents_of`` gives them."""

    name: str
    checks: list[Check]
    contents: dict[str, Any]

    def with_mark(self, mark: str) -> list[Check]:
        return [check for check in self.checks if check.mark == mark]

    def points(self) -> list[str]:
        """By part, and of all: all where all is as asked, 0 where nothing is, "look" where the teacher decides."""
        words = []
        for part, most in POINTS.items():
            marks = {check.mark for check in self.checks if check.part == part}
            words.append(f"{most:g}" if marks == {"ok"} else "look" if marks & {"ok", "?"} else "0")
        total = sum(float(some) for some in words if some != "look")
        return [*words, f"{total:g}" + (" + look" if "look" in words else "")]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Checks what students have handed in: files, code, models, losses, logs and pictures.")
    parser.add_argument("places", metavar="HAND_IN", nargs="+", help="a folder or a zip file, or several")
    parser.add_argument("--unfenced", action="store_true", help="run the code without a sandbox: in a container")
    parser.add_argument("--data-root", default=f"{LAB}/flowers", help="your photos, to compute the losses on")
    parser.add_argument("--csv", metavar="FILE", help="write the points, and all checks to FILE_checks")
    args = parser.parse_args(argv)
    places = [Path(os.path.abspath(place)) for place in args.places]
    for place in places:
        if not place.exists():
            raise UserError(f"{place}: no such folder or file; give what was handed in")
    process = partial(StudentProcess, sandbox=[] if args.unfenced else sandbox())
    photos = read_photos(Path(args.data_root))
    if photos is None:
        print(f"No photos at {args.data_root}, so that no losses are computed; give --data-root.", file=sys.stderr)

    # class/zhang/lab.zip and class/li/lab.zip are zhang/lab.zip and li/lab.zip.
    common = os.path.commonpath(places)
    names = [os.path.relpath(place, common) if str(place) != common else place.name for place in places]
    results, several = [], len(places) > 1
    if several:
        log_row([*POINTS, "points", "NO", "?"], "hand-in: the first that is not as asked")
    with ThreadPoolExecutor(2) as pool:
        graded = pool.map(partial(grade, photos, process), places, names)
        for result in tqdm(graded, "Checking", len(places), unit="hand-in", leave=False, disable=None):
            results.append(result)
            if several:
                wrong = [f": {check.asked}: {check.found}" for mark in ("NO", "?") for check in result.with_mark(mark)]
                counts = [len(result.with_mark(mark)) for mark in ("NO", "?")]
                log_row([*result.points(), *counts], result.name + "".join(wrong[:1]))
    if not several:
        print_checks(result.checks)
        *points, total = result.points()
        parts = ", ".join(f"{part} {some}" for part, some in zip(POINTS, points, strict=True))
        log(f"Points: {parts}; {total} in all.")
    groups = equal_files([*results, Result("this lab", [], contents_of(HandIn(LAB)))])
    for alike, files in groups.items():
        more = f" and {len(files) - 2} more" if len(files) > 2 else ""
        log(f"Equal: {one_line(', '.join(alike))}: {', '.join(files[:2])}{more}")
    if args.csv:
        write_csv(results, groups, Path(args.csv))
    if any(result.with_mark("NO") for result in results):
        raise SystemExit(1)


def grade(photos: Photos | None, process: Any, place: Path, name: str) -> Result:
    """The result of a hand-in. Whatever it is, the others are checked."""
    checks, contents = list[Check](), dict[str, Any]()
    try:
        hand_in = HandIn(place)
        checks += checks_of(hand_in, lambda: photos, process)
        contents = contents_of(hand_in)
    except Exception as error:
        words = str(error) or type(error).__name__
        checks += [Check(part, "what can be read", words, "?") for part in POINTS]
    return Result(name, checks, contents)


def contents_of(hand_in: HandIn) -> dict[str, Any]:
    """What is compared with other hand-ins: the content of each file of code, a hash of each model and log."""
    found = {}
    for file in COMPARED:
        with contextlib.suppress(Unclear):
            content, _ = hand_in.read(file, LARGEST)
            found[file] = content if file.endswith(".py") else hash(content)
    return found


def equal_files(results: Sequence[Result]) -> dict[tuple[str, ...], list[str]]:
    """The files that are equal, by the names of those who have them: spaces and comments aside, and but for what was
    handed out."""
    owners: dict[tuple[str, Any], list[str]] = {}
    for result in results:
        for file, content in result.contents.items():
            of_code, key = file.endswith(".py"), content
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                key = ast.dump(ast.parse(content)) if of_code else content
            # Short files may be equal by chance.
            if not of_code or (len(content) > 200 and key != ast.dump(ast.parse(handed_out(file)))):
                owners.setdefault((file, key), []).append(result.name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for (file, _), alike in owners.items():
        if len(alike) > 1:
            groups.setdefault(tuple(alike), []).append(file)
    return groups


def log_row(columns: Sequence[Any], words: str) -> None:
    """The name comes last: a Chinese one is wider than it is long."""
    log(f"{''.join(f'{column:>{13 if i == 4 else 7}}' for i, column in enumerate(columns))}  {one_line(words):.70}")


def write_csv(results: Sequence[Result], groups: Mapping[tuple[str, ...], list[str]], path: Path) -> None:
    """Writes a row for each hand-in with its points, and to FILE_checks a row for each of its checks."""

    def cell(text: str) -> str:
        # A spreadsheet would compute a text of the student's that begins as a formula does.
        text = one_line(text)
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

    points = [["hand-in", *POINTS, "total", "equal to"]]
    checks = [["hand-in", "part", "mark", "asked", "found"]]
    for result in results:
        name = result.name
        alike = dict.fromkeys(other for group in groups if name in group for other in group if other != name)
        points.append([cell(name), *result.points(), cell("; ".join(alike))])
        for part, asked, found, mark in result.checks:
            checks.append([cell(name), part, mark, cell(asked), cell(found)])
    for place, rows in (path, points), (path.with_stem(f"{path.stem}_checks"), checks):
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows(rows)
        with atomic_write(place) as file:
            file.write(buffer.getvalue().encode("utf-8-sig"))  # with the mark by which Excel knows UTF-8


if __name__ == "__main__":
    main()
