"""Plots: losses by epoch, and the latent space of a variational autoencoder.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which colour-blind people can distinguish; what
differs in colour also differs in shape or line style.
"""

import csv
import itertools
import logging
import math
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
from lab.files import atomic_write  # noqa: E402
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
        with open(path, newline="", encoding="utf-8") as file:
            history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        if not history or not history[0].keys() >= {"Epoch", "Train Loss", "Valid Loss"}:
            raise ValueError
    except (OSError, ValueError, TypeError, csv.Error):
        raise UserError(f"{path}: found no history of losses in it; train again, or give another folder") from None
    return history


def plot_losses(
    titles: list[str],
    history: list[dict[str, float]],
    best_epoch: int,
    asked: dict[str, float],
    save_path: str | Path,
) -> None:
    """Plots both losses by epoch, with the best epoch marked, and the handout's bounds as horizontal lines.

    Args:
        titles: of the plot; of two plots, one above the other, where the losses are different quantities.
        history: "Epoch", "Train Loss" and "Valid Loss" of each epoch.
        best_epoch: the epoch of the saved model, from 1.
        asked: the handout's bounds, as in {"train": 0.01, "valid": 0.012}; may be empty.
        save_path: of the PNG file.
    """
    epochs = [row["Epoch"] for row in history]
    best = history[best_epoch - 1]
    losses = best["Train Loss"], best["Valid Loss"]
    digits = 4 if max(map(abs, losses)) < 10 else 1
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5 if len(titles) == 1 else 6), layout="constrained")
        plots = figure.subplots(len(titles), squeeze=False).ravel()
        for plot, title in zip(plots, titles, strict=True):
            plot.set(title=title, xlabel="Epoch", ylabel="Loss" if len(titles) == 1 else "")
        for plot, which, color, style in (plots[0], "Train", BLUE, "--"), (plots[-1], "Valid", ORANGE, "-"):
            values = [row[f"{which} Loss"] for row in history]
            plot.plot(epochs, values, style, color=color, linewidth=2, label=f"{which} Loss")
        axes = plots[-1]
        axes.plot(
            best["Epoch"],
            best["Valid Loss"],
            "o",
            color=ORANGE,
            markersize=11,
            markerfacecolor="white",
            markeredgewidth=2.5,
            label="best epoch {}: {:.{digits}f} / {:.{digits}f}".format(best_epoch, *losses, digits=digits),
        )
        bars: dict[float, list[str]] = {}
        for which, limit in asked.items():
            bars.setdefault(limit, []).append(which)
        for (limit, whose), style in zip(bars.items(), (":", "-."), strict=False):
            label = f"the handout's bar for {' and '.join(whose)}: {limit:g}"
            axes.axhline(limit, color=GRAY, linestyle=style, linewidth=2, label=label)
        if min(min(row["Train Loss"], row["Valid Loss"]) for row in history) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        for plot in plots:
            plot.xaxis.set_major_locator(MaxNLocator(integer=True))
            plot.grid(axis="y", color="#E0E0E0")
            plot.legend(frameon=False)
        _save(figure, save_path)


@torch.no_grad()
def plot_latent(
    title: str,
    model: VarAutoencoder,
    training: FlowerDataset,
    validation: FlowerDataset,
    save_path: str | Path,
    steps: int = 8,
) -> None:
    """Plots interpolations between validation photos in the latent space, and the latent means of all of them.

    An interpolation decodes ``steps`` points on the line from the latent mean of one photo to that of another. The map
    shows the latent means of the validation photos along the first two principal components of those of the training
    photos.
    """
    means, unseen = _latent_means(model, training), _latent_means(model, validation)
    # Padded with a 0, so that there are two principal components even if encoding_dim is 1.
    centred, points = (pad(vectors - means.mean(0), (0, 1)) for vectors in (means, unseen))
    _, singular_values, components = torch.linalg.svd(centred)
    variances = pad(singular_values**2 / centred.square().sum(), (0, 1))
    coordinates = points @ components[:2].T

    one_of_each = [validation.labels.tolist().index(label) for label in validation.labels.unique()]
    ends = [*one_of_each, *(i for i in range(len(validation)) if i not in one_of_each)][:3]
    rows = []
    for start, end in zip(ends, [*ends[1:], ends[0]], strict=True):
        line = torch.lerp(unseen[start], unseen[end], torch.linspace(0, 1, steps)[:, None])
        rows.append([validation[start][0], *model.decoder(line), validation[end][0]])

    with rc_context(STYLE):
        figure: Any = Figure(figsize=(9, 9), layout="constrained")
        figure.suptitle(title)
        top, bottom = figure.subfigures(2, 1, height_ratios=[len(rows), 5])
        top.supxlabel("a photo, what the decoder makes on the way to the next, and that photo", fontsize="medium")
        for axes, image in zip(top.subplots(len(rows), steps + 2).flat, itertools.chain(*rows), strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            axes.set_axis_off()
        axes = bottom.add_subplot(aspect="equal")
        dots = []
        for label in range(len(validation.classes)):
            x, y = coordinates[validation.labels == label].T.numpy()
            color, marker = color_and_marker(label)
            dots.append(axes.scatter(x, y, 22, color, marker=marker, alpha=0.8, linewidths=0))
        axes.set_xlabel(f"1st principal component ({variances[0]:.0%} of the variance)")
        axes.set_ylabel(f"2nd ({variances[1]:.0%})")
        many = len(dots) > 6  # a column of names beside the map
        place: dict[str, Any] = {"loc": "outside right center", "fontsize": "small"} if many else {}
        names = map(str, range(len(dots)))
        legend = (bottom if many else axes).legend(
            dots, names, frameon=False, markerscale=2, ncols=math.ceil(len(dots) / 20), **place
        )
        for text, kind in zip(legend.get_texts(), validation.classes, strict=True):
            text.set_parse_math(False)  # the name of a folder is no formula
            text.set_text(one_line(kind)[:40])
        _save(figure, save_path)


def color_and_marker(label: int) -> tuple[str, str]:
    """What tells a kind from the others: of up to 36, no two have both in common."""
    turn, color = divmod(label, len(COLORS))
    return COLORS[color], MARKERS[(color + turn) % len(MARKERS)]


def _latent_means(model: VarAutoencoder, photos: FlowerDataset) -> torch.Tensor:
    """(number of photos, encoding_dim): mu of each."""
    return torch.cat([model.encode(photos[rows][0])[0] for rows in torch.arange(len(photos)).split(256)])


def _save(figure: Figure, path: str | Path) -> None:
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", message="Glyph")  # of a missing character
        figure.savefig(file, format="png", dpi=120)
