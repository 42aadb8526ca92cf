"""The scripts that draw what a trained model makes: visualization.py and random_generation.py."""

import shutil

import numpy as np
import pytest
import torch
from conftest import fails, pixels_of, saved_model, without_notices
from PIL import Image
from torch import nn

import random_generation
import visualization
from data_processor import read_flowers, show_images, show_recover_results
from generative.Diffusion import Diffusion, UNet
from lab.checkpoint import load_checkpoint
from lab.models import AUTOENCODERS, MODELS
from lab.sampling import fitted_prior, labels_in_proportion, sample_in_batches


@pytest.fixture
def draw(few_photos, tmp_path, monkeypatch, capsys):
    """Runs a script on what is in the folders that it looks into by default; gives stderr without notices."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").mkdir()
    history = "Epoch,Train Loss,Valid Loss\n1,0.05,0.04\n2,0.02,0.01\n3,0.01,0.015\n"

    def run(script, name, *flags):
        (tmp_path / "log" / f"history_{name}.csv").write_text(history)
        capsys.readouterr()
        script.main(["--model", name, *map(str, flags)])
        out, err = capsys.readouterr()
        assert out == ""
        return without_notices(err)

    return run


@pytest.fixture
def save(few_photos, tmp_path):
    """Saves a model with its initial weights, as if trained on the photos; gives it."""
    return lambda name, **parts: saved_model(name, few_photos, tmp_path / "models", **parts)


@pytest.fixture
def cheap_network(monkeypatch):
    """DDPM's network is replaced by a number for each label, plus its first bias."""

    def forward(self, x, t, labels):
        return (labels / 10 + self.enter.bias[0]).view(-1, 1, 1, 1).expand_as(x)

    monkeypatch.setattr(UNet, "forward", forward)


def expect_grid_beside_names(path, grid):
    """Fails unless a picture is this grid, to the right of the names of its rows; rounding apart."""
    found, grid = pixels_of(path).astype(int), np.asarray(grid)
    assert found.shape[0] == grid.shape[0] and found.shape[1] > grid.shape[1]
    assert np.abs(found[:, -grid.shape[1] :] - grid).max() <= 1


def expect_grids_below_headings(path, *grids):
    """Fails unless a picture is these grids, each below a heading; rounding apart."""
    found, grids = pixels_of(path).astype(int), list(map(np.asarray, grids))
    heading = (len(found) - sum(map(len, grids))) // len(grids)
    assert heading > 0
    for grid in grids:
        below, found = found[heading : heading + len(grid)], found[heading + len(grid) :]
        assert np.abs(below[:, : grid.shape[1]] - grid).max() <= 1


def expect_interpolations(path, *rows):
    """Fails unless a picture is these rows of images, and below the last its ends, blended pixel by pixel."""
    start, end, steps = rows[-1][0], rows[-1][-1], len(rows[-1]) - 1
    blended = torch.stack([(1 - i / steps) * start + i / steps * end for i in range(steps + 1)])
    expect_grid_beside_names(path, show_images(torch.cat([*rows, blended]), columns=steps + 1))


# visualization.py


@pytest.mark.parametrize(("name", "latent"), [("MLPAE", []), ("AE", []), ("VAE", ["latent"])])
@torch.no_grad()
def test_reconstructions_and_interpolations(name, latent, draw, save, few_photos, tmp_path):
    """The means of a VAE, and the latent vectors of the others, on a straight line between photos of two classes."""
    model = save(name, image_size=(12, 8), split_seed=1)
    assert draw(visualization, name) == ""
    training, validation = read_flowers(few_photos, 12, 8).split(1)
    for kind, photos in ("train", training), ("valid", validation):
        images, labels = photos[:16]
        grid = show_recover_results(images, model.reconstruct(images))
        expect_grid_beside_names(tmp_path / "vis" / f"{kind}_{name}.png", grid)
    vectors, rows = model.encode(images)[0] if name == "VAE" else model.encoder(images), []
    for a, b in visualization.pairs_of_classes(labels.tolist()):
        assert labels[a] != labels[b]
        steps = [model.decoder((1 - i / 7) * vectors[[a]] + i / 7 * vectors[[b]]) for i in range(8)]
        rows.append(torch.cat([images[[a]], *steps, images[[b]]]))
    expect_interpolations(tmp_path / "vis" / f"interpolation_{name}.png", *rows)
    drawn = [f"{kind}_{name}.png" for kind in ("interpolation", *latent, "loss", "train", "valid")]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == drawn


def interpolations_of_noise(model):
    """A row for each class, up to eight, of the same noise."""
    torch.manual_seed(0)
    latent = visualization.slerp(*torch.randn(2, model.encoding_dim))
    for label in range(min(8, model.classes)):
        yield model.sample(8, torch.full((8,), label), latent=latent)


