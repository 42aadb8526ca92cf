"""Errors that users can do something about: reported in one line, without a traceback."""

import functools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Wrong input, or trouble with the user's files: says what was found, what was expected and what to do."""


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a script's ``main``: errors of the user, of files and of memory are one line on stderr, with exit
    status 2.

    So is a part of the lab that a student has not written yet. Ctrl-C ends in one line and exit status 130. Any other
    exception is a bug, and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> None:
        for name in "stdout", "stderr":
            if getattr(sys, name) is None:  # closed, or started by pythonw
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of folders may not fit the terminal's encoding
        try:
            return main(argv)
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception as error:
            if not (words := _in_words(error)):
                raise
            print(f"{Path(sys.argv[0]).name}: error: {one_line(words)}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapper


def _in_words(error: Exception) -> str:
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


def in_lines(text: str) -> str:
    """Text in lines of up to 80 characters, those after the first indented; names of files stay whole."""
    return textwrap.fill(text, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def one_line(text: str) -> str:
    """Untrusted text, made safe for a terminal: in one line, and without control characters."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
