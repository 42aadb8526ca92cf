import numpy as np
import pytest
import torch
from PIL import Image

from data_processor import read_flowers
from lab import plots
from lab.handout import asked_losses
from lab.plots import plot_latent, plot_losses
from VarAutoencoder import VarAutoencoder

HISTORY = [
    {"Epoch": epoch + 1.0, "Train Loss": train, "Valid Loss": valid, "Valid Other": 7.0}
    for epoch, (train, valid) in enumerate([(0.05, 0.04), (0.02, 0.01), (0.01, 0.015)])
]


@pytest.fixture
def figure(monkeypatch):
    """The figures that are drawn, the latest last."""
    drawn = []
    real = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure) or real(figure, path))
    return lambda: drawn[-1]


@pytest.mark.parametrize(
    ("asked", "bars"),
    [
        (asked_losses("MLPAE"), {0.03: "train and valid"}),
        (asked_losses("AE", "AdamW"), {0.01: "train", 0.012: "valid"}),
        (asked_losses("AE", "SGD"), {0.015: "train"}),
        (asked_losses("GAN", "AdamW"), {}),
    ],
)
def test_losses(asked, bars, figure, tmp_path):
    plot_losses("title", HISTORY, 2, asked, tmp_path / "loss.png")
    axes = figure().axes[0]
    train, valid, best, *across = axes.lines
    np.testing.assert_array_equal(train.get_xydata(), [(1, 0.05), (2, 0.02), (3, 0.01)])
    np.testing.assert_array_equal(valid.get_xydata(), [(1, 0.04), (2, 0.01), (3, 0.015)])
    np.testing.assert_array_equal(best.get_xydata(), [(2, 0.01)])
    best_words, *bar_words = [text.get_text() for text in axes.get_legend().texts][2:]
    assert best_words == "best epoch 2: 0.0200 / 0.0100"
    assert [line.get_ydata()[0] for line in across] == list(bars)
    assert bar_words == [f"the handout's bar for {whose}: {limit:g}" for limit, whose in bars.items()]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (960, 540)


def test_losses_of_one_epoch_or_below_zero(figure, tmp_path):
    plot_losses("title", HISTORY[:1], 1, {}, tmp_path / "loss.png")
    assert figure().axes[0].get_yscale() == "log"
    plot_losses("title", [row | {"Train Loss": -7e4} for row in HISTORY], 2, {}, tmp_path / "loss.png")
    assert figure().axes[0].get_yscale() == "linear"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VarAutoencoder(5, (8, 8))


def test_the_latent_space(figure, few_photos, model, tmp_path):
    training, validation = read_flowers(few_photos, 8, 8).split()
    plot_latent("title", model, training, validation, tmp_path / "latent.png", steps=3)
    *walks, latent_map = figure().axes
    assert len(walks) == 3 * 5
    shown = [torch.from_numpy(np.array(axes.images[0].get_array())).permute(2, 0, 1) for axes in walks]
    with torch.no_grad():
        images, labels = validation[:]
        mu, _ = model.encode(images)
        for row in range(3):
            start, first, middle, last, end = shown[5 * row : 5 * row + 5]
            assert torch.equal(end, shown[5 * (row + 1) % 15])  # each walk begins where the last one ended
            (a,), (b,) = ([i for i in range(len(images)) if torch.equal(images[i], photo)] for photo in (start, end))
            torch.testing.assert_close(torch.stack([first, last]), model.decoder(mu[[a, b]]))
            torch.testing.assert_close(middle[None], model.decoder((mu[[a]] + mu[[b]]) / 2))

    # The directions of greatest variance, found in another way; each may point forward or backward.
    points = np.concatenate([np.asarray(dots.get_offsets()) for dots in latent_map.collections])
    assert [len(dots.get_offsets()) for dots in latent_map.collections] == labels.bincount().tolist()
    with torch.no_grad():
        means = model.encode(training[:][0])[0].numpy()
    values, directions = np.linalg.eigh(np.cov(means.T))
    expected = (mu.numpy() - means.mean(0)) @ directions[:, :-3:-1]
    order = np.argsort(labels.numpy(), kind="stable")
    np.testing.assert_allclose(abs(points), abs(expected[order]), rtol=1e-3, atol=1e-5)
    share = values[-1] / values.sum()
    assert latent_map.get_xlabel() == f"1st principal component ({share:.0%} of the variance)"


@pytest.mark.parametrize("number", [2, 3, 7])
def test_latent_spaces_with_little_in_them(number, few_photos, tmp_path):
    (few_photos / "tulip").rename(few_photos / "\u90c1\u91d1\u9999")  # tulip in Chinese, which not every font can write
    photos = sorted(few_photos.rglob("*.jpg"))
    for photo in photos[number:]:
        photo.unlink()
    for encoding_dim in 1, 2:
        training, validation = read_flowers(few_photos, 8, 8).split()
        path = tmp_path / "latent.png"
        plot_latent("title", VarAutoencoder(encoding_dim, (8, 8)), training, validation, path)
        with Image.open(path) as picture:
            assert picture.size == (1080, 1080)
