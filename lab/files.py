"""Files: atomic writes, copies of earlier results, and folders that can be written."""

import contextlib
import io
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from lab.errors import UserError, in_lines


def prepare_folder(folder: str | Path) -> None:
    """Creates ``folder``, and writes a test file; a UserError here is better than one after hours of training."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{folder}: expected a folder to write in, found: {error.strerror}"
        raise UserError(f"{found}; give another one") from None


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[io.BytesIO]:
    """Gives a buffer; at the end, its content atomically replaces the file at ``path``.

    Whatever goes wrong, ``path`` holds the old file or the new one, whole; UserError if it cannot be written.
    """
    buffer = io.BytesIO()
    yield buffer
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with open(unfinished, "xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        found = f"{path}: could not be written ({error.strerror or error})"
        raise UserError(f"{found}; what was there before still is") from None
    finally:
        with contextlib.suppress(OSError):  # it may not exist: yet, or any more
            unfinished.unlink()


def remove_unfinished(folder: str | Path, name: str) -> None:
    """Removes the temporary files of killed trainings of a model; only for the holder of the lock on its files."""
    for leftover in Path(folder).glob(f".*_{name}.*.unfinished"):
        leftover.unlink()


def previous_path(path: Path) -> Path:
    """Where the file of an earlier run is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Copies the file of an earlier run, if there is one, so that this run does not overwrite it."""
    if path.exists():
        previous = previous_path(path)
        with atomic_write(previous) as file:
            file.write(path.read_bytes())
        # Above a progress bar.
        tqdm.write(in_lines(f"Kept {path.name} of an earlier run as {previous}."), file=sys.stderr)
