"""The distance between a set of generated pictures and a set of photos, in one number (handout, Part 4, step 4).

A network maps each image to a vector of features, and the kernel distance compares the two sets of vectors. It is
computed as the kernel inception distance (Binkowski et al., Demystifying MMD GANs, 2018), but with small networks of
our own: Inception would have to be downloaded, and is not made for images this small. Distances in the features of
different networks cannot be compared.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from data_processor import FlowerDataset, random_horizontal_flip, whole_batch
from lab.command_line import progress
from lab.errors import UserError

FEATURES = 128


def random_network(seed: int = 0) -> nn.Sequential:
    """A small convolutional network with random weights: (N, 3, H, W) in [0, 1] -> (N, FEATURES)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: Any = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, FEATURES, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        for layer in network:
            if hasattr(layer, "weight"):
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
    return network


def train_classifier(photos: FlowerDataset, seed: int = 0, epochs: int = 10) -> nn.Sequential:
    """A random network with a linear layer on its features, trained to classify the photos by kind of flower.

    Returns:
        nn.Sequential(network, linear layer): (N, 3, H, W) in [0, 1] -> logits (N, number of kinds).
    """
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(photos, 32, shuffle=True, generator=order, collate_fn=whole_batch)
    steps = epochs * len(loader)
    torch.manual_seed(seed)
    classifier = nn.Sequential(random_network(seed), nn.Linear(FEATURES, len(photos.classes)))
    optimizer = torch.optim.AdamW(classifier.parameters(), 3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    batches = itertools.chain.from_iterable(itertools.repeat(loader, epochs))
    for images, labels in progress(batches, "Training a classifier", steps, "step"):
        loss = cross_entropy(classifier(random_horizontal_flip(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier


class Features:
    """Images (N, 3, H, W) in [0, 1] -> features of a network (N, FEATURES), standardized on photos.

    Each feature has mean 0 and standard deviation 1 over the photos, or less if it hardly varies.
    """

    def __init__(self, network: nn.Module, photos: Tensor) -> None:
        self.network = network
        self.mean: Tensor | float = 0
        self.std: Tensor | float = 1
        features = self(photos)
        self.mean, std = features.mean(dim=0), features.std(dim=0)
        self.std = std.clamp_min(0.01 * std.max())

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        features = torch.cat([self.network(batch) for batch in images.split(256)])
        return (features - self.mean) / self.std


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two sets of features, (M, FEATURES) and (N, FEATURES).

    The estimate is unbiased: for two samples of one distribution its mean is 0, and it can be negative (Gretton et al.,
    A Kernel Two-Sample Test, 2012, equation 3).
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(values: Tensor) -> Tensor:
        return (values.sum() - values.trace()) / (len(values) * (len(values) - 1))

    return mean_of_pairs(kernel(x, x)) + mean_of_pairs(kernel(y, y)) - 2 * kernel(x, y).mean()


def distance_of_subsets(
    x: Tensor, y: Tensor, subsets: int = 100, size: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the kernel distance over random subsets of both sets."""
    generator = torch.Generator().manual_seed(seed)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    distances = torch.stack([kernel_distance(subset(x), subset(y)) for _ in range(subsets)])
    return distances.mean().item(), distances.std().item()


def validate_pictures(model: Any, photos: Any) -> tuple[float, dict[str, float]]:
    """As ``validate``, for a GAN: the kernel distance between its pictures and a FlowerDataset of validation photos.

    The features are those of another random network than in sample_quality.py. First, the statistics of the
    generator's batch norms are computed again, since its weights are an average and training's are of other weights.
    """
    images, _ = photos[:]
    if len(images) < 2:
        raise UserError("found one validation photo, expected more to measure pictures by; give at least 10 photos")
    features = Features(random_network(seed=1000).to(images.device), images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        update_bn(torch.randn(5, 100, model.encoding_dim, device=images.device), model.generator)
        pictures = model.eval().sample(len(images))
    return kernel_distance(features(pictures), features(images)).item(), {}
