"""The scripts that draw what a trained model makes: visualization.py and random_generation.py."""

import shutil

import numpy as np
import pytest
import torch
from conftest import defaults_in_help, fails, pixels_of, saved_model, without_notices
from PIL import Image
from torch import nn

import random_generation
import visualization
from data_processor import read_flowers, show_groups, show_images, show_recover_results
from GAN import GAN
from lab.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from lab.defaults import AUTOENCODERS, MODELS
from lab.gaussian_mixture import GaussianMixture
from lab.generation import generate, kinds_in_proportion

HISTORY = "Epoch,Train Loss,Valid Loss\n1,0.05,0.04\n2,0.02,0.01\n3,0.01,0.015\n"


@pytest.fixture
def look(few_photos, tmp_path, capsys):
    """Runs visualization.py on what is in the folders; gives stderr without notices."""
    places = [f"--{place}-dir={tmp_path / place}" for place in ("model", "log", "vis")]
    (tmp_path / "log").mkdir()

    def run(name, *flags):
        (tmp_path / "log" / f"history_{name}.csv").write_text(HISTORY)
        capsys.readouterr()
        visualization.main(["--model", name, *places, *map(str, flags)])
        out, err = capsys.readouterr()
        assert out == ""
        return without_notices(err)

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
        show_recover_results(images, model.reconstruct(images), tmp_path / "expected.png", row_names=["photo", name])
        found, expected = (
            pixels_of(path) for path in (tmp_path / "vis" / f"{kind}_{name}.png", tmp_path / "expected.png")
        )
        np.testing.assert_array_equal(found, expected)
    kinds = ["latent", "loss", "train", "valid"] if name.startswith("VAE") else ["loss", "train", "valid"]
    assert sorted(path.name for path in (tmp_path / "vis").iterdir()) == [f"{kind}_{name}.png" for kind in kinds]


@pytest.mark.parametrize(("name", "kinds"), [("GAN", ["loss"]), ("DDPM", ["denoising", "denoising", "loss"])])
def test_models_that_reconstruct_nothing_need_no_photos(name, kinds, look, few_photos, tmp_path):
    saved_model(name, few_photos, tmp_path / "model")
    shutil.rmtree(few_photos)
    assert look(name) == ""
    drawn = sorted(path.name for path in (tmp_path / "vis").iterdir())
    endings = [".gif", ".png", ".png"] if name == "DDPM" else [".png"]
    assert drawn == [f"{kind}_{name}{ending}" for kind, ending in zip(kinds, endings, strict=True)]


@pytest.mark.parametrize("kinds", [2, 9])
def test_denoising_of_each_kind(kinds, look, few_photos, tmp_path):
    for number in range(2, kinds):
        shutil.copytree(few_photos / "rose", few_photos / f"kind {number}")
    model = saved_model("DDPM", few_photos, tmp_path / "model", image_size=(12, 8))
    look("DDPM")
    shown = min(kinds, 8)
    torch.manual_seed(0)
    steps = list(model.denoise(3 * shown, torch.arange(shown).repeat_interleave(3)))
    assert len(steps) == 26
    rows = [steps[step][3 * kind] for kind in range(shown) for step in (0, 3, 6, 8, 11, 14, 17, 19, 22, 25)]
    names = [f"kind {number}" for number in range(2, kinds)] + ["rose", "tulip"]
    show_images(torch.stack(rows), tmp_path / "expected.png", columns=10, row_names=names[:8])
    found = pixels_of(tmp_path / "vis" / "denoising_DDPM.png")
    np.testing.assert_array_equal(found, pixels_of(tmp_path / "expected.png"))
    with Image.open(tmp_path / "vis" / "denoising_DDPM.gif") as animation:
        assert animation.info["loop"] == 0
        times = []
        for number in range(animation.n_frames):  # those that are alike are one
            animation.seek(number)
            times.append(animation.info["duration"])
            if number in (0, animation.n_frames - 1):
                frame = np.asarray(animation.convert("RGB")).astype(int)
                expected = np.asarray(show_images(steps[-1 if number else 0], columns=9)).astype(int)
                assert frame.shape == expected.shape
                assert np.abs(frame - expected).mean() < 12  # a GIF has 256 colours
        assert times[0] == 120 and times[-1] >= 3000 and sum(times) == 25 * 120 + 3000


