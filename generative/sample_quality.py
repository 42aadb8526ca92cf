"""How good the pictures of the models are, in numbers (handout, Part 4, step 4).

    python -m generative.sample_quality

prints a table with a row for each model. It compares the pictures with validation photos, which no model has learned
from:

- told apart: how well a network, trained to tell the pictures from training photos, tells other pictures from
  validation photos: the area under the ROC curve, 0.5 if it cannot, 1 if it always does. Mean and standard deviation
  over three trainings, each on another half of the pictures;
- coverage: the share of the validation photos that have a picture like them, in the features of a classifier;
- nearest, closest 5%: the distance of the pictures to the nearest training photo, which is 0 for copies: the median,
  and what the closest twentieth stay below.

Of an autoencoder, a second row has pictures from a Gaussian fitted to its latent vectors, in place of N(0, 1).
Training photos in place of pictures show what is the best to expect, and noise the worst. For each model it writes
vis/nearest_X.png: its pictures that are nearest to a training photo, above that photo.
"""

import argparse
import statistics
import sys
from pathlib import Path

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from data_processor import random_horizontal_flip, read_flowers, show_recover_results
from lab.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from lab.command_line import Parser, image_size, log, positive_int, seed
from lab.errors import UserError, one_line_errors
from lab.grids import name_rows, save_picture
from lab.models import AUTOENCODERS, BY_CLASS, MODELS
from lab.photos import fingerprint, photos_or_drawn
from lab.sampling import fitted_prior, labels_in_proportion, sample_in_batches

