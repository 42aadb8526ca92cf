"""For students, at home: checks your own lab, as your teacher will.

    python check.py
    python check.py --part 1

says of each part what is "ok", what is wrong ("NO"), what is "not yet" written, and what a person has to look at ("?").
Part 1 needs NumPy alone, and takes seconds. It runs the code in the folder, so use it on your own alone.
"""

from functools import cache
from pathlib import Path

import lab.threads  # noqa: F401  (before NumPy)

from checking.checks import checks_of, print_checks, read_photos
from checking.hand_in import CODE, HandIn
from lab.command_line import Parser
from lab.errors import UserError, one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Checks your own lab. It runs the code in FOLDER.")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=Path(__file__).parent, help="where your lab is")
    parser.add_argument("--part", choices=[part[-1] for part in CODE], help="this one alone")
    parser.add_argument("--data-root", help="the photos (default: FOLDER/flowers)")
    args = parser.parse_args(argv)
    folder = Path(args.folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder}: found no such folder; give the one in which your lab is")
    hand_in = HandIn(folder)
    parts = [part for part in CODE if args.part in (None, part[-1])]
    if not any(hand_in.find(file) for files in CODE.values() for file in files):
        raise UserError(f"{folder}: found no file of the lab in it, such as autograd/Nodes.py; give its folder")
    photos = cache(lambda: read_photos(Path(args.data_root or folder / "flowers")))
    checks = print_checks(checks_of(hand_in, photos, parts=parts))
    if any(check.mark == "NO" for check in checks):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
