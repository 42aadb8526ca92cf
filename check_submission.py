"""For teachers: checks a folder that a student has handed in against the handout's section on submissions.

    python check_submission.py FOLDER --data-root flowers

in the folder of the lab, and never in the student's, whose own copy of this script anyone may have changed. It prints
what is asked and what is found: files, models, losses computed again on the photos, logs, pictures. Nothing of the
submission is executed, neither its code nor its model files. The exit status is 0 if everything is as asked, 1 if
something is not, and 2 if there is no such folder.
"""

import argparse
import json
import textwrap
from os.path import isdir
from pathlib import Path
from typing import Any

from lab.command_line import Parser, log
from lab.errors import UserError, one_line, one_line_errors

LAB = Path(__file__).resolve().parent
MARKS = {True: "ok", False: "NO", None: "?"}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Checks a submission: files, models, losses, logs and pictures.")
    parser.add_argument("folder", metavar="FOLDER", default=argparse.SUPPRESS, help="the submission")
    # Of the lab, and not of the folder one is in: that may be the student's.
    photos, drawn = str(LAB / "flowers"), str(LAB / "drawn_flowers")
    parser.add_argument("--data-root", default=photos, help="your photos, to compute the losses on")
    parser.add_argument("--drawn-root", default=drawn, help="stand-in set, drawn if there are no photos")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    folder = Path(args.folder)
    if not isdir(folder):
        raise UserError(f"{folder}: no such folder; give the one that was handed in")
    for owner, place in ("this script", LAB), ("--data-root", args.data_root), ("--drawn-root", args.drawn_root):
        if Path(place).resolve().is_relative_to(folder.resolve()):
            what = f"{folder}: found {owner} in it, expected yours outside the submission"
            raise UserError(f"{what}; python {LAB.name}/check_submission.py FOLDER --data-root PHOTOS")

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    from grading.process import checks_in_process
    from lab.photos import photos_or_drawn

    photos = photos_or_drawn(args.data_root, args.drawn_root)
    checks = list(checks_in_process(folder, photos, drawn=photos != args.data_root))
    missing = sum(check.ok is False for check in checks)
    if args.json:
        found = {"folder": str(folder), "complete": not missing, "checks": [check._asdict() for check in checks]}
        log(json.dumps(found, indent=2))
    else:
        print_table(checks)
        unsure = sum(check.ok is None for check in checks)
        log(f"\n{len(checks) - missing - unsure} as asked, {missing} not, {unsure} to look at yourself.")
    if missing:
        raise SystemExit(1)


def print_table(checks: list[Any]) -> None:
    """Prints one line per check, wrapped to 80 columns."""
    log(f"{'':6}{'asked':36}  found")
    part = None
    for check in checks:
        if check.part != part:
            part = check.part
            log(part)
        asked, found = (textwrap.wrap(one_line(text), 36) for text in (check.asked, check.found))
        for line in range(max(len(asked), len(found))):
            mark = MARKS[check.ok] if line == 0 else ""
            log(f"  {mark:4}{''.join(asked[line : line + 1]):36}  {''.join(found[line : line + 1])}".rstrip())


if __name__ == "__main__":
    main()
