"""Samples pictures from a trained model, with random numbers from N(0, 1) (handout, Parts 3 and 4).

    python random_generation.py --model AE|VAE|VAE_calibrated|GAN|DDPM|MLPAE
    python random_generation.py --model GAN|DDPM --class calendula
    python random_generation.py --model MLPAE|AE|VAE|VAE_calibrated --prior gaussian

writes vis/random_images_AE.png, vis/random_images_GAN_calendula.png and vis/random_images_AE_gaussian.png.
"""

import argparse
from pathlib import Path
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch import Tensor

from lab.checkpoint import load_checkpoint
from lab.command_line import Parser, number_from_0, positive_int, seed
from lab.errors import UserError, one_line_errors
from lab.grids import sample_grid, save_picture
from lab.models import AUTOENCODERS, BY_CLASS, MODELS
from lab.photos import photos_of_training
from lab.sampling import fitted_prior, labels_in_proportion, sample_in_batches


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Samples pictures from a trained model: random latent vectors, or noise for DDPM.", MODELS)
    parser.add_folders(of_training=True, model_dir="where the best model is", vis_dir="where the picture is saved")
    parser.add_argument("--number", type=positive_int, default=10, help="number of pictures")
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers")
    parser.add_argument("--class", dest="class_name", help="for GAN and DDPM (default: as frequent as photos)")
    words = "for DDPM, how far to go away from its early version; 0: not at all (default: that of Diffusion.py)"
    parser.add_argument("--guidance", type=number_from_0, help=words)
    priors = ["normal", "gaussian"]
    parser.add_argument("--prior", choices=priors, default="normal", help="gaussian: fitted to the training photos")
    args = parser.parse_args(argv)
    for flag, models in {"class_name": BY_CLASS, "guidance": ["DDPM"]}.items():
        if getattr(args, flag) is not None and args.model not in models:
            parser.error(f"argument --{flag.split('_')[0]}: found {args.model}, expected {' or '.join(models)}")
    if args.prior == "gaussian" and args.model not in AUTOENCODERS:
        parser.error(f"argument --prior: found {args.model}, expected an autoencoder for gaussian")
    return args


def sample(model: Any, n: int) -> Tensor:
    """n pictures, (n, 3, H, W) in [0, 1], decoded from latent vectors sampled from N(0, 1)."""
    latent = torch.randn(n, model.encoding_dim)
    return model.decoder(latent)


@one_line_errors
@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    checkpoint = load_checkpoint(args.model_dir, args.model)
    model, classes = checkpoint["model"], checkpoint["data"]["classes"]
    names = list(classes)
    torch.manual_seed(args.seed)
    name, title, labels = args.model, args.model, None
    if args.model in BY_CLASS:
        labels = labels_in_proportion(classes, args.number)
        if args.class_name is not None:
            if args.class_name not in classes:
                shown = ", ".join(names[:20])
                raise UserError(f"--class: found {args.class_name!r}, expected one that the model has learned: {shown}")
            labels = torch.full((args.number,), names.index(args.class_name))
            name += f"_{args.class_name[:40]}"  # a name of a file has an end
        options = {} if args.guidance is None else {"guidance": args.guidance}
        images = sample_in_batches(model, args.number, args.seed, labels, **options)
    elif args.prior == "gaussian":
        training, _ = photos_of_training(checkpoint, args)
        images = model.decoder(fitted_prior(model, training[:][0]).sample((args.number,)).float())
        name, title = f"{name}_gaussian", f"{title}, from a fitted Gaussian"
    else:
        images = sample(model, args.number)
        title += ", decoded from N(0, 1)"
    save_picture(sample_grid(title, images, labels, names), Path(args.vis_dir, f"random_images_{name}.png"))


if __name__ == "__main__":
    main()