def test_other_photos_than_those_of_the_training(look, few_photos, tmp_path):
    model = saved_model("AE", few_photos, tmp_path / "model")
    shutil.copytree(few_photos, tmp_path / "copy")
    assert look("AE", "--data-root", tmp_path / "copy") == ""
    (tmp_path / "copy" / "rose").rename(tmp_path / "copy" / "violet")
    assert look("AE", "--data-root", tmp_path / "copy") == "These are not the photos that the model was trained on.\n"
    images, _ = read_flowers(tmp_path / "copy", 8, 8).split()[1][:]
    show_recover_results(images, model.reconstruct(images), tmp_path / "expected.png", row_names=["photo", "AE"])
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


NO_FINGERPRINT = {"fingerprint": "0" * 32, "kinds": {"rose": 8, "tulip": 8}}


def test_no_history(few_photos, tmp_path, capsys):
    saved_model("GAN", few_photos, tmp_path / "model")
    where = ["--model-dir", str(tmp_path / "model"), "--vis-dir", str(tmp_path / "vis"), "--log-dir", str(tmp_path)]
    visualization.main(["--model", "GAN", *where])
    path = tmp_path / "history_GAN.csv"
    out, err = capsys.readouterr()
    assert (out, without_notices(err)) == ("", f"{path}: no such history, so no picture of the losses.\n")
    assert list((tmp_path / "vis").iterdir()) == []


def test_defaults(few_photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved_model("AE", "few photos", tmp_path / "models")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "history_AE.csv").write_text(HISTORY)
    visualization.main(["--model", "AE"])
    random_generation.main(["--model", "AE"])
    out, err = capsys.readouterr()
    assert (out, without_notices(err)) == ("", "")
    drawn = sorted(path.name for path in (tmp_path / "vis").iterdir())
    assert drawn == ["loss_AE.png", "random_images_AE.png", "train_AE.png", "valid_AE.png"]
    few_photos.rename("drawn_flowers")
    saved_model("AE", "drawn_flowers", tmp_path / "models", data={"root": "./flowers"} | NO_FINGERPRINT)
    visualization.main(["--model", "AE"])
    message = f"No photos at {tmp_path / 'flowers'}: using the drawn flowers in ./drawn_flowers instead.\n"
    assert message in capsys.readouterr().err
    saved_model("AE", "drawn_flowers", tmp_path / "models", data={"root": "elsewhere"} | NO_FINGERPRINT)
    error = fails(visualization, ["--model", "AE"], capsys)
    assert f"--data-root: found no folder {tmp_path / 'elsewhere'}, expected one of class folders" in error


@pytest.mark.parametrize("script", [visualization, random_generation])
def test_mistakes(script, tmp_path, capsys):
    where = ["--model-dir", tmp_path, "--vis-dir", tmp_path / "vis"]
    assert "argument --model: missing, expected one of MLPAE, AE" in fails(script, where, capsys)
    assert "found 'GPT', expected one of MLPAE, AE" in fails(script, [*where, "--model", "GPT"], capsys)
    assert "--number: found '0', expected a whole number from 1 up" in fails(script, ["--number", "0"], capsys)
    assert "BestModel_AE.pth: no such checkpoint" in fails(script, [*where, "--model", "AE"], capsys)
    assert not (tmp_path / "vis").exists()


