"""For teachers: checks what students have handed in against the handout's section on submissions.

    python -m teaching.check_submission FOLDER --run
    python -m teaching.check_submission class/* --run --csv class.csv

in the folder of the lab, and never in a student's, whose own copy of this script anyone may have changed. A hand-in is
a folder or a zip file. Of one it prints what is asked and what is found; of several a line each, with the points of the
parts in which all is as asked, and which of them are equal.

With ``--run`` the students' code is run: on a copy, fenced in by bubblewrap. Without it nothing is run, and what
depends on code is "?". The exit status is 0 if nothing is wrong, 1 if something is, and 2 if there is no such folder.
"""

import argparse
import ast
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import shutil
import tempfile
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from lab.command_line import Parser, log
from lab.errors import UserError, one_line, one_line_errors
from lab.files import atomic_write
from lab.photos import photos_or_drawn
from teaching.checks import POINTS, Check, Photos, checks_of, points_of
from teaching.fence import Student, fence
from teaching.gaps import LAB, handed_out, parsed
from teaching.student_side import source
from teaching.submission import ASKED, LARGEST, Submission

AT_ONCE = 2  # hand-ins; each has a process of its own
COMPARED = [file for file in ASKED if not file.endswith(".png")]
LONGEST_WORDS = 500  # characters of what was found
SHORTEST = 200  # characters of code: shorter files may be equal by chance


