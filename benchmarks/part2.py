"""The whole of Part 2, from the command to the picture, at its default settings."""

import subprocess
import sys
import tempfile

from benchmarks.measure import run_script, show, time_in_turn


def run(data_root: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            "MLPAE_train_script.py": lambda: run_script(
                "MLPAE_train_script.py", "--data-root", data_root, "--model-dir", folder, "--log-dir", folder
            ),
            "visualization.py": lambda: run_script(
                "visualization.py",
                *("--model", "MLPAE", "--data-root", data_root, "--model-dir", folder, "--vis-dir", folder),
            ),
            "import torch (control)": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        }
        times = time_in_turn(contenders, rounds=3)
    times["both scripts"] = [a + b for a, b in zip(*list(times.values())[:2], strict=True)]
    show(__doc__, times, "s", against=["import torch (control)"])
