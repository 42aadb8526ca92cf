"""The training scripts, and the pictures after them, as their users run them; resuming is in test_interruptions.py."""

import csv
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import MODULES, ROOT, SCRIPTS, fails, pixels_of, run, run_script, without_notices

import MLPAE_train_script
import random_generation
import train_script
import visualization
from autograd import Linear, ReLU
from data_processor import create_flower_dataloaders
from generative import train_DDPM, train_GAN
from lab import defaults
from lab.checkpoint import checkpoint_path, load_checkpoint
from lab.command_line import say_what_is_next
from lab.defaults import BY_CLASS, MODELS
from lab.photos import fingerprint
from lab.training_run import TrainingRun

TRAININGS = {name: (train_script, ["--model", name]) for name in MODELS}
TRAININGS |= {"MLPAE": (MLPAE_train_script, []), "GAN": (train_GAN, []), "DDPM": (train_DDPM, [])}


def train(name, folders, *flags):
    """Trains in this process, on 8 x 8 pixels, for an epoch unless a flag says otherwise; gives stdout and stderr."""
    script, model = TRAININGS[name]
    return run(script, *model, *folders, "--image-size", 8, "--epochs", 1, *flags)


def generate(name, folders, vis, *flags):
    """The pixels of random pictures of the model, without the line above them."""
    assert run(random_generation, "--model", name, *folders[6:], "--vis-dir", vis, *flags) == ("", "")
    return pixels_of(vis / f"random_images_{name}.png")[30:]


# The log


TERMS = ", Valid Squared Error: N{2}, Valid KL Divergence: N{2}"
LINES = {
    "VAE": f"Train Loss: N{{2}}, Valid Loss: N{{2}}{TERMS}",
    "VAE_calibrated": f"Train Loss: N{{2}}, Valid Loss: N{{2}}, Valid VAE Loss: N{{2}}{TERMS}",
    "GAN": "Discriminator Loss: N{4}, Generator Loss: N{4}",
}


