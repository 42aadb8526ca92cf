"""How far a set of pictures is from a set of photos, in one number (handout, Part 4, step 4).

A network turns each image into a point, a list of features, and the kernel distance compares two clouds of points. It
has the form of the kernel inception distance (Binkowski et al., Demystifying MMD GANs, 2018), without Inception, which
would have to be downloaded and knows nothing of images this small: small networks of our own take its place. Distances
by different networks do not compare.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data_processor import mirror_half
from progress import progress

FEATURES = 128


def random_network(seed: int = 0) -> nn.Sequential:
    """A small convolutional network as it is before any training: (N, 3, H, W) in [0, 1] -> (N, FEATURES)."""
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


def train_classifier(loader: Any, seed: int = 0, epochs: int = 10) -> nn.Sequential:
    """A random network with a linear layer on its features, trained to tell the loader's kinds of flower apart.

    Returns:
        nn.Sequential(network, linear layer): (N, 3, H, W) in [0, 1] -> (N, kinds), the larger the likelier.
    """
    torch.manual_seed(seed)
    classifier = nn.Sequential(random_network(seed), nn.Linear(FEATURES, len(loader.dataset.classes)))
    optimizer = torch.optim.AdamW(classifier.parameters(), 3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * len(loader))
    for _ in progress(range(epochs), "Training a classifier", unit="epoch"):
        for images, labels in loader:
            loss = cross_entropy(classifier(mirror_half(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier


class Features:
    """Images (N, 3, H, W) in [0, 1] -> what the network sees in them (N, FEATURES), measured in its spread over photos.

    Each feature has mean 0 and standard deviation 1 over the photos; one that hardly varies at all stays small.
    """

    def __init__(self, network: nn.Module, photos: Tensor) -> None:
        self.network = network
        self.mean: Tensor | float = 0
        self.std: Tensor | float = 1
        seen = self(photos)
        self.mean, std = seen.mean(dim=0), seen.std(dim=0)
        self.std = std.clamp_min(0.01 * std.max())

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        seen = torch.cat([self.network(some) for some in images.split(256)])
        return (seen - self.mean) / self.std


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two sets of features, (M, FEATURES) and (N, FEATURES).

    The estimate is unbiased: 0 on the average for sets of one origin, and often below 0 for such (Gretton et al., A
    Kernel Two-Sample Test, 2012, equation 3).
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

    def some_of(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    distances = torch.stack([kernel_distance(some_of(x), some_of(y)) for _ in range(subsets)])
    return distances.mean().item(), distances.std().item()
