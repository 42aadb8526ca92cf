"""A process that runs a student's code: it gets arrays and returns arrays. What they mean is decided on this side."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checking.messages import NotWritten, Unclear, Wrong, decode, encode

LAB = str(Path(__file__).resolve().parent.parent)
LONGEST = 20_000_000  # bytes of an answer: 100 images in float64 take 2
FINDINGS = {cls.mark: cls for cls in (Unclear, Wrong, NotWritten)}
# Nothing but this package is imported from the lab's folder: a student's files have the same names.
START = "import sys; sys.path[0] = {!r}; from checking.student_side import main; del sys.path[0]; main({})"


class StudentProcess:
    """Runs the code of a hand-in, in a folder that is made with the process and goes with it.

    ``files`` are written there; after ``seconds`` the process is ended, whatever it does; ``sandbox`` is the command in
    which it is started, with limits, and without both if it is empty.
    """

    def __init__(self, files: Mapping[str, bytes], seconds: float, sandbox: Sequence[str] = ()) -> None:
        self.files = {name: np.frombuffer(content, np.uint8) for name, content in files.items()}
        self.seconds, self.sandbox = seconds, sandbox
        self.process: Any = None
        self.number = 0  # of the latest object

    def new(self, kind: str, *arguments: Any) -> Any:
        """An object of a class of ``student_side.py``. Its methods are calls, which raise Unclear, Wrong or NotWritten.
        A process is started if there is none, or it has ended."""
        if not self.process:
            self._start()
        self.number += 1
        methods = _Methods(self, self.process, self.number, kind)
        methods.__getattr__("__init__")(*arguments)
        return methods

    def __enter__(self) -> "StudentProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process:
            self._end()

    def _start(self) -> None:
        self.folder = None if self.sandbox else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = [*self.sandbox, sys.executable, "-sBc", START.format(LAB, bool(self.sandbox))]
        folder = self.folder.name if self.folder else None
        variables = {} if self.sandbox else os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, 0, cwd=folder, env=variables, start_new_session=True, **pipes)
        self.end = time.monotonic() + self.seconds
        self.questions: list[Any] = [self.files]

    def call(self, question: list[Any]) -> Any:
        """The result of a method: [number of the object, its class, method, *arguments]."""
        lines = b"".join(json.dumps(part, default=encode).encode() + b"\n" for part in [*self.questions, question])
        self.questions = []
        answers: queue.Queue[bytes] = queue.Queue()
        # What is left of the student's may keep a pipe open, so that nothing waits for this thread.
        threading.Thread(target=_ask, args=(self.process, lines, answers), daemon=True).start()
        try:
            line = answers.get(timeout=max(0, self.end - time.monotonic()))
        except queue.Empty:
            self._end()
            raise Unclear(f"it does not end: stopped after {self.seconds:g} seconds") from None
        if not line.endswith(b"\n"):
            raise Unclear(f"its process ended before its end, or wrote too much (exit status {self._end()})")
        try:
            answer = json.loads(line, object_hook=decode)
            if "result" in answer:
                return answer["result"]
            finding, words = FINDINGS[answer["mark"]], str(answer["error"])
        except (ValueError, TypeError, KeyError, RecursionError, MemoryError):
            raise Unclear("its process wrote what is no answer") from None
        raise finding(words)

    def _end(self) -> int | None:
        """Ends the process and what it has started; gives the exit status that it had."""
        process, self.process = self.process, None
        status = process.poll()
        with process, contextlib.suppress(OSError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        if self.folder:
            self.folder.cleanup()
        return status


def _ask(process: Any, question: bytes, answers: "queue.Queue[bytes]") -> None:
    """Puts the line that the process answers, or as much of it as there is when it ends."""
    left, line = memoryview(question), bytearray()
    with contextlib.suppress(OSError, ValueError):  # it has ended, or been ended
        while left:
            left = left[os.write(process.stdin.fileno(), left) :]
        while not line.endswith(b"\n") and len(line) < LONGEST and (part := os.read(process.stdout.fileno(), 1 << 20)):
            line += part
    answers.put(bytes(line))


class _Methods:
    """An object in a process: its methods are calls. Another process knows nothing of it."""

    def __init__(self, student: StudentProcess, process: Any, *name: Any) -> None:
        self._student, self._process, self._name = student, process, name

    def __getattr__(self, method: str) -> Any:
        if self._student.process is not self._process:
            raise Unclear("its process ended before")
        return lambda *arguments: self._student.call([*self._name, method, *arguments])
