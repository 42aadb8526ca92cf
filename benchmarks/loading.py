"""Photos on disk -> bytes in memory: against one pass of torchvision's ImageFolder, and as sizes and numbers grow."""

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.measure import show, time_in_turn
from data_processor import read_flowers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without libjpeg, torchvision warns at every import
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

# Notices are not shown: the photos here are copies of a few, in folders of their own, and are said to be.
READ = """
import contextlib, io, re, sys, time
from pathlib import Path
from data_processor import read_flowers

def memory(what):
    return re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]

root, size = sys.argv[1], int(sys.argv[2])
before = memory("VmRSS")
start = time.perf_counter()
with contextlib.redirect_stderr(io.StringIO()):
    photos = read_flowers(root, size, size)
print(len(photos), time.perf_counter() - start, before, memory("VmHWM"), photos.pixels.nbytes)
"""


def one_pass(data_root: str) -> Callable[[], list]:
    resized = transforms.Compose([transforms.Resize((24, 24)), transforms.ToTensor()])
    loader = DataLoader(ImageFolder(data_root, resized), batch_size=16)
    return lambda: [images for images, _ in loader]


def many_times(data_root: str, times: int, folder: Path) -> Path:
    """A data root in ``folder`` that holds each class of ``data_root`` several times over, as links."""
    for kind in Path(data_root).resolve().iterdir():
        if kind.is_dir():
            (folder / kind.name).mkdir(parents=True)
            for i in range(times):
                (folder / kind.name / str(i)).symlink_to(kind)
    return folder


def run(data_root: str) -> None:
    contenders = {
        "read_flowers": lambda: read_flowers(data_root, 24, 24),
        "read_flowers again (control)": lambda: read_flowers(data_root, 24, 24),
        "one pass of ImageFolder": one_pass(data_root),
    }
    title = f"{len(read_flowers(data_root, 24, 24))} photos from disk, 24 x 24 pixels"
    show(title, time_in_turn(contenders, rounds=5), "s", against=["one pass of ImageFolder"])

    print("\nEach size in a process of its own (on Linux): memory before the reading, and at its peak\n")
    print("| photos | pixels | time, s | ms a photo | before, MB | peak, MB | the resized photos, MB |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for times in 1, 4, 16:
            root = many_times(data_root, times, Path(folder, str(times)))
            for size in 24, 48, 96:
                command: list[str | Path] = [sys.executable, "-c", READ, root, str(size)]
                found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
                n, seconds, before, peak, photos = map(float, found)
                memory = f"{before / 1e3:.0f} | {peak / 1e3:.0f} | {photos / 1e6:.0f}"
                print(f"| {n:.0f} | {size} x {size} | {seconds:.2f} | {1e3 * seconds / n:.2f} | {memory} |", flush=True)
