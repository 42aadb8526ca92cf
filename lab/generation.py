"""Pictures sampled from a model (handout, Parts 3 and 4)."""

import math
from collections.abc import Mapping, Sequence
from typing import IO, Any

import torch
from torch import Tensor

from data_processor import show_groups
from lab.command_line import progress

BATCH = 32  # pictures sampled at a time: few enough for the cache, and enough for all cores


def generate(model: Any, number: int, seed: int, kinds: Tensor | None = None, **options: Any) -> Tensor:
    """(number, 3, H, W) in [0, 1]: ``model.sample`` with random numbers of this seed.

    ``kinds`` (number,) are the kind of each picture, for the models in ``BY_KIND``; ``options`` are those of
    ``model.sample``.
    """
    torch.manual_seed(seed)
    model.eval()
    pictures = []
    with progress(None, f"Sampling from {model.name}", number, "picture") as bar:
        for done in range(0, number, BATCH):
            chosen = {} if kinds is None else {"kinds": kinds[done : done + BATCH]}
            pictures.append(model.sample(min(BATCH, number - done), **chosen, **options))
            bar.update(len(pictures[-1]))
    return torch.cat(pictures)


def kinds_in_proportion(numbers: Mapping[str, int], number: int) -> Tensor:
    """(number,) int64, sorted: kinds of flower, as frequent as these numbers of photos, rounded (largest remainder)."""
    shares = torch.tensor(list(numbers.values())).double() * number / sum(numbers.values())
    counts = shares.floor().long()
    most = (shares - counts).argsort(descending=True, stable=True)
    counts[most[: number - int(counts.sum())]] += 1
    return torch.arange(len(counts)).repeat_interleave(counts)


def draw_samples(title: str, images: Tensor, kinds: Tensor | None, names: Sequence[str], file: IO[bytes]) -> None:
    """Draws images (N, 3, H, W) below the title, about as many in a row as there are rows, five or more; those of a
    kind together, below its name, if ``kinds`` (N,) are given."""
    columns = max(5, math.ceil(math.sqrt(len(images))))
    groups = {title: images}
    if kinds is not None:
        groups = {f"{title}, {names[kind]}": images[kinds == kind] for kind in kinds.unique().tolist()}
    show_groups(groups, file, columns)


@torch.no_grad()
def latent_vectors(model: Any, images: Tensor) -> Tensor:
    """The latent vectors of images (N, 3, H, W) by an autoencoder, (N, encoding_dim): of a VAE, the means."""
    batches = images.split(256)
    return torch.cat(
        [model.encode(batch)[0] if hasattr(model, "encode") else model.encoder(batch) for batch in batches]
    )
