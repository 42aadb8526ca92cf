"""Losses by epoch, and the map of a latent space."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from data_processor import FlowerDataset, read_flowers
from lab.errors import UserError
from lab.models import required_losses
from lab.plots import plot_latent, plot_losses, read_history
from VarAutoencoder import VarAutoencoder

TRAIN, VALID = [0.05, 0.02, 0.01], [0.04, 0.01, 0.015]
HISTORY = "Epoch,Train Loss,Valid Loss,Valid Other\n1,0.05,4e-2,7\n2,0.02,0.01,7\n3,0.01,0.015,7\n"


@pytest.fixture
def saved(monkeypatch):
    """The figures that would be drawn."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


def words(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("required", "bars"),
    [(required_losses("MLPAE")[0], [0.03]), (required_losses("AE", "AdamW")[0], [0.01, 0.012]), ({}, [])],
)
def test_losses_by_epoch(required, bars, saved, tmp_path):
    (tmp_path / "history.csv").write_text(HISTORY)
    history = read_history(str(tmp_path / "history.csv"))
    assert history[0] == {"Epoch": 1.0, "Train Loss": 0.05, "Valid Loss": 0.04, "Valid Other": 7.0}
    plot_losses("AE", history, 2, required, tmp_path / "loss.png")
    [axes] = saved[0].axes
    first, second, ring, *across = axes.lines
    np.testing.assert_array_equal(first.get_xydata().T, [[1, 2, 3], TRAIN])
    np.testing.assert_array_equal(second.get_xydata().T, [[1, 2, 3], VALID])
    np.testing.assert_array_equal(ring.get_xydata(), [(2, 0.01)])
    assert words(axes.get_legend())[:2] == ["Train Loss", "Valid Loss"]
    assert [line.get_ydata()[0] for line in across] == bars


@pytest.mark.parametrize("content", ["", HISTORY.replace("4e-2", "x"), HISTORY.replace("4e-2,", "")])
def test_what_is_no_history_is_refused(content, tmp_path):
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(UserError, match=r"history.csv: found no history"):
        read_history(tmp_path / "history.csv")


@torch.no_grad()
def test_the_map_shows_the_first_two_principal_components(saved, few_photos, tmp_path):
    """They are found in another way here; each may point forward or backward."""
    model = VarAutoencoder(5, (8, 8))
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent(model, training, validation, tmp_path / "latent.png")
    [axes] = saved[0].axes
    (means, _), (mu, _) = model.encode(training[:][0]), model.encode(validation[:][0])
    values, directions = np.linalg.eigh(np.cov(means.numpy().T))
    expected = (mu - means.mean(0)).numpy() @ directions[:, :-3:-1]
    expected = [expected[validation.labels == label] for label in (0, 1)]
    found = [np.asarray(points.get_offsets()) for points in axes.collections]
    signs = np.sign((np.concatenate(found) * np.concatenate(expected)).sum(0))
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(some * signs, others, rtol=1e-3, atol=1e-5)
    first, second = values[:-3:-1] / values.sum()
    assert f"{first:.0%}" in axes.get_xlabel() and f"{second:.0%}" in axes.get_ylabel()
    assert words(axes.get_legend()) == ["rose", "tulip"]


def test_classes_differ_in_colour_or_shape_and_have_their_names(figure, tmp_path):
    """A formula that is none would end in a traceback, and a name that begins with _ would be left out."""
    names = ["$x^$", "_rose", *(f"class {i}" for i in range(2, 36))]
    pixels = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8)
    photos = FlowerDataset(pixels, torch.arange(40) % 36, 40 * [""], names, 40 * [""], "flowers")
    plot_latent(VarAutoencoder(5, (8, 8)), photos, photos, tmp_path / "latent.png")
    [axes] = figure().axes
    looks = {(*dots.get_facecolor()[0], dots.get_paths()[0].vertices.tobytes()) for dots in axes.collections}
    assert len(looks) == 36
    assert words(axes.figure.legends[0]) == [r"\$x^\$", *names[1:]]


def test_latent_space_of_two_photos_in_one_dimension(few_photos, tmp_path, caplog):
    (few_photos / "tulip").rename(few_photos / "\u90c1\u91d1\u9999")  # tulip in Chinese, which not every font can write
    for photo in sorted(few_photos.rglob("*.jpg"))[2:]:
        photo.unlink()
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent(VarAutoencoder(1, (8, 8)), training, validation, tmp_path / "latent.png")
    assert (tmp_path / "latent.png").read_bytes().startswith(b"\x89PNG") and caplog.text == ""  # of missing fonts
