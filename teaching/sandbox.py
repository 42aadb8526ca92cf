"""The sandbox of a student's code: bubblewrap, with no network, no home, no environment, and one tmpfs to write to.
Memory and processes are limited in checking/student_side.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from checking.student_process import LAB
from lab.errors import UserError

PACKAGES = [path for path in sys.path if path.endswith("-packages")]
VARIABLES = {"PATH": os.defpath, "HOME": "/tmp", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(PACKAGES)}


def sandbox() -> list[str]:
    """The command, without what is run in it; UserError if there is none here that works."""
    ways = "see docs/trouble.md, or give --unfenced in a container that holds nothing of value"
    bwrap = shutil.which("bwrap")
    if not bwrap:
        raise UserError(f"found no bubblewrap to run the students' code in: apt install bubblewrap; {ways}")
    command = [bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--proc", "/proc"]
    # Root needs no user namespace, and so can become another user, whose processes can be limited.
    command += ["--unshare-user", "--disable-userns"] if os.geteuid() else []
    command += ["--dev", "/dev", "--perms", "1777", "--size", "1000000000", "--tmpfs", "/tmp"]  # bytes of all files
    command += ["--perms", "1777", "--dir", "/tmp/hand-in"]
    system = filter(os.path.exists, ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives"])
    places = [sys.prefix, sys.base_prefix, *PACKAGES, f"{LAB}/checking"]
    for path in map(os.path.realpath, places):
        for parent in reversed(Path(path).parents):
            command += ["--dir", str(parent)]  # for a user who is not its owner
    for path in dict.fromkeys([*system, *places]):
        command += ["--ro-bind", path, path]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp/hand-in"]
    command += [part for name, value in VARIABLES.items() for part in ("--setenv", name, value)]
    tried = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
    if tried.returncode:
        why = " ".join(tried.stderr.split())[:200]
        raise UserError(f"found bubblewrap, which does not work here ({why}), expected 0.8 or later; {ways}")
    return command
