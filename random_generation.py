"""Samples pictures from a trained model, with random numbers from N(0, 1) (handout, Parts 3 and 4).

    python random_generation.py --model AE|VAE|VAE_calibrated|GAN|DDPM|MLPAE

writes vis/random_images_AE.png etc.
"""

import argparse
import math
from pathlib import Path

from lab.command_line import Parser, positive_int, seed
from lab.defaults import MODELS
from lab.errors import one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Samples pictures from a trained model: random latent vectors, or noise for DDPM, are decoded.")
    parser.add_argument("--model", choices=MODELS, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--model-dir", default="./models", help="where the best model is")
    parser.add_argument("--vis-dir", default="./vis", help="where the picture is saved")
    parser.add_argument("--number", type=positive_int, default=10, help="number of pictures")
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers")
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    from data_processor import show_images
    from lab.checkpoint import load_checkpoint
    from lab.files import atomic_write, prepare_folder
    from lab.generation import generate

    model = load_checkpoint(args.model_dir, args.model)["model"]
    prepare_folder(args.vis_dir)
    images = generate(model, args.number, args.seed)  # model.sample, which decodes random numbers, in batches
    columns = max(5, math.ceil(math.sqrt(args.number)))  # two rows of five by default, otherwise about a square
    with atomic_write(Path(args.vis_dir, f"random_images_{args.model}.png")) as file:
        show_images(images, file, columns)


if __name__ == "__main__":
    main()
