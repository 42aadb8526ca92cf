"""Pictures that nobody took, by any model (handout, Parts 3 and 4)."""

from typing import Any

import torch
from torch import Tensor

from autograd import BaseGraph
from progress import progress

AT_ONCE = 100  # pictures; more of them at a time take more memory and no less time


def generate(checkpoint: dict[str, Any], number: int, seed: int) -> Tensor:
    """(number, 3, H, W) in [0, 1]: what the model makes of random numbers from N(0, 1)."""
    torch.manual_seed(seed)
    pictures = []
    with progress(None, f"Drawing with {checkpoint['name']}", number, "picture") as bar:
        for done in range(0, number, AT_ONCE):
            pictures.append(_some(checkpoint, min(AT_ONCE, number - done)))
            bar.update(len(pictures[-1]))
    return torch.cat(pictures)


def _some(checkpoint: dict[str, Any], number: int) -> Tensor:
    model = checkpoint["model"]
    if not isinstance(model, BaseGraph):
        return model.eval().sample(number)
    latent = torch.randn(number, checkpoint["encoding_dim"]).numpy()
    decoder = model[len(model) // 2 :]  # the encoder turned round, and a Sigmoid: the larger half
    width, height = checkpoint["image_size"]
    return torch.from_numpy(decoder.forward(latent)).reshape(number, 3, height, width)
