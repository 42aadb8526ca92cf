"""Pictures sampled from any model, in batches (handout, Parts 3 and 4)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data_processor import show_images
from lab.command_line import progress
from lab.grids import name_groups

BATCH = 32  # pictures sampled at a time: few enough for the cache, and enough for all cores


def generate(model: Any, number: int, seed: int, labels: Tensor | None = None, **options: Any) -> Tensor:
    """(number, 3, H, W) in [0, 1]: ``model.sample`` with random numbers of this seed.

    ``labels`` (number,) are those of the pictures, for the models in ``BY_CLASS``; ``options`` are those of
    ``model.sample``.
    """
    torch.manual_seed(seed)
    model.eval()
    pictures = []
    with progress(None, f"Sampling from {model.name}", number, "picture") as bar:
        for start in range(0, number, BATCH):
            some = {} if labels is None else {"labels": labels[start : start + BATCH]}
            pictures.append(model.sample(min(BATCH, number - start), **some, **options))
            bar.update(len(pictures[-1]))
    return torch.cat(pictures)


def labels_in_proportion(counts: Mapping[str, int], number: int) -> Tensor:
    """(number,) int64, sorted: labels, each as frequent as its class in ``counts``, rounded (largest remainder)."""
    shares = torch.tensor(list(counts.values())).double() * number / sum(counts.values())
    numbers = shares.floor().long()
    most = (shares - numbers).argsort(descending=True, stable=True)
    numbers[most[: number - int(numbers.sum())]] += 1
    return torch.arange(len(numbers)).repeat_interleave(numbers)


def draw_samples(title: str, images: Tensor, labels: Tensor | None, classes: Sequence[str]) -> Image.Image:
    """Draws images (N, 3, H, W) below the title, about as many in a row as there are rows, five or more; those of a
    class together, below its name, if ``labels`` (N,) are given."""
    columns = max(5, math.ceil(math.sqrt(len(images))))
    groups = {title: images}
    if labels is not None:
        groups = {f"{title}, {classes[label]}": images[labels == label] for label in labels.unique().tolist()}
    return name_groups({name: show_images(some, columns=columns) for name, some in groups.items()})


@torch.no_grad()
def latent_vectors(model: Any, images: Tensor) -> Tensor:
    """The latent vectors (N, encoding_dim) of images (N, 3, H, W) by an autoencoder: of a VAE, the means."""
    batches = images.split(256)
    return torch.cat([model.encode(some)[0] if hasattr(model, "encode") else model.encoder(some) for some in batches])
