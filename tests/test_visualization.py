"""The scripts that draw what a trained model makes: visualization.py and random_generation.py."""

import shutil

import numpy as np
import pytest
import torch
from conftest import defaults_in_help, fails, pixels_of, saved_model
from PIL import Image
from torch import nn

import random_generation
import visualization
from data_processor import read_flowers, show_images, show_recover_results
from GAN import GAN
from lab.generation import generate

HISTORY = "Epoch,Train Loss,Valid Loss\n1,0.05,0.04\n2,0.02,0.01\n3,0.01,0.015\n"


@pytest.fixture
def look(few_photos, tmp_path, capsys):
    """Runs visualization.py on what is in the folders; gives stderr."""
    places = [f"--{place}-dir={tmp_path / place}" for place in ("model", "log", "vis")]
    (tmp_path / "log").mkdir()

    def run(name, *flags):
        (tmp_path / "log" / f"history_{name}.csv").write_text(HISTORY)
        capsys.readouterr()
        visualization.main(["--model", name, *places, *map(str, flags)])
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return run


@pytest.mark.parametrize("number", [None, 3])
@pytest.mark.parametrize("name", ["MLPAE", "AE", "VAE", "VAE_calibrated"])
def test_photos_above_their_reconstructions(name, number, look, few_photos, tmp_path):
    for kind, turn in ("iris", Image.Transpose.ROTATE_180), ("lily", Image.Transpose.FLIP_LEFT_RIGHT):
        shutil.copytree(few_photos / "rose", few_photos / kind)
        for path in (few_photos / kind).rglob("*.jpg"):
            with Image.open(path) as photo:
                photo.transpose(turn).save(path)
    model = saved_model(name, few_photos, tmp_path / "model", image_size=(12, 8), split_seed=4)
    assert look(name, *([] if number is None else ["--number", number])) == ""
    training, validation = read_flowers(few_photos, 12, 8).split(4)
    for kind, photos in ("train", training), ("valid", validation):
        images, _ = photos[: number or 16]
        show_recover_results(images, model.reconstruct(images), tmp_path / "expected.png")
        found, expected = (
            pixels_of(path) for path in (tmp_path / "vis" / f"{kind}_{name}.png", tmp_path / "expected.png")
        )
        np.testing.assert_array_equal(found, expected)
    kinds = ["latent", "loss", "train", "valid"] if name.startswith("VAE") else ["loss", "train", "valid"]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == [f"{kind}_{name}.png" for kind in kinds]


@pytest.mark.parametrize("name", ["GAN", "DDPM"])
def test_models_that_reconstruct_nothing_need_no_photos(name, look, few_photos, tmp_path):
    saved_model(name, few_photos, tmp_path / "model")
    shutil.rmtree(few_photos)
    assert look(name) == ""
    assert [path.name for path in (tmp_path / "vis").iterdir()] == [f"loss_{name}.png"]


