"""Files: atomic writes, and copies of earlier results."""

import contextlib
import io
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from lab.errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[io.BytesIO]:
    """Gives a buffer; at the end, its content atomically replaces the file at ``path``, in a folder that is made if
    there is none.

    Whatever goes wrong, ``path`` holds the old file or the new one, whole; UserError if it cannot be written.
    """
    buffer = io.BytesIO()
    yield buffer
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        words = "what was there before still is; give another place"
        raise UserError(f"{path}: could not be written ({error.strerror or error}); {words}") from None
    finally:
        with contextlib.suppress(OSError):  # it may not exist: yet, or any more
            unfinished.unlink()


def previous_path(path: Path) -> Path:
    """Where the file of an earlier run is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Copies the file of an earlier run, if there is one, so that this run does not overwrite it."""
    if path.exists():
        previous = previous_path(path)
        with atomic_write(previous) as file:
            file.write(path.read_bytes())
        tqdm.write(f"Kept {path.name} of an earlier run as {previous}.", file=sys.stderr)


def say_written(path: str | Path) -> None:
    """Says on stderr, above any progress bar, that a file was written."""
    tqdm.write(f"Wrote {path}", file=sys.stderr)
