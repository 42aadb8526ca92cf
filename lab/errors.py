"""Errors that users can do something about: reported in one line, without a traceback."""

import functools
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Wrong input, or trouble with the user's files: says what was found, what was expected and what to do."""


def one_line_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a script's ``main``: a UserError is printed in one line on stderr, with exit status 2.

    So is a part of the lab that a student has not written yet. Ctrl-C ends in one line and exit
    status 130. Any other exception is a bug, and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of folders may not fit the terminal's encoding
        try:
            return main(argv)
        except UserError as error:
            print(f"{Path(sys.argv[0]).name}: error: {one_line(str(error))}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "Interrupted.", file=sys.stderr)
            raise SystemExit(130) from None
        except NotImplementedError as error:
            if not re.match(r"Part \d", str(error)):
                raise
            *_, frame = traceback.extract_tb(error.__traceback__)
            where = f"{frame.filename}, line {frame.lineno}"
            print(f"{Path(sys.argv[0]).name}: error: {error} is not written yet ({where})", file=sys.stderr)
            raise SystemExit(2) from None
        except (MemoryError, RuntimeError) as error:  # of NumPy, and of PyTorch
            if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
                raise
            what = f"out of memory ({one_line(str(error))[:200]}); take a smaller --image-size or --batch-size"
            print(f"{Path(sys.argv[0]).name}: error: {what}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapper


def in_lines(text: str) -> str:
    """Text in lines of up to 80 characters, those after the first indented; names of files stay whole."""
    return textwrap.fill(text, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def one_line(text: str) -> str:
    """Untrusted text, made safe for a terminal: in one line, and without control characters."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
