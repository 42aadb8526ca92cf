import os

# One thread for NumPy and PyTorch: on images this small more threads only wait for each other.
for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS":
    os.environ.setdefault(name, "1")

import contextlib
import io
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

from autograd import BaseGraph, Linear, Sigmoid
from data_processor import read_flowers
from lab import drawn_flowers
from lab.checkpoint import checkpoint_path, save_checkpoint
from lab.files import atomic_write
from lab.mlp_autoencoder import MLPAutoencoder
from lab.models import new_model
from lab.photos import class_counts, fingerprint

settings.register_profile("lab", deadline=None)  # a slow machine is no failure
settings.load_profile("lab")

# Of what Unix alone has: its ways to kill a process, limits on a file's size, pipes and links that anyone may make.
collect_ignore = ["test_interruptions.py"] if os.name == "nt" else []
unix = pytest.mark.skipif(os.name == "nt", reason="needs what Unix alone has")

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"MLPAE_train_script", "train_script", "visualization", "random_generation", "check"}
MODULES = {"generative.train_GAN", "generative.train_DDPM", "generative.sample_quality"}
MODULES |= {"teaching.make_handout", "teaching.grade"}


@pytest.fixture
def photos():
    """The folder with the real photos, which only those who have it can test on."""
    if "FLOWERS" not in os.environ:
        pytest.skip("needs the real photos: FLOWERS=folder python -m pytest")
    return str(Path(os.environ["FLOWERS"]).resolve(strict=True))


@pytest.fixture
def few_photos(tmp_path):
    """A data root with ten small photos of each of two classes: a colour and noise, and one in a sub-folder."""
    rng = np.random.default_rng(0)
    root = tmp_path / "few photos"
    for kind in "rose", "tulip":
        (root / kind / "more").mkdir(parents=True)
        for i in range(10):
            pixels = rng.uniform(0, 180, 3) + rng.uniform(0, 75, (40, 30, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / ("more" if i == 9 else "") / f"{i}.jpg")
    return root


@pytest.fixture
def folders(few_photos, tmp_path):
    """The flags that keep a training to tiny photos and away from the repository."""
    places = {"--data-root": few_photos, "--log-dir": "log", "--drawn-root": "drawn", "--model-dir": "models"}
    return [part for flag, name in places.items() for part in (flag, tmp_path / name)]


def write(path, content):
    """Writes bytes by the lab's own means."""
    with atomic_write(path) as file:
        file.write(content)


def without_notices(err):
    """What is on stderr, but for what every script says of the files it wrote, and the summary of a training."""
    notices = "Wrote ", "Stopped early: ", "Best epoch: ", "Last epoch: ", "Asked by "
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith(notices))


def run(script, *arguments):
    """Runs a script in this process; gives what it printed on stdout, and on stderr without notices."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        script.main([str(argument) for argument in arguments])
    return out.getvalue(), without_notices(err.getvalue())


def run_script(name, *arguments, cwd=ROOT):
    """Runs a script, or a module such as generative.train_GAN, as its users do; gives the finished process with stdout
    and stderr as text."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    script = ["-m", name] if name in MODULES else [str(ROOT / name)]
    command = [sys.executable, *script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def fails(script, arguments, capsys, lines=1):
    with pytest.raises(SystemExit) as stop:
        script.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    err = without_notices(err)
    assert stop.value.code == 2 and out == "" and err.count("\n") == lines and ": error: " in err
    return err


def defaults_in_help(script, capsys):
    """The defaults that --help shows."""
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    return re.findall(r"\(default: ([^)]*)\)", " ".join(capsys.readouterr().out.split()))


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def shapes_along(layers, x):
    """The distinct shapes, without the batch, that x goes through."""
    shapes = [tuple(x.shape[1:])]
    for layer in layers:
        x = layer(x)
        if tuple(x.shape[1:]) != shapes[-1]:
            shapes.append(tuple(x.shape[1:]))
    return shapes


def expect_orthogonal(weight):
    """Fails unless the rows of a weight, or its columns if they are fewer, are orthogonal and of length sqrt(2): the
    gain for ReLU."""
    rows = weight.detach().flatten(1)
    rows = rows if len(rows) <= rows.shape[1] else rows.T
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-4, rtol=0)


def saved_model(name, photos, model_dir, image_size=(8, 8), split_seed=0, **parts):
    """Saves a checkpoint of a model with initial weights, as if trained on these photos; gives the model."""
    model_dir.mkdir(exist_ok=True)
    size = 3 * math.prod(image_size)
    split = read_flowers(photos, *image_size).split(split_seed)
    classes = class_counts(split[0])
    if name == "MLPAE":
        rng = np.random.default_rng(0)
        model = MLPAutoencoder(BaseGraph([Linear(size, 5, rng), Linear(5, size, rng), Sigmoid()]), 5, image_size)
    else:
        torch.manual_seed(0)
        model = new_model(name, size if name == "DDPM" else 5, image_size, len(classes)).eval()
    checkpoint = {
        "name": name,
        "model": model,
        "encoding_dim": model.encoding_dim,
        "image_size": list(image_size),
        "data": {"root": str(photos), "fingerprint": fingerprint(*split), "classes": classes},
        "epoch": 2,
        **(
            {"discriminator_loss": 0.02, "generator_loss": 0.01}
            if name == "GAN"
            else {"train_loss": 0.02, "valid_loss": 0.01}
        ),
        "settings": {"split_seed": split_seed, "optimizer": "AdamW"},
    }
    save_checkpoint(checkpoint | parts, checkpoint_path(model_dir, name))
    return model


@pytest.fixture
def figure(monkeypatch):
    """The latest figure that was saved, or an earlier one by its position."""
    saved = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: saved.append(self) or savefig(self, *args, **kw))
    return lambda which=-1: saved[which]


@pytest.fixture
def few_drawn(monkeypatch):
    """A stand-in set of seven pictures of two kinds is drawn instead of the whole one."""
    for kind, count in {"astilbe": 3, "calendula": 4}.items():
        monkeypatch.setitem(drawn_flowers.COUNTS, kind, count)
    monkeypatch.delitem(drawn_flowers.COUNTS, "bellflower")


def skip_if_trained_here(name, folder="models"):
    """Skips a test of the committed results of a model, if a training has replaced them."""
    if (ROOT / folder / f"LastEpoch_{name}.pth").exists():
        pytest.skip(f"{name} was trained anew in this folder")
