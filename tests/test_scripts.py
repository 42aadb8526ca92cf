"""The training scripts, and the pictures after them, as their users run them; resuming is in test_interruptions.py."""

import csv
import functools
import re
import sys

import pytest
import torch
from conftest import ROOT, fails, pixels_of, run, run_script, without_notices

import MLPAE_train_script
import random_generation
import train_script
import visualization
from data_processor import create_flower_dataloaders
from generative import train_DDPM, train_GAN
from generative.Diffusion import sampling_times
from lab.checkpoint import checkpoint_path, load_checkpoint
from lab.models import BY_CLASS, MODELS, REQUIRED, required_losses
from lab.photos import fingerprint
from VarAutoencoder import VAE_loss_function, calibrated_VAE_loss_function

TRAININGS = {name: (train_script, ["--model", name]) for name in MODELS}
TRAININGS |= {"MLPAE": (MLPAE_train_script, []), "GAN": (train_GAN, []), "DDPM": (train_DDPM, [])}


@pytest.fixture
def folders(folders, monkeypatch):
    """The flags of folders; and the diffusion model is narrow, and takes three steps to a picture."""
    monkeypatch.setattr("generative.Diffusion.WIDTHS", (8, 8, 16))
    monkeypatch.setattr("generative.Diffusion.sampling_times", lambda _, device: sampling_times(3, device))
    return folders


def train(name, folders, *flags):
    """Trains in this process, on 8 x 8 pixels, for an epoch unless a flag says otherwise; gives stdout and stderr."""
    script, model = TRAININGS[name]
    return run(script, *model, *folders, "--image-size", 8, "--epochs", 1, *flags)


def sample(name, folders, vis, *flags):
    """The pixels of random pictures of the model, without the line above them."""
    assert run(random_generation, "--model", name, *folders[6:], "--vis-dir", vis, *flags) == ("", "")
    return pixels_of(vis / f"random_images_{name}.png")[30:]


def history(name, tmp_path):
    with open(tmp_path / "log" / f"history_{name}.csv") as file:
        return list(csv.DictReader(file))


# The log, and the model that is saved


TERMS = ["Valid Squared Error", "Valid KL Divergence"]
LOSSES = {name: ["Train Loss", "Valid Loss"] for name in MODELS}  # in the order of a line of the log
LOSSES |= {"VAE": LOSSES["VAE"] + TERMS, "VAE_calibrated": [*LOSSES["VAE"], "Valid VAE Loss", *TERMS]}
LOSSES |= {"GAN": ["Discriminator Loss", "Generator Loss"]}


