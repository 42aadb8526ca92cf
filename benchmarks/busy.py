"""Trainings on an idle and on a busy machine: with a busy loop per core beside them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import show

ROOT = Path(__file__).resolve().parent.parent
TRAININGS = {
    "MLPAE_train_script.py --epochs 20": ["MLPAE_train_script.py", "--epochs", "20"],
    "train_script.py --model AE --epochs 3": ["train_script.py", "--model", "AE", "--epochs", "3"],
}
ROUNDS = 3
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
        places = ["--data-root", str(Path(data_root).resolve()), "--model-dir", folder, "--log-dir", folder, "--quiet"]

        def seconds(training: list[str], environment: dict[str, str]) -> float:
            start = time.perf_counter()
            command = [sys.executable, *training, *places]
            subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            return time.perf_counter() - start

        for title, training in TRAININGS.items():
            times: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for state, loops in ("idle", 0), ("busy", os.cpu_count() or 1):
                    with busy_loops(loops):
                        for threads, environment in ("", {}), (", the libraries' own threads", LIBRARIES):
                            times.setdefault(state + threads, []).append(seconds(training, environment))
            show(f"{title}. {__doc__}", times, "s", against=["idle"])
