"""Times pieces of code against each other, fairly enough for a shared and noisy machine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run_script(name: str, *arguments: str, **environment: str) -> None:
    """Runs a script of the lab with these variables added to its environment, without what it prints."""
    command = [sys.executable, str(ROOT / name), *arguments]
    environment = os.environ | environment
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def call_times(function: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def time_in_turn(
    contenders: dict[str, Callable[[], Any]], rounds: int, calls: int = 1, warm_up: int = 0, pause: float = 0.2
) -> dict[str, list[float]]:
    """Seconds of one call of each contender, once a round: name -> list of the medians of ``calls`` calls.

    All take turns in one process, so that what else the machine does falls on all alike; compare them round by round.

    Args:
        contenders: name -> function without arguments.
        warm_up: calls before the timed ones in each round, not counted; one whole round goes before the first.
        pause: seconds before each turn, for the threads of the library that ran before to fall asleep. Threads of
            OpenBLAS spin for up to a tenth of a second after their last product, and hold a core for that long.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(-1, rounds):
        for name, function in contenders.items():
            time.sleep(pause)
            for _ in range(warm_up):
                function()
            seconds = median(call_times(function, calls))
            if round_ >= 0:
                times[name].append(seconds)
    return times


def least_time(function: Callable[[], Any], calls: int = 20) -> float:
    """Seconds of the fastest call."""
    return min(call_times(function, calls))


def peak_flops(a: Any, b: Any) -> float:
    """Floating-point operations per second in the product of two large square matrices."""
    return 2 * len(a) ** 3 / least_time(lambda: a @ b)


def show(title: str, times: dict[str, list[float]], unit: str, against: list[str]) -> None:
    """Prints a table: the median over the rounds, its spread, and the ratio to each contender of ``against``."""
    scale = {"ms": 1e3, "s": 1}[unit]
    width = max(map(len, times))
    print(f"\n{title}\n\n| {'':{width}} | median, {unit} | min - max | " + " | ".join(f"/ {b}" for b in against) + " |")
    print("|---" * (3 + len(against)) + "|")
    for name, values in times.items():
        cells = [f"{name:{width}}", f"{scale * median(values):.2f}"]
        cells.append(f"{scale * min(values):.2f} - {scale * max(values):.2f}")
        for base in against:
            cells.append(_spread([value / other for value, other in zip(values, times[base], strict=True)]))
        print(f"| {' | '.join(cells)} |", flush=True)


def _spread(ratios: list[float]) -> str:
    """Median and the middle half of the ratios, round by round."""
    ratios = sorted(ratios)
    quarter = len(ratios) // 4
    return f"{median(ratios):.2f} ({ratios[quarter]:.2f} - {ratios[-1 - quarter]:.2f})"
