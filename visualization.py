"""Pictures of a trained model: originals above reconstructions, its losses, the latent space of a VAE, and denoising.

    python visualization.py --model MLPAE|AE|VAE|VAE_calibrated|GAN|DDPM
    python visualization.py --model all

The first writes vis/train_VAE.png and vis/valid_VAE.png (autoencoders alone), vis/loss_VAE.png, vis/latent_VAE.png
(VAEs), and vis/denoising_DDPM.png and .gif (DDPM): pictures of each kind on the way from noise. The second writes
vis/all_models.png: validation photos, what each autoencoder makes of them, and samples of GAN and DDPM.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from lab.command_line import Parser, folder_flags, positive_int, say_what_is_next
from lab.defaults import AUTOENCODERS, FOLDERS, MODELS
from lab.errors import UserError, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Draws photos above their reconstructions by a trained autoencoder, and its losses by epoch.")
    parser.add_model([*MODELS, "all"])
    parser.add_argument("--data-root", help="the photos (default: those of the training)", default=argparse.SUPPRESS)
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="stand-in set, drawn if there are no photos")
    parser.add_argument("--model-dir", default=FOLDERS["model_dir"], help="where the best model is")
    parser.add_argument("--log-dir", default=FOLDERS["log_dir"], help="where the history of its losses is")
    parser.add_argument("--vis-dir", default=FOLDERS["vis_dir"], help="where the pictures are saved")
    parser.add_argument("--number", type=positive_int, default=16, help="number of photos in a picture")
    return parser.parse_args(argv)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    from lab.checkpoint import load_checkpoint
    from lab.files import prepare_folder

    if args.model == "all":
        say_what_is_next(draw_all(args), f"sample_quality.py{folder_flags(args, 'model_dir', 'vis_dir')}")
        return
    checkpoint = load_checkpoint(args.model_dir, args.model)
    prepare_folder(args.vis_dir)
    written = []
    if args.model in AUTOENCODERS:
        written += draw_photos(args, checkpoint)
    if args.model == "DDPM":
        written += draw_denoising(args, checkpoint)
    written += draw_losses(args, checkpoint)
    flags = folder_flags(args, "model_dir", "vis_dir")
    say_what_is_next(written, f"random_generation.py --model {args.model}{flags}")


def draw_all(args: argparse.Namespace) -> list[Path]:
    """Draws a row of validation photos, one of what each autoencoder makes of them, and one of samples of each other
    model. Returns the file."""
    import torch

    from data_processor import show_images
    from lab.checkpoint import load_checkpoint
    from lab.files import atomic_write, prepare_folder
    from lab.generation import generate, kinds_in_proportion
    from lab.photos import photos_of_training

    path = Path(args.vis_dir, "all_models.png")
    prepare_folder(args.vis_dir)
    checkpoints = [load_checkpoint(args.model_dir, name) for name in MODELS]
    sizes = {tuple(checkpoint["image_size"]) for checkpoint in checkpoints}
    if len(sizes) > 1:
        raise UserError(f"{args.model_dir}: found models of several image sizes, expected one for a picture of all")
    _, validation = photos_of_training(checkpoints[0], args)
    photos, _ = validation[:7]  # as wide as a page of text
    rows = [photos]
    for checkpoint in checkpoints:
        model = checkpoint["model"]
        if checkpoint["name"] in AUTOENCODERS:
            rows.append(model.reconstruct(photos))
        else:
            kinds = kinds_in_proportion(checkpoint["data"]["kinds"], len(photos))
            rows.append(generate(model, len(photos), 0, kinds))
    with atomic_write(path) as file:
        show_images(torch.cat(rows), file, columns=len(photos), row_names=["photo", *MODELS])
    return [path]


def draw_photos(args: argparse.Namespace, checkpoint: dict[str, Any]) -> list[Path]:
    """Draws photos above their reconstructions; for a VAE, also its latent space. Returns the files."""
    from data_processor import show_recover_results
    from lab.files import atomic_write
    from lab.photos import photos_of_training
    from lab.plots import plot_latent

    training, validation = photos_of_training(checkpoint, args)
    model = checkpoint["model"]
    paths = []
    for name, photos in ("train", training), ("valid", validation):
        images, _ = photos[: args.number]
        paths.append(Path(args.vis_dir, f"{name}_{args.model}.png"))
        with atomic_write(paths[-1]) as file:
            show_recover_results(images, model.reconstruct(images), file, row_names=["photo", args.model])
    if hasattr(model, "encode"):
        paths.append(Path(args.vis_dir, f"latent_{args.model}.png"))
        plot_latent(f"The latent space of {args.model}", model, training, validation, paths[-1])
    return paths


def draw_denoising(args: argparse.Namespace, checkpoint: dict[str, Any]) -> list[Path]:
    """Draws ten of the steps from noise to a picture, a row for each of up to eight kinds, and all steps of three
    pictures of each as an animation."""
    import torch

    from data_processor import show_images
    from lab.files import atomic_write

    model = checkpoint["model"]
    kinds = torch.arange(min(8, model.kinds)).repeat_interleave(3)
    torch.manual_seed(0)
    steps = torch.stack(list(model.denoise(len(kinds), kinds)))
    shown = steps[torch.linspace(0, len(steps) - 1, 10).round().long(), ::3]
    paths = [Path(args.vis_dir, f"denoising_DDPM.{ending}") for ending in ("png", "gif")]
    with atomic_write(paths[0]) as file:
        names = list(checkpoint["data"].get("kinds", ()))
        show_images(shown.transpose(0, 1).flatten(0, 1), file, columns=10, row_names=names)
    frames = [show_images(step, columns=9) for step in steps]
    with atomic_write(paths[1]) as file:
        times = [*[120] * (len(frames) - 1), 3000]  # milliseconds
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return paths


def draw_losses(args: argparse.Namespace, checkpoint: dict[str, Any]) -> list[Path]:
    """Draws the history of the losses, if there is one of this model."""
    from lab.handout import asked_losses
    from lab.plots import plot_losses, read_history

    path = Path(args.log_dir, f"history_{args.model}.csv")
    if not path.exists():
        print(f"{path}: no such history, so no picture of the losses.", file=sys.stderr)
        return []
    history = read_history(path)
    epoch = checkpoint["epoch"]
    losses = [(row["Train Loss"], row["Valid Loss"]) for row in history[epoch - 1 : epoch]]
    if losses != [(checkpoint["train_loss"], checkpoint["valid_loss"])]:
        print(f"{path}: not the history of this model, so no picture of the losses.", file=sys.stderr)
        return []
    asked = asked_losses(args.model, checkpoint["settings"].get("optimizer"))
    titles = [f"{args.model}: loss on training and on validation photos"]
    if args.model == "GAN":
        titles = ["GAN: hinge losses of generator and discriminator", "distance of its pictures to photos held out"]
    save_path = Path(args.vis_dir, f"loss_{args.model}.png")
    plot_losses(titles, history, epoch, asked, save_path)
    return [save_path]


if __name__ == "__main__":
    main()
