"""Errors that users can do something about: reported in one line, without a traceback."""

import functools
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Wrong input, or trouble with the user's files: says what was found, what was expected and what to do."""


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a script's ``main``: errors of the user, of files and of memory are one line on stderr, with exit
    status 2.

    So is a gap of the lab that a student has not filled yet. Ctrl-C ends in one line and exit status 130. Any other
    exception is a bug, and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of folders may not fit the terminal's encoding
        try:
            return main(argv)
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception as error:
            if not (message := _message(error)):
                raise
            print(f"{Path(sys.argv[0]).name}: error: {one_line(message)}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapper


def _message(error: Exception) -> str:
    """What to say of an error that a user can do something about; "" for a bug."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError):
        return f"{error.filename or 'the log'}: {error.strerror}; give another place" if error.strerror else text
    if isinstance(error, NotImplementedError) and re.match(r"Part \d", text):
        *_, frame = traceback.extract_tb(error.__traceback__)
        return f"{text} is not written yet ({frame.filename}, line {frame.lineno})"
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", text):  # NumPy's and PyTorch's
        return f"out of memory ({text[:200]}); take fewer or smaller images"
    return ""


def one_line(text: str) -> str:
    """Untrusted text, made safe for a terminal: in one line, and without control characters."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
