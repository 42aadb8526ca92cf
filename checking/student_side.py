"""The process of a student's code: it computes, and judges nothing.

``main`` reads calls from stdin, one in a line, and writes their results to stdout. ``student_process.py`` starts it.
"""

import contextlib
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from checking.messages import Unclear, decode, encode
from checking.student_models import StudentMLP, StudentNetwork
from checking.student_nodes import Autograd, StudentGraph, StudentNode

CLASSES = {cls.__name__: cls for cls in (Autograd, StudentNode, StudentGraph, StudentMLP, StudentNetwork)}
# Bytes of addresses, of which PyTorch takes 4 GB at its import, and of a file; open files; processes and threads.
LIMITS = {"AS": 5_000_000_000, "FSIZE": 20_000_000, "NOFILE": 64, "NPROC": 16, "CORE": 0}


def main(limited: bool) -> None:
    """Answers calls until stdin ends. First come the files to write here, in the current folder."""
    calls, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for standard in 0, 1, 2:  # the student's prints are no results
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    sys.path.insert(0, os.getcwd())
    for name, content in json.loads(calls.readline(), object_hook=decode).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.tobytes())
    if limited:
        limit()
    objects: dict[int, Any] = {}
    for line in calls:
        number, kind, method, *arguments = json.loads(line, object_hook=decode)
        try:
            if method == "__init__":
                objects[number] = result = None
                objects[number] = CLASSES[kind](*arguments)
            else:
                result = getattr(objects[number], method)(*arguments)
            answer = json.dumps({"result": result}, default=encode)
        except BaseException as error:  # also exit()
            words, mark = in_words(error, method, kind in ("StudentNode", "StudentGraph"))
            answer = json.dumps({"error": words[:500], "mark": mark})
        results.write(answer.encode() + b"\n")
        results.flush()


def in_words(error: BaseException, method: str, certain: bool) -> tuple[str, str]:
    """An error in the student's code, with the line that it comes from, and its mark: "NO" where it is ``certain`` that
    a mistake in the student's own lines is the cause, and not terms that are unknown here."""
    if isinstance(error, Unclear):
        return str(error), error.mark
    if isinstance(error, NotImplementedError):
        return f"not written yet: {error}".rstrip(": "), "not yet"
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '').name}, line {error.lineno}: {error.msg}", "?"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if os.getcwd() + os.sep in each.filename]
    frames = [each for each in frames if "BaseNode" not in each.filename] or frames  # the node, and not what it calls
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}\n" if frames else ""
    if isinstance(error, SystemExit):
        return f"{place}It calls exit(): take that out.", "NO"
    certain, often = certain and bool(frames) and not isinstance(error, ImportError), ""
    if isinstance(error, ValueError) and re.search("shape|dimension|broadcast|aligned", str(error)):
        often = "\nOften: a transpose is missing, or factors are in the wrong order."
    elif method == "backward" and isinstance(error, RuntimeError | IndexError | AttributeError):
        often = "\nOften: forward does not keep what backward needs."
    return f"{place}{type(error).__name__}: {error}{often}", "NO" if certain else "?"


def limit() -> None:
    """Sets the limits of this process and of those that it starts. For root that on processes does not hold: it becomes
    a user of its own, who shares it with no other hand-in."""
    import resource  # which Windows has not

    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(20_000 + int.from_bytes(os.urandom(2), "big") // 2)
    for name, value in LIMITS.items():
        with contextlib.suppress(ValueError):  # it is lower already
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
