"""Trainings on an idle and on a busy machine: with a busy loop per core beside them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.measure import run_script, show, time_in_turn

TRAININGS = {
    "MLPAE_train_script.py --epochs 20": ["MLPAE_train_script.py", "--epochs", "20"],
    "train_script.py --model AE --epochs 3": ["train_script.py", "--model", "AE", "--epochs", "3"],
}
# What OpenBLAS, GNU's OpenMP, and LLVM's do if lab/threads.py leaves them alone.
LIBRARIES = {"OPENBLAS_NUM_THREADS": str(os.cpu_count()), "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Processes that never wait, for as long as the context lasts."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(data_root: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = ["--data-root", data_root, "--model-dir", folder, "--log-dir", folder]

        def contender(training: list[str], loops: int, environment: dict[str, str]) -> Callable[[], None]:
            def train() -> None:
                with busy_loops(loops):
                    run_script(*training, *places, **environment)

            return train

        cores = os.cpu_count() or 1
        for title, training in TRAININGS.items():
            contenders = {
                "idle": contender(training, 0, {}),
                "idle, the libraries' own threads": contender(training, 0, LIBRARIES),
                "busy": contender(training, cores, {}),
                "busy, the libraries' own threads": contender(training, cores, LIBRARIES),
            }
            show(f"{title}. {__doc__}", time_in_turn(contenders, rounds=3), "s", against=["idle"])
