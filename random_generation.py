"""Pictures that nobody took, made of random numbers (handout, Parts 3 and 4).

    python random_generation.py --model AE|VAE|VAE_calibrated|GAN|DDPM|MLPAE

draws vis/random_images_AE.png, and so on.
"""

import argparse
import math
from pathlib import Path

from command_line import MODELS, Parser, one_line_errors, positive_int, seed


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Makes pictures of random numbers from N(0, 1): latent vectors, or noise for DDPM.")
    parser.add_argument("--model", choices=MODELS, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--model-dir", default="./models", help="where the best model is")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures go")
    parser.add_argument("--number", type=positive_int, default=10, help="pictures")
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers")
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    from checkpoint import load_checkpoint
    from data_processor import show_images
    from files import prepare_folder
    from generation import generate

    checkpoint = load_checkpoint(args.model_dir, args.model)
    prepare_folder(args.vis_dir)
    images = generate(checkpoint, args.number, args.seed)
    columns = max(5, math.ceil(math.sqrt(args.number)))  # two rows of five, or a square of many
    show_images(images, Path(args.vis_dir, f"random_images_{args.model}.png"), columns)


if __name__ == "__main__":
    main()