def test_samples_beside_photos_and_interpolations_of_noise(draw, save, few_photos, tmp_path):
    """White where a class has fewer than four validation photos."""
    model = save("GAN", image_size=(12, 8))
    draw(visualization, "GAN")
    expect_interpolations(tmp_path / "vis" / "interpolation_GAN.png", *interpolations_of_noise(model))
    _, validation = read_flowers(few_photos, 12, 8).split(0)
    images, labels = validation[:]
    photos = torch.ones(2, 4, 3, 8, 12)
    for label in range(2):
        first = images[labels == label][:4]
        photos[label, : len(first)] = first
    assert (photos == 1).all(dim=(2, 3, 4)).any()
    pictures = sample_in_batches(model, 8, 0, torch.arange(2).repeat_interleave(4))
    grids = [np.asarray(show_images(each, columns=4)) for each in (photos.flatten(0, 1), pictures)]
    found = pixels_of(tmp_path / "vis" / "beside_photos_GAN.png")[-len(grids[0]) :].astype(int)
    width = grids[0].shape[1]
    assert np.abs(found[:, -width:] - grids[1]).max() <= 1
    assert np.abs(found[:, -2 * width - 12 : -width - 12] - grids[0]).max() <= 1


def test_denoising_of_up_to_eight_classes(draw, save, cheap_network, few_photos, tmp_path):
    for number in range(2, 9):
        shutil.copytree(few_photos / "rose", few_photos / f"class {number}")
    model = save("DDPM", image_size=(12, 8))
    draw(visualization, "DDPM")
    torch.manual_seed(0)
    steps = list(model.denoise(24, torch.arange(8).repeat_interleave(3)))
    rows = [steps[step][3 * label] for label in range(8) for step in (0, 3, 6, 8, 11, 14, 17, 19, 22, 25)]
    expect_grid_beside_names(tmp_path / "vis" / "denoising_DDPM.png", show_images(torch.stack(rows), columns=10))
    expect_interpolations(tmp_path / "vis" / "interpolation_DDPM.png", *interpolations_of_noise(model))
    with Image.open(tmp_path / "vis" / "denoising_DDPM.gif") as animation:
        assert animation.n_frames == 26
        animation.seek(25)
        frame = np.asarray(animation.convert("RGB")).astype(int)
    expected = np.asarray(show_images(steps[-1], columns=9))
    assert frame.shape == expected.shape and np.abs(frame - expected).mean() < 12  # a GIF has 256 colours
    drawn = [
        "beside_photos_DDPM.png",
        "denoising_DDPM.gif",
        "denoising_DDPM.png",
        "interpolation_DDPM.png",
        "loss_DDPM.png",
    ]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == drawn


def test_other_photos_than_those_of_the_training(draw, save, few_photos, tmp_path):
    save("AE")
    few_photos.rename(tmp_path / "moved")
    assert draw(visualization, "AE", "--data-root", tmp_path / "moved") == ""
    (tmp_path / "moved" / "rose").rename(tmp_path / "moved" / "violet")
    assert "not the photos" in draw(visualization, "AE", "--data-root", tmp_path / "moved")


def test_losses_with_the_saved_epoch_and_the_handouts_bars(draw, save, figure, tmp_path):
    """The handout asks for nothing at another size. A history that is of another model is not drawn."""
    for optimizer, size, bars in ("AdamW", 24, 2), ("SGD", 24, 1), ("AdamW", 8, 0):
        save("AE", image_size=(size, size), settings={"split_seed": 0, "optimizer": optimizer})
        assert draw(visualization, "AE") == ""
        _, _, saved, *across = figure().axes[0].lines
        assert saved.get_xydata().tolist() == [[2, 0.01]] and len(across) == bars
    (tmp_path / "vis" / "loss_AE.png").unlink()
    save("AE", valid_loss=0.05)
    assert "history_AE.csv" in draw(visualization, "AE")
    assert not (tmp_path / "vis" / "loss_AE.png").exists()


def test_spherical_interpolation():
    torch.manual_seed(0)
    start, end = nn.functional.normalize(torch.randn(2, 1000).double())
    path = visualization.slerp(start, end, 5)
    torch.testing.assert_close(path[[0, -1]], torch.stack([start, end]))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(5).double())
    steps = torch.cosine_similarity(path[1:], path[:-1])
    torch.testing.assert_close(steps, steps[:1].expand(4))
    for end in start, -start, 1.001 * start:
        torch.testing.assert_close(visualization.slerp(start, end, 3)[1], (start + end) / 2)


def test_pairs_of_different_classes():
    pairs = visualization.pairs_of_classes
    assert pairs([0, 0, 1, 2, 0, 1]) == [[0, 2], [1, 3], [4, 5]]
    assert len(pairs([0, 1] * 9)) == 5 and pairs([0, 0, 0]) == [[0, 2]] and pairs([0]) == [[0, 0]]


def test_all_models_in_one_picture(cheap_network, draw, save, few_photos, tmp_path, capsys):
    models = {name: save(name) for name in MODELS}
    draw(visualization, "all")
    photos, _ = read_flowers(few_photos, 8, 8).split()[1][:7]
    labels = labels_in_proportion({"rose": 8, "tulip": 8}, len(photos))
    rows = [photos, *(models[name].reconstruct(photos) for name in AUTOENCODERS)]
    rows += [sample_in_batches(models[name], len(photos), 0, labels) for name in ("GAN", "DDPM")]
    expect_grid_beside_names(tmp_path / "vis" / "all_models.png", show_images(torch.cat(rows), columns=len(photos)))
    for other in {"image_size": (12, 8)}, {"split_seed": 1}:  # by another split, it may have learned these photos
        save("AE", **other)
        assert "expected the same" in fails(visualization, ["--model", "all"], capsys)


