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
from data_processor import FlowerDataset, read_flowers, show_images, show_recover_results
from lab.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from lab.defaults import AUTOENCODERS, MODELS
from lab.generation import generate, labels_in_proportion
from VarAutoencoder import VarAutoencoder

HISTORY = "Epoch,Train Loss,Valid Loss\n1,0.05,0.04\n2,0.02,0.01\n3,0.01,0.015\n"
GAN_HISTORY = HISTORY.replace("Train", "Discriminator").replace("Valid", "Generator")


@pytest.fixture
def draw(few_photos, tmp_path, capsys):
    """Runs a script on what is in the folders; gives stderr without notices."""
    (tmp_path / "log").mkdir()

    def run(script, name, *flags):
        (tmp_path / "log" / f"history_{name}.csv").write_text(GAN_HISTORY if name == "GAN" else HISTORY)
        places = [*("--model-dir", tmp_path / "models"), *("--vis-dir", tmp_path / "vis")]
        places += ["--log-dir", tmp_path / "log"] if script is visualization else []
        capsys.readouterr()
        script.main([str(part) for part in ["--model", name, *places, *flags]])
        out, err = capsys.readouterr()
        assert out == ""
        return without_notices(err)

    return run


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


# visualization.py


@pytest.mark.parametrize(
    ("name", "flags", "number", "latent"), [("MLPAE", [], 16, []), ("VAE", ["--number", 3], 3, ["latent"])]
)
def test_photos_above_their_reconstructions(name, flags, number, latent, draw, few_photos, tmp_path):
    model = saved_model(name, few_photos, tmp_path / "models", image_size=(12, 8), split_seed=4)
    assert draw(visualization, name, *flags) == ""
    for kind, photos in zip(("train", "valid"), read_flowers(few_photos, 12, 8).split(4), strict=True):
        images, _ = photos[:number]
        grid = show_recover_results(images, model.reconstruct(images))
        expect_grid_beside_names(tmp_path / "vis" / f"{kind}_{name}.png", grid)
    drawn = [f"{kind}_{name}.png" for kind in ("interpolation", *latent, "loss", "train", "valid")]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == drawn


def test_models_that_reconstruct_nothing_need_no_photos(draw, few_photos, tmp_path):
    saved_model("DDPM", few_photos, tmp_path / "models")
    shutil.rmtree(few_photos)
    assert draw(visualization, "DDPM") == ""
    drawn = ["denoising_DDPM.gif", "denoising_DDPM.png", "interpolation_DDPM.png", "loss_DDPM.png"]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == drawn


def test_denoising_of_up_to_eight_classes(draw, few_photos, tmp_path):
    for number in range(2, 9):
        shutil.copytree(few_photos / "rose", few_photos / f"class {number}")
    model = saved_model("DDPM", few_photos, tmp_path / "models", image_size=(12, 8))
    draw(visualization, "DDPM")
    torch.manual_seed(0)
    steps = list(model.denoise(24, torch.arange(8).repeat_interleave(3)))
    rows = [steps[step][3 * label] for label in range(8) for step in (0, 3, 6, 8, 11, 14, 17, 19, 22, 25)]
    expect_grid_beside_names(tmp_path / "vis" / "denoising_DDPM.png", show_images(torch.stack(rows), columns=10))
    with Image.open(tmp_path / "vis" / "denoising_DDPM.gif") as animation:
        animation.seek(animation.n_frames - 1)
        frame = np.asarray(animation.convert("RGB")).astype(int)
    expected = np.asarray(show_images(steps[-1], columns=9))
    assert frame.shape == expected.shape and np.abs(frame - expected).mean() < 12  # a GIF has 256 colours


def test_other_photos_than_those_of_the_training(draw, few_photos, tmp_path):
    saved_model("AE", few_photos, tmp_path / "models")
    shutil.copytree(few_photos, tmp_path / "copy")
    assert draw(visualization, "AE", "--data-root", tmp_path / "copy") == ""
    (tmp_path / "copy" / "rose").rename(tmp_path / "copy" / "violet")
    words = "These are not the photos that the model was trained on.\n"
    assert draw(visualization, "AE", "--data-root", tmp_path / "copy") == words