@pytest.mark.parametrize("name", MODELS)
def test_train_look_and_sample(name, folders, few_photos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # nothing is written but in the folders that are given
    flags = ["--epochs", 3, "--image-size", "12x8", "--batch-size", 3]  # the last batch has one photo
    log, errors = train(name, folders, *flags, *([] if name == "DDPM" else ["--encoding-dim", 7]))
    assert errors == ""
    settings, data, *epochs, best = log.splitlines()
    assert settings.startswith("Settings: ") and "epochs 3" in settings and "image_size 12x8" in settings
    assert data == f"Data: {few_photos}, 16 training and 4 validation photos"
    rows = history(name, tmp_path)
    assert [row["Epoch"] for row in rows] == ["1", "2", "3"] and list(rows[0]) == ["Epoch", *LOSSES[name]]

    def line(row, losses):
        digits = 2 if name.startswith("VAE") else 4
        return f"poch: {row['Epoch']}, " + ", ".join(f"{loss}: {float(row[loss]):.{digits}f}" for loss in losses)

    assert epochs == ["E" + line(row, LOSSES[name]) for row in rows]
    chosen = rows[-1] if name == "GAN" else min(rows, key=lambda row: float(row["Valid Loss"]))
    assert best == ("Last e" if name == "GAN" else "Best e") + line(chosen, LOSSES[name][:2])

    checkpoint = load_checkpoint(tmp_path / "models", name)
    model = checkpoint["model"]
    saved = {loss: checkpoint[loss.lower().replace(" ", "_")] for loss in ["Epoch", *LOSSES[name][:2]]}
    assert saved == {loss: float(chosen[loss]) for loss in saved}
    assert checkpoint["image_size"] == [12, 8] and checkpoint["settings"]["epochs"] == 3
    assert checkpoint["data"]["classes"] == {"rose": 9, "tulip": 7}
    assert checkpoint["encoding_dim"] == model.encoding_dim == (288 if name == "DDPM" else 7)
    if name in ("MLPAE", "AE"):
        images, _ = create_flower_dataloaders(1, few_photos, 12, 8)[1].dataset[:]
        loss = (model.reconstruct(images) - images).square().mean().item()
        assert loss == pytest.approx(checkpoint["valid_loss"], rel=1e-5)

    # No flag repeats the data, the size or the encoding_dim: the checkpoint knows.
    vis = tmp_path / "vis"
    assert run(visualization, "--model", name, *folders[2:], "--vis-dir", vis) == ("", "")
    assert (vis / f"loss_{name}.png").exists()
    sample(name, folders, vis)
    assert not list((tmp_path / "here").iterdir())


def test_another_process_gives_the_same_bytes(folders, few_photos, tmp_path, monkeypatch):
    """As its users start it: stdout is the log alone. The terminal has no letters for the name of the folder."""
    folders[1] = few_photos.rename(tmp_path / "花")
    ours, _ = train("AE", folders)
    path = checkpoint_path(tmp_path / "models", "AE")
    expected = path.read_bytes()
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    theirs = run_script("train_script.py", "--model", "AE", *folders, "--image-size", 8, "--epochs", 1, cwd=tmp_path)
    shown = ours.encode("ascii", "backslashreplace").decode()
    assert (theirs.returncode, theirs.stdout, path.read_bytes()) == (0, shown, expected)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([(0.9, 0.5), (0.9, 0.4), (0.9, 0.3)], "met in epoch 2"),
        ([(0.9, 0.5), (0.9, 0.4), (0.9, 0.45)], "met"),
        ([(0.9, 0.5), (1.0, 0.4), (0.9, 0.3)], "not met"),
        ([(0.9, 0.4), (1.0, 0.3), (1.0, 0.3)], "met in epoch 1"),
        ([(0.9, -0.1)], "not met"),
    ],
)
def test_the_summary_tells_met_from_not_met(losses, verdict, folders, monkeypatch):
    monkeypatch.setitem(REQUIRED, "AE", ({"train": 1, "valid": 0.5}, 2))
    train_losses, valid_losses = (iter(each) for each in zip(*losses, strict=True))
    monkeypatch.setattr(train_script, "train_one_epoch", lambda *_: next(train_losses))
    monkeypatch.setattr(train_script, "validate", lambda *_: {"Loss": next(valid_losses)})
    log, _ = train("AE", folders, "--epochs", len(losses), "--image-size", 24)
    last, _, _ = log.splitlines()[-1].partition(";")
    assert last == f"Asked by the handout: train loss below 1, valid loss below 0.5: {verdict}"


@pytest.mark.parametrize(
    ("name", "function", "found"),
    [
        ("MLPAE", "train_one_epoch", float("nan")),
        ("MLPAE", "validate", float("inf")),
        ("VAE", "validate", {"Loss": 1.0, "KL Divergence": float("nan")}),
    ],
)
def test_a_loss_that_is_no_number_stops_the_training(name, function, found, folders, monkeypatch, capsys, tmp_path):
    script, model = TRAININGS[name]
    real = getattr(script, function)
    epochs = iter([real, lambda *_: found])
    monkeypatch.setattr(script, function, lambda *args: next(epochs)(*args))
    with pytest.raises(SystemExit, match="2"):
        script.main([*model, *map(str, folders), "--image-size", "8", "--epochs", "9"])
    out, err = capsys.readouterr()
    assert without_notices(err).count("\n") == 1 and "epoch 2" in err and "--lr" in err
    assert re.search(r"\nEpoch: 2, .*(nan|inf)", out) and len(history(name, tmp_path)) == 1
    assert load_checkpoint(tmp_path / "models", name)["epoch"] == 1


# Photos and pictures


