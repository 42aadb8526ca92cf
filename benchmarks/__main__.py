"""How fast the lab is, measured side by side with what a student would otherwise use.

    python -m benchmarks                # all of it, some minutes
    python -m benchmarks step epoch     # these alone

Prints tables in Markdown. What is compared takes turns, and every ratio is computed within a round; the tables show the
median of the ratios, and their interquartile range in brackets.
"""

import argparse
import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import least_time, peak_flops
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import photos_or_drawn, read_photos

SUBJECTS = ["step", "epoch", "loading", "part2", "diffusion", "busy"]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__.splitlines()[0])
    subjects = ", ".join(SUBJECTS)
    parser.add_argument("subjects", nargs="*", default=SUBJECTS, help=f"of {subjects}")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    args = parser.parse_args(argv)
    if unknown := set(args.subjects) - set(SUBJECTS):
        parser.error(f"found {' '.join(sorted(unknown))}, expected some of {subjects}")
    return args


def machine() -> str:
    """The hardware and the versions, in a few lines."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    packages = []
    for package in "numpy", "torch", "torchvision", "pillow", "jax":
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            packages.append(f"no {package}")
    return (
        f"{names[0].strip() if names else platform.processor()}, {os.cpu_count()} cores; {platform.system()}\n"
        f"Python {platform.python_version()}, {', '.join(packages)}; NumPy's BLAS: {blas['name']} {blas['version']}, "
        f"{os.environ.get('OPENBLAS_NUM_THREADS', 'all')} threads; PyTorch: {torch.get_num_threads()} threads\n"
        f"{speed()}"
    )


def speed() -> str:
    """The processor's own numbers, of NumPy and PyTorch with the threads they have."""
    matrices = np.random.default_rng(0).standard_normal((2, 1024, 1024), np.float32)
    numpy, pytorch = (1e-9 * peak_flops(*pair) for pair in (matrices, torch.from_numpy(matrices)))
    source, target = np.zeros((2, 2**24), np.float32)
    copied = 2e-9 * source.nbytes / least_time(lambda: np.copyto(target, source))
    return (
        f"Large products: {numpy:.0f} billion operations a second in NumPy, {pytorch:.0f} in PyTorch; "
        f"memory: {copied:.0f} GB/s, read and written"
    )


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    read_photos(data_root, (24, 24))  # a UserError, if there are no photos in it
    print(machine())
    for subject in args.subjects:
        importlib.import_module(f"benchmarks.{subject}").run(data_root)


if __name__ == "__main__":
    main()
