"""The whole of Part 2, from the command to the picture, at its default settings."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import show, time_in_turn

ROOT = Path(__file__).resolve().parent.parent


def run(data_root: str) -> None:
    def script(name: str, *arguments: str) -> None:
        command: list[str | Path] = [sys.executable, ROOT / name, *arguments, "--model-dir", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            "MLPAE_train_script.py": lambda: script(
                "MLPAE_train_script.py", "--data-root", data_root, "--log-dir", folder
            ),
            "visualization.py": lambda: script(
                "visualization.py", "--model", "MLPAE", "--data-root", data_root, "--vis-dir", folder
            ),
            "import torch (control)": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        }
        times = time_in_turn(contenders, rounds=3)
    times["both scripts"] = [a + b for a, b in zip(*list(times.values())[:2], strict=True)]
    show(__doc__, times, "s", against=["import torch (control)"])
