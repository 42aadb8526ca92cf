"""How fast the lab is, measured side by side with what a student would otherwise use.

    python -m benchmarks                # all of it, about twenty minutes
    python -m benchmarks step epoch     # these alone

Prints tables in Markdown. What is compared takes turns, and every ratio is computed within a round; the tables show the
median of the ratios, and their interquartile range in brackets.
"""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import torch

from benchmarks import busy, epoch, step
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import photos_or_drawn, read_photos

SUBJECTS = {"step": step, "epoch": epoch, "busy": busy}


def machine() -> str:
    """The processor, the versions, and the numbers of threads."""
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    name = re.search("model name.*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "torch", "torchvision", "pillow"))
    return (
        f"{name[1] if name else platform.processor()}, {os.cpu_count()} cores; {platform.system()}\n"
        f"Python {platform.python_version()}, {packages}; threads: {torch.get_num_threads()} of PyTorch, "
        f"{os.environ.get('OPENBLAS_NUM_THREADS', 'all')} of NumPy's OpenBLAS"
    )


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("How fast the lab is.")
    expected = ", ".join(SUBJECTS)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), help=f"of {expected}")
    parser.add_folders()
    args = parser.parse_args(argv)
    if unknown := set(args.subjects) - set(SUBJECTS):
        parser.error(f"found {' '.join(sorted(unknown))}, expected some of {expected}")

    data_root = str(Path(photos_or_drawn(args.data_root, args.drawn_root)).resolve())
    read_photos(data_root, (24, 24))  # a UserError, if there are no photos in it
    print(machine())
    for subject in args.subjects:
        SUBJECTS[subject].run(data_root)


if __name__ == "__main__":
    main()
