"""The pictures of docs/why.md.

    python -m docs.figures

draws vis/why_VAE.png, why_GAN.png, why_diffusion.png and why_DDPM.png, from models/ and flowers/.
"""

from itertools import pairwise
from typing import Any

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from data_processor import read_flowers, show_images
from generative.Diffusion import sampling_times, schedule
from lab.checkpoint import load_checkpoint
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.grids import name_rows, save_picture
from lab.plots import BLUE, COLORS, GRAY, ORANGE, STYLE, save_figure

GREEN, YELLOW = COLORS[2], COLORS[4]


@one_line_errors
@torch.no_grad()
@rc_context(STYLE)
def main(argv: list[str] | None = None) -> None:
    Parser("Draws the pictures of docs/why.md, from models/ and flowers/.").parse_args(argv)
    training, validation = (side[:] for side in read_flowers("flowers", 24, 24).split())
    torch.manual_seed(0)
    draw_variances(training[0])
    draw_game(training, validation)
    draw_paths()
    draw_diffusion(validation)


def draw_variances(photos: torch.Tensor) -> None:
    pixels = photos.flatten(1).double()
    variances = torch.linalg.svdvals(pixels - pixels.mean(0)) ** 2 / len(pixels)
    figure = Figure((6.7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set(ylabel="variance", xlabel="principal direction of the photos", xlim=(0.9, 600), ylim=(0.003, 50))
    axes.loglog(range(1, len(variances) + 1), variances, color=BLUE)
    for s in 0.5, variances[64:].mean().item():
        axes.axhline(s, color=ORANGE, linestyle="--")
        axes.text(1, s * 1.2, f"s = {s:.2g}")
    save_figure(figure, "vis/why_VAE.png")


def draw_game(training: Any, validation: Any) -> None:
    figure = Figure((6.7, 6.7), layout="constrained")
    top, bottom = figure.subplots(2)
    x = np.linspace(-4, 5, 200)
    photos, pictures = (np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi) for mean in (0, 1))
    top.plot(x, photos, color=BLUE, label="photos")
    top.plot(x, pictures, color=GRAY, label="pictures")
    top.plot(x, photos / (photos + pictures), color=GREEN, label="best D")
    top.plot(x, np.log(photos / pictures), color=GREEN, linestyle="--", label="its score")
    top.set(xlabel="x", ylim=(-1.5, 1.5))
    model = load_checkpoint("models", "GAN")["model"]
    made = model.sample(len(validation[1]), validation[1]), validation[1]
    scores = [model.score(*images).numpy() for images in (training, validation, made)]
    labels = ["training photos", "validation photos", "pictures"]
    bottom.hist(scores, 25, density=True, histtype="step", linewidth=1.5, color=[BLUE, YELLOW, GRAY], label=labels)
    bottom.set(xlabel="score")
    top.legend(frameon=False, loc="lower left")
    bottom.legend(frameon=False)
    save_figure(figure, "vis/why_GAN.png")


def draw_paths(steps: int = 100) -> None:
    """As in the code of the page, for sixty values of noise."""
    path = [np.random.default_rng(0).standard_normal(60)]
    angles = np.linspace(np.pi / 2, 0, steps + 1)
    for phi, then in pairwise(angles):
        x = np.tanh(path[-1] * np.cos(phi) / np.sin(phi) ** 2 + np.log(0.7 / 0.3) / 2)
        path.append(np.cos(then) * x + np.sin(then) * (path[-1] - np.cos(phi) * x) / np.sin(phi))
    figure = Figure((6.7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(2 * angles / np.pi, np.stack(path), color=BLUE, linewidth=0.7)
    axes.set(xlabel="t", ylabel="x_t", xlim=(1, 0), yticks=[-2, -1, 0, 1, 2])
    save_figure(figure, "vis/why_diffusion.png")


def draw_diffusion(validation: Any) -> None:
    model = load_checkpoint("models", "DDPM")["model"]
    photo, label = (part[validation[1].argmax()][None] for part in validation)  # a calendula: no label is higher
    epsilon, times = torch.randn_like(photo), torch.linspace(0, 1, 9)
    alpha, sigma = schedule(times[:, None, None, None])
    mixed = alpha * (2 * photo - 1) + sigma * epsilon
    estimates = alpha * mixed - sigma * model.network(mixed, times, label.expand(9))
    back = torch.cat(list(model.denoise(1, label, latent=epsilon.flatten(1))))
    nearest = (sampling_times(25)[:, None] - times).abs().argmin(0)
    rows = {"photo to noise": (mixed + 1) / 2, "estimate": (estimates + 1) / 2, "noise to photo": back[nearest]}
    labels, latent = torch.arange(3).repeat_interleave(3), torch.randn(9, model.encoding_dim)
    for guidance in 0, 0.5, 1:
        rows[f"guidance {guidance}"] = model.sample(9, labels, latent=latent, guidance=guidance)
    picture = show_images(torch.cat(list(rows.values())), columns=9)
    save_picture(name_rows(picture, list(rows)), "vis/why_DDPM.png")


if __name__ == "__main__":
    main()