@pytest.mark.parametrize(("optimizer", "bars"), [("AdamW", 2), ("SGD", 1)])
def test_losses_with_the_saved_epoch_and_the_handouts_bars(optimizer, bars, draw, figure, few_photos, tmp_path):
    for size, expected in (24, bars), (8, 0):  # the handout asks for nothing at another size
        settings = {"split_seed": 0, "optimizer": optimizer}
        saved_model("AE", few_photos, tmp_path / "models", (size, size), settings=settings)
        assert draw(visualization, "AE") == ""
        _, _, saved, *across = figure().axes[0].lines
        assert saved.get_xydata().tolist() == [[2, 0.01]] and len(across) == expected


def test_a_history_of_another_model_is_not_drawn(draw, few_photos, tmp_path):
    saved_model("GAN", few_photos, tmp_path / "models", discriminator_loss=0.05)
    assert "history_GAN.csv: not the history of this model" in draw(visualization, "GAN")
    assert not (tmp_path / "vis" / "loss_GAN.png").exists()


@pytest.mark.parametrize("name", ["MLPAE", "AE", "VAE"])
def test_interpolations_between_photos(name, draw, few_photos, tmp_path):
    """The means of a VAE, and the latent vectors of the others, on a straight line between photos of two classes."""
    model = saved_model(name, few_photos, tmp_path / "models")
    draw(visualization, name)
    _, validation = read_flowers(few_photos, 8, 8).split()
    images, labels = validation[:]
    with torch.no_grad():
        vectors = model.encode(images)[0] if name == "VAE" else model.encoder(images)
        rows = []
        for a, b in visualization.pairs_of_classes(labels.tolist()):
            assert labels[a] != labels[b]
            steps = [model.decoder((1 - i / 7) * vectors[[a]] + i / 7 * vectors[[b]]) for i in range(8)]
            rows.append(torch.cat([images[[a]], *steps, images[[b]]]))
        blended = [(1 - i / 9) * rows[0][0] + i / 9 * rows[0][-1] for i in range(10)]
    grid = show_images(torch.cat([rows[0], torch.stack(blended), *rows[1:]]), columns=10)
    expect_grid_beside_names(tmp_path / "vis" / f"interpolation_{name}.png", grid)