@pytest.mark.parametrize("name", MODELS)
def test_train_look_and_generate(name, folders, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # nothing is written but in the folders that are given
    log, errors = train(name, folders, "--epochs", 3, "--image-size", "12x8", "--batch-size", 5)
    assert errors == ""
    for line in log.split("\nData: ")[0].splitlines():  # of settings; a line wraps between them only
        assert (len(line) <= 80 or str(tmp_path) in line) and (line == "Settings:" or " " in line.strip())
    assert (tmp_path / "log" / f"log_{name}.txt").read_text() == log
    settings, data, *epochs, best = log.replace("\n  ", " ").splitlines()
    assert settings.startswith("Settings: ") and "epochs 3" in settings and "image_size 12x8" in settings
    assert data == f"Data: {tmp_path / 'few photos'}, 16 training and 4 validation photos"
    losses = LINES.get(name, "Train Loss: N{4}, Valid Loss: N{4}").replace("N{", r"-?\d+\.\d{")
    assert [re.fullmatch(rf"Epoch: (\d), {losses}", line)[1] for line in epochs] == ["1", "2", "3"]
    shown = [line.removeprefix("Epoch: ").split(", Valid Squared")[0].split(", Valid VAE")[0] for line in epochs]
    lowest = min(shown, key=lambda line: float(line.split()[-1]))
    assert best == (f"Last epoch: {shown[-1]}" if name == "GAN" else f"Best epoch: {lowest}")
    with open(tmp_path / "log" / f"history_{name}.csv") as file:
        assert [row["Epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]

    # No flag repeats the data, the size or the encoding_dim: the checkpoint knows.
    vis = tmp_path / "vis"
    assert run(visualization, "--model", name, *folders[2:], "--vis-dir", vis) == ("", "")
    assert (vis / f"loss_{name}.png").exists()
    generate(name, folders, vis)
    checkpoint = load_checkpoint(tmp_path / "models", name)
    assert f"poch: {checkpoint['epoch']}, " in best
    assert checkpoint["image_size"] == [12, 8] and checkpoint["settings"]["epochs"] == 3
    assert checkpoint["data"]["classes"] == {"rose": 9, "tulip": 7}
    assert checkpoint["encoding_dim"] == checkpoint["model"].encoding_dim == (288 if name == "DDPM" else 64)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_the_saved_model_is_the_best_one(name, folders, few_photos, tmp_path):
    train(name, folders, "--epochs", 5, "--encoding-dim", 7, "--batch-size", 3)  # the last one has one photo
    checkpoint = load_checkpoint(tmp_path / "models", name)
    model = checkpoint["model"]
    assert checkpoint["encoding_dim"] == model.encoding_dim == 7
    images, _ = create_flower_dataloaders(1, few_photos, 8, 8)[1].dataset[:]
    loss = (model.reconstruct(images) - images).square().mean().item()
    assert loss == pytest.approx(checkpoint["valid_loss"], rel=1e-5)
    if name == "MLPAE":
        shapes = [node.params[0].shape for node in model.graph if isinstance(node, Linear)]
        assert shapes == [(192, 256), (256, 128), (128, 7), (7, 128), (128, 256), (256, 192)]


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_bytes(name, folders, tmp_path):
    results = []
    for seed in 1, 1, 2:
        log, _ = train(name, folders, "--image-size", 4, "--seed", seed)
        results.append((log.split("\nData: ")[1], checkpoint_path(tmp_path / "models", name).read_bytes()))
    assert results[0] == results[1] and results[0][0] != results[2][0]


def test_another_process_gives_the_same_bytes(folders, tmp_path):
    """As its users start it: stdout is the log alone."""
    ours, _ = train("AE", folders)
    path = checkpoint_path(tmp_path / "models", "AE")
    expected = path.read_bytes()
    theirs = run_script("train_script.py", "--model", "AE", *folders, "--image-size", 8, "--epochs", 1, cwd=tmp_path)
    assert (theirs.returncode, theirs.stdout, path.read_bytes()) == (0, ours, expected)


def test_the_summary_tells_met_from_not_met(folders, monkeypatch):
    for validate, limit, verdict in (0.5, 0.6, "met"), (0.5, 0.5, "not met"), (-0.01, 1, "not met"):
        monkeypatch.setattr(MLPAE_train_script, "validate", lambda *_, loss=validate: loss)
        monkeypatch.setitem(defaults.REQUIRED_LOSSES, "MLPAE", {"train": 1, "valid": limit})
        log, _ = train("MLPAE", folders, "--image-size", 24)
        expected = f"Asked by the handout: train loss below 1, valid loss below {limit:g}: {verdict}\n"
        assert log.endswith(expected)
    assert "Asked" not in train("MLPAE", folders)[0]  # at another size
    log, _ = train("AE", folders, "--optimizer", "SGD", "--image-size", 24)
    assert "Asked by the handout: train loss below 0.015: not met\n" in log
    monkeypatch.setitem(defaults.REQUIRED_LOSSES, "AE", {"train": 1, "valid": 0.5})
    monkeypatch.setitem(defaults.REQUIRED_EPOCHS, "AE", 2)
    monkeypatch.setattr(train_script, "train_one_epoch", lambda *_: next(train_losses))
    monkeypatch.setattr(train_script, "validate", lambda *_: {"Loss": next(valid_losses)})
    for losses, verdict in (
        ([(0.9, 0.5), (0.9, 0.4), (0.9, 0.3)], "met in epoch 2"),
        ([(0.9, 0.5), (0.9, 0.4), (0.9, 0.45)], "met"),
        ([(0.9, 0.5), (1.0, 0.4), (0.9, 0.3)], "not met in 2 epochs"),
        ([(0.9, 0.4), (1.0, 0.3), (1.0, 0.3)], "met in epoch 1"),
    ):
        train_losses, valid_losses = (iter(each) for each in zip(*losses, strict=True))
        log, _ = train("AE", folders, "--epochs", 3, "--image-size", 24)
        assert log.endswith(f"Asked by the handout: train loss below 1, valid loss below 0.5: {verdict}\n")


@pytest.mark.parametrize(("function", "loss"), [("train_one_epoch", float("nan")), ("validate", float("inf"))])
def test_a_loss_that_is_no_number_stops_the_training(function, loss, folders, monkeypatch, capsys, tmp_path):
    real = getattr(MLPAE_train_script, function)
    epochs = iter([real, lambda *_: loss])
    monkeypatch.setattr(MLPAE_train_script, function, lambda *args: next(epochs)(*args))
    error = stopped(folders, capsys, "--epochs", "9")
    assert (
        "loss no longer a number in epoch 2; look for errors in the nodes (python check_gradients.py), or low" in error
    )
    assert load_checkpoint(tmp_path / "models", "MLPAE")["epoch"] == 1
    assert f"{loss:.4f}" in (tmp_path / "log" / "log_MLPAE.txt").read_text()


@pytest.mark.filterwarnings("ignore")  # numbers become too large
def test_outputs_that_are_not_between_0_and_1(folders, monkeypatch, capsys):
    build = MLPAE_train_script.build_autoencoder
    monkeypatch.setattr(MLPAE_train_script, "build_autoencoder", lambda *arguments: build(*arguments)[:-1])
    first, last = stopped(folders, capsys, lines=2).splitlines()
    assert re.fullmatch(r"Outputs of the model: found -.* to .*, expected 0 to 1; is there a Sigmoid .*\?", first)
    assert re.search(r"loss no longer a number in epoch \d+; is there a Sigmoid at its end\?$", last)


def stopped(folders, capsys, *flags, lines=1):
    """What is on stderr after a training of Part 2 that ends in an error, the last line."""
    with pytest.raises(SystemExit, match="2"):
        MLPAE_train_script.main([*map(str, folders), "--image-size", "8", *flags])
    err = without_notices(capsys.readouterr().err)
    assert err.count("\n") == lines and ": error: " in err.splitlines()[-1]
    return err


LOG, SAVE_BEST = "run.log(epoch, train_loss, valid_loss)", "run.save_best(autoencoder, epoch, train_loss, valid_loss)"


@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        ("log", lambda epoch, train, valid: (0.25, valid, epoch), f"{LOG}: found 0.25 as epoch, expected 1"),
        ("log", lambda epoch, train, valid: (epoch, None, valid), f"{LOG}: train_one_epoch returned nothing, expected"),
        ("log", lambda epoch, train, _: (epoch, train, {"a": 1}), f"{LOG}: validate returned {{'a': 1}}, expected the"),
        ("log", lambda epoch, train, _: (epoch, train), f"{LOG}: missing 1 required positional argument: 'valid_loss'"),
        ("save_best", lambda model, *rest: (model.graph, *rest), f"{SAVE_BEST}: found a BaseGraph, expected the MLPA"),
        ("save_best", lambda model, epoch, *losses: (model, *losses, epoch), " as epoch, expected 1"),
        ("save_best", lambda model, *_: (model,), f"{SAVE_BEST}: missing 3 required positional arguments: 'epoch', "),
    ],
)
def test_a_wrong_call_in_the_loop_is_told_in_its_terms(method, wrong, words, folders, monkeypatch, capsys):
    real = getattr(TrainingRun, method)
    monkeypatch.setattr(TrainingRun, method, lambda run, *arguments: real(run, *wrong(*arguments)))
    assert words in stopped(folders, capsys)


class Times(ReLU):
    """It needs a number that is not among its params."""

    def __init__(self, factor=1):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return super().forward(self.factor * x)


@pytest.mark.parametrize(
    ("module", "factor", "words"),
    [("autograd.Nodes", 2, "(it gives other outputs)"), ("__main__", 1, "(it asks for __main__.Times, ")],
)
def test_a_model_that_its_file_cannot_hold_is_noticed_at_once(module, factor, words, folders, monkeypatch, capsys):
    monkeypatch.setattr(Times, "__module__", module)
    monkeypatch.setattr(sys.modules[module], "Times", Times, raising=False)
    monkeypatch.setattr(MLPAE_train_script, "ReLU", lambda: Times(factor))
    assert words in stopped(folders, capsys)


def test_early_stopping_that_did_not_wait_and_losses_of_numpy(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(MLPAE_train_script, "validate", lambda *_: np.float32(0.5))
    epochs = TrainingRun.epochs
    for number, waited in (3, "2 epochs"), (2, "1 epoch"):
        monkeypatch.setattr(TrainingRun, "epochs", lambda run, n=number: itertools.islice(epochs(run), n))
        log, _ = train("MLPAE", folders, "--epochs", 9)
        assert f"\nStopped early: no better model in {waited}; --patience is 20\nBest epoch: 1, " in log
    assert "Resumed after epoch 2: no epoch is left\n" in train("MLPAE", folders, "--epochs", 9, "--resume")[0]
    assert load_checkpoint(tmp_path / "models", "MLPAE")["valid_loss"] == 0.5


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("log", "epoch 1 was not logged: call run.log in each epoch"),
        ("save_best", "no model was saved: call run.save_best when an epoch is the best so far"),
    ],
)
def test_a_loop_that_a_student_has_not_finished(method, words, folders, monkeypatch, capsys):
    """Without these calls it would never end, or end in an error that says nothing."""
    monkeypatch.setattr(f"lab.training_run.TrainingRun.{method}", lambda *_: None)
    assert words in stopped(folders, capsys)