class Result(NamedTuple):
    """The checks of a hand-in, its points by part (None where the teacher decides), and hashes of its files."""

    place: Path
    checks: list[Check]
    points: dict[str, float | None]
    hashes: dict[str, str]

    @property
    def total(self) -> float:
        return sum(filter(None, self.points.values()))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Checks what students have handed in: files, code, models, losses, logs and pictures.")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument("places", metavar="FOLDER", nargs="+", help="a hand-in, or several: a line for each", **absent)
    parser.add_argument("--run", action="store_true", help="run the students' code, fenced in by bubblewrap")
    parser.add_argument("--run-unfenced", action="store_true", help="run it with limits on time and memory alone")
    # Of the lab, and not of the folder one is in: that may be the student's.
    photos, drawn = str(LAB / "flowers"), str(LAB / "drawn_flowers")
    parser.add_argument("--data-root", default=photos, help="your photos, to compute the losses on")
    parser.add_argument("--drawn-root", default=drawn, help="stand-in set, drawn if there are no photos")
    parser.add_argument("--handout", metavar="DIR", help="what you handed out (default: this lab's version)", **absent)
    parser.add_argument("--csv", metavar="FILE", help="write the points, and all checks to FILE_checks", **absent)
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    places = [Path(place) for place in args.places]
    of_class = len(places) > 1
    if not of_class and not places[0].exists():
        raise UserError(f"{places[0]}: no such folder; give the one that was handed in")
    for folder in places:
        for owner, place in ("this script", LAB), ("--data-root", args.data_root), ("--drawn-root", args.drawn_root):
            if Path(place).resolve().is_relative_to(folder.resolve()):
                what = f"{folder}: found {owner} in it, expected yours outside the hand-in"
                raise UserError(f"{what}; run python -m teaching.check_submission in the folder of your own lab")
    command = [] if args.run_unfenced else fence() if args.run else None
    photos = Photos(photos_or_drawn(args.data_root, args.drawn_root, default=str(LAB / "flowers")))

    @functools.cache  # of files that are the same for the whole class
    def original(name: str) -> str:
        return Path(args.handout, name).read_text(encoding="utf-8") if "handout" in args else handed_out(name)

    def check(place: Path) -> Result:
        temporary = Path(tempfile.mkdtemp())
        try:
            return check_submission(place, temporary, photos, command, original)
        finally:
            with contextlib.suppress(RecursionError):  # of folders in folders
                shutil.rmtree(temporary, ignore_errors=True)

    results = []
    if of_class:
        print_line("", [*POINTS, "points", "NO", "?", "the first that is not as asked"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in tqdm(pool.map(check, places), "Checking", len(places), unit="hand-in", leave=False, disable=None):
            results.append(result)
            if of_class:
                print_summary(result)
    if not of_class:
        print_table(results[0])
    this_lab = Result(Path("this lab"), [], {}, hashes_of(Submission(LAB, LAB), original))
    for line in equal_pairs([*results, this_lab]):
        log(line)
    if "csv" in args:
        write_csv(results, Path(args.csv))
    if any(check.mark == "NO" for result in results for check in result.checks):
        raise SystemExit(1)


def check_submission(
    place: Path, temporary: Path, photos: Photos, command: list[str] | None, handed_out: Callable[[str], str]
) -> Result:
    """The result of a hand-in; its code is run by ``command``, as of ``fence``, and None: not run."""
    (temporary / "unpacked").mkdir()
    (temporary / "copy").mkdir()
    student, hashes = None, {}
    try:
        submission = Submission(place, temporary / "unpacked")
        if command is not None:
            submission.copy(temporary / "copy")
            student = Student(temporary / "copy", command)
        found = checks_of(submission, photos, student, handed_out)
        checks = [check._replace(found=check.found[:LONGEST_WORDS]) for check in found]
        hashes = hashes_of(submission, handed_out)
    except Exception as error:  # whatever a hand-in is, the others are checked
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        checks = [Check("Hand-in", "what can be read", words[:LONGEST_WORDS], "?")]
    finally:
        if student:
            student.close()
    return Result(place, checks, points_of(checks), hashes)


def hashes_of(submission: Submission, handed_out: Callable[[str], str]) -> dict[str, str]:
    """A hash of each file that is not as it was handed out; of code without spaces and comments."""
    found = {}
    for wanted in COMPARED:
        file = submission.find(wanted)
        try:
            content = submission.read(file, LARGEST) if file else b""
            if file and wanted.endswith(".py"):
                content = without_comments(source(file, content))
                if len(content) < SHORTEST or content == without_comments(handed_out(wanted).encode()):
                    continue
        except (OSError, ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
            continue
        if content:
            found[wanted] = hashlib.sha256(content).hexdigest()
    return found


def without_comments(code: bytes) -> bytes:
    return ast.dump(parsed(code)).encode()


def equal_pairs(results: Sequence[Result]) -> Iterator[str]:
    """A line for each two hand-ins with equal files."""
    for one, other in itertools.combinations(results, 2):
        equal = [file for file, value in one.hashes.items() if other.hashes.get(file) == value]
        if equal:
            names = f"{one_line(one.place.name)} and {one_line(other.place.name)}"
            more = f" and {len(equal) - 4} more" if len(equal) > 4 else ""
            yield f"Equal: {names}: {', '.join(equal[:4])}{more}"


def in_words(points: float | None) -> str:
    return "look" if points is None else f"{points:g}"


def print_summary(result: Result) -> None:
    """Prints the line of a hand-in in a class."""
    wrong, unsure = ([check for check in result.checks if check.mark == mark] for mark in ("NO", "?"))
    first = next((f"{check.asked}: {check.found}" for check in wrong + unsure), "")
    points = *map(in_words, result.points.values()), f"{result.total:g}"
    print_line(result.place.name, [*points, len(wrong), len(unsure), first])


def print_line(name: str, columns: list[Any]) -> None:
    *figures, words = columns
    log(f"{padded(one_line(name), 20)}{''.join(f'{figure:>7}' for figure in figures)}  {one_line(words):.48}".rstrip())


def padded(text: str, width: int) -> str:
    """The text cut or filled to a width in columns of a terminal, of which a Chinese character takes two."""
    shown = ""
    for char in text:
        taken = 1 + (unicodedata.east_asian_width(char) in "WF")
        if taken > width:
            break
        shown, width = shown + char, width - taken
    return shown + " " * width


def print_table(result: Result) -> None:
    """Prints one line per check of a hand-in, wrapped to 80 columns, and its points."""
    log(f"{'':6}{'asked':36}  found")
    part = None
    for check in result.checks:
        if check.part != part:
            part = check.part
            log(part)
        asked, found = (textwrap.wrap(one_line(text), 36) for text in (check.asked, check.found))
        for line in range(max(len(asked), len(found))):
            mark = check.mark if line == 0 else ""
            log(f"  {mark:4}{''.join(asked[line : line + 1]):36}  {''.join(found[line : line + 1])}".rstrip())
    ok, wrong, unsure = (sum(check.mark == mark for check in result.checks) for mark in ("ok", "NO", "?"))
    log(f"\n{ok} as asked, {wrong} not, {unsure} to look at yourself.")
    points = ", ".join(f"{part} {in_words(some)}" for part, some in result.points.items())
    log(f"Points: {points}; {result.total:g} in all.")


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes a row for each hand-in with its points, and to FILE_checks a row for each of its checks."""

    def cell(text: str) -> str:
        # A spreadsheet would compute a text of the student's that begins as a formula does.
        text = one_line(text)
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

    points = [[cell(each.place.name), *map(in_words, each.points.values()), f"{each.total:g}"] for each in results]
    checks = [
        [cell(each.place.name), check.part, check.mark, cell(check.asked), cell(check.found)]
        for each in results
        for check in each.checks
    ]
    tables = {
        path: [["hand-in", *POINTS, "total"], *points],
        path.with_stem(f"{path.stem}_checks"): [["hand-in", "part", "mark", "asked", "found"], *checks],
    }
    for place, rows in tables.items():
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows(rows)
        with atomic_write(place) as file:
            file.write(buffer.getvalue().encode("utf-8-sig"))  # with the mark by which Excel knows UTF-8


if __name__ == "__main__":
    main()
