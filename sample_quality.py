"""How good the pictures of the models are, in numbers (handout, Part 4, step 4).

    python sample_quality.py

prints a table, a row a model: how far its pictures are from the validation photos, as two networks see them, and how
near the nearest training photo is, beside how near it is to the validation photos. It draws vis/nearest_X.png for each
model: those of its pictures that are nearest to a training photo, and below each that photo.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_line import MODELS, Parser, image_size, log, one_line_errors, positive_int, seed
from drawn_flowers import photos_or_drawn


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Measures how far the pictures of each model are from photos that it has not seen.")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best models are")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures go")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--number", type=positive_int, default=500, help="pictures by each model, 2 or more")
    parser.add_argument("--seed", type=seed, default=0, help="of the pictures and the networks")
    args = parser.parse_args(argv)
    if args.number < 2:
        parser.error("argument --number: found 1, expected 2 or more")
    return args


def usable_checkpoints(model_dir: str, image_size: Sequence[int], fingerprint: str) -> list[dict[str, Any]]:
    """The checkpoints in ``model_dir`` of models trained on these photos at this size; says which others there are.

    Raises:
        FileNotFoundError: there is none.
    """
    from checkpoint import checkpoint_path, load_checkpoint

    usable = []
    for name in MODELS:
        path = checkpoint_path(model_dir, name)
        if not path.exists():
            print(f"{path}: no such checkpoint, left out.", file=sys.stderr)
            continue
        checkpoint = load_checkpoint(model_dir, name)
        if checkpoint["image_size"] != list(image_size):
            found, expected = ("{} x {}".format(*size) for size in (checkpoint["image_size"], image_size))
            print(f"{path}: found a model of {found} pixels, expected {expected}, left out.", file=sys.stderr)
        elif checkpoint["data"]["fingerprint"] != fingerprint:
            print(f"{path}: was trained on other photos, left out.", file=sys.stderr)
        else:
            usable.append(checkpoint)
    if not usable:
        raise FileNotFoundError(f"{model_dir}: found no model to measure; train one first, or give its folder")
    return usable


def nearest(images: Any, photos: Any) -> tuple[Any, Any]:
    """How near the nearest of the photos and their mirror images is to each image, and which one that is.

    Args:
        images: (M, 3, H, W) in [0, 1].
        photos: (N, 3, H, W) in [0, 1].

    Returns:
        Root mean squared differences of pixels (M,), and positions in ``photos`` (M,).
    """
    import torch

    both_ways = [torch.cdist(images.flatten(1), way.flatten(1)) for way in (photos, photos.flip(3))]
    distances, positions = torch.minimum(*both_ways).min(dim=1)
    return distances / images[0].numel() ** 0.5, positions


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    import torch

    from data_processor import FlowerDataset, create_flower_dataloaders, show_recover_results
    from files import prepare_folder
    from generation import generate
    from kernel_distance import Features, distance_of_subsets, random_network, train_classifier

    prepare_folder(args.vis_dir)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    size: tuple[int, int] = args.image_size
    training, validation = create_flower_dataloaders(32, data_root, *size, seed=args.seed, split_seed=args.split_seed)
    assert isinstance(training.dataset, FlowerDataset) and isinstance(validation.dataset, FlowerDataset)
    if len(validation.dataset) < 2:
        raise OSError(f"{data_root}: found one validation photo, expected more to measure by; give at least 10 photos")
    checkpoints = usable_checkpoints(args.model_dir, args.image_size, training.dataset.fingerprint())
    photos, _ = training.dataset[:]
    unseen, kinds = validation.dataset[:]

    classifier = train_classifier(training, args.seed)
    with torch.no_grad():
        right = (classifier(unseen).argmax(dim=1) == kinds).float().mean()
    views = [Features(network, photos) for network in (classifier[0], random_network(args.seed))]
    goals = [view(unseen) for view in views]
    print_row("", "classifier", "random net", "nearest", "closest 5%")
    print_row(*5 * ["---"])

    def distances(images: torch.Tensor) -> list[str]:
        of_subsets = (distance_of_subsets(view(images), goal) for view, goal in zip(views, goals, strict=True))
        return [f"{mean:.2f} ± {spread:.2f}" for mean, spread in of_subsets]

    def quantiles(near: torch.Tensor) -> list[str]:
        return [f"{near.quantile(share):.3f}" for share in (0.5, 0.05)]

    print_row("training photos", *distances(photos), "", "")
    print_row("validation photos", "", "", *quantiles(nearest(unseen, photos)[0]))
    for checkpoint in checkpoints:
        name = checkpoint["name"]
        images = generate(checkpoint, args.number, args.seed)
        near, positions = nearest(images, photos)
        print_row(name, *distances(images), *quantiles(near))
        closest = near.argsort()[:16]
        show_recover_results(images[closest], photos[positions[closest]], Path(args.vis_dir, f"nearest_{name}.png"))
    print_row("noise", *distances(torch.rand(args.number, *photos[0].shape)), "", "")
    log(f"The classifier names the kind of {right:.0%} of the validation photos.")


def print_row(*cells: str) -> None:
    """Prints a row of a table in Markdown, its columns in line, 80 characters wide."""
    log("| {:17} | {:12} | {:13} | {:8} | {:10} |".format(*cells))


if __name__ == "__main__":
    main()
