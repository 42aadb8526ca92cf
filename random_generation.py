"""Samples pictures from a trained model, with random numbers from N(0, 1) (handout, Parts 3 and 4).

    python random_generation.py --model AE|VAE|VAE_calibrated|GAN|DDPM|MLPAE
    python random_generation.py --model GAN|DDPM --kind calendula
    python random_generation.py --model AE|VAE|VAE_calibrated --prior gmm

writes vis/random_images_AE.png, vis/random_images_GAN_calendula.png and vis/random_images_AE_gmm.png.

With ``--prior gmm``, latent vectors are sampled from a Gaussian mixture that is fitted to those of the training photos:
Ghosh et al., From Variational to Deterministic Autoencoders (2020).
"""

import argparse
from pathlib import Path
from typing import Any

from lab.command_line import Parser, folder_flags, number_from_0, positive_int, say_what_is_next, seed
from lab.defaults import AUTOENCODERS, BY_KIND, FOLDERS, MODELS
from lab.errors import UserError, one_line_errors

WITH_PRIOR = [name for name in AUTOENCODERS if name != "MLPAE"]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Samples pictures from a trained model: random latent vectors, or noise for DDPM, are decoded.")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_model(MODELS)
    parser.add_argument("--model-dir", default=FOLDERS["model_dir"], help="where the best model is")
    parser.add_argument("--vis-dir", default=FOLDERS["vis_dir"], help="where the picture is saved")
    parser.add_argument("--number", type=positive_int, default=10, help="number of pictures")
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers")
    parser.add_argument("--kind", help="of flower, for GAN and DDPM (default: as frequent as the photos)", **absent)
    parser.add_argument(
        "--guidance",
        type=number_from_0,
        help="for DDPM, how far to go away from its early version; 0: no guidance (default: 0.3)",
        **absent,
    )
    parser.add_argument("--prior", choices=["normal", "gmm"], default="normal", help="gmm: for AE, VAE, VAE_calibrated")
    parser.add_argument("--data-root", help="the photos, for gmm (default: those of the training)", **absent)
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    args = parser.parse_args(argv)
    if "kind" in args and args.model not in BY_KIND:
        parser.error(f"argument --kind: found {args.model}, expected GAN or DDPM, which learn with the kinds")
    if "guidance" in args and args.model != "DDPM":
        parser.error(f"argument --guidance: found {args.model}, expected DDPM")
    if args.prior == "gmm" and args.model not in WITH_PRIOR:
        parser.error(f"argument --prior: found {args.model}, expected {', '.join(WITH_PRIOR)} for gmm")
    return args


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    import torch

    from lab.checkpoint import load_checkpoint
    from lab.files import atomic_write, prepare_folder
    from lab.gaussian_mixture import GaussianMixture
    from lab.generation import draw_samples, generate, kinds_in_proportion, latent_vectors
    from lab.photos import photos_of_training

    checkpoint = load_checkpoint(args.model_dir, args.model)
    model, kinds, options = checkpoint["model"], None, {}
    names = list(checkpoint["data"].get("kinds", ()))
    name = args.model
    if args.model in BY_KIND:
        kinds = kinds_in_proportion(checkpoint["data"]["kinds"], args.number)
    if "kind" in args:
        if args.kind not in names:
            shown = ", ".join(names[:20])
            raise UserError(f"--kind: found {args.kind!r}, expected one that the model was trained on: {shown}")
        kinds = torch.full((args.number,), names.index(args.kind))
        name += f"_{args.kind}"
    if "guidance" in args:
        options["guidance"] = args.guidance
    if args.prior == "gmm":
        name += "_gmm"
    prepare_folder(args.vis_dir)
    if args.prior == "gmm":
        training, _ = photos_of_training(checkpoint, args)
        mixture = GaussianMixture(latent_vectors(model, training[:][0]), seed=args.seed)
        torch.manual_seed(args.seed)
        with torch.no_grad():
            images = model.decoder(mixture.sample(args.number))
    else:
        images = generate(model, args.number, args.seed, kinds, **options)  # model.sample, in batches
    title = args.model
    if args.model not in BY_KIND:
        title += ", from a Gaussian mixture" if args.prior == "gmm" else ", decoded from N(0, 1)"
    path = Path(args.vis_dir, f"random_images_{name}.png")
    with atomic_write(path) as file:
        draw_samples(title, images, kinds, names, file)
    say_what_is_next([path], f"sample_quality.py{folder_flags(args, 'model_dir', 'vis_dir')}")


if __name__ == "__main__":
    main()