@pytest.mark.parametrize(
    ("script", "defaults"),
    [
        (visualization, ["those of the training", "./drawn_flowers", "./models", "./log", "./vis", "16"]),
        (
            random_generation,
            [
                *("./models", "./vis", "10", "0", "as frequent as the photos", "0.3", "normal"),
                *("those of the training", "./drawn_flowers"),
            ],
        ),
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
    images = model.decoder(torch.randn(number or 10, 5)).detach()
    show_groups({"VAE, decoded from N(0, 1)": images}, tmp_path / "expected.png", columns)
    found, expected = (
        pixels_of(path) for path in (tmp_path / "vis" / "random_images_VAE.png", tmp_path / "expected.png")
    )
    assert found.shape == expected.shape and abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["GAN", "DDPM"])
def test_random_pictures_of_all_kinds_and_of_one(name, few_photos, tmp_path):
    for path in sorted((few_photos / "tulip").glob("*.jpg"))[:6]:
        path.unlink()
    model = saved_model(name, few_photos, tmp_path)
    numbers = load_checkpoint(tmp_path, name)["data"]["kinds"]
    assert numbers["rose"] > numbers["tulip"] > 0 and sum(numbers.values()) == 12
    where = ["--model", name, "--model-dir", str(tmp_path), "--vis-dir", str(tmp_path / "vis"), "--number", "12"]
    random_generation.main(where)
    random_generation.main([*where, "--kind", "tulip"])
    for kinds, path in (numbers["rose"] * [0] + numbers["tulip"] * [1], ""), (12 * [1], "_tulip"):
        kinds = torch.tensor(kinds)
        images = generate(model, 12, 0, kinds)
        groups = {
            f"{name}, {kind}": images[kinds == label] for label, kind in enumerate(["rose", "tulip"]) if label in kinds
        }
        show_groups(groups, tmp_path / "expected.png", columns=5)
        found = pixels_of(tmp_path / "vis" / f"random_images_{name}{path}.png")
        np.testing.assert_array_equal(found, pixels_of(tmp_path / "expected.png"))


def test_guidance_changes_the_pictures(few_photos, tmp_path):
    model = saved_model("DDPM", few_photos, tmp_path)
    for param in model.network.parameters():
        nn.init.normal_(param, std=0.05)
    checkpoint = load_checkpoint(tmp_path, "DDPM")
    save_checkpoint(checkpoint | {"model": model}, checkpoint_path(tmp_path, "DDPM"))
    pictures = {}
    for guidance in None, "0.3", "0", "2":
        flags = [] if guidance is None else ["--guidance", guidance]
        where = ["--model-dir", str(tmp_path), "--vis-dir", str(tmp_path / "vis")]
        random_generation.main(["--model", "DDPM", *where, *flags])
        pictures[guidance] = pixels_of(tmp_path / "vis" / "random_images_DDPM.png")
    assert (pictures[None] == pictures["0.3"]).all()
    assert (pictures["0"] != pictures["0.3"]).any() and (pictures["2"] != pictures["0.3"]).any()


@pytest.mark.parametrize("name", ["AE", "VAE", "VAE_calibrated"])
def test_random_pictures_by_a_mixture_fitted_to_the_training_photos(name, few_photos, tmp_path, capsys):
    model = saved_model(name, few_photos, tmp_path / "model", split_seed=3)
    where = ["--model", name, "--model-dir", str(tmp_path / "model"), "--vis-dir", str(tmp_path / "vis")]
    random_generation.main([*where, "--prior", "gmm", "--number", "7", "--seed", "2"])
    images, _ = read_flowers(few_photos, 8, 8).split(3)[0][:]
    with torch.no_grad():
        vectors = model.encoder(images) if name == "AE" else model.encode(images)[0]
        mixture = GaussianMixture(vectors, seed=2)
        torch.manual_seed(2)
        title = f"{name}, from a Gaussian mixture"
        show_groups({title: model.decoder(mixture.sample(7))}, tmp_path / "expected.png", columns=5)
    found = pixels_of(tmp_path / "vis" / f"random_images_{name}_gmm.png")
    assert np.abs(found.astype(int) - pixels_of(tmp_path / "expected.png")).max() <= 1
    assert [path.name for path in (tmp_path / "vis").iterdir()] == [f"random_images_{name}_gmm.png"]
    few_photos.rename(tmp_path / "moved")
    (tmp_path / "moved" / "rose").rename(tmp_path / "moved" / "violet")
    capsys.readouterr()
    random_generation.main([*where, "--prior", "gmm", "--data-root", str(tmp_path / "moved")])
    assert without_notices(capsys.readouterr().err) == "These are not the photos that the model was trained on.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "AE", "--kind", "rose"], "--kind: found AE, expected GAN or DDPM, which learn with the kinds"),
        (["--model", "GAN", "--kind", "x"], "--kind: found 'x', expected one that the model was trained on: rose, tul"),
        (["--model", "GAN", "--guidance", "1"], "--guidance: found GAN, expected DDPM"),
        (["--model", "DDPM", "--guidance", "-1"], "--guidance: found '-1', expected a number from 0 up"),
        (["--model", "GAN", "--prior", "gmm"], "--prior: found GAN, expected AE, VAE, VAE_calibrated for gmm"),
        (["--model", "MLPAE", "--prior", "gmm"], "--prior: found MLPAE, expected AE, VAE, VAE_calibrated for gmm"),
        (["--model", "AE", "--prior", "uniform"], "--prior: invalid choice: 'uniform'"),
    ],
)
def test_what_random_pictures_cannot_be(flags, message, few_photos, tmp_path, capsys):
    saved_model("GAN", few_photos, tmp_path)
    assert message in fails(random_generation, [*flags, "--model-dir", tmp_path, "--vis-dir", tmp_path / "vis"], capsys)
    assert not (tmp_path / "vis").exists()