@pytest.mark.parametrize("name", ["GAN", "DDPM"])
def test_interpolations_of_noise(name, draw, few_photos, tmp_path):
    """In one class; the ends are those of the latent vectors alone."""
    model = saved_model(name, few_photos, tmp_path / "models")
    draw(visualization, name)
    size = 8 * (96 // 8) + 4
    found = pixels_of(tmp_path / "vis" / f"interpolation_{name}.png")[:, -8 * size - 4 :]
    torch.manual_seed(3)
    latent = torch.randn(2, model.encoding_dim)
    ends = model.sample(2, torch.tensor([1, 1]), latent=latent)
    for column, image in zip((0, 7), ends, strict=True):
        top, left = 4 * size + 4, column * size + 4
        corner = found[top : top + size - 4 : 12, left : left + size - 4 : 12]
        assert np.abs(corner / 255 - image.permute(1, 2, 0).numpy()).max() < 0.01


def test_spherical_interpolation():
    start, end = torch.randn(2, 1000).double()
    path = visualization.slerp(start, 2 * end, 5)
    torch.testing.assert_close(path[[0, -1]], torch.stack([start, 2 * end]))
    path = visualization.slerp(start / start.norm(), end / end.norm(), 5)
    torch.testing.assert_close(path.norm(dim=1), torch.ones(5).double())
    steps = torch.cosine_similarity(path[1:], path[:-1])
    torch.testing.assert_close(steps, steps[:1].expand(4))


def test_pairs_of_different_classes():
    pairs = visualization.pairs_of_classes
    assert pairs([0, 0, 1, 2, 0, 1]) == [[0, 2], [1, 3], [4, 5]]
    assert len(pairs([0, 1] * 9)) == 5 and pairs([0, 0, 0]) == [[0, 2]] and pairs([0]) == [[0, 0]]


def test_all_models_in_one_picture(few_photos, tmp_path, capsys):
    models = {name: saved_model(name, few_photos, tmp_path) for name in MODELS}
    flags = ["--model", "all", "--model-dir", str(tmp_path), "--vis-dir", str(tmp_path / "vis")]
    visualization.main(flags)
    photos, _ = read_flowers(few_photos, 8, 8).split()[1][:7]
    labels = labels_in_proportion({"rose": 8, "tulip": 8}, len(photos))
    rows = [photos, *(models[name].reconstruct(photos) for name in AUTOENCODERS)]
    rows += [generate(models[name], len(photos), 0, labels) for name in ("GAN", "DDPM")]
    expect_grid_beside_names(tmp_path / "vis" / "all_models.png", show_images(torch.cat(rows), columns=len(photos)))
    for other in {"image_size": (12, 8)}, {"split_seed": 1}:  # by another split, it may have learned these photos
        saved_model("AE", few_photos, tmp_path, **other)
        assert "found AE and MLPAE trained on other photos, another split" in fails(visualization, flags, capsys)


# Both scripts


def test_default_folders(few_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_model("AE", "few photos", tmp_path / "models")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "history_AE.csv").write_text(HISTORY)
    visualization.main(["--model", "AE"])
    random_generation.main(["--model", "AE"])
    drawn = sorted(path.name for path in (tmp_path / "vis").iterdir())
    assert drawn == ["interpolation_AE.png", "loss_AE.png", "random_images_AE.png", "train_AE.png", "valid_AE.png"]


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (visualization, [], "argument --model: missing, expected one of MLPAE, AE"),
        (visualization, ["--number", "0"], "--number: found '0', expected a whole number from 1 up"),
        (visualization, ["--model", "AE"], "BestModel_AE.pth: no such checkpoint"),
        (random_generation, ["--model", "AE", "--class", "rose"], "--class: found AE, expected GAN or DDPM"),
        (random_generation, ["--model", "GAN", "--class", "x"], "--class: found 'x', expected one that the model"),
        (random_generation, ["--model", "GAN", "--guidance", "1"], "--guidance: found GAN, expected DDPM"),
        (random_generation, ["--model", "DDPM", "--guidance", "-1"], "--guidance: found '-1', expected a number"),
        (random_generation, ["--model", "GAN", "--prior", "gaussian"], "--prior: found GAN, expected AE, VAE or"),
    ],
)
def test_mistakes(script, flags, message, few_photos, tmp_path, capsys):
    saved_model("GAN", few_photos, tmp_path)
    assert message in fails(script, ["--model-dir", tmp_path, "--vis-dir", tmp_path / "vis", *flags], capsys)


# random_generation.py


@pytest.mark.parametrize(("flags", "number", "seed"), [([], 10, 0), (["--number", 26, "--seed", 2], 26, 2)])
def test_random_pictures(flags, number, seed, draw, few_photos, tmp_path):
    model = saved_model("VAE", few_photos, tmp_path / "models")
    draw(random_generation, "VAE", *flags)
    torch.manual_seed(seed)
    images = model.decoder(torch.randn(number, 5))
    grid = show_images(images, columns=5 if number == 10 else 6)  # about a square
    expect_grids_below_headings(tmp_path / "vis" / "random_images_VAE.png", grid)


@pytest.mark.parametrize("name", ["GAN", "DDPM"])
def test_random_pictures_of_all_classes_and_of_one(name, draw, few_photos, tmp_path):
    for path in sorted((few_photos / "tulip").glob("*.jpg"))[:6]:
        path.unlink()
    model = saved_model(name, few_photos, tmp_path / "models")
    numbers = load_checkpoint(tmp_path / "models", name)["data"]["classes"]  # 12 in all
    draw(random_generation, name, "--number", "12")
    draw(random_generation, name, "--number", "12", "--class", "tulip")
    images = generate(model, 12, 0, torch.arange(2).repeat_interleave(torch.tensor(list(numbers.values()))))
    grids = [show_images(some, columns=5) for some in images.split(list(numbers.values()))]
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}.png", *grids)
    grid = show_images(generate(model, 12, 0, torch.ones(12).long()), columns=5)
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}_tulip.png", grid)