# Both scripts


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (visualization, "--model AE", "BestModel_AE.pth"),
        (random_generation, "--model AE --class rose", "--class: found AE, expected GAN or DDPM"),
        (random_generation, "--model GAN --class x", "--class: found 'x'"),
        (random_generation, "--model GAN --guidance 0", "--guidance: found GAN, expected DDPM"),
        (random_generation, "--model DDPM --guidance -1", "--guidance: found '-1'"),
        (random_generation, "--model GAN --prior gaussian", "--prior: found GAN"),
    ],
)
def test_mistakes(script, flags, message, save, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save("GAN")
    assert message in fails(script, flags.split(), capsys)


# random_generation.py


@pytest.mark.parametrize(("flags", "number", "seed"), [([], 10, 0), (["--number", 26, "--seed", 2], 26, 2)])
def test_random_pictures(flags, number, seed, draw, save, tmp_path):
    model = save("VAE")
    draw(random_generation, "VAE", *flags)
    torch.manual_seed(seed)
    images = model.decoder(torch.randn(number, 5))
    grid = show_images(images, columns=5 if number == 10 else 6)  # about a square
    expect_grids_below_headings(tmp_path / "vis" / "random_images_VAE.png", grid)


@pytest.mark.parametrize(
    ("name", "options"), [("GAN", {}), ("DDPM", {}), ("DDPM", {"guidance": 0}), ("DDPM", {"guidance": 2})]
)
def test_random_pictures_of_all_classes_and_of_one(name, options, draw, save, cheap_network, few_photos, tmp_path):
    for path in sorted((few_photos / "tulip").glob("*.jpg"))[:6]:
        path.unlink()
    model = save(name)
    if name == "DDPM":
        nn.init.constant_(model.network.enter.bias, 0.25)
        save(name, model=model)
    flags = ["--number=12", "--seed=5", *(f"--{flag}={value}" for flag, value in options.items())]
    numbers = list(load_checkpoint(tmp_path / "models", name)["data"]["classes"].values())  # 12 in all
    draw(random_generation, name, *flags)
    draw(random_generation, name, *flags, "--class", "tulip")
    images = sample_in_batches(model, 12, 5, torch.arange(2).repeat_interleave(torch.tensor(numbers)), **options)
    grids = [show_images(some, columns=5) for some in images.split(numbers)]
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}.png", *grids)
    grid = show_images(sample_in_batches(model, 12, 5, torch.ones(12).long(), **options), columns=5)
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}_tulip.png", grid)


@pytest.mark.parametrize("name", ["MLPAE", "AE", "VAE"])
def test_random_pictures_by_a_gaussian_fitted_to_the_training_photos(name, draw, save, few_photos, tmp_path):
    model = save(name, split_seed=3)
    draw(random_generation, name, "--prior", "gaussian", "--number", "7", "--seed", "2")
    training, validation = read_flowers(few_photos, 8, 8).split(3)
    torch.manual_seed(2)
    latent = fitted_prior(model, training[:][0]).sample((7,)).float()
    with torch.no_grad():
        grid = show_images(model.decoder(latent), columns=5)
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}_gaussian.png", grid)
    few = fitted_prior(model, validation[:][0]).sample((9,))  # their covariance is singular
    assert few.isfinite().all()
    # It has the mean and the covariance of the latent vectors of the photos: of a VAE, samples of q(z | photo).
    prior = fitted_prior(model, training[:][0])
    photos = training[:][0].repeat(2000, 1, 1, 1)
    with torch.no_grad():
        vectors = model.reparameterize(*model.encode(photos)) if name == "VAE" else model.encoder(photos)
    torch.testing.assert_close(prior.mean.float(), vectors.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(prior.covariance_matrix.float(), vectors.T.cov(), atol=0.02, rtol=0.02)


# Sampling from any model


def test_labels_are_as_frequent_as_in_the_photos():
    for photos, expected in ([590, 698, 783], [3, 3, 4]), ([1, 1], [2, 1]), ([0, 5, 0], [0, 4, 0]):
        labels = labels_in_proportion(dict(zip("abc", photos, strict=False)), sum(expected))
        assert torch.equal(labels, torch.arange(len(photos)).repeat_interleave(torch.tensor(expected)))


def test_each_of_many_pictures_has_its_own_label(cheap_network):
    model, labels = Diffusion(image_size=(4, 4), classes=9), torch.arange(80) % 9
    nn.init.zeros_(model.network.enter.bias)
    pictures = sample_in_batches(model, 80, 0, labels, guidance=0, steps=1)
    torch.testing.assert_close(pictures[:, 0, 0, 0], (1 - labels / 10) / 2)
