"""Originals above reconstructions, from the training and from the validation photos.

    python visualization.py --model MLPAE|AE|VAE|VAE_calibrated

draws vis/train_MLPAE.png and vis/valid_MLPAE.png, and so on.
"""

import argparse
import sys
from pathlib import Path

from autograd import BaseGraph
from command_line import AUTOENCODERS, Parser, one_line_errors, positive_int
from drawn_flowers import photos_or_drawn


def parse_arguments(argv):
    parser = Parser("Draws photos above what a trained autoencoder makes of them.")
    parser.add_argument("--model", choices=AUTOENCODERS, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--data-root", help="the photos (default: those of the training)", default=argparse.SUPPRESS)
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model is")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures go")
    parser.add_argument("--number", type=positive_int, default=16, help="photos in a picture")
    return parser.parse_args(argv)


def reconstruct(model, images):
    """(N, 3, H, W) -> (N, 3, H, W), whichever kind of model it is."""
    if isinstance(model, BaseGraph):
        return model.forward(images.flatten(1).numpy()).reshape(images.shape)
    return model.eval().reconstruct(images)


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    from checkpoint import load_checkpoint
    from data_processor import read_flowers, show_recover_results
    from files import prepare_folder

    checkpoint = load_checkpoint(args.model_dir, args.model)
    prepare_folder(args.vis_dir)
    data_root = photos_or_drawn(getattr(args, "data_root", checkpoint["data"]["root"]), args.drawn_root)
    flowers = read_flowers(data_root, *checkpoint["image_size"])
    training, validation = flowers.split(checkpoint["settings"]["split_seed"])
    if training.fingerprint() != checkpoint["data"]["fingerprint"]:
        print("These are not the photos that the model was trained on.", file=sys.stderr)

    for name, photos in ("train", training), ("valid", validation):
        images, _ = photos[: args.number]
        recovered = reconstruct(checkpoint["model"], images)
        show_recover_results(images, recovered, Path(args.vis_dir, f"{name}_{args.model}.png"))


if __name__ == "__main__":
    main()