def test_other_photos_than_those_of_the_training(look, few_photos, tmp_path):
    model = saved_model("AE", few_photos, tmp_path / "model")
    shutil.copytree(few_photos, tmp_path / "copy")
    assert look("AE", "--data-root", tmp_path / "copy") == ""
    (tmp_path / "copy" / "rose").rename(tmp_path / "copy" / "violet")
    assert look("AE", "--data-root", tmp_path / "copy") == "These are not the photos that the model was trained on.\n"
    images, _ = read_flowers(tmp_path / "copy", 8, 8).split()[1][:]
    show_recover_results(images, model.reconstruct(images), tmp_path / "expected.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "vis" / "valid_AE.png"), pixels_of(tmp_path / "expected.png"))


def test_checkpoints_of_earlier_versions(look, few_photos, tmp_path):
    """They record the names of the training photos alone, which are compared with a notice."""
    training, _ = read_flowers(few_photos, 8, 8).split()
    names = training.fingerprint(of_names_alone=True)
    saved_model("AE", few_photos, tmp_path / "model", data={"root": str(few_photos), "fingerprint": names})
    assert look("AE").startswith("Only the names of its training photos are recorded with this model")


def test_a_checkpoint_that_names_the_whole_file_system(few_photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data_processor.MAX_ENTRIES", 100)
    (tmp_path / "model").mkdir()
    (tmp_path / "vis").mkdir()
    saved_model("AE", few_photos, tmp_path / "model", data={"root": "/", "fingerprint": "0"})
    flags = ["--model", "AE", "--model-dir", tmp_path / "model", "--vis-dir", tmp_path / "vis"]
    assert "found more than 100 files up to here, so this is no folder of photos" in fails(visualization, flags, capsys)


def test_the_latent_space_of_the_validation_photos(look, figure, few_photos, tmp_path):
    model = saved_model("VAE", few_photos, tmp_path / "model")
    look("VAE")
    latent, losses = figure(-2), figure()
    assert latent.get_suptitle() == "The latent space of VAE"
    assert losses.axes[0].get_title() == "VAE: loss on training and on validation photos"
    training, validation = read_flowers(few_photos, 8, 8).split()
    dots = np.concatenate([points.get_offsets() for points in latent.axes[-1].collections])
    assert len(dots) == len(validation)
    # Distances from the mean of the training photos, which no choice of directions changes, are at least those here.
    with torch.no_grad():
        away = model.encode(validation[:][0])[0] - model.encode(training[:][0])[0].mean(dim=0)
    lengths = away.norm(dim=1)[validation.labels.argsort(stable=True)]
    shown = np.linalg.norm(dots, axis=1)
    assert (shown <= lengths.numpy() + 1e-5).all() and shown.sum() > 0.8 * lengths.sum()


@pytest.mark.parametrize(
    ("name", "settings", "bars"),
    [("AE", {"optimizer": "AdamW"}, 2), ("AE", {"optimizer": "SGD"}, 1), ("MLPAE", {}, 1), ("DDPM", {}, 0)],
)
def test_losses_with_the_best_epoch_and_the_handouts_bars(name, settings, bars, look, figure, few_photos, tmp_path):
    saved_model(name, few_photos, tmp_path / "model", settings={"split_seed": 0} | settings)
    assert look(name) == ""
    words = [text.get_text() for text in figure().axes[0].get_legend().texts]
    assert words[:3] == ["Train Loss", "Valid Loss", "best epoch 2: 0.0200 / 0.0100"] and len(words) == 3 + bars


@pytest.mark.parametrize(
    "losses", [{"train_loss": 0.05}, {"valid_loss": 0.04}, {"epoch": 1}, {"epoch": 4}, {"epoch": 3, "train_loss": 0.01}]
)
def test_a_history_of_another_model(losses, look, few_photos, tmp_path):
    path = tmp_path / "log" / "history_GAN.csv"
    for parts in losses, {}:
        saved_model("GAN", few_photos, tmp_path / "model", **parts)
        message = f"{path}: not the history of this model, so no picture of the losses.\n"
        assert look("GAN") == (message if parts else "")
        assert (tmp_path / "vis" / "loss_GAN.png").exists() == (not parts)


def test_no_history(few_photos, tmp_path, capsys):
    saved_model("GAN", few_photos, tmp_path / "model")
    where = ["--model-dir", str(tmp_path / "model"), "--vis-dir", str(tmp_path / "vis"), "--log-dir", str(tmp_path)]
    visualization.main(["--model", "GAN", *where])
    path = tmp_path / "history_GAN.csv"
    assert capsys.readouterr() == ("", f"{path}: no such history, so no picture of the losses.\n")
    assert list((tmp_path / "vis").iterdir()) == []


def test_defaults(few_photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved_model("AE", "few photos", tmp_path / "models")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "history_AE.csv").write_text(HISTORY)
    visualization.main(["--model", "AE"])
    random_generation.main(["--model", "AE"])
    assert capsys.readouterr() == ("", "")
    drawn = sorted(path.name for path in (tmp_path / "vis").iterdir())
    assert drawn == ["loss_AE.png", "random_images_AE.png", "train_AE.png", "valid_AE.png"]
    few_photos.rename("drawn_flowers")
    visualization.main(["--model", "AE"])
    assert capsys.readouterr().err == "No photos at few photos: using the drawn flowers in ./drawn_flowers instead.\n"


@pytest.mark.parametrize("script", [visualization, random_generation])
def test_mistakes(script, tmp_path, capsys):
    where = ["--model-dir", tmp_path, "--vis-dir", tmp_path / "vis"]
    assert "required: --model" in fails(script, where, capsys)
    assert "invalid choice: 'GPT'" in fails(script, [*where, "--model", "GPT"], capsys)
    assert "--number: found '0', expected a whole number from 1 up" in fails(script, ["--number", "0"], capsys)
    assert "BestModel_AE.pth: no such checkpoint" in fails(script, [*where, "--model", "AE"], capsys)
    assert not (tmp_path / "vis").exists()


@pytest.mark.parametrize(
    ("script", "defaults"),
    [
        (visualization, ["those of the training", "./drawn_flowers", "./models", "./log", "./vis", "16"]),
        (random_generation, ["./models", "./vis", "10", "0"]),
    ],
)
def test_help_shows_every_default(script, defaults, capsys):
    assert defaults_in_help(script, capsys) == defaults


# Random pictures


@pytest.mark.parametrize(
    ("number", "seed", "columns"), [(None, None, 5), (3, 1, 5), (25, None, 5), (26, None, 6), (37, 2, 7)]
)
def test_random_pictures_in_about_a_square(number, seed, columns, few_photos, tmp_path):
    model = saved_model("VAE", few_photos, tmp_path)
    flags = {
        "--model": "VAE",
        "--model-dir": tmp_path,
        "--vis-dir": tmp_path / "vis",
        "--number": number,
        "--seed": seed,
    }
    random_generation.main([str(part) for flag in flags.items() if flag[1] is not None for part in flag])
    torch.manual_seed(seed or 0)
    show_images(model.decoder(torch.randn(number or 10, 5)).detach(), tmp_path / "expected.png", columns)
    found, expected = (
        pixels_of(path) for path in (tmp_path / "vis" / "random_images_VAE.png", tmp_path / "expected.png")
    )
    assert found.shape == expected.shape and abs(found.astype(int) - expected).max() <= 1


class Counter(nn.Module):
    """A model whose pictures are numbered."""

    name = "counter"

    def __init__(self):
        super().__init__()
        self.asked = []

    def sample(self, n):
        assert not self.training
        first = sum(self.asked)
        self.asked.append(n)
        return torch.arange(first, first + n).float().view(n, 1, 1, 1).expand(n, 3, 4, 4)


@pytest.mark.parametrize(("number", "asked"), [(1, [1]), (32, [32]), (33, [32, 1]), (80, [32, 32, 16])])
def test_pictures_are_sampled_32_at_a_time(number, asked):
    model = Counter()
    pictures = generate(model, number, seed=0)
    assert model.asked == asked and pictures.shape == (number, 3, 4, 4)
    assert pictures[:, 0, 0, 0].tolist() == list(range(number))


def test_pictures_depend_on_the_seed_alone():
    model = GAN(5, (8, 8)).train()
    first, again, other = (generate(model, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_progress_of_sampling(shown_on_terminal):
    shown = shown_on_terminal(generate, Counter(), 80, seed=0)
    assert "Sampling from counter" in shown and "64/80" in shown and "picture/s" in shown
