"""Files that are written whole or not at all, kept when they are replaced, and locked while someone writes them."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm


def prepare_folder(folder: str | Path) -> None:
    """Makes ``folder`` and tries it out, so that one that cannot be written is found before hours of training.

    Raises:
        OSError: it cannot be made, or no file can be made in it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder}: expected a folder to write in, found: {error.strerror}; give another one") from None


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Writes the bytes whole or not at all: whatever goes wrong, ``path`` holds what it held before, or the new."""
    path = Path(path)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".unfinished")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except BaseException as error:
        Path(unfinished).unlink(missing_ok=True)  # gone already, if Ctrl-C came just after the replacement
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise OSError(f"{path}: could not be written ({reason}); what was there before still is") from None
        raise


def remove_unfinished(folder: str | Path, name: str) -> None:
    """Removes what writers of a model's files left behind that were killed; for whoever holds the lock on them."""
    for leftover in Path(folder).glob(f".*_{name}.*.unfinished"):
        leftover.unlink()


def keep_previous(path: str | Path) -> None:
    """Copies a file of an earlier run, if there is one, out of the way of this run's."""
    path = Path(path)
    if path.exists():
        previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        write_whole(previous, path.read_bytes())
        tqdm.write(f"Kept {path.name} of an earlier run as {previous}.", file=sys.stderr)  # clear of a progress bar


@contextmanager
def alone(path: str | Path, wait: bool = False) -> Iterator[None]:
    """Holds ``path`` as a lock against other processes; the system frees it when this one ends, in whatever way.

    Where another process holds it, waits for that one to let go, or raises BlockingIOError.
    """
    try:
        with FileLock(path, timeout=-1 if wait else 0):
            yield
    except Timeout:
        raise BlockingIOError(f"{path}: held by another process") from None