def test_without_photos_flowers_are_drawn(tmp_path, few_drawn, monkeypatch):
    drawn = tmp_path / "drawn"
    folders = ["--data-root", "./flowers", "--log-dir", "log", "--drawn-root", drawn, "--model-dir", "models"]
    monkeypatch.chdir(tmp_path)
    log, errors = train("MLPAE", folders)
    assert errors.count("\n") == 1 and str(tmp_path / "flowers") in errors and str(drawn) in errors
    assert f"Data: {drawn}, 6 training and 1 validation photos" in log
    assert run(visualization, "--model", "MLPAE", *folders[2:], "--vis-dir", tmp_path) == ("", "")
    assert (tmp_path / "valid_MLPAE.png").exists()


@pytest.mark.parametrize(("name", "every"), [("MLPAE", 1), ("VAE", 1), ("GAN", 2)])
def test_samples_of_the_same_random_numbers_while_a_model_is_trained(name, every, folders, few_photos, tmp_path):
    """They change nothing of the training, and those of the saved epoch are what random_generation.py samples."""
    if name == "GAN":
        (few_photos / "rose").rename(few_photos / "tulip" / "roses")  # one class is enough
    plain, _ = train(name, folders, "--epochs", 4)
    expected = load_checkpoint(tmp_path / "models", name)["model"].state_dict()
    vis = tmp_path / "vis"
    log, _ = train(name, folders, "--epochs", 4, "--samples-every", every, "--vis-dir", vis)
    assert log.split("\nData: ")[1] == plain.split("\nData: ")[1]
    checkpoint = load_checkpoint(tmp_path / "models", name)
    assert all(torch.equal(weight, expected[part]) for part, weight in checkpoint["model"].state_dict().items())
    paths = {epoch: vis / f"samples_{name}_epoch_{epoch:04}.png" for epoch in range(every, 5, every)}
    assert sorted(vis.iterdir()) == list(paths.values())
    pictures = {epoch: pixels_of(path)[30:] for epoch, path in paths.items()}
    found, expected = sample(name, folders, vis), pictures[checkpoint["epoch"]]
    assert found.shape == expected.shape and (found[:96] == expected[:96]).all()
    assert (pictures[every] != pictures[4]).any()


# Wrong input: one line on stderr, exit status 2, and nothing harmed


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [
        (MLPAE_train_script, "--image-size 0", "--image-size"),
        (MLPAE_train_script, "--sead 1", "--sead"),
        (train_script, "--model AE --image-size 24x30", "--image-size"),
        (train_script, "--model AE --device cuda", "--device"),
        (train_script, "--model VAE --optimizer SGD", "--optimizer"),
        (train_script, "--model DDPM", "--model"),
        (train_script, "", "--model"),
        (train_GAN, "--data-root none", "none"),
        (train_GAN, "--data-root empty", "empty"),
        (MLPAE_train_script, "--data-root file", "file"),
        (train_DDPM, "--model-dir file", "file"),
        (train_script, "--model VAE --log-dir file", "file"),
    ],
)
def test_wrong_settings_and_folders(script, flags, words, folders, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "rose").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    assert words in fails(script, [*folders, *flags.split()], capsys)
    assert (tmp_path / "file").read_text() == "mine" and not list(tmp_path.rglob("BestModel*"))


# TensorBoard, and what is said of the files


