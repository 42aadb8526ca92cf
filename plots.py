"""Pictures of a training: how its losses fell, and where a variational autoencoder has put the photos.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which the colour-blind tell apart as well; and what
differs in colour differs in form, too.
"""

import csv
import io
import itertools
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its first run ever has much to say about fonts
from matplotlib import rc_context  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from data_processor import FlowerDataset  # noqa: E402
from files import write_whole  # noqa: E402
from VarAutoencoder import VarAutoencoder  # noqa: E402

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#595959"
KINDS = [(ORANGE, "o"), (BLUE, "^"), ("#009E73", "s"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P")]
STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # The first of these that is there and has the letter is taken: names of folders may be Chinese.
    "font.family": ["DejaVu Sans", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei"],
}


def read_history(path: str | Path) -> list[dict[str, float]]:
    """The losses of each epoch, by name, as training wrote them.

    Raises:
        OSError: there is no such file, or it is no history.
    """
    with open(path, newline="", encoding="utf-8") as file:
        try:
            history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
            if not history or not history[0].keys() >= {"Epoch", "Train Loss", "Valid Loss"}:
                raise ValueError
        except (ValueError, TypeError, csv.Error):
            raise OSError(f"{path}: found no history of losses in it; train again, or give another folder") from None
    return history


def plot_losses(
    title: str, history: list[dict[str, float]], best_epoch: int, asked: dict[str, float], save_path: str | Path
) -> None:
    """Draws both losses over the epochs, the best epoch marked, and what the handout asks for as lines across.

    Args:
        title: of the picture.
        history: "Epoch", "Train Loss" and "Valid Loss" of each epoch.
        best_epoch: the one that was kept, from 1.
        asked: the losses that the handout asks for, as in {"train": 0.01, "valid": 0.012}; may be empty.
        save_path: of the PNG file.
    """
    epochs = [row["Epoch"] for row in history]
    best = history[best_epoch - 1]
    losses = best["Train Loss"], best["Valid Loss"]
    digits = 4 if max(map(abs, losses)) < 10 else 1
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel="Epoch", ylabel="Loss")
        for which, color, style in ("Train", BLUE, "--"), ("Valid", ORANGE, "-"):
            values = [row[f"{which} Loss"] for row in history]
            axes.plot(epochs, values, style, color=color, linewidth=2, label=f"{which} Loss")
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
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#E0E0E0")
        axes.legend(frameon=False)
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
    """Draws walks between validation photos through the latent space, and a map of where photos lie in it.

    A walk goes in a straight line from the latent mean of one photo to that of another, and shows what the decoder
    makes of ``steps`` places on the way. The map shows the latent means of the validation photos along the two
    directions in which those of the training photos vary most, their principal components.
    """
    means, unseen = _latent_means(model, training), _latent_means(model, validation)
    # A number that is always 0 does no harm, and makes two directions out of one, for latent vectors of one number.
    cloud, points = (pad(some - means.mean(0), (0, 1)) for some in (means, unseen))
    _, spread, directions = torch.linalg.svd(cloud)
    shares = pad(spread**2 / cloud.square().sum(), (0, 1))
    places = points @ directions[:2].T

    one_of_each = [validation.labels.tolist().index(label) for label in validation.labels.unique()]
    stops = [*one_of_each, *(i for i in range(len(validation)) if i not in one_of_each)][:3]
    rows = []
    for start, end in zip(stops, [*stops[1:], stops[0]], strict=True):
        way = torch.lerp(unseen[start], unseen[end], torch.linspace(0, 1, steps)[:, None])
        rows.append([validation[start][0], *model.decoder(way), validation[end][0]])

    with rc_context(STYLE):
        figure: Any = Figure(figsize=(9, 9), layout="constrained")
        figure.suptitle(title)
        walks, map_of_means = figure.subfigures(2, 1, height_ratios=[len(rows), 5])
        walks.supxlabel("a photo, what the decoder makes on the way to the next, and that photo", fontsize="medium")
        for axes, image in zip(walks.subplots(len(rows), steps + 2).flat, itertools.chain(*rows), strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            axes.set_axis_off()
        axes = map_of_means.add_subplot(aspect="equal")
        for label, kind in enumerate(validation.classes):
            color, marker = KINDS[label % len(KINDS)]
            x, y = places[validation.labels == label].T.numpy()
            axes.scatter(x, y, 22, color, marker=marker, alpha=0.8, linewidths=0, label=kind)
        axes.set_xlabel(f"1st principal component ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"2nd ({shares[1]:.0%})")
        axes.legend(frameon=False, markerscale=2)
        _save(figure, save_path)


def _latent_means(model: VarAutoencoder, photos: FlowerDataset) -> torch.Tensor:
    """(number of photos, encoding_dim): mu of each."""
    return torch.cat([model.encode(photos[rows][0])[0] for rows in torch.arange(len(photos)).split(256)])


def _save(figure: Figure, path: str | Path) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a box in the place of a letter is no trouble
        figure.savefig(content, format="png", dpi=120)
    write_whole(path, content.getvalue())