@pytest.mark.parametrize("name", ["MLPAE", "AE", "VAE"])
def test_a_mean_that_is_far_too_small_is_said(name, folders, monkeypatch):
    script = MLPAE_train_script if name == "MLPAE" else train_script
    validate = script.validate

    def sixteenth(*arguments):
        found = validate(*arguments)
        return found / 16 if name == "MLPAE" else {key: loss / 16 for key, loss in found.items()}

    assert "validate returned" not in train(name, folders)[1]
    monkeypatch.setattr(script, "validate", sixteenth)
    _, errors = train(name, folders)
    words = " ".join(errors.partition("validate returned")[2].split())
    assert "Does it weight each batch by its size?" in words and ("for 16 images" in words) is (name == "VAE")


# Photos and pictures


def test_without_photos_flowers_are_drawn(tmp_path, few_drawn, monkeypatch):
    drawn = tmp_path / "drawn"
    folders = ["--data-root", "./flowers", "--log-dir", "log", "--drawn-root", drawn, "--model-dir", "models"]
    monkeypatch.chdir(tmp_path)
    log, errors = train("MLPAE", folders)
    assert errors == f"No photos at {tmp_path / 'flowers'}: drawing flowers into {drawn} instead.\n"
    assert f"Data: {drawn}, 6 training and 1 validation photos" in log
    assert run(visualization, "--model", "MLPAE", *folders[2:], "--vis-dir", tmp_path) == ("", "")
    assert (tmp_path / "valid_MLPAE.png").exists()


