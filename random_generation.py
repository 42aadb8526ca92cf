"""Pictures that nobody took: random latent vectors, decoded (handout, Parts 3 and 4).

    python random_generation.py --model AE|VAE|MLPAE

draws vis/random_images_AE.png, and so on.
"""

import argparse
from pathlib import Path

from autograd import BaseGraph
from command_line import Parser, one_line_errors, positive_int, seed


def parse_arguments(argv):
    parser = Parser("Draws latent vectors from N(0, 1), and decodes them into pictures.")
    models = ["AE", "VAE", "MLPAE"]
    parser.add_argument("--model", choices=models, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--model-dir", default="./models", help="where the best model is")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures go")
    parser.add_argument("--number", type=positive_int, default=10, help="pictures")
    parser.add_argument("--seed", type=seed, default=0, help="of the latent vectors")
    return parser.parse_args(argv)


def generate(checkpoint, number, seed):
    """(number, 3, H, W) in [0, 1], decoded from latent vectors drawn from N(0, 1)."""
    import torch

    torch.manual_seed(seed)
    model = checkpoint["model"]
    if not isinstance(model, BaseGraph):
        return model.eval().sample(number)
    latent = torch.randn(number, checkpoint["encoding_dim"]).numpy()
    decoder = model[len(model) // 2 :]  # the encoder turned round, and a Sigmoid: the larger half
    width, height = checkpoint["image_size"]
    return decoder.forward(latent).reshape(number, 3, height, width)


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    from checkpoint import load_checkpoint
    from data_processor import show_images
    from files import prepare_folder

    checkpoint = load_checkpoint(args.model_dir, args.model)
    prepare_folder(args.vis_dir)
    images = generate(checkpoint, args.number, args.seed)
    show_images(images, Path(args.vis_dir, f"random_images_{args.model}.png"), columns=5)


if __name__ == "__main__":
    main()
