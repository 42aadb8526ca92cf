"""Times pieces of code against each other, fairly enough for a shared and noisy machine."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent  # where the scripts are


def time_in_turn(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, calls: int = 1, warm_up: int = 0, pause: float = 0.2
) -> dict[str, list[float]]:
    """Seconds of one call of each contender, once a round: name -> list of the medians of ``calls`` calls.

    All take turns in one process, so that what else the machine does falls on all alike; compare them round by round.
    Not counted: one whole round before the first, and ``warm_up`` calls in each.

    ``pause`` is seconds before each turn, for the threads of the library that ran before to fall asleep: those of
    OpenBLAS spin for up to a tenth of a second after their last product, and hold a core for that long.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(1 + rounds):
        for name, function in contenders.items():
            time.sleep(pause)
            durations = [_seconds(function) for _ in range(warm_up + calls)]
            times[name].append(median(durations[warm_up:]))
    return {name: values[1:] for name, values in times.items()}


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def show(title: str, times: dict[str, list[float]], unit: str, against: list[str]) -> None:
    """Prints a table: the median over the rounds, its spread, and the ratio to each contender of ``against``."""
    scale = {"ms": 1e3, "s": 1}[unit]
    width = max(map(len, times))
    header = [" " * width, f"median, {unit}", "min - max", *(f"/ {other}" for other in against)]
    print(f"\n{title}\n\n| {' | '.join(header)} |\n{'|---' * len(header)}|")
    for name, values in times.items():
        least, middle, most = (f"{scale * value:.2f}" for value in (min(values), median(values), max(values)))
        row = [name.ljust(width), middle, f"{least} - {most}", *(_ratio(values, times[other]) for other in against)]
        print(f"| {' | '.join(row)} |", flush=True)


def _ratio(values: list[float], others: list[float]) -> str:
    """Median and the middle half of the ratios, round by round."""
    ratios = sorted(value / other for value, other in zip(values, others, strict=True))
    quarter = len(ratios) // 4
    return f"{median(ratios):.2f} ({ratios[quarter]:.2f} - {ratios[-1 - quarter]:.2f})"
