"""For teachers: writes the version of the lab to hand out, without the parts that students are to write.

    python -m teaching.make_handout ../handout

Signatures and docstrings stay, but for the gradients in those of autograd/Nodes.py, and in place of each body there is

    raise NotImplementedError("Part 1, step 2: Linear.forward")

Results, tests and what grades are left out; docs/tasks.md becomes the README.
"""

import argparse
import posixpath
import re
from pathlib import Path

from lab.command_line import Parser, log
from lab.errors import UserError, one_line_errors
from lab.files import atomic_write
from teaching.gaps import GAPS, LAB, files, handed_out

PAGES = {
    **{"docs/tasks.md": "README.md", "docs/tasks.zh-CN.md": "README.zh-CN.md"},
    **{"docs/trouble.md": "docs/trouble.md", "docs/trouble.zh-CN.md": "docs/trouble.zh-CN.md"},
}
FOLDERS = ["models", "vis", "log"]  # which the commands of the handout write to


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Writes the version of the lab to hand out, without the parts that students are to write.")
    parser.add_argument("folder", metavar="OUT", default=argparse.SUPPRESS, help="where to write it: a new folder")
    out = Path(parser.parse_args(argv).folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: found something there, expected a new or an empty folder; nothing was written")
    for name in files():
        write(out / name, handed_out(name))
    for page, name in PAGES.items():
        write(out / name, with_its_links(page))
    for folder in FOLDERS:
        write(out / folder / ".gitkeep", "")
    gaps = [gap for names in GAPS.values() for each in names.values() for gap in each]
    log(f"{out}: the lab without {len(gaps)} parts that students write. Add your photos as {out / 'flowers'}.")


def with_its_links(page: str) -> str:
    """The text of a page, with links that lead to the same files from its place in the version to hand out."""

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link[1]))
        return f"]({posixpath.relpath(PAGES.get(target, target), posixpath.dirname(PAGES[page]) or '.')}"

    return re.sub(r"\]\((?!https?:|#)([^)#]+)", moved, (LAB / page).read_text(encoding="utf-8"))


def write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