@pytest.mark.parametrize(
    ("numbers", "number", "expected"),
    [
        ({"a": 590, "b": 698, "c": 783}, 10, [3, 3, 4]),
        ({"a": 590, "b": 698, "c": 783}, 1, [0, 0, 1]),
        ({"a": 1, "b": 1}, 3, [2, 1]),
        ({"a": 0, "b": 5, "c": 0}, 4, [0, 4, 0]),
        ({"a": 3}, 7, [7]),
    ],
)
def test_kinds_are_as_frequent_as_in_the_photos(numbers, number, expected):
    kinds = kinds_in_proportion(numbers, number)
    assert kinds.tolist() == sorted(kinds.tolist()) and kinds.bincount(minlength=len(numbers)).tolist() == expected


class Counter(nn.Module):
    """A model whose pictures are numbered."""

    name = "counter"

    def __init__(self):
        super().__init__()
        self.asked = []

    def sample(self, n, kinds=None, guidance=None):
        assert not self.training and guidance in (None, 7)
        if kinds is not None:
            return kinds.float().view(n, 1, 1, 1).expand(n, 3, 4, 4)
        first = sum(self.asked)
        self.asked.append(n)
        return torch.arange(first, first + n).float().view(n, 1, 1, 1).expand(n, 3, 4, 4)


@pytest.mark.parametrize(("number", "asked"), [(1, [1]), (32, [32]), (33, [32, 1]), (80, [32, 32, 16])])
def test_pictures_are_sampled_32_at_a_time(number, asked):
    model = Counter()
    pictures = generate(model, number, seed=0)
    assert model.asked == asked and pictures.shape == (number, 3, 4, 4)
    assert pictures[:, 0, 0, 0].tolist() == list(range(number))


def test_kinds_and_options_reach_the_model():
    kinds = torch.arange(70) % 9
    assert torch.equal(generate(Counter(), 70, 0, kinds, guidance=7)[:, 0, 0, 0], kinds.float())


def test_pictures_depend_on_the_seed_alone():
    model = GAN(5, (8, 8)).train()
    first, again, other = (generate(model, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_progress_of_sampling(shown_on_terminal):
    shown = shown_on_terminal(generate, Counter(), 80, seed=0)
    assert "Sampling from counter" in shown and "64/80" in shown and "picture/s" in shown


def test_all_models_in_one_picture(few_photos, tmp_path, capsys):
    models = {name: saved_model(name, few_photos, tmp_path) for name in MODELS}
    flags = ["--model", "all", "--model-dir", str(tmp_path), "--vis-dir", str(tmp_path / "vis")]
    visualization.main([*flags, "--data-root", str(few_photos)])
    photos, _ = read_flowers(few_photos, 8, 8).split()[1][:7]
    kinds = kinds_in_proportion({"rose": 8, "tulip": 8}, len(photos))
    rows = [photos, *(models[name].reconstruct(photos) for name in AUTOENCODERS)]
    rows += [generate(models[name], len(photos), 0, kinds) for name in ("GAN", "DDPM")]
    show_images(torch.cat(rows), tmp_path / "expected.png", len(photos), row_names=["photo", *MODELS])
    found = pixels_of(tmp_path / "vis" / "all_models.png").astype(int)
    assert np.abs(found - pixels_of(tmp_path / "expected.png")).max() <= 1
    saved_model("AE", few_photos, tmp_path, image_size=(12, 8))
    assert "found models of several image sizes" in fails(visualization, flags, capsys)
    (tmp_path / "BestModel_AE.pth").unlink()
    assert "BestModel_AE.pth: no such checkpoint" in fails(visualization, flags, capsys)
