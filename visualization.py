"""Pictures of a trained model: originals above reconstructions, interpolations, losses, latent space, denoising.

    python visualization.py --model MLPAE|AE|VAE|VAE_calibrated|GAN|DDPM
    python visualization.py --model all

The first writes vis/train_VAE.png and vis/valid_VAE.png (autoencoders alone), vis/interpolation_VAE.png,
vis/loss_VAE.png, vis/latent_VAE.png (VAEs), vis/beside_photos_GAN.png (GAN and DDPM), and vis/denoising_DDPM.png and
.gif (DDPM): pictures of each class on the way from noise. The second writes vis/all_models.png: validation photos, what
each autoencoder makes of them, and samples of GAN and DDPM.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from PIL import Image
from torch import Tensor

from data_processor import show_images, show_recover_results
from lab.checkpoint import Checkpoint, load_checkpoint
from lab.command_line import Parser
from lab.errors import UserError, one_line_errors
from lab.grids import name_rows, save_picture, side_by_side
from lab.models import AUTOENCODERS, MODELS, required_losses
from lab.photos import photos_of_training
from lab.plots import plot_latent, plot_losses, read_history
from lab.sampling import labels_in_proportion, latent_vectors, sample_in_batches
from VarAutoencoder import VarAutoencoder


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Draws photos above their reconstructions by a trained model, and its losses.", [*MODELS, "all"])
    parser.add_folders(
        of_training=True,
        model_dir="where the best model is",
        log_dir="where the history of its losses is",
        vis_dir="where the pictures are saved",
    )
    args = parser.parse_args(argv)
    if args.model == "all":
        draw_all(args)
        return
    checkpoint = load_checkpoint(args.model_dir, args.model)
    if args.model in AUTOENCODERS:
        draw_photos(args, checkpoint)
    else:
        draw_beside_photos(args, checkpoint)
        draw_interpolations_of_noise(args, checkpoint)
    if args.model == "DDPM":
        draw_denoising(args, checkpoint)
    draw_losses(args, checkpoint)


def draw_photos(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Draws photos above their reconstructions, and interpolations between validation photos of different classes; for
    a VAE, also its latent space."""
    model = checkpoint["model"]
    training, validation = photos_of_training(checkpoint, args)
    for name, photos in ("train", training), ("valid", validation):
        images, _ = photos[:16]
        picture = show_recover_results(images, model.reconstruct(images))
        rows = -(-len(images) // 8)
        save_picture(
            name_rows(picture, ["original", args.model] * rows), Path(args.vis_dir, f"{name}_{args.model}.png")
        )
    if isinstance(model, VarAutoencoder):
        plot_latent(model, training, validation, Path(args.vis_dir, f"latent_{args.model}.png"))
    pairs = [validation[pair][0] for pair in pairs_of_classes(validation.labels.tolist())]
    interpolations = [torch.stack([pair[0], *interpolate(model, pair), pair[1]]) for pair in pairs]
    draw_interpolations(args, interpolations, [args.model] * len(pairs))


@torch.no_grad()
def interpolate(model: Any, images: Tensor, steps: int = 8) -> Tensor:
    """Two images (2, 3, H, W) -> (steps, 3, H, W): what the decoder of an autoencoder makes of points on the straight
    line between their latent vectors; of a VAE, the means."""
    (start, end), _ = latent_vectors(model, images)
    return model.decoder(torch.lerp(start, end, torch.linspace(0, 1, steps)[:, None]))


def slerp(start: Tensor, end: Tensor, steps: int = 8) -> Tensor:
    """Vectors (D,) of N(0, 1) -> (steps, D): spherical interpolation (Song et al., DDIM, 2021, section 5.3). They keep
    their length, about the square root of D; on a straight line it would fall by 29 % in the middle. Between
    vectors of nearly the same or opposite directions, as all of one number are, there is no arc: it is the line then.
    """
    cosine = torch.cosine_similarity(start, end, dim=0)
    share = torch.linspace(0, 1, steps)[:, None]
    if cosine.abs() > 0.9999:
        return (1 - share) * start + share * end
    angle = torch.acos(cosine)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def pairs_of_classes(labels: list[int], number: int = 5) -> list[list[int]]:
    """Positions of up to ``number`` pairs of different labels, the first; of any two if all labels are the same."""
    left: list[int] = list(range(len(labels)))
    pairs: list[list[int]] = []
    while len(pairs) < number and len({labels[i] for i in left}) > 1:
        start = left.pop(0)
        end = next(i for i in left if labels[i] != labels[start])
        left.remove(end)
        pairs.append([start, end])
    return pairs or [[0, len(labels) - 1]]


def draw_beside_photos(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Draws the first four validation photos and four pictures of each of up to eight classes: of GAN and DDPM."""
    _, validation = photos_of_training(checkpoint, args)
    names = list(checkpoint["data"]["classes"])[:8]
    photos = torch.ones(len(names), 4, 3, *validation[:1][0].shape[2:])  # white, where there are fewer
    for label, places in enumerate(photos):
        images, _ = validation[(validation.labels == label).nonzero()[:4, 0].tolist()]
        places[: len(images)] = images
    pictures = sample_in_batches(checkpoint["model"], 4 * len(names), 0, torch.arange(len(names)).repeat_interleave(4))
    grids = [show_images(images, columns=4) for images in (photos.flatten(0, 1), pictures)]
    beside = name_rows(Image.new("RGB", (0, grids[0].height)), names)
    picture = side_by_side({"": beside, "photos": grids[0], f"not photos: {args.model}": grids[1]})
    save_picture(picture, Path(args.vis_dir, f"beside_photos_{args.model}.png"))


def draw_interpolations_of_noise(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Draws an interpolation between two random latent vectors, or noise, for each of up to eight classes: of GAN and
    DDPM."""
    model, names = checkpoint["model"], list(checkpoint["data"]["classes"])[:8]
    torch.manual_seed(0)
    latent = slerp(*torch.randn(2, model.encoding_dim))
    steps = len(latent)
    rows = [model.sample(steps, torch.full((steps,), label), latent=latent) for label in range(len(names))]
    draw_interpolations(args, rows, names)


def draw_interpolations(args: argparse.Namespace, rows: list[Tensor], names: list[str]) -> None:
    """Draws rows of images, and below the last, its ends blended pixel by pixel."""
    last = rows[-1]
    blended = torch.lerp(last[0], last[-1], torch.linspace(0, 1, len(last))[:, None, None, None])
    picture = show_images(torch.cat([*rows, blended]), columns=len(last))
    names = [*names, "pixels blended"]
    save_picture(name_rows(picture, names), Path(args.vis_dir, f"interpolation_{args.model}.png"))


def draw_losses(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Draws the history of the losses, if there is one of this model."""
    path = Path(args.log_dir, f"history_{args.model}.csv")
    history = read_history(path) if path.exists() else []
    losses = {key.replace("_", " ").title(): value for key, value in checkpoint.items() if key.endswith("_loss")}
    saved = {"Epoch": checkpoint["epoch"]} | losses
    if not any(saved.items() <= row.items() for row in history):
        print(f"{path}: no history of this model there, so no picture of its losses.", file=sys.stderr)
        return
    required, _ = required_losses(args.model, checkpoint["settings"].get("optimizer"), checkpoint["image_size"])
    plot_losses(args.model, history, checkpoint["epoch"], required, Path(args.vis_dir, f"loss_{args.model}.png"))


def draw_denoising(args: argparse.Namespace, checkpoint: Checkpoint) -> None:
    """Draws ten of the steps from noise to a picture, a row for each of up to eight classes, and all steps of three
    pictures of each as an animation."""
    model = checkpoint["model"]
    labels = torch.arange(min(8, model.classes)).repeat_interleave(3)
    torch.manual_seed(0)
    steps = torch.stack(list(model.denoise(len(labels), labels)))
    shown = steps[torch.linspace(0, len(steps) - 1, 10).round().long(), ::3].transpose(0, 1)
    names = list(checkpoint["data"]["classes"])[:8]
    picture = name_rows(show_images(shown.flatten(0, 1), columns=10), names)
    save_picture(picture, Path(args.vis_dir, "denoising_DDPM.png"))
    frames = [show_images(step, columns=9) for step in steps]
    times = [*[120] * (len(frames) - 1), 3000]  # milliseconds
    animation = {"save_all": True, "append_images": frames[1:], "duration": times, "loop": 0}
    save_picture(frames[0], Path(args.vis_dir, "denoising_DDPM.gif"), **animation)


def draw_all(args: argparse.Namespace) -> None:
    """Draws a row of validation photos, one of what each autoencoder makes of them, and one of samples of each other
    model."""
    checkpoints = [load_checkpoint(args.model_dir, name) for name in MODELS]
    if len({(*each["image_size"], each["data"]["fingerprint"]) for each in checkpoints}) > 1:
        found = f"{args.model_dir}: found models of other image sizes, or trained on other photos or another split"
        raise UserError(f"{found}, expected the same for a picture of all; train some of them again")
    _, validation = photos_of_training(checkpoints[0], args)
    photos, _ = validation[:7]  # as wide as a page of text
    rows = [photos]
    for checkpoint in checkpoints:
        model = checkpoint["model"]
        if checkpoint["name"] in AUTOENCODERS:
            rows.append(model.reconstruct(photos))
        else:
            labels = labels_in_proportion(checkpoint["data"]["classes"], len(photos))
            rows.append(sample_in_batches(model, len(photos), 0, labels))
    picture = name_rows(show_images(torch.cat(rows), columns=len(photos)), ["original", *MODELS])
    save_picture(picture, Path(args.vis_dir, "all_models.png"))


if __name__ == "__main__":
    main()
