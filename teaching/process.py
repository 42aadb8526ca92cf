"""A submission is looked at in a process of its own, with limits on its time and memory.

Whatever happens to the process, the checks that it has finished are kept, and its end is one more of them.
"""

import json
import multiprocessing
import pickle
import signal
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lab.errors import UserError
from teaching.checks import Check, Photos, checks_of

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 300  # on the clock: the photos are read in it, and each model computes its outputs for all of them
BYTES = 4_000_000_000  # of memory, where the operating system can limit it


def checks_in_process(folder: Path, photos: Photos, seconds: float = SECONDS) -> Iterator[Check]:
    """``checks_of`` a submission, in a process of its own; if it does not finish them, the last one says so."""
    # Not fork, which is not safe beside the threads of PyTorch. A forkserver imports PyTorch once for all submissions.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["teaching.checks"])
    receiver, sender = context.Pipe(duplex=False)
    # As bytes: tensors would be in memory that is shared, which hostile code could change for the next submission.
    process = context.Process(target=_send_checks, args=(sender, folder, pickle.dumps(photos)), daemon=True)
    process.start()
    sender.close()
    deadline = time.monotonic() + seconds
    part = "Part 1"
    try:
        while (left := deadline - time.monotonic()) > 0 and receiver.poll(left):
            # JSON, since to unpickle what a process sends that may have run hostile code would run it here.
            message = json.loads(receiver.recv_bytes(100_000))
            if message is None:
                process.join(10)
                return
            if "error" in message:
                raise UserError(message["error"])
            part = message["part"]
            yield Check(**message)
        found = f"not finished after {seconds:g} seconds"
    except (EOFError, OSError, ValueError):
        process.join(10)
        code = process.exitcode or 0
        found = f"ended before its end: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    yield Check(part, "all that can be looked at", found, False)


def _send_checks(sender: Connection, folder: Path, pickled_photos: bytes) -> None:
    """In the process: sends each check as it is found, and None at the end."""
    _limit_memory()
    warnings.simplefilter("ignore")  # of Python, Pillow and PyTorch, on what is in a file
    try:
        for check in checks_of(folder, pickle.loads(pickled_photos)):
            sender.send_bytes(json.dumps(check._asdict()).encode())
        sender.send_bytes(b"null")
    except UserError as error:
        sender.send_bytes(json.dumps({"error": str(error)}).encode())


def _limit_memory() -> None:
    if resource:
        # Of what a process may write to: unlike its address space, this does not count the libraries of PyTorch.
        _, highest = resource.getrlimit(resource.RLIMIT_DATA)
        limit = BYTES if highest == resource.RLIM_INFINITY else min(BYTES, highest)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))
