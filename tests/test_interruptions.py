"""Trainings that are cut off, and what is left of them."""

import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, fails, without_notices
from filelock import FileLock
from PIL import Image

import MLPAE_train_script
import random_generation
import train_script
import visualization
from autograd import BaseGraph, BaseNode, Nodes
from data_processor import read_flowers
from generative import train_DDPM, train_GAN
from lab import training_run
from lab.checkpoint import checkpoint_path, load_checkpoint, save_values

SCRIPTS = {
    "MLPAE": (MLPAE_train_script, []),
    "AE": (train_script, ["--model", "AE"]),
    "VAE": (train_script, ["--model", "VAE"]),
    "GAN": (train_GAN, []),
    "DDPM": (train_DDPM, []),
}


@pytest.fixture
def flags(few_photos, tmp_path):
    places = {"--data-root": few_photos, "--model-dir": tmp_path / "models", "--log-dir": tmp_path / "log"}
    return ["--image-size", "8", *(str(part) for place in places.items() for part in place)]


def train(name, *arguments):
    script, model = SCRIPTS[name]
    script.main([*model, *map(str, arguments)])


def start(name, *arguments, **options):
    """Starts a training in a process that Ctrl-C can stop, even if these tests run in the background of a shell."""
    script, model = SCRIPTS[name]
    command = [sys.executable, script.__file__, *model, *map(str, arguments)]
    take_ctrl_c = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=take_ctrl_c, **options)


def what_is_left(tmp_path, name):
    """The bytes of the best model and of the history, which must not depend on what happened on the way."""
    files = checkpoint_path(tmp_path / "models", name), tmp_path / "log" / f"history_{name}.csv"
    return [file.read_bytes() for file in files]


def start_again(tmp_path):
    for folder in "models", "log":
        shutil.rmtree(tmp_path / folder)


def after_the_settings(out):
    """The lines of a log after those of the settings and of the data."""
    lines = out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("Data: ")) + 1 :]


