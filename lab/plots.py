"""Plots: losses by epoch, and the latent space of a variational autoencoder.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind people can distinguish; what
differs in colour also differs in shape or line style.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # in its first run it warns about fonts
from matplotlib import rc_context  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from data_processor import FlowerDataset  # noqa: E402
from lab.errors import UserError, one_line  # noqa: E402
from lab.files import atomic_write, say_written  # noqa: E402
from lab.sampling import latent_vectors  # noqa: E402
from VarAutoencoder import VarAutoencoder  # noqa: E402

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#595959"
COLORS = [ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
MARKERS = ["o", "^", "s", "D", "v", "P"]
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # For each character, the first of these that has it: names of folders may be Chinese.
    "font.family": ["DejaVu Sans", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei"],
}


def read_history(path: str | Path) -> list[dict[str, float]]:
    """The losses of each epoch, by name, from the file that the training wrote; UserError if it is not a history."""
    try:
        head, *lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [dict(zip(head.split(","), map(float, line.split(",")), strict=True)) for line in lines]
    except (OSError, ValueError):
        raise UserError(f"{path}: found no history of losses in it; train again, or give another folder") from None


def plot_losses(
    name: str, history: list[dict[str, float]], best_epoch: int, required: dict[str, float], save_path: str | Path
) -> None:
    """Plots the first two losses in the history of a model by epoch, marks the epoch of the saved model, and draws the
    handout's bounds, as in {"train": 0.01, "valid": 0.012}, as horizontal lines."""
    epochs = [row["Epoch"] for row in history]
    first, second = [key for key in history[0] if key != "Epoch"][:2]
    best = history[best_epoch - 1]
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.set(title=f"{name}: {first} and {second}", xlabel="Epoch", ylabel="Loss")
        for key, color, style in (first, BLUE, "--"), (second, ORANGE, "-"):
            axes.plot(epochs, [row[key] for row in history], style, color=color, linewidth=2, label=key)
        digits = 4 if abs(best[second]) < 10 else 1
        label = f"saved model, epoch {best_epoch}: {best[first]:.{digits}f} / {best[second]:.{digits}f}"
        ring: dict[str, Any] = {"color": ORANGE, "markersize": 11, "markerfacecolor": "white", "markeredgewidth": 2.5}
        axes.plot(best["Epoch"], best[second], "o", label=label, **ring)
        for limit, style in zip(dict.fromkeys(required.values()), (":", "-."), strict=False):
            whose = " and ".join(which for which in required if required[which] == limit)
            label = f"the handout's bar for {whose}: {limit:g}"
            axes.axhline(limit, color=GRAY, linestyle=style, linewidth=2, label=label)
        losses = [row[key] for row in history for key in (first, second)]
        if 0 < 3 * min(losses) < max(losses):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#E0E0E0")
        axes.legend(frameon=False)
        save_figure(figure, save_path)


@torch.no_grad()
def plot_latent(
    model: VarAutoencoder, training: FlowerDataset, validation: FlowerDataset, save_path: str | Path
) -> None:
    """Plots the latent means of the validation photos along the first two principal components of those of the
    training photos."""
    means, unseen = (latent_vectors(model, photos[:][0])[0] for photos in (training, validation))
    # Padded with zeros: there are two principal components even of one photo, or of vectors of one number.
    centred, points = (pad(vectors - means.mean(0), (0, 1)) for vectors in (means, unseen))
    _, singular_values, components = torch.linalg.svd(pad(centred, (0, 0, 0, 1)), full_matrices=False)
    variances = singular_values**2 / centred.square().sum()
    coordinates = points @ components[:2].T
    with rc_context(STYLE):
        figure: Any = Figure(figsize=(9, 6), layout="constrained")
        figure.suptitle(f"The latent space of {model.name}")
        axes = figure.add_subplot(aspect="equal")
        for label, name in enumerate(validation.classes):
            x, y = coordinates[validation.labels == label].T.numpy()
            turn, i = divmod(label, len(COLORS))  # of up to 36 classes, no two have color and marker in common
            name = one_line(name)[:40].replace("$", r"\$")  # no formula
            marker = MARKERS[(i + turn) % len(MARKERS)]
            axes.scatter(x, y, 22, COLORS[i], marker=marker, alpha=0.8, linewidths=0, label=name)
        axes.set_xlabel(f"1st principal component ({variances[0]:.0%} of the variance)")
        axes.set_ylabel(f"2nd ({variances[1]:.0%})")
        handles, names = axes.collections, [dots.get_label() for dots in axes.collections]
        # The names of many classes are in columns beside the map.
        many: dict[str, Any] = {"loc": "outside right center", "fontsize": "small", "ncols": 1 + (len(names) - 1) // 20}
        legend, place = (figure, many) if len(names) > 6 else (axes, {})
        legend.legend(handles, names, frameon=False, markerscale=2, **place)
        save_figure(figure, save_path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure atomically, as PNG; says so on stderr."""
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", message="Glyph")  # of a missing character
        figure.savefig(file, format="png", dpi=120)
    say_written(path)
