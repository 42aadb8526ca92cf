"""Trainings on an idle and on a busy machine: with a busy loop per core beside them."""

import os
import subprocess
import sys
import tempfile
from functools import partial

from benchmarks.measure import ROOT, show, time_in_turn

TRAININGS = {
    "MLPAE_train_script.py --epochs 20": ["MLPAE_train_script.py", "--epochs", "20"],
    "train_script.py --model AE --epochs 3": ["train_script.py", "--model", "AE", "--epochs", "3"],
}
CORES = os.cpu_count() or 1
# What OpenBLAS, GNU's OpenMP, and LLVM's do if lab/threads.py leaves them alone.
LIBRARIES = {"OPENBLAS_NUM_THREADS": str(CORES), "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}


def train(arguments: list[str], busy_loops: int, environment: dict[str, str]) -> None:
    """Runs a training with these variables added to its environment, beside processes that never wait."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy_loops)]
    try:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(data_root: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for title, training in TRAININGS.items():
            command = [*training, "--data-root", data_root, "--model-dir", folder, "--log-dir", folder]
            contenders = {
                "idle": partial(train, command, 0, {}),
                "idle, the libraries' own threads": partial(train, command, 0, LIBRARIES),
                "busy": partial(train, command, CORES, {}),
                "busy, the libraries' own threads": partial(train, command, CORES, LIBRARIES),
            }
            show(f"{title}. {__doc__}", time_in_turn(contenders, rounds=3), "s", against=["idle"])