FEATURES = 128


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Measures the distance between the pictures of each model and validation photos.")
    parser.add_folders(model_dir="where the best models are", vis_dir="where the pictures are saved")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--number", type=positive_int, default=1000, help="number of pictures by each model")
    parser.add_argument("--seed", type=seed, default=0, help="of the pictures and the networks")
    args = parser.parse_args(argv)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    training, validation = read_flowers(data_root, *args.image_size).split(args.split_seed)
    if len(validation) < 2 or args.number < 2:
        raise UserError(
            f"found {len(validation)} validation photos, --number {args.number}; expected 2 or more of each"
        )
    checkpoints = usable_checkpoints(args, fingerprint(training, validation))
    photos, labels = training[:]
    unseen, unseen_labels = validation[:]

    classifier = train_classifier(photos, labels, len(training.classes), args.seed)
    with torch.no_grad():
        right = (classifier(unseen).argmax(dim=1) == unseen_labels).float().mean()
    features = Features(classifier[0], photos)

    def compare(pictures: Tensor, photos: Tensor) -> list[str]:
        """The cells of a row on these pictures, which may come sorted by label; ``photos`` are those to train on."""
        areas = []
        for repeat in range(args.seed, args.seed + 3):
            trained_on, others = shuffled(pictures, repeat).tensor_split(2)
            areas.append(two_sample_test(trained_on, photos, others, unseen, repeat))
        # As many pictures as photos, so that the coverage does not depend on --number, unless that is smaller.
        covered = coverage(features(shuffled(pictures, args.seed)[: len(unseen)]), features(unseen))
        return [f"{statistics.mean(areas):.2f} ± {statistics.stdev(areas):.2f}", f"{covered:.2f}"]

    def quantiles(distances: Tensor) -> list[str]:
        return [f"{distances.quantile(share):.3f}" for share in (0.5, 0.05)]

    print_row("", "told apart", "coverage", "nearest", "closest 5%")
    print_row(*5 * ["---"])
    # Some training photos take the place of pictures: not those that the network is to tell them from.
    number = min(args.number, len(photos) // 2)
    mixed = shuffled(photos, args.seed)
    print_row("training photos", *compare(mixed[:number], mixed[number:]), "", "")
    print_row("validation photos", "", "", *quantiles(nearest(unseen, photos)[0]))
    for checkpoint in checkpoints:
        name, model, classes = checkpoint["name"], checkpoint["model"], checkpoint["data"]["classes"]
        in_proportion = labels_in_proportion(classes, args.number) if name in BY_CLASS else None
        images = sample_in_batches(model, args.number, args.seed, in_proportion)
        distances, positions = nearest(images, photos)
        print_row(name, *compare(images, photos), *quantiles(distances))
        if name in AUTOENCODERS:
            torch.manual_seed(args.seed)
            with torch.no_grad():
                fitted = model.decoder(fitted_prior(model, photos).sample((args.number,)).float())
            print_row(f"{name}, fitted", *compare(fitted, photos), *quantiles(nearest(fitted, photos)[0]))
        closest = distances.argsort()[:16]
        picture = show_recover_results(images[closest], photos[positions[closest]])
        rows = -(-len(closest) // 8)
        save_picture(name_rows(picture, [name, "nearest"] * rows), Path(args.vis_dir, f"nearest_{name}.png"))
    noise = torch.rand(args.number, *photos[0].shape, generator=torch.Generator().manual_seed(args.seed))
    print_row("noise", *compare(noise, photos), "", "")
    log(f"The classifier is right on {right:.0%} of the validation photos.")


def usable_checkpoints(args: argparse.Namespace, photos: str) -> list[Checkpoint]:
    """The checkpoints of models trained at this size on the photos of this fingerprint; names others on stderr."""
    usable = []
    for name in MODELS:
        path = checkpoint_path(args.model_dir, name)
        if path.exists():
            checkpoint = load_checkpoint(args.model_dir, name)
            if (checkpoint["image_size"], checkpoint["data"]["fingerprint"]) == (list(args.image_size), photos):
                usable.append(checkpoint)
                continue
        print(f"{path}: no model of this image size that was trained on these photos; left out.", file=sys.stderr)
    return usable


def shuffled(images: Tensor, seed: int) -> Tensor:
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]


def print_row(*cells: str) -> None:
    """Prints a row of a table in Markdown."""
    log("| {:22} | {:11} | {:8} | {:8} | {:10} |".format(*cells))


# Measures


def train_classifier(images: Tensor, labels: Tensor, classes: int, seed: int = 0, epochs: int = 10) -> nn.Sequential:
    """Trains a small convolutional network on images (N, 3, H, W) in [0, 1] and their labels (N,).

    Returns:
        nn.Sequential(network, linear layer): (N, 3, H, W) -> features (N, FEATURES) -> logits (N, classes).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
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
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
        classifier = nn.Sequential(network, nn.Linear(FEATURES, classes))
        train(classifier, images, labels, epochs, "Training a classifier")
    return classifier


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, description: str) -> None:
    """Trains a network, (N, 3, H, W) -> logits (N, classes), by cross-entropy, with images mirrored at random."""
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(images)).split(32)]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, fused=True)
    scheduler = OneCycleLR(optimizer, 3e-3, len(batches))
    for batch in tqdm(batches, description, unit="step", leave=False, disable=None):
        loss = cross_entropy(network(random_horizontal_flip(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


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
        self.std = std.clamp_min(float(0.01 * std.max()) or 1)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        features = torch.cat([self.network(batch) for batch in images.split(256)])
        return (features - self.mean) / self.std


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
    area under the ROC curve for pictures and photos that it has not seen (Lopez-Paz and Oquab, Revisiting Classifier
    Two-Sample Tests, 2017, but with the area in place of the accuracy).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Strided convolutions with batch norm find the texture that transposed convolutions leave in pictures, which
        # the network of the classifier hardly notices.
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
    higher score, with ties counted half (Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, 1982);
    nan if a score is nan."""
    differences = positives[:, None] - negatives
    return (torch.where(differences.isnan(), differences, differences.sign()).mean().item() + 1) / 2


def nearest(images: Tensor, photos: Tensor) -> tuple[Tensor, Tensor]:
    """For images (M, 3, H, W) and photos (N, 3, H, W), both in [0, 1]: the distance of each image to the nearest photo
    or mirrored photo, as the root mean squared difference of pixels (M,), and the position of that photo (M,).
    """
    distances = [torch.cdist(images.flatten(1), each.flatten(1)) for each in (photos, photos.flip(3))]
    smallest, positions = torch.minimum(*distances).min(dim=1)
    return smallest / images[0].numel() ** 0.5, positions


if __name__ == "__main__":
    main()
