"""Pictures of a trained model: originals above reconstructions, its losses, and the latent space of a variational one.

    python visualization.py --model MLPAE|AE|VAE|VAE_calibrated|GAN|DDPM

draws vis/train_VAE.png and vis/valid_VAE.png, vis/loss_VAE.png and vis/latent_VAE.png. Other models have fewer: only
autoencoders reconstruct, and only variational ones have latent means.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from autograd import BaseGraph
from command_line import AUTOENCODERS, MODELS, Parser, one_line_errors, positive_int
from drawn_flowers import photos_or_drawn


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Draws photos above what a trained autoencoder makes of them, and how its losses fell.")
    parser.add_argument("--model", choices=MODELS, required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--data-root", help="the photos (default: those of the training)", default=argparse.SUPPRESS)
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model is")
    parser.add_argument("--log-dir", default="./log", help="where the history of its losses is")
    parser.add_argument("--vis-dir", default="./vis", help="where the pictures go")
    parser.add_argument("--number", type=positive_int, default=16, help="photos in a picture")
    return parser.parse_args(argv)


def reconstruct(model: Any, images: Any) -> Any:
    """(N, 3, H, W) -> (N, 3, H, W), whichever kind of model it is."""
    if isinstance(model, BaseGraph):
        return model.forward(images.flatten(1).numpy()).reshape(images.shape)
    return model.eval().reconstruct(images)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    from checkpoint import load_checkpoint
    from files import prepare_folder

    checkpoint = load_checkpoint(args.model_dir, args.model)
    prepare_folder(args.vis_dir)
    if args.model in AUTOENCODERS:
        draw_photos(args, checkpoint)
    draw_losses(args, checkpoint)


def draw_photos(args: argparse.Namespace, checkpoint: dict[str, Any]) -> None:
    """Draws photos above their reconstructions, and walks between them, if the model has latent means."""
    from data_processor import read_flowers, show_recover_results
    from plots import plot_latent

    data_root = photos_or_drawn(getattr(args, "data_root", checkpoint["data"]["root"]), args.drawn_root)
    flowers = read_flowers(data_root, *checkpoint["image_size"])
    training, validation = flowers.split(checkpoint["settings"]["split_seed"])
    if training.fingerprint() != checkpoint["data"]["fingerprint"]:
        print("These are not the photos that the model was trained on.", file=sys.stderr)

    model = checkpoint["model"]
    for name, photos in ("train", training), ("valid", validation):
        images, _ = photos[: args.number]
        show_recover_results(images, reconstruct(model, images), Path(args.vis_dir, f"{name}_{args.model}.png"))
    if hasattr(model, "encode"):
        plot_latent(
            f"The latent space of {args.model}",
            model,
            training,
            validation,
            Path(args.vis_dir, f"latent_{args.model}.png"),
        )


def draw_losses(args: argparse.Namespace, checkpoint: dict[str, Any]) -> None:
    """Draws the history of the losses, if it is there and that of this model."""
    from handout import asked_losses
    from plots import plot_losses, read_history

    path = Path(args.log_dir, f"history_{args.model}.csv")
    if not path.exists():
        print(f"{path}: no such history, so no picture of the losses.", file=sys.stderr)
        return
    history = read_history(path)
    epoch = checkpoint["epoch"]
    losses = [(row["Train Loss"], row["Valid Loss"]) for row in history[epoch - 1 : epoch]]
    if losses != [(checkpoint["train_loss"], checkpoint["valid_loss"])]:
        print(
            f"{path}: the history of another training than the model's, so no picture of the losses.", file=sys.stderr
        )
        return
    asked = asked_losses(args.model, checkpoint["settings"].get("optimizer"))
    title = f"{args.model}: loss on training and on validation photos"
    plot_losses(title, history, epoch, asked, Path(args.vis_dir, f"loss_{args.model}.png"))


if __name__ == "__main__":
    main()
