"""For students: checks your own nodes of Part 1, and the graph, against central differences (handout, Part 1).

    python check_gradients.py

For each node it says which gradient is wrong, at which entry, what it is, what it should be, and what such an error
often comes from. It takes the nodes of this lab (``grads``) and of the course's framework (``grad``, ``cache``).
``python check_gradients.py FOLDER`` checks FOLDER/autograd.

It runs the code in that folder, so use it on your own alone.
"""

import ctypes
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab.threads  # noqa: F401  (before NumPy)

from lab.command_line import Parser, log
from lab.errors import UserError, one_line_errors
from lab.gradient_checks import CHECKS
from lab.student_code import StudentNodes, Wrong, place_of

LONGEST = 20  # seconds of a check


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Checks the gradients of your own nodes of Part 1. It runs the code in FOLDER/autograd.")
    here = str(Path(__file__).resolve().parent)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=here, help="where autograd/ is")
    folder = Path(parser.parse_args(argv).folder).resolve()
    if not (folder / "autograd" / "Nodes.py").is_file():
        raise UserError(f"{folder}: found no autograd/Nodes.py in it; give the folder in which autograd is")
    log(f"This runs the code in {folder / 'autograd'}.")
    try:
        nodes = in_time(StudentNodes, folder, folder)
    except Wrong as words:
        raise UserError(str(words)) from None
    wrong = 0
    for name, check in CHECKS.items():
        try:
            notes = in_time(check, nodes, folder)
        except Wrong as words:
            wrong += 1
            show(f"NO  {name}", str(words))
        else:
            show(f"ok  {name}", "")
            for note in notes:
                show("", f"note: {note}")
    log(f"\n{len(CHECKS) - wrong} of {len(CHECKS)} right.")
    if wrong:
        raise SystemExit(1)


def show(name: str, words: str) -> None:
    for line in [line for part in words.split("\n") for line in textwrap.wrap(part, 66)] or [""]:
        log(f"{name:14}{line}".rstrip())
        name = ""


class TooLong(BaseException):
    """Raised in the midst of a student's code that has not ended; an Exception may be caught there."""


def in_time(call: Callable[[Any], Any], argument: Any, folder: Path) -> Any:
    """What the call gives; Wrong if it has not ended after ``LONGEST`` seconds."""
    ended, thread = threading.Event(), ctypes.c_ulong(threading.get_ident())

    def watch() -> None:
        while not ended.wait(LONGEST):  # again and again, since a bare "except:" catches everything
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TooLong))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        try:
            return call(argument)
        finally:
            ended.set()
            watcher.join()
    except TooLong as error:
        raise Wrong(f"{place_of(error, folder)}It does not end: stopped after {LONGEST} seconds.") from None


if __name__ == "__main__":
    main()