def test_guidance_changes_the_pictures(draw, few_photos, tmp_path):
    model = saved_model("DDPM", few_photos, tmp_path / "models")
    for param in model.network.parameters():
        nn.init.normal_(param, std=0.05)
    checkpoint = load_checkpoint(tmp_path / "models", "DDPM")
    save_checkpoint(checkpoint | {"model": model}, checkpoint_path(tmp_path / "models", "DDPM"))
    pictures = []
    for flags in [], ["--guidance", "0.4"], ["--guidance", "0"], ["--guidance", "2"]:
        draw(random_generation, "DDPM", *flags)
        pictures.append(pixels_of(tmp_path / "vis" / "random_images_DDPM.png"))
    assert [(picture == pictures[0]).all() for picture in pictures] == [True, True, False, False]


@pytest.mark.parametrize("name", ["AE", "VAE"])
def test_random_pictures_by_a_gaussian_fitted_to_the_training_photos(name, draw, few_photos, tmp_path):
    model = saved_model(name, few_photos, tmp_path / "models", split_seed=3)
    draw(random_generation, name, "--prior", "gaussian", "--number", "7", "--seed", "2")
    training, validation = read_flowers(few_photos, 8, 8).split(3)
    torch.manual_seed(2)
    grid = show_images(random_generation.random_images_by_fitted_prior(model, 7, training), columns=5)
    expect_grids_below_headings(tmp_path / "vis" / f"random_images_{name}_gaussian.png", grid)
    # With latent vectors in place of pictures, these have the mean and the covariance of those of the photos.
    model.decoder = nn.Identity()
    found = random_generation.random_images_by_fitted_prior(model, 20_000, training)
    with torch.no_grad():
        vectors = model.encoder(training[:][0]) if name == "AE" else model.encode(training[:][0])[0]
    whitened = (found - vectors.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(vectors.T.cov())).T
    torch.testing.assert_close(whitened.mean(0), torch.zeros(5), atol=0.05, rtol=0)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(5), atol=0.1, rtol=0)
    few = random_generation.random_images_by_fitted_prior(model, 9, validation)  # their covariance is singular
    assert few.isfinite().all()


@pytest.mark.parametrize(("photos", "encoding_dim"), [(1, 5), (16, 1)])
def test_a_gaussian_fitted_to_one_photo_or_one_number(photos, encoding_dim, few_photos):
    training, _ = read_flowers(few_photos, 8, 8).split()
    model = VarAutoencoder(encoding_dim, (8, 8))
    some = FlowerDataset(training.pixels[:photos], training.labels[:photos], photos * [""], [""], photos * [""], "")
    pictures = random_generation.random_images_by_fitted_prior(model, 3, some)
    assert pictures.isfinite().all() and pictures.shape == (3, 3, 8, 8)


# Sampling from any model


@pytest.mark.parametrize(
    ("photos", "number", "expected"), [([590, 698, 783], 10, [3, 3, 4]), ([1, 1], 3, [2, 1]), ([0, 5, 0], 4, [0, 4, 0])]
)
def test_labels_are_as_frequent_as_in_the_photos(photos, number, expected):
    labels = labels_in_proportion(dict(zip("abc", photos, strict=False)), number)
    assert labels.tolist() == sorted(labels.tolist())
    assert labels.bincount(minlength=len(photos)).tolist() == expected


class OfTheirLabels(nn.Module):
    """A model whose pictures have the numbers of their labels as pixels."""

    name = "of their labels"

    def sample(self, n, labels, guidance):
        assert not self.training and guidance == 7 and len(labels) == n
        return labels.float().view(n, 1, 1, 1).expand(n, 3, 4, 4)


def test_each_of_many_pictures_has_its_own_label():
    labels = torch.arange(80) % 9
    pictures = generate(OfTheirLabels(), 80, 0, labels, guidance=7)
    assert pictures[:, 0, 0, 0].tolist() == labels.tolist()
