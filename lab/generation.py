"""Pictures sampled from a model (handout, Parts 3 and 4)."""

from typing import Any

import torch
from torch import Tensor

from lab.command_line import progress

BATCH = 32  # pictures sampled at a time: few enough for the cache, and enough for all cores


def generate(model: Any, number: int, seed: int) -> Tensor:
    """(number, 3, H, W) in [0, 1]: ``model.sample`` with random numbers of this seed."""
    torch.manual_seed(seed)
    model.eval()
    pictures = []
    with progress(None, f"Sampling from {model.name}", number, "picture") as bar:
        for done in range(0, number, BATCH):
            pictures.append(model.sample(min(BATCH, number - done)))
            bar.update(len(pictures[-1]))
    return torch.cat(pictures)