@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_tensorboard(folders, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
        flags = [*folders, "--tensorboard", tmp_path / "board"]
        assert "--tensorboard" in fails(MLPAE_train_script, flags, capsys) and not list(tmp_path.rglob("BestModel*"))
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resume in [], ["--resume"]:
        train("VAE", folders, "--epochs", 3, "--tensorboard", tmp_path / "board", *resume)
        board = EventAccumulator(str(tmp_path / "board" / "VAE")).Reload()
        tags = {"Loss/Train": "Train Loss", "Loss/Valid": "Valid Loss", "KL_Divergence/Valid": "Valid KL Divergence"}
        assert set(board.Tags()["scalars"]) == {*tags, "Squared_Error/Valid"}
        for tag, name in tags.items():
            events = board.Scalars(tag)
            assert [event.step for event in events] == [1, 2, 3]
            values = [float(row[name]) for row in history("VAE", tmp_path)]
            assert [event.value for event in events] == pytest.approx(values)


def test_every_script_says_what_it_wrote(few_photos, tmp_path, capsys, monkeypatch):
    """And writes into models/, log/ and vis/ of the folder that it is started in."""
    monkeypatch.chdir(tmp_path)
    training = ["--data-root", str(few_photos), "--image-size", "8", "--epochs", "1"]
    pictures = [f"vis/{kind}_MLPAE.png" for kind in ("interpolation", "loss", "train", "valid")]
    for script, flags, written in (
        (MLPAE_train_script, training, ["log/history_MLPAE.csv", "models/BestModel_MLPAE.pkl"]),
        (train_script, ["--model", "AE", *training], ["log/history_AE.csv", "models/BestModel_AE.pth"]),
        (visualization, ["--model", "MLPAE"], pictures),
        (random_generation, ["--model", "AE"], ["vis/random_images_AE.png"]),
    ):
        before = set(tmp_path.rglob("[A-Za-z]*.*"))
        script.main(flags)
        out, err = capsys.readouterr()
        said = sorted(line.removeprefix("Wrote ") for line in err.splitlines() if line.startswith("Wrote "))
        found = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("[A-Za-z]*.*")) - before}
        assert said == written == sorted(path for path in found if "LastEpoch" not in path)
        assert re.findall("Best epoch: .*", err) == re.findall("Best epoch: .*", out)  # the log may be in a file


# The committed results


@pytest.mark.parametrize(
    ("name", "optimizer", "limits", "epochs"),
    [
        ("MLPAE", None, {"train": 0.03, "valid": 0.03}, None),
        ("AE", "SGD", {"train": 0.015}, 60),
        ("AE", "AdamW", {"train": 0.01, "valid": 0.012}, 15),
        ("VAE", "AdamW", {"train": 800, "valid": 800}, 20),
    ],
)
def test_the_logs_meet_what_the_handout_asks(name, optimizer, limits, epochs):
    """Those in the repository, or of trainings on the real photos that took their place."""
    assert required_losses(name, optimizer, [24, 24]) == (limits, epochs)
    assert required_losses(name, optimizer, [24, 28]) == required_losses("VAE_calibrated", optimizer) == ({}, None)
    log = (ROOT / "log" / f"train_{name}{'_SGD' * (optimizer == 'SGD')}.txt").read_text(encoding="utf-8")
    found = re.search(r"^Best epoch: \d+, Train Loss: (.*), Valid Loss: (.*)$", log, re.MULTILINE)
    assert all(float(found[["train", "valid"].index(which) + 1]) < limit for which, limit in limits.items())
    assert log.endswith(": met\n") and log.count("\nEpoch: ") <= (epochs or 100)


loaders = functools.cache(create_flower_dataloaders)  # the same photos for all models


@pytest.mark.photos
@pytest.mark.parametrize("name", MODELS)
def test_the_committed_model_is_what_its_log_says(name, photos):
    checkpoint = load_checkpoint(ROOT / "models", name)
    model = checkpoint["model"]
    training, validation = loaders(16, photos, *checkpoint["image_size"])
    assert fingerprint(training.dataset, validation.dataset) == checkpoint["data"]["fingerprint"]
    log = (ROOT / "log" / f"train_{name}.txt").read_text()
    digits = 2 if name.startswith("VAE") else 4
    losses = {key: value for key, value in checkpoint.items() if key.endswith("_loss")}
    line = ", ".join(f"{key.replace('_', ' ').title()}: {value:.{digits}f}" for key, value in losses.items())
    assert f" epoch: {checkpoint['epoch']}, {line}\n" in log and f"\nEpoch: {checkpoint['epoch']}, {line}" in log
    if name == "DDPM":
        assert train_DDPM.validate(model, validation) == pytest.approx(checkpoint["valid_loss"], rel=1e-4)
    elif name not in BY_CLASS:
        model.antithetic = True  # of the VAEs
        VAEs = {"VAE": VAE_loss_function, "VAE_calibrated": calibrated_VAE_loss_function}
        loss_function = VAEs.get(name, train_script.mse_loss)
        found = train_script.validate(model, validation, {"Loss": loss_function})
        assert found["Loss"] == pytest.approx(checkpoint["valid_loss"], rel=1e-4)
