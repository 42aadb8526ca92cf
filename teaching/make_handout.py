"""For teachers: writes the version of the lab to hand out, without the parts that students are to write.

    python -m teaching.make_handout ../handout

In place of each part is raise NotImplementedError("Part 1, step 2: Linear.forward"). Signatures and docstrings stay,
but for the gradients of the nodes. docs/tasks.md becomes the README, without the answers to "To think about", unless
--with-answers is given.
"""

import argparse
import itertools
import re
from pathlib import Path

from lab.command_line import Parser, log
from lab.errors import UserError, one_line_errors
from teaching.gaps import FILES, LAB, handed_out

# Pages, and what is changed in their links.
PAGES = {
    "docs/tasks{}.md": ("README{}.md", {"](trouble": "](docs/trouble", "](tasks": "](README"}),
    "docs/trouble{}.md": ("docs/trouble{}.md", {"](tasks": "](../README"}),
}
ANSWER = r" *<details>(?s:.*?)</details>\n"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Writes the version of the lab to hand out, without the parts that students are to write.")
    parser.add_argument("folder", metavar="OUT", default=argparse.SUPPRESS, help="where to write it: a new folder")
    parser.add_argument("--with-answers", action="store_true", help='leave in the answers to "To think about"')
    args = parser.parse_args(argv)
    out = Path(args.folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: found something there, expected a new or an empty folder; nothing was written")
    for path in [path for pattern in FILES for path in LAB.glob(pattern)]:
        name = path.relative_to(LAB).as_posix()
        write(out / name, handed_out(name))
    for (page, (name, links)), language in itertools.product(PAGES.items(), ("", ".zh-CN")):
        text = (LAB / page.format(language)).read_text(encoding="utf-8")
        for link, moved in links.items():
            text = text.replace(link, moved)
        write(out / name.format(language), text if args.with_answers else re.sub(ANSWER, "", text))
    for folder in "models", "vis", "log":  # which the commands of the handout write to
        write(out / folder / ".gitkeep", "")
    log(f"{out}: the lab without the parts that students write. Add your photos as {out / 'flowers'}.")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


if __name__ == "__main__":
    main()