@pytest.mark.parametrize("classes", [1, 5])
def test_any_number_of_classes(classes, folders, few_photos, tmp_path):
    for number in range(2, classes):
        shutil.copytree(few_photos / "rose", few_photos / f"class {number}")
    if classes == 1:
        (few_photos / "rose").rename(few_photos / "tulip" / "roses")
    train("GAN", folders)
    generate("GAN", folders, tmp_path)
    assert len(load_checkpoint(tmp_path / "models", "GAN")["data"]["classes"]) == classes


@pytest.mark.parametrize("name", ["MLPAE", "VAE", "GAN"])
def test_samples_of_the_same_random_numbers_while_a_model_is_trained(name, folders, tmp_path):
    """They change nothing of the training, and those of the saved epoch are what random_generation.py draws."""
    plain, _ = train(name, folders, "--epochs", 3)
    expected = load_checkpoint(tmp_path / "models", name)["model"].state_dict()
    vis = tmp_path / "vis"
    log, _ = train(name, folders, "--epochs", 3, "--samples-every", 1, "--vis-dir", vis)
    assert log.split("\nData: ")[1] == plain.split("\nData: ")[1] and "samples_every 1" in log
    checkpoint = load_checkpoint(tmp_path / "models", name)
    assert all(torch.equal(weight, expected[part]) for part, weight in checkpoint["model"].state_dict().items())
    paths = [vis / f"samples_{name}_epoch_{epoch:04}.png" for epoch in (1, 2, 3)]
    assert sorted(vis.iterdir()) == paths
    first, *_, last = pictures = [pixels_of(path)[30:] for path in paths]
    found, expected = generate(name, folders, vis), pictures[checkpoint["epoch"] - 1]
    assert found.shape == expected.shape and (found[:96] == expected[:96]).all() and (first != last).any()


