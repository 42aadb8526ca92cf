"""A student's code is run in a process that bubblewrap fences in: no network, no home, nothing to write but a copy of
the hand-in, and limits on time, memory, processes and the size of files.

The process gets arrays and returns arrays, as JSON. What they mean is decided on this side.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotFinished
from pathlib import Path
from typing import Any

import lab.student_code
from lab.errors import UserError
from lab.student_code import Wrong
from teaching import student_side
from teaching.student_side import NOBODY, decode, encode

SECONDS, SECONDS_IN_ALL = 60, 300  # on the clock: of a call, and of all calls of a hand-in
LONGEST = 15_000_000  # bytes of an answer: 500 images in float64 take 9
INSIDE = "/hand-in"
PACKAGES = [path for path in sys.path if path.endswith("-packages")]


class StudentError(Exception):
    """The student's code, or its process, came to no result; the text says why."""


def fence() -> list[str]:
    """The command of the sandbox, without what is run in it; UserError if there is none here."""
    bwrap = shutil.which("bwrap")
    why = "it is not installed"
    if bwrap:
        # For root without a user namespace, so that the process can become nobody, for whom limits on processes hold.
        for spaces in ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"], ["--unshare-all"]:
            command = [bwrap, *spaces, "--die-with-parent", "--new-session", "--clearenv", *_places()]
            tried = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
            if not tried.returncode:
                return command
        why = " ".join(tried.stderr.split())[:200]
    found = f"--run: found no bubblewrap that works ({why}), expected one to fence the students' code in"
    ways = "apt install bubblewrap, or give --run-unfenced on a machine that holds nothing of value, as a container"
    raise UserError(f"{found}; {ways}")


def _places() -> list[str]:
    """What can be read in the sandbox: Python, its packages, and the two files that run there."""
    system = filter(os.path.exists, ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives"])
    python = [sys.prefix, sys.base_prefix, *PACKAGES]
    files = [lab.student_code.__file__, student_side.__file__]
    options = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in map(os.path.realpath, [*python, *files]):
        for parent in reversed(Path(path).parents):
            options += ["--dir", str(parent)]  # for a user who is not its owner
    for path in dict.fromkeys([*system, *python, *files]):
        options += ["--ro-bind", path, path]
    return options


class Student:
    """The process that runs the code in ``folder``, a copy of a hand-in which it may change; ``close`` ends it.

    Args:
        folder: the copy.
        command: that of ``fence``; empty: without a sandbox.
    """

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.fence = folder, command
        self.process: Any = None
        self.left = float(SECONDS_IN_ALL)

    def call(self, which: str, method: str, *arguments: Any) -> Any:
        """What a method of teaching/student_side.py returns.

        Raises:
            Wrong: the student's code is wrong, by what lab/student_code.py says.
            StudentError: it came to no result.
        """
        if self.left <= 0:
            raise StudentError(f"not run: the hand-in has taken {SECONDS_IN_ALL} seconds")
        if not self.process or self.process.poll() is not None:
            self._start()
        question = json.dumps([which, method, *arguments], default=encode).encode() + b"\n"
        began, seconds = time.monotonic(), min(SECONDS, self.left)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(self._ask, question)
            try:
                line = answer.result(seconds)
            except NotFinished:
                line = None
            finally:
                if not answer.done():
                    self.close()
                self.left -= time.monotonic() - began
        if line is None:
            raise StudentError(f"not finished after {seconds:.0f} seconds")
        if not line.endswith(b"\n"):
            self.close()
            raise StudentError(f"its process ended before its end (exit status {self.process.returncode})")
        began = time.monotonic()
        try:
            answer = json.loads(line, object_hook=decode)
            if "result" in answer:
                if method.startswith("make") and type(answer["result"]) is not int:
                    raise ValueError  # it would be sent back with every call
                return answer["result"]
            words, wrong = str(answer["error"]), answer["wrong"] is True
        except (ValueError, TypeError, KeyError, RecursionError, MemoryError):
            raise StudentError("its process wrote what is no answer") from None
        finally:
            self.left -= time.monotonic() - began
        raise (Wrong if wrong else StudentError)(words)

    def nodes(self) -> Any:
        """The nodes of Part 1, with the methods of ``StudentNodes``."""
        return _Methods(self, "nodes")

    def _ask(self, question: bytes) -> bytes:
        with contextlib.suppress(OSError):  # it has ended
            self.process.stdin.write(question)
            self.process.stdin.flush()
        return self.process.stdout.readline(LONGEST)

    def _start(self) -> None:
        command, place, user = list(self.fence), str(self.folder), os.geteuid() if hasattr(os, "geteuid") else 1
        if command:
            command += ["--bind", place, INSIDE]
            place = INSIDE
            user = NOBODY if user == 0 and "--unshare-all" not in command else user
        environment = {"PATH": os.defpath, "HOME": "/tmp", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(PACKAGES)
        for name, value in environment.items() if command else ():
            command += ["--setenv", name, value]
        command += [sys.executable, "-sB", student_side.__file__, lab.student_code.__file__, place]
        command += [str(user), str(_threads_of(user))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **pipes, env=environment, start_new_session=True)

    def close(self) -> None:
        """Ends the process and all that it has started."""
        if self.process:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self.process.kill()
            self.process.wait()
            for pipe in self.process.stdin, self.process.stdout:
                with contextlib.suppress(OSError):  # what was still to be written
                    pipe.close()


def _threads_of(user: int) -> int:
    """How many threads a user has now, which count in the limit on processes; -1 where the system has no /proc."""
    found = 0 if Path("/proc/self").exists() else -1
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended
            text = status.read_text()
            found += int(text.partition("Threads:")[2].split()[0]) if f"\nUid:\t{user}\t" in text else 0
    return found


class _Methods:
    """An object on the student's side: its methods are calls."""

    def __init__(self, student: Student, which: str) -> None:
        self._student, self._which = student, which

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: self._student.call(self._which, method, *arguments)
