"""How fast the lab is, measured side by side with what a student would otherwise use.

    python -m benchmarks                # all of it, about fifteen minutes
    python -m benchmarks step           # Part 2 alone

Prints tables in Markdown. What is compared takes turns, and every ratio is computed within a round; the tables show the
median of the ratios, and their interquartile range in brackets.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import numpy as np
import torch
from torch import nn

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import photos_or_drawn

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 1
SIZES = [1728, 256, 128, 64, 128, 256, 1728]
# What OpenBLAS, GNU's OpenMP, and LLVM's do if lab/threads.py leaves them alone.
LIBRARIES = {"OPENBLAS_NUM_THREADS": str(CORES), "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}


def compare(title: str, contenders: Mapping[str, Callable[[], float]], against: list[str], rounds: int) -> None:
    """Prints a table: the median of what each contender returns, its spread, and its ratios to those in ``against``.

    They take turns, so that what else the machine does falls on all alike. A round before the first does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, contender in contenders.items():
            times[name].append(contender())
    heads = ["", "median", "min - max", *(f"/ {other}" for other in against)]
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, (_, *values) in times.items():
        cells = [name, f"{median(values):.2f}", f"{min(values):.2f} - {max(values):.2f}"]
        for other in against:
            ratios = [value / reference for value, reference in zip(values, times[other][1:], strict=True)]
            low, middle, high = quantiles(ratios, method="inclusive")
            cells.append(f"{middle:.2f} ({low:.2f} - {high:.2f})")
        print(f"| {' | '.join(cells)} |", flush=True)


def step(_: str) -> None:
    """The MLP of Part 2, batch 16, 24 x 24 pixels, float32: forward, backward, update."""
    x = np.random.default_rng(0).random((16, SIZES[0]), np.float32)
    images = torch.from_numpy(x)
    a, b, c, d, e, f = (Linear(*sizes, np.random.default_rng(0)) for sizes in pairwise(SIZES))
    a.input_grad = False
    graph, mse = BaseGraph([a, ReLU(), b, ReLU(), c, d, ReLU(), e, ReLU(), f, Sigmoid()]), MSE()
    g, h, i, j, k, m = (nn.Linear(*sizes) for sizes in pairwise(SIZES))
    model = nn.Sequential(g, nn.ReLU(), h, nn.ReLU(), i, j, nn.ReLU(), k, nn.ReLU(), m, nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def autograd_step() -> None:
        mse.forward(graph.forward(x), x)
        graph.backward(mse.backward())
        graph.optimstep(0.1)

    def pytorch_step() -> None:
        loss = nn.functional.mse_loss(model(images), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def milliseconds(one_step: Callable[[], None], threads: int = 1) -> float:
        torch.set_num_threads(threads)
        time.sleep(0.2)  # until the threads that ran before have fallen asleep
        times = [time.perf_counter()]
        for _ in range(60):
            one_step()
            times.append(time.perf_counter())
        return 1000 * median(after - before for before, after in pairwise(times[20:]))

    contenders = {
        "autograd": partial(milliseconds, autograd_step),
        "autograd again (control)": partial(milliseconds, autograd_step),
        "PyTorch eager, one thread": partial(milliseconds, pytorch_step),
        "PyTorch eager": partial(milliseconds, pytorch_step, CORES),
    }
    compare("A training step, ms", contenders, ["PyTorch eager", "PyTorch eager, one thread"], rounds=30)


def busy(data_root: str) -> None:
    """Whole trainings, with a busy loop per core beside them, and without."""

    def seconds(command: list[str], busy_loops: int = 0, environment: dict[str, str] | None = None) -> float:
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy_loops)]
        start = time.perf_counter()
        try:
            subprocess.run(command, cwd=ROOT, env=os.environ | (environment or {}), check=True, capture_output=True)
            return time.perf_counter() - start
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()

    with tempfile.TemporaryDirectory() as folder:
        for training in "MLPAE_train_script.py --epochs 20", "train_script.py --model AE --epochs 3":
            command = [sys.executable, *training.split(), "--data-root", data_root]
            train = partial(seconds, [*command, "--model-dir", folder, "--log-dir", folder])
            contenders = {
                "idle": train,
                "idle, the libraries' own threads": partial(train, 0, LIBRARIES),
                "busy": partial(train, CORES),
                "busy, the libraries' own threads": partial(train, CORES, LIBRARIES),
            }
            compare(f"{training}, s", contenders, ["idle"], rounds=3)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    subjects = {"step": step, "busy": busy}
    parser = Parser("How fast the lab is.")
    parser.add_argument("subjects", nargs="*", choices=[*subjects, []], default=[], help="default: all of them")
    parser.add_folders()
    args = parser.parse_args(argv)
    data_root = str(Path(photos_or_drawn(args.data_root, args.drawn_root)).resolve())
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    name = re.search("model name.*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "torch", "torchvision", "pillow"))
    print(f"{name[1] if name else platform.processor()}, {CORES} cores; Python {platform.python_version()}, {packages}")
    for subject in args.subjects or subjects:
        subjects[subject](data_root)


if __name__ == "__main__":
    main()
