"""For teachers: checks what students have handed in against the handout's section on submissions.

    python -m teaching.check_submission FOLDER --data-root flowers
    python -m teaching.check_submission class/* --data-root flowers --csv class.csv

in the folder of the lab, and never in a student's, whose own copy of this script anyone may have changed. For one
folder it prints what is asked and what is found: files, models, losses computed again on the photos, logs, pictures.
For several it prints a line each, with the points of the parts in which all that can be measured is as asked.

Nothing of a submission is executed, neither its code nor its model files. The exit status is 0 if everything is as
asked, 1 if something is not, and 2 if there is no such folder.
"""

import argparse
import csv
import io
import json
import textwrap
from os.path import isdir
from pathlib import Path
from typing import Any, NamedTuple

from lab.command_line import Parser, log, progress
from lab.errors import UserError, one_line, one_line_errors
from lab.files import atomic_write
from lab.photos import photos_or_drawn
from teaching.checks import POINTS, Check, Photos, points_of
from teaching.process import checks_in_process

LAB = Path(__file__).resolve().parent.parent
MARKS = {True: "ok", False: "NO", None: "?"}


class Result(NamedTuple):
    """The checks of a submission, and its points by part: None where the teacher decides."""

    folder: Path
    checks: list[Check]
    points: dict[str, float | None]

    def with_mark(self, ok: bool | None) -> list[Check]:
        return [check for check in self.checks if check.ok is ok]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Checks submissions: files, models, losses, logs and pictures.")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="a submission; several: a line for each", **absent)
    # Of the lab, and not of the folder one is in: that may be the student's.
    photos, drawn = str(LAB / "flowers"), str(LAB / "drawn_flowers")
    parser.add_argument("--data-root", default=photos, help="your photos, to compute the losses on")
    parser.add_argument("--drawn-root", default=drawn, help="stand-in set, drawn if there are no photos")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--csv", metavar="FILE", help="write all checks for a spreadsheet (default: no file)", **absent)
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    folders = [Path(folder) for folder in args.folders]
    of_class = len(folders) > 1
    if not of_class and not isdir(folders[0]):
        raise UserError(f"{folders[0]}: no such folder; give the one that was handed in")
    for folder in folders:
        for owner, place in ("this script", LAB), ("--data-root", args.data_root), ("--drawn-root", args.drawn_root):
            if Path(place).resolve().is_relative_to(folder.resolve()):
                what = f"{folder}: found {owner} in it, expected yours outside the submission"
                raise UserError(f"{what}; run python -m teaching.check_submission in the folder of your own lab")
    photos = Photos(photos_or_drawn(args.data_root, args.drawn_root, default=str(LAB / "flowers")))
    if of_class:
        photos.read((24, 24))  # once for all, at the size of the handout

    results = []
    if of_class and not args.json:
        print_line("", [*POINTS, "points", "NO", "?", "the first that is not as asked"])
    for folder in progress(folders, "Checking", unit="submission"):
        checks = [Check("", "a folder", "a file; unpack it, if it is an archive", False)]
        if isdir(folder):
            checks = list(checks_in_process(folder, photos))
        results.append(Result(folder, checks, points_of(checks)))
        if of_class and not args.json:
            print_summary(results[-1])
    if args.json:
        found = [
            {
                "folder": str(folder),
                "complete": all(check.ok is not False for check in checks),
                "points": points,
                "checks": [check._asdict() for check in checks],
            }
            for folder, checks, points in results
        ]
        log(json.dumps(found if of_class else found[0], indent=2))
    elif not of_class:
        print_table(results[0])
    if "csv" in args:
        write_csv(results, args.csv)
    if any(result.with_mark(False) for result in results):
        raise SystemExit(1)


def in_words(points: float | None) -> str:
    return "look" if points is None else f"{points:g}"


def print_summary(result: Result) -> None:
    """Prints the line of a submission in a class."""
    wrong, unsure = result.with_mark(False), result.with_mark(None)
    total = sum(filter(None, result.points.values()))
    first = f"{wrong[0].asked}: {wrong[0].found}" if wrong else ""
    points = *map(in_words, result.points.values()), f"{total:g}"
    print_line(result.folder.name, [*points, len(wrong), len(unsure), first])


def print_line(name: str, columns: list[Any]) -> None:
    *figures, words = columns
    log(f"{one_line(name):20.20}{''.join(f'{figure:>7}' for figure in figures)}  {one_line(words):48.48}".rstrip())


def print_table(result: Result) -> None:
    """Prints one line per check of a submission, wrapped to 80 columns, and its points."""
    log(f"{'':6}{'asked':36}  found")
    part = None
    for check in result.checks:
        if check.part != part:
            part = check.part
            log(part)
        asked, found = (textwrap.wrap(one_line(text), 36) for text in (check.asked, check.found))
        for line in range(max(len(asked), len(found))):
            mark = MARKS[check.ok] if line == 0 else ""
            log(f"  {mark:4}{''.join(asked[line : line + 1]):36}  {''.join(found[line : line + 1])}".rstrip())
    ok, wrong, unsure = (len(result.with_mark(mark)) for mark in (True, False, None))
    log(f"\n{ok} as asked, {wrong} not, {unsure} to look at yourself.")
    log("Points: " + ", ".join(f"{part} {in_words(some)}" for part, some in result.points.items()) + ".")


def write_csv(results: list[Result], path: str) -> None:
    """Writes a row for each check of each submission, for a spreadsheet."""

    def cell(text: str) -> str:
        # A spreadsheet would compute a text of the student's that begins as a formula does.
        text = one_line(text)
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer)
    rows.writerow(["folder", "part", "points", "mark", "asked", "found"])
    for folder, checks, points in results:
        for part, asked, found, ok in checks:
            of_part = in_words(points[part]) if part in points else ""
            rows.writerow([cell(folder.name), part, of_part, MARKS[ok], cell(asked), cell(found)])
    with atomic_write(path) as file:
        file.write(buffer.getvalue().encode("utf-8-sig"))  # with the mark by which Excel knows UTF-8


if __name__ == "__main__":
    main()
