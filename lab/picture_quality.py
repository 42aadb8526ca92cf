"""How near the generated pictures are to photos, in numbers (handout, Part 4, step 4).

Three measures: how well a network trained for it tells the two apart (``two_sample_test``), the share of the photos
that have a picture like them (``coverage``), and the distance between the two sets (``kernel_distance``). The last two
compare features, which a network computes of each image. The distance is computed as the kernel inception distance
(Binkowski et al., Demystifying MMD GANs, 2018), but with small networks of our own: Inception would have to be
downloaded, and is not made for images this small. Distances in the features of different networks cannot be compared.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from data_processor import random_horizontal_flip
from lab.command_line import progress

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


def train_classifier(images: Tensor, labels: Tensor, kinds: int, seed: int = 0, epochs: int = 10) -> nn.Sequential:
    """A random network with a linear layer on its features, trained to classify images by kind of flower.

    Args:
        images: (N, 3, H, W) in [0, 1].
        labels: (N,) int64, from 0 to kinds - 1.

    Returns:
        nn.Sequential(network, linear layer): (N, 3, H, W) in [0, 1] -> logits (N, kinds).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = nn.Sequential(random_network(seed), nn.Linear(FEATURES, kinds))
        train(classifier, images, labels, epochs, "Training a classifier")
    return classifier


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, description: str) -> None:
    """Trains a network, (N, 3, H, W) -> logits (N, kinds), by cross-entropy, with images mirrored at random."""
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(images)).split(32)]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, len(batches))
    for batch in progress(batches, description, unit="step"):
        loss = cross_entropy(network(random_horizontal_flip(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


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


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """The polynomial kernel of each pair of features, (M, FEATURES) and (N, FEATURES) -> (M, N)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two sets of features, (M, FEATURES) and (N, FEATURES).

    The estimate is unbiased: for two samples of one distribution its mean is 0, and it can be negative (Gretton et al.,
    A Kernel Two-Sample Test, 2012, equation 3).
    """

    def mean_of_pairs(values: Tensor) -> Tensor:
        return (values.sum() - values.trace()) / (len(values) * (len(values) - 1))

    return mean_of_pairs(kernel(x, x)) + mean_of_pairs(kernel(y, y)) - 2 * kernel(x, y).mean()


def bootstrap_distance(x: Tensor, y: Tensor, resamples: int = 200, seed: int = 0) -> tuple[float, float]:
    """The kernel distance of x (M, FEATURES) and y (N, FEATURES), and its standard deviation, by the bootstrap.

    The latter is taken over resamples of both sets, with replacement, of M and N (Efron, Bootstrap Methods: Another
    Look at the Jackknife, 1979). Pairs of copies of one sample are left out of the mean over pairs, as those of a
    sample with itself are: they would make the distance of each resample larger. For two samples of one distribution
    the standard deviation comes out about sqrt(3) times too large, as the U-statistic is degenerate there (Arcones and
    Gine, On the Bootstrap of U and V Statistics, 1992).
    """
    generator = torch.Generator().manual_seed(seed)

    def counts(samples: Tensor) -> Tensor:
        """How often each of N samples is in each resample, (resamples, N)."""
        positions = torch.randint(len(samples), (resamples, len(samples)), generator=generator)
        return torch.stack([row.bincount(minlength=len(samples)) for row in positions]).to(samples.dtype)

    def mean_of_pairs(values: Tensor, times: Tensor) -> Tensor:
        pairs = times.sum(dim=1) ** 2 - (times**2).sum(dim=1)
        return (times @ values.fill_diagonal_(0) * times).sum(dim=1) / pairs

    x_times, y_times = counts(x), counts(y)
    between = (x_times @ kernel(x, y) * y_times).sum(dim=1) / (len(x) * len(y))
    distances = mean_of_pairs(kernel(x, x), x_times) + mean_of_pairs(kernel(y, y), y_times) - 2 * between
    # A resample of copies of one sample alone has no pairs: its distance is nan.
    return kernel_distance(x, y).item(), distances[distances.isfinite()].std().item()


def coverage(pictures: Tensor, photos: Tensor, k: int = 5) -> float:
    """The share of the photos that have a picture as near as their k-th nearest other photo, or nearer.

    By features, (M, FEATURES) and (N, FEATURES), N > 1; with fewer than k other photos the furthest one counts. For as
    many pictures as photos, of the same distribution, about 1 - 1 / 2^k can be expected, and more for more pictures
    (Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020).
    """

    def distances(others: Tensor) -> Tensor:
        # Computed from differences: the faster way by matrix products is inexact for what is near.
        return torch.cdist(photos, others, compute_mode="donot_use_mm_for_euclid_dist")

    radii, _ = distances(photos).kthvalue(min(k + 1, len(photos)))  # the nearest to each photo is itself
    return (distances(pictures).amin(dim=1) <= radii).float().mean().item()


def two_sample_test(
    pictures: Tensor, photos: Tensor, unseen_pictures: Tensor, unseen_photos: Tensor, seed: int = 0
) -> float:
    """How well a small network tells pictures from photos: 0.5 if it cannot, 1 if it always does.

    It is trained on as many pictures as photos, as many as there are of both, (N, 3, H, W) in [0, 1]. The figure is the
    area under the ROC curve for pictures and photos that it has not seen, of any number. For unseen ones of one
    distribution it is 0.5 on average, whatever the network has learned (Lopez-Paz and Oquab, Revisiting Classifier
    Two-Sample Tests, 2017, but with the area in place of the accuracy).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Strided convolutions with batch norm find the texture that transposed convolutions leave in pictures, which a
        # network such as random_network's hardly notices.
        network = nn.Sequential(
            nn.Conv2d(3, 64, 4, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 2),
        )
        number = min(len(pictures), len(photos))
        sides = [images[torch.randperm(len(images))[:number]] for images in (photos, pictures)]
        train(network, torch.cat(sides), torch.arange(2).repeat_interleave(number), 20, "Telling pictures from photos")
    network.eval()
    with torch.no_grad():
        # The logit for pictures minus that for photos.
        photo_scores, picture_scores = (network(images).diff().flatten() for images in (unseen_photos, unseen_pictures))
    return area_under_curve(picture_scores, photo_scores)


def area_under_curve(positives: Tensor, negatives: Tensor) -> float:
    """The area under the ROC curve, from scores (M,) and (N,): the share of pairs in which the positive one has the
    higher score, with ties counted half (Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, 1982).

    Raises:
        ValueError: there are no scores on one side.
    """
    if not len(positives) or not len(negatives):
        raise ValueError(f"found {len(positives)} and {len(negatives)} scores, expected at least one of each")
    differences = positives[:, None] - negatives
    return (differences.sign().mean().item() + 1) / 2


def nearest(images: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
    """For images (M, 3, H, W) and photos (N, 3, H, W), both in [0, 1]: the distance of each image to the nearest photo
    or mirrored photo, as the root mean squared difference of pixels (M,), and the position of that photo (M,).
    """
    flipped_too = [torch.cdist(images.flatten(1), way.flatten(1)) for way in (photos, photos.flip(3))]
    distances, positions = torch.minimum(*flipped_too).min(dim=1)
    return distances / images[0].numel() ** 0.5, positions


def validate_pictures(model: Any, images: Tensor, kinds: Tensor) -> tuple[float, dict[str, float]]:
    """As ``validate``, for a GAN: the kernel distance between photos (N, 3, H, W) and its pictures of their kinds (N,).

    The features are those of another random network than in sample_quality.py. First, the statistics of the
    generator's batch norms are computed again, since its weights are an average and training's are of other weights.
    """
    features = Features(random_network(seed=1000).to(images.device), images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = torch.randint(len(kinds), (5, 100), device=kinds.device)
        update_bn([model.random_inputs(100, kinds[some]) for some in rows], model.generator)
        pictures = model.eval().sample(len(images), kinds)
    return kernel_distance(features(pictures), features(images)).item(), {}
