"""Progress bars, on stderr, for whoever watches: none where stderr is no terminal, none in CI, none after --quiet."""

import os
from collections.abc import Iterable

from tqdm import tqdm

quiet = False


def progress(iterable: Iterable | None, description: str, total: int | None = None, unit: str = "it") -> tqdm:
    """The iterable, with a bar that follows how far it is; without one, a bar to ``update`` by hand."""
    nobody_looks = quiet or bool(os.environ.get("CI"))
    return tqdm(iterable, description, total, leave=False, unit=unit, disable=nobody_looks or None)
