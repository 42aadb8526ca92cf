"""Trainings that are cut off, and what is left of them."""

import contextlib
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import fails, without_notices
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
from lab.models import MODELS

SCRIPTS = {"MLPAE": MLPAE_train_script, "GAN": train_GAN, "DDPM": train_DDPM}


@pytest.fixture
def flags(few_photos, tmp_path, monkeypatch):
    """Of a training on tiny photos; Ctrl-C stops it, even if these tests run in the background of a shell."""
    monkeypatch.setattr("generative.Diffusion.WIDTHS", (8, 8, 16))
    places = {"--data-root": few_photos, "--model-dir": tmp_path / "models", "--log-dir": tmp_path / "log"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield ["--image-size", "8", *(str(part) for place in places.items() for part in place)]
    signal.signal(signal.SIGINT, before)


def command(name, *arguments):
    """The script of a model, and its arguments."""
    model = [] if name in SCRIPTS else ["--model", name]
    return SCRIPTS.get(name, train_script), [*model, *map(str, arguments)]


def train(name, *arguments):
    script, arguments = command(name, *arguments)
    script.main(arguments)


def what_is_left(tmp_path, name):
    """The bytes of the best model and of the history, which must not depend on what happened on the way."""
    files = checkpoint_path(tmp_path / "models", name), tmp_path / "log" / f"history_{name}.csv"
    return [file.read_bytes() for file in files]


def left_by_a_whole_training(tmp_path, name, *arguments):
    """What is left of a training that was not interrupted; its folders are empty again."""
    train(name, *arguments)
    files = what_is_left(tmp_path, name)
    for folder in "models", "log":
        shutil.rmtree(tmp_path / folder)
    return files


def stopped_after(calls, monkeypatch, module, function, name, *arguments):
    """A training that is stopped by Ctrl-C when a function is called once more than so many times."""
    left, real = iter(range(calls)), getattr(module, function)

    def until_then(*arguments):
        if next(left, None) is None:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(module, function, until_then)
        train(name, *arguments)


# Resuming


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MLPAE", "VAE"])
def test_killed_at_random_moments_and_resumed(name, flags, tmp_path, capsys):
    flags += ["--epochs", 100, "--patience", 100]
    expected = left_by_a_whole_training(tmp_path, name, *flags)
    whole = capsys.readouterr().out
    log, rng = "", random.Random(0)
    script, arguments = command(name, *flags, "--resume")
    for kill in range(1, 6):
        process = subprocess.Popen([sys.executable, script.__file__, *arguments], stdout=subprocess.PIPE, text=True)
        for _ in range(rng.randint(2, 7)):
            log += process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        log += process.stdout.read()  # communicate() would pass by what readline() has in hand already
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it came to its end before kill {kill}"
        if checkpoint_path(tmp_path / "models", name).exists():
            load_checkpoint(tmp_path / "models", name)
    train(name, *flags, "--resume")
    assert what_is_left(tmp_path, name) == expected
    # No line of the log is lost; that of an epoch that was cut off after it was printed is there twice.
    found, expected = (re.findall("^(?:Epoch|Best).*", text, re.M) for text in (log + capsys.readouterr().out, whole))
    assert list(dict.fromkeys(found)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_stopped_and_resumed_it_ends_with_the_same_bytes(name, flags, tmp_path, monkeypatch, capsys):
    flags += ["--epochs", 3]
    expected = left_by_a_whole_training(tmp_path, name, *flags)
    capsys.readouterr()
    stopped_after(1, monkeypatch, training_run, "save_values", name, *flags)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--resume" in error
    train(name, *flags, "--resume")
    assert "Resumed after epoch 1\nEpoch: 2, " in capsys.readouterr().out
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
        for module in Nodes, MLPAE_train_script:
            monkeypatch.setattr(module, "Linear", Linear)
    else:
        monkeypatch.setattr(BaseGraph, "optimstep", step)
    flags += ["--epochs", 3, "--lr", 1]
    expected = left_by_a_whole_training(tmp_path, "MLPAE", *flags)
    stopped_after(1, monkeypatch, training_run, "save_values", "MLPAE", *flags)
    train("MLPAE", *flags, "--resume")
    assert what_is_left(tmp_path, "MLPAE") == expected and b"kept" not in expected[0]
    for script in visualization, random_generation:
        script.main(["--model", "MLPAE", "--model-dir", str(tmp_path / "models"), "--vis-dir", str(tmp_path)])
    model, in_plain_python = load_checkpoint(tmp_path / "models", "MLPAE")["model"], pickle.loads(expected[0])
    images, _ = read_flowers(flags[3], 8, 8).split(0)[1][:]
    assert (model(images) - images).square().mean().item() == pytest.approx(in_plain_python["valid_loss"])
    x = images.flatten(1).numpy()
    np.testing.assert_array_equal(in_plain_python["model"].forward(x), model.graph.forward(x))


def test_a_finished_training_has_nothing_to_resume(flags, tmp_path, capsys):
    flags += ["--epochs", 200, "--patience", 3, "--lr", 30, "--resume"]
    train("MLPAE", *flags)
    out, err = capsys.readouterr()
    assert str(tmp_path / "models" / "LastEpoch_MLPAE.pth") in err  # there is none yet
    expected = what_is_left(tmp_path, "MLPAE")
    *_, last, stopped, best = out.splitlines()
    assert stopped == "Stopped early: no better model in 3 epochs"
    (tmp_path / "log" / "history_MLPAE.csv").unlink()
    train("MLPAE", *flags)
    _, _, resumed, *summary = capsys.readouterr().out.splitlines()
    assert f"after epoch {last.split(',')[0].removeprefix('Epoch: ')}: no epoch is left" in resumed
    assert summary == [stopped, best] and what_is_left(tmp_path, "MLPAE") == expected
    checkpoint_path(tmp_path / "models", "MLPAE").unlink()
    assert "BestModel_MLPAE.pkl" in fails(MLPAE_train_script, command("MLPAE", *flags)[1], capsys)


def test_a_training_is_resumed_in_another_place(flags, few_photos, tmp_path, monkeypatch):
    """All folders may have moved, and how files are treated may change; nothing else."""
    flags += ["--epochs", "3"]
    losses = iter(2 * [1.0, 2.0, 3.0])  # the first model is the best
    monkeypatch.setattr(train_script, "validate", lambda *_: {"Loss": next(losses)})
    _, expected = left_by_a_whole_training(tmp_path, "AE", *flags)
    stopped_after(1, monkeypatch, train_script, "train_one_epoch", "AE", *flags)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in "models", "log", few_photos.name:
        (tmp_path / folder).rename(elsewhere / folder)
    places = [str(elsewhere / os.path.relpath(part, tmp_path)) if os.path.isabs(part) else part for part in flags]
    train("AE", *places, "--drawn-root", elsewhere / "drawn", "--strict", "--samples-every", 9, "--resume")
    assert what_is_left(elsewhere, "AE")[1] == expected
    checkpoint = load_checkpoint(elsewhere / "models", "AE")
    assert checkpoint["epoch"] == 1 and checkpoint["data"]["root"] == str(tmp_path / few_photos.name)


def turn_a_photo(state):
    """One for validation."""
    photos = state.parents[1] / "few photos"
    path = photos / read_flowers(photos, 8, 8).split(0)[1].names[0]
    with Image.open(path) as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(path)


def changed(**fields):
    return lambda state: save_values(torch.load(state, weights_only=True) | fields, state)


def flip_a_bit(state):
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


@pytest.mark.parametrize(
    ("other", "harm", "words"),
    [
        (["--epochs", 9, "--lr", 3], None, "epochs 9 now, 2 then, lr 3.0 now, 8.0 then"),
        (["--split-seed", 1], None, "split_seed 1 now, 0 then, photos "),
        ([], turn_a_photo, "photos "),
        ([], lambda state: state.write_bytes(b""), "LastEpoch_MLPAE.pth"),
        ([], flip_a_bit, "LastEpoch_MLPAE.pth"),
        ([], changed(best=None), "LastEpoch_MLPAE.pth"),
        ([], changed(order=None), "LastEpoch_MLPAE.pth"),
        ([], changed(stateful=[]), "LastEpoch_MLPAE.pth"),
    ],
)
def test_with_other_settings_or_photos_or_a_damaged_state_nothing_is_resumed(
    other, harm, words, flags, tmp_path, capsys
):
    flags += ["--epochs", 2]
    train("MLPAE", *flags)
    expected = what_is_left(tmp_path, "MLPAE")
    if harm:
        harm(tmp_path / "models" / "LastEpoch_MLPAE.pth")
    capsys.readouterr()
    error = fails(MLPAE_train_script, [*flags, *other, "--resume"], capsys)
    assert words in error and "without --resume" in error and what_is_left(tmp_path, "MLPAE") == expected


# What a training leaves alone


@pytest.mark.parametrize(
    ("calls", "module", "function"),
    [(0, training_run, "save_values"), (1, MLPAE_train_script, "train_one_epoch")],
)
def test_stopped_in_epoch_1_or_2_the_earlier_run_is_kept(calls, module, function, flags, tmp_path, monkeypatch, capsys):
    """In epoch 1 when the model is saved, but not yet the state to resume from."""
    flags += ["--epochs", 3]
    names = ["BestModel_MLPAE.pkl", "LastEpoch_MLPAE.pth"]
    train("MLPAE", *flags)
    expected = what_is_left(tmp_path, "MLPAE")
    train("MLPAE", *flags, "--seed", 1)
    earlier = [(tmp_path / "models" / name).read_bytes() for name in names]
    capsys.readouterr()
    stopped_after(calls, monkeypatch, module, function, "MLPAE", *flags)
    train("MLPAE", *flags, "--resume")
    assert what_is_left(tmp_path, "MLPAE") == expected
    kept = [tmp_path / "models" / name.replace(".", ".previous.") for name in names]
    err = capsys.readouterr().err
    assert [path.read_bytes() for path in kept] == earlier and all(str(path) in err for path in kept)


@contextlib.contextmanager
def full_disk():
    """As the limit on the size of a file makes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (lambda folder: FileLock(folder / "models" / ".BestModel_MLPAE.lock"), "--model-dir"),  # as a training holds it
        (lambda folder: FileLock(folder / "log" / ".history_MLPAE.lock"), "--log-dir"),
        (lambda _: full_disk(), "File too large"),
    ],
)
def test_a_second_training_in_one_folder_or_a_full_disk_harms_nothing(trouble, words, flags, tmp_path, capsys):
    flags += ["--epochs", "2"]
    train("MLPAE", *flags)
    expected = what_is_left(tmp_path, "MLPAE")
    capsys.readouterr()
    with trouble(tmp_path), pytest.raises(SystemExit, match="2"):
        train("MLPAE", *flags, "--seed", 1)
    error = without_notices(capsys.readouterr().err)
    assert error.count("\n") == 1 and words in error
    assert what_is_left(tmp_path, "MLPAE") == expected
    with FileLock(tmp_path / "log" / ".history_MLPAE.lock"):
        train("AE", *flags)  # another model's files are others
    train("MLPAE", *flags, "--resume")  # the state is still that of the model
    assert what_is_left(tmp_path, "MLPAE") == expected
