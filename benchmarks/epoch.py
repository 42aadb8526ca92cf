"""One epoch of train_script.py (training, validation, saving), batch 16, 24 x 24 pixels, AdamW."""

import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from statistics import median

from benchmarks.measure import ROOT, show

MODELS = ["AE", "VAE"]
EPOCHS = 6
ROUNDS = 3


def seconds_per_epoch(arguments: list[str]) -> float:
    """Runs a training; returns the median of the times between the lines of its epochs, which leaves out the start."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        times = [time.perf_counter() for line in process.stdout if line.startswith("Epoch: ")]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return median(after - before for before, after in pairwise(times))


def run(data_root: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            ours = ["train_script.py", "--model", name, "--epochs", str(EPOCHS), "--quiet"]
            ours += ["--data-root", data_root, "--model-dir", folder, "--log-dir", folder]
            plain = ["-m", "benchmarks.plain_loop", name, str(EPOCHS), data_root]
            commands = {
                "train_script.py": ours,
                "train_script.py again (control)": ours,
                "plain loop, photos in memory": [*plain, "memory"],
                "plain loop over ImageFolder": [*plain, "folder"],
            }
            times: dict[str, list[float]] = {contender: [] for contender in commands}
            for _ in range(ROUNDS):
                for contender, command in commands.items():
                    times[contender].append(seconds_per_epoch(command))
            against = ["plain loop over ImageFolder", "plain loop, photos in memory"]
            show(f"{name}. {__doc__}", times, "s", against)