def test_samples_after_every_second_epoch(folders, tmp_path):
    train("AE", folders, "--epochs", 5, "--samples-every", 2, "--vis-dir", tmp_path / "vis")
    assert sorted(path.name[-8:] for path in (tmp_path / "vis").iterdir()) == ["0002.png", "0004.png"]


# Wrong input: one line on stderr, exit status 2, and nothing harmed


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (MLPAE_train_script, ["--image-size", "0"], "--image-size: found '0', expected a whole number from 1 to 1024"),
        (MLPAE_train_script, ["--sead", "1"], "unrecognized arguments: --sead 1"),
        (train_script, ["--image-size", "24x30"], "--image-size: found 24 x 30, expected multiples of 4"),
        (train_script, ["--device", "cuda"], "--device: found no GPU that PyTorch can use"),
        (train_script, ["--model", "VAE", "--optimizer", "SGD"], "--optimizer: found SGD, expected AdamW for VAE"),
        (train_script, ["--model", "GPT"], "--model: found 'GPT', expected one of AE, VAE, VAE_calibrated"),
        (train_script, ["--model", "DDPM"], "DDPM is trained by: python -m generative.train_DDPM"),
        (train_script, ["--model", "MLPAE"], "MLPAE is trained by: python MLPAE_train_script.py"),
        (train_script, [], "--model: missing, expected one of AE, VAE, VAE_calibrated"),
        (train_DDPM, ["--encoding-dim", "64"], "unrecognized arguments: --encoding-dim 64"),
    ],
)
def test_wrong_settings(script, flags, message, folders, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = ["--model", "AE"] if script is train_script and flags else []
    assert message in fails(script, [*model, *folders, *flags], capsys)
    assert not (tmp_path / "models").exists()


def test_wrong_folders(folders, few_photos, tmp_path, capsys):
    photo = few_photos / "rose" / "0.jpg"
    before = photo.read_bytes()
    (tmp_path / "empty" / "rose").mkdir(parents=True)
    for script, flag, folder, message in (
        (MLPAE_train_script, "--data-root", tmp_path / "none", "found no folder"),
        (train_script, "--data-root", photo, "not a folder; expected"),
        (train_GAN, "--data-root", tmp_path / "empty", "found 0 photos in 1 folders"),
        (train_DDPM, "--model-dir", photo, "expected a folder to write in"),
        (train_script, "--log-dir", photo, "expected a folder to write in"),
        *([(train_GAN, "--model-dir", "x" * 5000, "File name too long")] if os.name == "posix" else []),
    ):
        model = ["--model", "AE"] if script is train_script else []
        assert message in fails(script, [*model, *folders, flag, folder], capsys)
    assert photo.read_bytes() == before


# Help, progress bars and TensorBoard


@pytest.mark.parametrize("script", [MLPAE_train_script, train_script, train_GAN, train_DDPM])
def test_help_shows_every_default(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    flags = re.findall(r"(?<=\[)--[\w-]+(?= )", text)
    model = script is train_script  # which has no default
    assert len(flags) >= 12 and text.count("(default: ") == len(flags) + text.count("(default: False)")
    assert ("--model {AE,VAE,VAE_calibrated}" in text) is model


@pytest.mark.parametrize("script", sorted(SCRIPTS | MODULES))
def test_an_older_python_is_told_in_one_line(script):
    code = f"import sys; sys.version_info = (3, 9, 1); import {script}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    words = "This lab needs Python 3.10 or later, found 3.9: install a later one\n"
    assert (result.returncode, result.stderr) == (2, words)


def test_a_missing_package_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-S", ROOT / "train_script.py", "--help"]  # -S: without what is installed
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert re.match("This lab needs numpy, torch, .*pip install -r requirements.txt", result.stderr)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_without_a_terminal(closed, folders, monkeypatch, tmp_path):
    """As by pythonw, or with 2>&-: the stream is None."""
    monkeypatch.setattr(sys, closed, None)
    train_script.main([*map(str, ["--model", "AE", *folders]), "--image-size", "8", "--epochs", "1"])
    getattr(sys, closed).close()
    assert load_checkpoint(tmp_path / "models", "AE")["epoch"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names of files are text")
def test_a_folder_whose_name_is_no_text(folders, few_photos, tmp_path):
    strange = few_photos.rename(tmp_path / os.fsdecode(b"\xff\xe8\x8a\xb1"))
    train("VAE", ["--data-root", strange, *folders[2:]])
    assert run(visualization, "--model", "VAE", *folders[2:], "--vis-dir", tmp_path / "vis") == ("", "")


def test_progress_bars_on_a_terminal_unless_quiet(folders, shown_on_terminal, tmp_path):
    flags = ["--model", "AE", *map(str, folders), "--image-size", "8", "--epochs", "2"]
    for more, bars in ([], True), (["--quiet"], False):
        terminal = shown_on_terminal(train_script.main, [*flags, *more])
        for description, count in ("Reading photos", "0/20"), ("Training AE", "1/2"), ("Training AE", "2/2"):
            assert (re.search(rf"{description}: .*{count} ", terminal) is not None) is bars
        assert (re.search(r" 2/2 .*, Train Loss: \S+, Valid Loss: ", terminal) is not None) is bars
    assert "quiet" not in load_checkpoint(tmp_path / "models", "AE")["settings"]


def test_tensorboard_is_optional(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SystemExit, match="2"):
        MLPAE_train_script.main([*map(str, folders), "--tensorboard", str(tmp_path / "board")])
    message = "--tensorboard: found no TensorBoard; pip install tensorboard, or leave the flag out"
    assert without_notices(capsys.readouterr().err) == f"{os.path.basename(sys.argv[0])}: error: {message}\n"
    assert not (tmp_path / "models" / "BestModel_MLPAE.pkl").exists()


@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_tensorboard(folders, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resume in [], ["--resume"]:
        train("VAE", folders, "--epochs", 3, "--tensorboard", tmp_path / "board", *resume)
        board = EventAccumulator(str(tmp_path / "board" / "VAE")).Reload()
        tags = {"Loss/Train": "Train Loss", "Loss/Valid": "Valid Loss", "KL_Divergence/Valid": "Valid KL Divergence"}
        assert set(board.Tags()["scalars"]) == {*tags, "Squared_Error/Valid"}
        with open(tmp_path / "log" / "history_VAE.csv") as file:
            history = list(csv.DictReader(file))
        for tag, name in tags.items():
            values = {event.step: event.value for event in board.Scalars(tag)}
            assert list(values) == [1, 2, 3]
            assert list(values.values()) == pytest.approx([float(row[name]) for row in history])


# What is said of the files, and what comes next


def test_every_script_says_what_it_wrote_and_what_comes_next(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [*map(str, folders[:2]), "--image-size", "8", "--epochs", "1"]
    elsewhere = ["--model-dir", "my models", "--log-dir", "log/8"]
    losses = ["models/BestModel_MLPAE.pkl", "log/history_MLPAE.csv", "log/log_MLPAE.txt"]
    pictures = [f"vis/{kind}_MLPAE.png" for kind in ("train", "valid", "interpolation", "loss")]
    others = ["my models/BestModel_AE.pth", "log/8/history_AE.csv", "log/8/log_AE.txt"]
    look, sample = "visualization.py --model", "random_generation.py --model"
    for script, arguments, written, following in (
        (MLPAE_train_script, flags, losses, f"{look} MLPAE"),
        (visualization, ["--model", "MLPAE"], pictures, ""),  # Part 2 samples nothing
        (random_generation, ["--model", "MLPAE"], ["vis/random_images_MLPAE.png"], ""),
        (train_script, ["--model", "AE", *flags, *elsewhere], others, f"{look} AE {shlex.join(elsewhere)}"),
        (visualization, ["--model", "AE", *elsewhere], ["vis/loss_AE.png"], f"{sample} AE {shlex.join(elsewhere[:2])}"),
    ):
        script.main(arguments)
        out, err = capsys.readouterr()
        summary = "".join(out.partition("Best epoch")[1:])  # of a training: the log is not on the terminal
        wrote = "".join(f"Wrote {path}\n" for path in written)
        following = f"Next: python {shlex.quote(str(ROOT))}/{following}\n" if following else ""
        assert f"\n{err}".endswith(f"\n{summary}{wrote}{following}")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    MLPAE_train_script.main(flags)
    assert "Best epoch" not in capsys.readouterr().err
    monkeypatch.chdir(ROOT)
    say_what_is_next([], "visualization.py", "--model AE")
    assert capsys.readouterr().err == "Next: python visualization.py --model AE\n"


# On the real photos: FLOWERS=folder python -m pytest


@pytest.mark.parametrize(
    ("name", "epochs", "train_limit", "valid_limit"),
    [
        ("MLPAE", 100, 0.018, 0.018),  # with room to spare
        ("AE_SGD", 60, 0.015, 0.0142),  # and lower than the MLP
        ("AE", 15, 0.01, 0.012),
        ("VAE", 20, 800, 800),
    ],
)
def test_the_logs_meet_the_handouts_figures(name, epochs, train_limit, valid_limit):
    """Those in the repository, or of trainings on the real photos that took their place."""
    log = (ROOT / "log" / f"train_{name}.txt").read_text(encoding="utf-8")
    found = re.search(r"^Best epoch: \d+, Train Loss: (.*), Valid Loss: (.*)$", log, re.MULTILINE)
    assert log.endswith(": met\n") and log.count("\nEpoch: ") == epochs
    assert float(found[1]) < train_limit and float(found[2]) < valid_limit


@pytest.mark.photos
@pytest.mark.parametrize("name", MODELS)
def test_the_committed_model_is_what_its_log_says(name, photos):
    checkpoint = load_checkpoint(ROOT / "models", name)
    model = checkpoint["model"]
    training, validation = create_flower_dataloaders(16, photos, *checkpoint["image_size"])
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
        loss_function = {
            "VAE": train_script.VAE_loss_function,
            "VAE_calibrated": train_script.calibrated_VAE_loss_function,
        }.get(name, train_script.mse_loss)
        found = train_script.validate(model, validation, {"Loss": loss_function})
        assert found["Loss"] == pytest.approx(checkpoint["valid_loss"], rel=1e-4)