def stopping(function, calls):
    """The function for so many calls, and then Ctrl-C."""
    left = iter(range(calls))

    def until_then(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return until_then


def one_line(name, arguments, capsys):
    """The one line of an error."""
    with pytest.raises(SystemExit) as stop:
        train(name, *arguments)
    err = without_notices(capsys.readouterr().err)
    assert stop.value.code == 2 and err.count("\n") == 1 and ": error: " in err
    return err


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MLPAE", "VAE"])
def test_killed_at_random_moments_and_resumed(name, flags, tmp_path, capsys):
    flags += ["--epochs", 100, "--patience", 100]
    train(name, *flags)
    whole = capsys.readouterr().out
    expected = what_is_left(tmp_path, name)
    start_again(tmp_path)

    log = ""
    rng = random.Random(0)
    for kill in range(1, 6):
        process = start(name, *flags, "--resume")
        lines = rng.randint(1, 6)
        while lines:
            log += (line := process.stdout.readline())
            lines -= not line.startswith("  ")  # the settings are on several lines
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        log += process.stdout.read()  # communicate() would pass by what readline() has in hand already
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it came to its end before kill {kill}"
        if checkpoint_path(tmp_path / "models", name).exists():
            load_checkpoint(tmp_path / "models", name)
    train(name, *flags, "--resume")
    output, errors = capsys.readouterr()
    assert without_notices(errors) == "" and what_is_left(tmp_path, name) == expected
    # No line of the log is lost; that of an epoch that was cut off after it was printed is there twice.
    epochs = [
        [line for line in text.splitlines() if line.startswith(("Epoch: ", "Best"))] for text in (log + output, whole)
    ]
    assert list(dict.fromkeys(epochs[0])) == epochs[1]
    assert not list(tmp_path.rglob("*.unfinished"))


@pytest.mark.parametrize("name", ["MLPAE", "VAE", "GAN", "DDPM"])
def test_stopped_and_resumed_it_ends_with_the_same_bytes(name, flags, tmp_path, monkeypatch, capsys):
    flags += ["--epochs", 4]
    train(name, *flags)
    expected = what_is_left(tmp_path, name)
    start_again(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(training_run, "save_values", stopping(save_values, 2))
        train(name, *flags)
    capsys.readouterr()
    train(name, *flags, "--resume")
    assert "Resumed after epoch 2\nEpoch: 3, " in capsys.readouterr().out
    assert what_is_left(tmp_path, name) == expected


class Linear(BaseNode):
    """A student's: with more than its parameters, and these under other names as well, with which it computes."""

    def __init__(self, in_dim, out_dim, rng=None):
        self.in_dim, self.kept, self.function = in_dim, [], lambda x: x @ self.W + self.b
        self.W, self.b = (rng or np.random.default_rng()).normal(0, 0.1, (in_dim, out_dim)), np.zeros((1, out_dim))
        self.params = [self.W, self.b]

    def forward(self, x):
        assert x.shape[1] == self.in_dim
        self.kept = (x, [x.shape])
        return self.function(x)

    def backward(self, grad):
        self.grads = [self.kept[0].T @ grad, grad.sum(0, keepdims=True)]
        return grad @ self.W.T


def step(graph, lr):
    """A student's: it replaces parameters, and the graph keeps what no file can hold."""
    graph.kept = lambda: lr
    for node in graph:
        node.params = tuple(param - np.float64(lr) * grad for param, grad in zip(node.params, node.grads, strict=True))


@pytest.mark.parametrize("part", ["Linear", "optimstep"])
def test_a_students_part_1_is_trained_resumed_and_drawn(part, flags, tmp_path, monkeypatch):
    if part == "Linear":
        monkeypatch.setattr(Linear, "__module__", "autograd.Nodes")
        monkeypatch.setattr(Nodes, "Linear", Linear)
        monkeypatch.setattr(MLPAE_train_script, "Linear", Linear)
    else:
        monkeypatch.setattr(BaseGraph, "optimstep", step)
    flags += ["--epochs", 4, "--lr", 1]
    train("MLPAE", *flags)
    expected = what_is_left(tmp_path, "MLPAE")
    start_again(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(training_run, "save_values", stopping(save_values, 2))
        train("MLPAE", *flags)
    train("MLPAE", *flags, "--resume")
    assert what_is_left(tmp_path, "MLPAE") == expected and b"kept" not in expected[0]
    places = ["--model", "MLPAE", "--model-dir", str(tmp_path / "models"), "--vis-dir", str(tmp_path)]
    visualization.main(places)
    random_generation.main(places)
    model, in_plain_python = load_checkpoint(tmp_path / "models", "MLPAE")["model"], pickle.loads(expected[0])
    images, _ = read_flowers(flags[3], 8, 8).split(0)[1][:]
    assert (model(images) - images).square().mean().item() == pytest.approx(in_plain_python["valid_loss"])
    x = images.flatten(1).numpy()
    np.testing.assert_array_equal(in_plain_python["model"].forward(x), model.graph.forward(x))


def test_a_finished_training_has_nothing_to_resume(flags, tmp_path, capsys):
    flags += ["--epochs", 200, "--patience", 3, "--lr", 30, "--resume"]
    train("MLPAE", *flags)
    out, err = capsys.readouterr()
    assert f"Found no {tmp_path / 'models' / 'LastEpoch_MLPAE.pth'} to resume: starting from the beginning." in err
    expected = what_is_left(tmp_path, "MLPAE")
    train("MLPAE", *flags)
    summary = out.splitlines()[-2:]
    last = out.splitlines()[-3].split(",")[0].split()[1]
    assert summary[0] == "Stopped early: no better model in 3 epochs"
    again = capsys.readouterr().out
    assert after_the_settings(again) == [f"Resumed after epoch {last}: no epoch is left", *summary]
    with pytest.raises(SystemExit, match="2"):
        train("MLPAE", *flags, "--epochs", 7)
    assert "begun with other settings" in capsys.readouterr().err
    assert (tmp_path / "log" / "log_MLPAE.txt").read_text() == out + again
    (tmp_path / "log" / "history_MLPAE.csv").unlink()
    train("MLPAE", *flags)
    assert what_is_left(tmp_path, "MLPAE") == expected
    checkpoint_path(tmp_path / "models", "MLPAE").unlink()
    with pytest.raises(SystemExit, match="2"):
        train("MLPAE", *flags)
    assert "BestModel_MLPAE.pkl: no such model; give its folder" in capsys.readouterr().err


def test_a_training_is_resumed_in_another_place(flags, few_photos, tmp_path, monkeypatch, capsys):
    """All folders may have moved, and how files are treated may change; nothing else."""
    train("AE", *flags, "--epochs", 3)
    _, expected = what_is_left(tmp_path, "AE")
    start_again(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(train_script, "train_one_epoch", stopping(train_script.train_one_epoch, 1))
        train("AE", *flags, "--epochs", 3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in "models", "log", few_photos.name:
        (tmp_path / folder).rename(elsewhere / folder)
    folders = {"--data-root": few_photos.name, "--model-dir": "models", "--log-dir": "log", "--drawn-root": "drawn"}
    places = [part for flag, name in folders.items() for part in (flag, elsewhere / name)]
    capsys.readouterr()
    train("AE", "--image-size", 8, *places, "--epochs", 3, "--strict", "--samples-every", 9, "--resume")
    assert "Resumed after epoch 1\n" in capsys.readouterr().out
    assert what_is_left(elsewhere, "AE")[1] == expected
    assert load_checkpoint(elsewhere / "models", "AE")["data"]["root"] == str(elsewhere / few_photos.name)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--lr", 2], "lr 2.0 now, 8.0 then"),
        (["--epochs", 9, "--batch-size", 3], "batch_size 3 now, 16 then, epochs 9 now, 2 then"),
        (["--split-seed", 1], "split_seed 1 now, 0 then, photos "),
        ([], "photos "),  # one of them is another
    ],
)
def test_only_a_training_with_the_same_settings_and_photos_is_resumed(
    other, message, flags, few_photos, tmp_path, capsys
):
    train("MLPAE", *flags, "--epochs", 2)
    expected = what_is_left(tmp_path, "MLPAE")
    if not other:
        path = few_photos / read_flowers(few_photos, 8, 8).split(0)[1].names[0]
        with Image.open(path) as photo:
            photo.transpose(Image.Transpose.ROTATE_180).save(path)
    capsys.readouterr()
    error = one_line("MLPAE", [*flags, "--epochs", 2, *other, "--resume"], capsys)
    assert "begun with other settings (" in error and "train without --resume" in error
    assert message in error
    assert what_is_left(tmp_path, "MLPAE") == expected


def test_a_damaged_state_is_refused(flags, tmp_path, capsys):
    train("VAE", *flags, "--epochs", 2)
    path = tmp_path / "models" / "LastEpoch_VAE.pth"
    whole, expected = path.read_bytes(), what_is_left(tmp_path, "VAE")
    state = torch.load(path, weights_only=True)
    for part, value in ("best", None), ("parts", state["parts"] * 2), ("order", None), ("", b""), ("", whole[:1000]):
        save_values(state | {part: value}, path)
        if not part:
            path.write_bytes(value)
        error = one_line("VAE", [*flags, "--epochs", 2, "--resume"], capsys)
        assert "found nothing to resume in it" in error and "train without --resume" in error
    assert what_is_left(tmp_path, "VAE") == expected


# What a training leaves alone


def test_the_model_and_the_state_of_an_earlier_run_are_kept(flags, tmp_path, capsys):
    names = ["BestModel_MLPAE.pkl", "LastEpoch_MLPAE.pth"]
    kept = [tmp_path / "models" / name.replace(".", ".previous.") for name in names]
    train("MLPAE", *flags, "--epochs", 2)
    for seed in 1, 2:
        before = [(tmp_path / "models" / name).read_bytes() for name in names]
        capsys.readouterr()
        train("MLPAE", *flags, "--epochs", 1, "--seed", seed)
        assert [path.read_bytes() for path in kept] == before
        out, err = capsys.readouterr()
        for name, path in zip(names, kept, strict=True):
            assert f"Kept {name} of an earlier run as {path}." in " ".join(err.split())
        assert load_checkpoint(tmp_path / "models", "MLPAE")["settings"]["seed"] == seed
        assert (tmp_path / "log" / "log_MLPAE.txt").read_text() == out


@pytest.mark.parametrize(
    ("module", "function", "calls"),
    [(training_run, "atomic_write", 0), (MLPAE_train_script, "train_one_epoch", 1)],
)
def test_stopped_in_epoch_1_or_2_the_earlier_run_is_kept(module, function, calls, flags, tmp_path, monkeypatch):
    """In epoch 1 when the model is saved, but not yet the state to resume from."""
    train("MLPAE", *flags, "--epochs", 3)
    expected = what_is_left(tmp_path, "MLPAE")
    start_again(tmp_path)
    train("MLPAE", *flags, "--epochs", 3, "--seed", 1)
    earlier, _ = what_is_left(tmp_path, "MLPAE")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(module, function, stopping(getattr(module, function), calls))
        train("MLPAE", *flags, "--epochs", 3)
    train("MLPAE", *flags, "--epochs", 3, "--resume")
    assert what_is_left(tmp_path, "MLPAE") == expected
    assert (tmp_path / "models" / "BestModel_MLPAE.previous.pkl").read_bytes() == earlier


@pytest.mark.parametrize(
    ("lock", "flag"), [("models/.BestModel_MLPAE.lock", "--model-dir"), ("log/.history_MLPAE.lock", "--log-dir")]
)
def test_a_second_training_of_one_model_in_one_folder_is_refused(lock, flag, flags, tmp_path, capsys):
    train("MLPAE", *flags, "--epochs", 1)
    log = (tmp_path / "log" / "log_MLPAE.txt").read_text()
    expected = what_is_left(tmp_path, "MLPAE")
    capsys.readouterr()
    with FileLock(tmp_path / lock):  # as a training holds it
        error = fails(MLPAE_train_script, [*flags, "--epochs", 2], capsys)
        train("AE", *flags, "--epochs", 1)  # another model's files are others
    assert "found another training of MLPAE at work in this folder; wait for its end, or give another " + flag in error
    assert what_is_left(tmp_path, "MLPAE") == expected and (tmp_path / "log" / "log_MLPAE.txt").read_text() == log
    train("MLPAE", *flags, "--epochs", 1)  # the lock ended with its holder


def test_a_full_disk_leaves_the_old_model(flags, tmp_path, capsys):
    """As the limit on the size of a file makes it."""
    train("MLPAE", *flags, "--epochs", 2)
    expected = what_is_left(tmp_path, "MLPAE")
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        error = one_line("MLPAE", [*flags, "--epochs", 2, "--seed", 1], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not be written (File too large); what was there before still is" in error
    assert what_is_left(tmp_path, "MLPAE") == expected


# Real processes


def test_ctrl_c(flags, tmp_path):
    process = start("MLPAE", *flags, "--epochs", 5000, "--patience", 5000)
    while not process.stdout.readline().startswith("Epoch: 3"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    advice = "To resume, give the same command with --resume, and with >> in place of > for the log."
    assert without_notices(errors) == f"Interrupted. {advice}\n" and process.returncode == 130
    assert load_checkpoint(tmp_path / "models", "MLPAE")["epoch"] >= 1
    assert (tmp_path / "models" / "LastEpoch_MLPAE.pth").exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full, as Linux has it")
def test_a_log_that_cannot_be_written_ends_in_one_line(flags):
    with open("/dev/full", "w") as full:
        process = start("MLPAE", *flags, "--epochs", "2", stdout=full)
        _, errors = process.communicate()
    message = "the log: No space left on device; give another place"
    assert without_notices(errors) == f"MLPAE_train_script.py: error: {message}\n" and process.returncode == 2
