"""How good the pictures of the models are, in numbers (handout, Part 4, step 4).

    python sample_quality.py

prints a table with a row for each model: the kernel distance between its pictures and the validation photos, in the
features of two networks, and the distance of its pictures to the nearest training photo, which is 0 for copies. It
writes vis/nearest_X.png for each model: its pictures that are nearest to a training photo, above that photo.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.command_line import Parser, image_size, log, positive_int, seed
from lab.defaults import MODELS
from lab.errors import UserError, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Measures the distance between the pictures of each model and validation photos.")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best models are")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures are saved")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--number", type=positive_int, default=500, help="number of pictures by each model, 2 or more")
    parser.add_argument("--seed", type=seed, default=0, help="of the pictures and the networks")
    args = parser.parse_args(argv)
    if args.number < 2:
        parser.error("argument --number: found 1, expected 2 or more")
    return args


def usable_checkpoints(model_dir: str, image_size: Sequence[int], split: tuple[Any, Any]) -> list[dict[str, Any]]:
    """The checkpoints of models trained on these photos at this size; names others on stderr. UserError if none."""
    from lab.checkpoint import checkpoint_path, load_checkpoint
    from lab.photos import trained_on

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
        elif not trained_on(checkpoint["data"]["fingerprint"], *split):
            print(f"{path}: was trained on other photos, left out.", file=sys.stderr)
        else:
            usable.append(checkpoint)
    if not usable:
        raise UserError(f"{model_dir}: found no model to measure; train one first, or give its folder")
    return usable


def nearest(images: Any, photos: Any) -> tuple[Any, Any]:
    """For images (M, 3, H, W) and photos (N, 3, H, W), both in [0, 1]: the distance of each image to the nearest photo
    or mirrored photo, as the root mean squared difference of pixels (M,), and the position of that photo (M,).
    """
    import torch

    flipped_too = [torch.cdist(images.flatten(1), way.flatten(1)) for way in (photos, photos.flip(3))]
    distances, positions = torch.minimum(*flipped_too).min(dim=1)
    return distances / images[0].numel() ** 0.5, positions


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    import torch

    from data_processor import show_recover_results
    from lab.files import atomic_write, prepare_folder
    from lab.generation import generate
    from lab.kernel_distance import Features, distance_of_subsets, random_network, train_classifier
    from lab.photos import photos_or_drawn, read_photos

    prepare_folder(args.vis_dir)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    training, validation = read_photos(data_root, args.image_size).split(args.split_seed)
    if len(validation) < 2:
        found = f"{data_root}: found one validation photo, expected more to measure by"
        raise UserError(f"{found}; give at least 10 photos")
    checkpoints = usable_checkpoints(args.model_dir, args.image_size, (training, validation))
    photos, _ = training[:]
    unseen, kinds = validation[:]

    classifier = train_classifier(training, args.seed)
    with torch.no_grad():
        right = (classifier(unseen).argmax(dim=1) == kinds).float().mean()
    views = [Features(network, photos) for network in (classifier[0], random_network(args.seed))]
    targets = [view(unseen) for view in views]
    print_row("", "classifier", "random net", "nearest", "closest 5%")
    print_row(*5 * ["---"])

    def distances(images: torch.Tensor) -> list[str]:
        pairs = [distance_of_subsets(view(images), target) for view, target in zip(views, targets, strict=True)]
        return [f"{mean:.2f} ± {spread:.2f}" for mean, spread in pairs]

    def quantiles(near: torch.Tensor) -> list[str]:
        return [f"{near.quantile(share):.3f}" for share in (0.5, 0.05)]

    print_row("training photos", *distances(photos), "", "")
    print_row("validation photos", "", "", *quantiles(nearest(unseen, photos)[0]))
    for checkpoint in checkpoints:
        name = checkpoint["name"]
        images = generate(checkpoint["model"], args.number, args.seed)
        near, positions = nearest(images, photos)
        print_row(name, *distances(images), *quantiles(near))
        closest = near.argsort()[:16]
        with atomic_write(Path(args.vis_dir, f"nearest_{name}.png")) as file:
            show_recover_results(images[closest], photos[positions[closest]], file)
    print_row("noise", *distances(torch.rand(args.number, *photos[0].shape)), "", "")
    log(f"The classifier names the kind of {right:.0%} of the validation photos.")


def print_row(*cells: str) -> None:
    """Prints a row of a table in Markdown, 80 characters wide."""
    log("| {:17} | {:12} | {:13} | {:8} | {:10} |".format(*cells))


if __name__ == "__main__":
    main()
