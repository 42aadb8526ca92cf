"""How good the pictures of the models are, in numbers (handout, Part 4, step 4).

    python sample_quality.py

prints a table with a row for each model. It compares the pictures with validation photos, which no model has learned
from:

- told apart: how well a network, trained to tell the pictures from training photos, tells other pictures from
  validation photos: the area under the ROC curve, 0.5 if it cannot, 1 if it always does. Mean and standard deviation
  over three trainings, each on another half of the pictures. The choice of the validation photos adds to the latter:
  for 500 of them, about 0.02.
- coverage: the share of the validation photos that have a picture like them, in the features of a classifier;
- classifier, random net: the kernel distance, in the features of this classifier and of a random network, and its
  standard deviation by the bootstrap;
- nearest, closest 5%: the distance of the pictures to the nearest training photo, which is 0 for copies: the median,
  and what the closest twentieth stay below.

Training photos in place of pictures show what is the best to expect, and noise the worst. For each model it writes
vis/nearest_X.png: its pictures that are nearest to a training photo, above that photo.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.command_line import Parser, image_size, log, positive_int, seed
from lab.defaults import BY_KIND, DATA_ROOT, FOLDERS, MODELS
from lab.errors import UserError, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Measures the distance between the pictures of each model and validation photos.")
    parser.add_argument("--data-root", default=DATA_ROOT, help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    parser.add_argument("--model-dir", default=FOLDERS["model_dir"], help="where the best models are")
    parser.add_argument("--vis-dir", default=FOLDERS["vis_dir"], help="where the pictures are saved")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--number", type=positive_int, default=1000, help="number of pictures by each model, 2 or more")
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


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    import torch

    from data_processor import show_recover_results
    from lab.files import atomic_write, prepare_folder
    from lab.generation import generate, kinds_in_proportion
    from lab.photos import photos_or_drawn, read_photos
    from lab.picture_quality import (
        Features,
        bootstrap_distance,
        coverage,
        nearest,
        random_network,
        train_classifier,
        two_sample_test,
    )

    prepare_folder(args.vis_dir)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    training, validation = read_photos(data_root, args.image_size).split(args.split_seed)
    if len(validation) < 2 or len(training) < 4:
        found = f"{len(training)} training and {len(validation)} validation photos"
        raise UserError(f"{data_root}: found {found}, expected 4 and 2 or more to measure by; give at least 10 photos")
    checkpoints = usable_checkpoints(args.model_dir, args.image_size, (training, validation))
    photos, photo_kinds = training[:]
    unseen, unseen_kinds = validation[:]

    def shuffled(images: torch.Tensor, seed: int) -> torch.Tensor:
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]

    classifier = train_classifier(photos, photo_kinds, len(training.classes), args.seed)
    with torch.no_grad():
        right = (classifier(unseen).argmax(dim=1) == unseen_kinds).float().mean()
    views = [Features(network, photos) for network in (classifier[0], random_network(args.seed))]
    targets = [view(unseen) for view in views]

    def compare(pictures: torch.Tensor, photos: torch.Tensor) -> list[str]:
        """The cells of a row on these pictures, which may come sorted by kind; ``photos`` are those to train on."""
        areas = []
        for repeat in range(args.seed, args.seed + 3):
            trained_on, others = shuffled(pictures, repeat).tensor_split(2)
            areas.append(two_sample_test(trained_on, photos, others, unseen, repeat))
        features = [view(shuffled(pictures, args.seed)) for view in views]
        # As many pictures as photos, so that the coverage does not depend on --number, unless that is smaller.
        covered = coverage(features[0][: len(unseen)], targets[0])
        distances = [bootstrap_distance(*pair, seed=args.seed) for pair in zip(features, targets, strict=True)]
        apart = statistics.mean(areas), statistics.stdev(areas)
        cells = [f"{figure:.2f} ± {spread:.2f}" for figure, spread in (apart, *distances)]
        return [cells[0], f"{covered:.2f}", *cells[1:]]

    def quantiles(near: torch.Tensor) -> list[str]:
        return [f"{near.quantile(share):.3f}" for share in (0.5, 0.05)]

    print_row("", "told apart", "coverage", "classifier", "random net", "nearest", "closest 5%")
    print_row(*7 * ["---"])
    # Some training photos take the place of pictures: not those that the network is to tell them from.
    number = min(args.number, len(photos) // 2)
    mixed = shuffled(photos, args.seed)
    print_row("training photos", *compare(mixed[:number], mixed[number:]), "", "")
    print_row("validation photos", "", "", "", "", *quantiles(nearest(unseen, photos)[0]))
    for checkpoint in checkpoints:
        name = checkpoint["name"]
        in_proportion = kinds_in_proportion(checkpoint["data"]["kinds"], args.number) if name in BY_KIND else None
        images = generate(checkpoint["model"], args.number, args.seed, in_proportion)
        near, positions = nearest(images, photos)
        print_row(name, *compare(images, photos), *quantiles(near))
        closest = near.argsort()[:16]
        with atomic_write(Path(args.vis_dir, f"nearest_{name}.png")) as file:
            show_recover_results(images[closest], photos[positions[closest]], file, row_names=[name, "photo"])
    noise = torch.rand(args.number, *photos[0].shape, generator=torch.Generator().manual_seed(args.seed))
    print_row("noise", *compare(noise, photos), "", "")
    log(f"The classifier names the kind of {right:.0%} of the validation photos.")


def print_row(*cells: str) -> None:
    """Prints a row of a table in Markdown, 101 characters wide."""
    log("| {:17} | {:11} | {:8} | {:12} | {:13} | {:8} | {:10} |".format(*cells))


if __name__ == "__main__":
    main()
