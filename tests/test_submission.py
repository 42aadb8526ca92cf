"""Submissions to be checked: made by this lab, by the course's own classes, incomplete, damaged, forged and hostile."""

import contextlib
import csv
import functools
import io
import itertools
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, fails, run_script, unix
from PIL import Image

import check_submission
import grading.process
import MLPAE_train_script
import random_generation
import train_script
import visualization
from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from data_processor import read_flowers
from grading.checks import Check, Photos, checks_of, points_of
from lab import handout
from lab.checkpoint import load_checkpoint, save_checkpoint
from lab.mlp_autoencoder import MLPAutoencoder
from lab.photos import fingerprint


@pytest.fixture
def easy(monkeypatch):
    """A handout that asks so little that tiny trainings meet it."""
    for name, limit in ("MLPAE", 1), ("AE", 1), ("VAE", 1e6):
        monkeypatch.setitem(handout.ASKED_LOSSES, name, {"train": limit, "valid": limit})


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A data root with twenty noisy photos of two kinds."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("flowers")
    for kind in "rose", "tulip":
        (root / kind).mkdir()
        for i in range(10):
            pixels = rng.uniform(0, 180, 3) + rng.uniform(0, 75, (30, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(flowers, tmp_path_factory):
    """Makes the results of a model as this lab makes them, once: photos of 12 x 8 pixels, and not the usual split."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        places = {"--data-root": flowers, "--model-dir": folder / "models", "--log-dir": folder / "log"}
        *places, vis = [f"{flag}={place}" for flag, place in (places | {"--vis-dir": folder / "vis"}).items()]
        train, model = (MLPAE_train_script, []) if name == "MLPAE" else (train_script, ["--model", name])
        with contextlib.redirect_stdout(io.StringIO()) as log:
            train.main([*model, *places, "--image-size=12x8", "--epochs=3", "--split-seed=5"])
        (folder / "log" / f"train_{name}.txt").write_text(log.getvalue())
        with contextlib.redirect_stdout(io.StringIO()):
            visualization.main(["--model", name, *places, vis])
            if name != "MLPAE":
                random_generation.main([*model, places[1], vis])
        return folder

    return make


@pytest.fixture
def submission(trained, tmp_path):
    """A folder as a student hands it in, with the given models in it."""

    def make(*names):
        folder = tmp_path / "submission"
        for file in itertools.chain(*handout.CODE.values()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        for name in names:
            shutil.copytree(trained(name), folder, dirs_exist_ok=True)
        return folder

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Submissions are looked at in this process, where tests can change what is asked."""
    monkeypatch.setattr(grading.process, "checks_in_process", checks_of)


@pytest.fixture
def check(flowers, capsys, in_this_process):
    """Checks a folder; gives the exit status, and what was found by what was asked, of the part that is named."""

    def run(folder, part=None, root=flowers):
        status = 0
        try:
            check_submission.main([str(folder), "--json", "--data-root", str(root)])
        except SystemExit as stop:
            status = stop.code
        out, _ = capsys.readouterr()
        found = json.loads(out)
        assert found["complete"] is (status == 0) and found["folder"] == str(folder)
        assert status == (1 if any(c["ok"] is False for c in found["checks"]) else 0)
        return status, {c["asked"]: (c["found"], c["ok"]) for c in found["checks"] if part in (None, c["part"])}

    return run


def log_of(*losses):
    """A log with the losses (train, valid) of each epoch."""
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, 1))


def test_what_the_handout_asks(submission, flowers, capsys):
    folder = submission("MLPAE", "AE", "VAE")
    shutil.copytree(flowers, folder / "flowers")
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), "--json", "--data-root", str(flowers)])
    parts = {}
    for part, asked, _, _ in (c.values() for c in json.loads(capsys.readouterr().out)["checks"]):
        parts.setdefault(part, []).append(asked)
    assert parts == {
        "Part 1": ["autograd/BaseNode.py", "autograd/BaseGraph.py", "autograd/Nodes.py"],
        "Part 2": [
            "MLPAE_train_script.py",
            "models/BestModel_MLPAE.pkl",
            "3HW-256-128-64-128-256-3HW",
            "ReLU; output in [0, 1]",
            "loss on train photos < 0.03",
            "loss on valid photos < 0.03",
            "log/train_MLPAE.txt",
            "losses in it < 0.03 / 0.03",
            "log and model agree",
            "vis/train_MLPAE.png",
            "vis/valid_MLPAE.png",
        ],
        "Part 3": [
            "Autoencoder.py",
            "train_script.py",
            "models/BestModel_AE.pth",
            "loss on train photos < 0.01",
            "loss on valid photos < 0.012",
            "log/train_AE.txt",
            "within 15 epochs < 0.01 / 0.012",
            "log and model agree",
            "vis/train_AE.png",
            "vis/valid_AE.png",
            "vis/random_images_AE.png",
        ],
        "Part 4": [
            "VarAutoencoder.py",
            "models/BestModel_VAE.pth",
            "loss on train photos < 800",
            "loss on valid photos < 800",
            "log/train_VAE.txt",
            "within 20 epochs < 800 / 800",
            "log and model agree",
            "vis/train_VAE.png",
            "vis/valid_VAE.png",
            "vis/random_images_VAE.png",
        ],
        "Photos": ["to be left out"],
    }


def test_losses_asked_of_other_trainings():
    assert handout.asked_losses("AE", "SGD") == {"train": 0.015}
    assert handout.asked_losses("AE", "AdamW") == handout.asked_losses("AE") == {"train": 0.01, "valid": 0.012}
    assert handout.asked_losses("VAE", "SGD") == {"train": 800, "valid": 800}
    assert handout.asked_losses("GAN", "AdamW") == handout.asked_losses("VAE_calibrated") == {}


def test_all_that_is_asked(easy, submission, check):
    folder = submission("MLPAE", "AE", "VAE")
    status, found = check(folder)
    assert status == 0 and {ok for _, ok in found.values()} == {True, None}
    # Code and pictures are for the teacher to look at.
    assert {asked.rpartition(".")[2] for asked, (_, ok) in found.items() if ok is None} == {"py", "png"}
    assert found["vis/random_images_VAE.png"][0].endswith(" pixels inside the border: look at it")
    for part, name in handout.PARTS.items():
        _, found = check(folder, part)
        checkpoint = load_checkpoint(folder / "models", name)
        for which, limit in handout.ASKED_LOSSES[name].items():
            loss, how = found[f"loss on {which} photos < {limit:g}"][0].split(", ")
            tolerance = 1e-3 if which == "valid" else 0.25  # the training loss is measured during the training
            assert float(loss) == pytest.approx(checkpoint[f"{which}_loss"], rel=tolerance) and how == "computed anew"
        assert re.fullmatch(r"[\d.]+ / [\d.]+ and [\d.]+ / [\d.]+", found["log and model agree"][0])


def test_part_2_alone(easy, submission, check):
    folder = submission("MLPAE")
    status, found = check(folder)
    assert status == 0 and found["optional"] == ("not handed in", None)
    assert found["3HW-256-128-64-128-256-3HW"] == ("288-256-128-64-128-256-288", True)
    assert found["ReLU; output in [0, 1]"] == ("4 times ReLU, Sigmoid at the end", True)


def test_photos_in_the_folder_are_for_the_teacher_to_decide(easy, submission, check):
    folder = submission("MLPAE")
    assert "to be left out" not in check(folder)[1]
    (folder / "flowers").mkdir()
    status, found = check(folder)
    assert status == 0 and found["to be left out"] == ("flowers is there", None)


@pytest.mark.parametrize("file", ["models/BestModel_AE.pth", "model/BestModel_AE.pth", "log/train_AE.txt"])
@pytest.mark.parametrize("picture", ["train", "valid", "random_images"])
def test_an_optional_part_counts_as_handed_in_by_any_of_its_files(file, picture, tmp_path, check):
    (tmp_path / "Autoencoder.py").write_text("")  # was there from the beginning
    assert check(tmp_path, "Part 3")[1] == {"optional": ("not handed in", None)}
    for name in file, f"vis/{picture}_AE.png":
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"")
        found = check(tmp_path, "Part 3")[1]
        assert found["Autoencoder.py"] == ("no code in it", False) and found["train_script.py"] == ("missing", False)
        path.unlink()
    assert check(tmp_path, "Part 4")[1] == {"optional": ("not handed in", None)}


@pytest.mark.parametrize(
    ("there", "shown"),
    [
        ([], "models"),
        (["models/"], "models"),
        (["model/"], "model"),
        (["models/", "model/"], "models"),
        (["models/", "model/file"], "model"),
        (["models/file", "model/"], "models"),
        (["models/file", "model/file"], "models"),
    ],
)
def test_models_may_lie_in_either_of_the_handouts_folders(there, shown, trained, tmp_path, check):
    for place in there:
        folder, file = place.split("/")
        (tmp_path / folder).mkdir()
        if file:
            shutil.copy(trained("MLPAE") / "models" / "BestModel_MLPAE.pkl", tmp_path / folder)
    found = check(tmp_path)[1][f"{shown}/BestModel_MLPAE.pkl"]
    is_there = any(place.endswith("file") for place in there)
    assert found == (("0.9 MB; nothing in it was run", True) if is_there else ("missing", False))


def test_a_state_dict_alone(tmp_path, check):
    (tmp_path / "models").mkdir()
    torch.save({"weight": torch.zeros(300_000)}, tmp_path / "models" / "BestModel_AE.pth")
    found = check(tmp_path, "Part 3")[1]
    words = "not measured: a state_dict of 1 tensors, with layers of the student's own"
    assert found["models/BestModel_AE.pth"] == (words, None)


@pytest.mark.parametrize(
    "file", ["autograd/Nodes.py", "log/train_MLPAE.txt", "vis/valid_MLPAE.png", "models/BestModel_MLPAE.pkl"]
)
def test_missing_empty_and_misnamed_files(file, easy, submission, check):
    folder = submission("MLPAE")
    path = folder / file
    if not file.startswith("autograd"):
        whole = path.read_bytes()
        path.write_bytes(b"")
        status, found = check(folder)
        assert status == 1 and found[file][1] is False
        path.write_bytes(whole)
    name = path.name.replace("N", "n").replace("MLPAE", "MLP")
    path.rename(path.with_name(name))
    status, found = check(folder)
    assert status == 1 and found[file] == (f"missing; there is {name}", False)
    shutil.rmtree(path.parent)
    status, found = check(folder)
    assert status == 1 and found[file] == ("missing", False)
    path.mkdir(parents=True)
    assert check(folder)[1][file] == ("no file, or too large", False)


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (["train_MLPAE.log"], "train_MLPAE.log"),
        (["train_MLP.log"], None),
        (["train_MLP.log", "train_MLPAE.log", "Train_MLPAE.txt"], "Train_MLPAE.txt"),
        (["train_AE.txt", "train_VAE.txt"], None),  # of other parts
    ],
)
def test_what_is_like_a_missing_file_is_named(others, named, tmp_path, check):
    (tmp_path / "log").mkdir()
    for name in others:
        (tmp_path / "log" / name).write_text("")
    found = check(tmp_path)[1]["log/train_MLPAE.txt"]
    assert found == (f"missing; there is {named}" if named else "missing", False)


def test_limits_on_the_sizes_of_files(tmp_path, check):
    """Sparse files, which take no space on most disks."""
    sizes = {"log/train_MLPAE.txt": 10_000_001, "vis/train_MLPAE.png": 500_000_001, "vis/valid_MLPAE.png": 500_000_000}
    sizes |= {"models/BestModel_MLPAE.pkl": 500_000_001, "MLPAE_train_script.py": 1_000_001}
    for file, size in sizes.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        with open(tmp_path / file, "wb") as content:
            Image.new("RGB", (2, 2)).save(content, "png")
            content.truncate(size)
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "Nodes.py").write_bytes(b"#" * 1_000_000)
    found = check(tmp_path)[1]
    large = {file: found.pop(file) for file, size in sizes.items() if size % 10}
    assert set(large.values()) == {("no file, or too large", False)}
    assert found["autograd/Nodes.py"] == ("no code in it", False)
    assert found["vis/valid_MLPAE.png"] == ("0 x 0 pixels inside the border, expected 48 x 48 or more", False)


def test_an_empty_folder_and_none(tmp_path, check, capsys):
    (tmp_path / "empty").mkdir()
    status, found = check(tmp_path / "empty")
    assert status == 1 and {found for found, ok in found.values() if ok is False} == {"missing"}
    (tmp_path / "file").write_text("")
    for name in "none", "file":
        error = fails(check_submission, [tmp_path / name], capsys)
        assert f"{tmp_path / name}: no such folder; give the one that was handed in" in error


def test_code_is_never_run(easy, submission, check, tmp_path):
    folder = submission("MLPAE")
    (folder / "autograd" / "Nodes.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')")
    assert check(folder)[0] == 0 and not (tmp_path / "trapped").exists()


# Losses that are known exactly


@pytest.fixture(scope="module")
def black_and_white(tmp_path_factory):
    """Twenty photos: those to train on are black, those to validate on are white."""
    root = tmp_path_factory.mktemp("black and white")
    names = [f"{kind}/{i}.png" for kind in ("rose", "tulip") for i in range(10)]
    for color in "black", "white":
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (5, 5), color).save(root / name)
        names = read_flowers(root, 1, 1).split(0)[1].names
    return root


def constant(size, hidden=(256, 128, 64, 128, 256), output=None):
    """A model whose output is 1 in the first half and 0.5 in the rest: 5/8 from black photos, 1/8 from white ones."""
    sizes = [size, *hidden, size if output is None else output]
    nodes = []
    for shape in itertools.pairwise(sizes):
        nodes += [Linear.of(np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)), ReLU()]
    nodes[-2].params[1][: sizes[-1] // 2] = 100
    return BaseGraph([*nodes[:-1], Sigmoid()])


@pytest.fixture
def exact(black_and_white, tmp_path, check):
    """Checks a constant model, on losses of 0.625 (training) and 0.125 (validation), and a log; gives what is found.

    Without a checkpoint, the split is not known, and there is one loss, 0.525.
    """
    for name in "models", "log":
        (tmp_path / name).mkdir()
    path = tmp_path / "models" / "BestModel_MLPAE.pkl"

    def run(*losses, graph=None, image_size=(4, 4), checkpoint=True):
        graph = constant(3 * math.prod(image_size)) if graph is None else graph
        if checkpoint:
            split = read_flowers(black_and_white, 1, 1).split(0)
            parts = {"name": "MLPAE", "encoding_dim": 64, "image_size": list(image_size), "epoch": 1}
            parts |= {"train_loss": 9.0, "valid_loss": 9.0, "settings": {"split_seed": 0}}
            parts |= {"data": {"root": "flowers", "fingerprint": fingerprint(*split)}}
            save_checkpoint(parts | {"model": MLPAutoencoder(graph, 64, image_size)}, path)
        else:
            path.write_bytes(pickle.dumps(graph))
        (tmp_path / "log" / "train_MLPAE.txt").write_text(log_of(*losses))
        return check(tmp_path, "Part 2", black_and_white)[1]

    return run


@pytest.mark.parametrize(("train", "valid"), [(0.625, 0.125), (0.6251, 0.125), (0.625, 0.1251), (0.6251, 0.1251)])
def test_losses_are_below_the_bar_and_not_at_it(train, valid, exact, monkeypatch):
    monkeypatch.setitem(handout.ASKED_LOSSES, "MLPAE", {"train": train, "valid": valid})
    found = exact((0.625, 0.125))
    assert found[f"loss on train photos < {train}"] == ("0.625, computed anew", train > 0.625)
    assert found[f"loss on valid photos < {valid}"] == ("0.125, computed anew", valid > 0.125)
    met = train > 0.625 and valid > 0.125
    assert found[f"losses in it < {train} / {valid}"] == ("epoch 1: 0.625 / 0.125", met)
    assert found["log and model agree"] == ("0.625 / 0.125 and 0.625 / 0.125", True)


@pytest.mark.parametrize("limits", [(0.3, 0.6), (0.6, 0.3), (0.525, 0.4)])
def test_the_loss_on_all_photos_is_below_the_larger_bar(limits, exact, monkeypatch):
    monkeypatch.setitem(handout.ASKED_LOSSES, "MLPAE", dict(zip(["train", "valid"], limits, strict=True)))
    found = exact((0.625, 0.125), checkpoint=False)
    assert found[f"loss on all photos < {max(limits)}"] == ("0.525, computed anew", max(limits) > 0.525)
    assert found["log and model agree"] == ("0.625 / 0.125 and 0.525", True)


@pytest.mark.parametrize(
    ("train", "valid", "agree"),
    [
        (0.5, 0.125, True),  # a quarter more in the model than in the log
        (0.499, 0.125, False),
        (0.833, 0.125, True),  # a quarter less
        (0.834, 0.125, False),
        (0.625, 0.1226, True),  # two percent more
        (0.625, 0.1225, False),
        (0.625, 0.1275, True),  # two percent less
        (0.625, 0.1276, False),
        (0.125, 0.625, False),
        (5.625, 1.125, False),  # nine times the losses of the model
    ],
)
def test_how_far_a_log_may_be_from_its_model(train, valid, agree, exact):
    assert exact((train, valid))["log and model agree"] == (f"{train:.4g} / {valid:.4g} and 0.625 / 0.125", agree)


@pytest.mark.parametrize(
    ("losses", "agree"),
    [
        ((0.42, 0.1), True),  # a quarter more in the model than the larger loss
        ((0.419, 0.1), False),
        ((0.1, 0.42), True),
        ((0.1, 0.419), False),
        ((0.699, 0.9), True),  # a quarter less than the smaller one
        ((0.701, 0.9), False),
        ((0.9, 0.699), True),
        ((0.9, 0.701), False),
    ],
)
def test_how_far_a_log_may_be_from_a_loss_on_all_photos(losses, agree, exact):
    assert exact(losses, checkpoint=False)["log and model agree"][1] is agree


def test_the_best_epoch_of_a_log_is_that_of_the_model(exact):
    """The lowest validation loss; of equal ones, the last: later logs of the same file overwrite earlier ones."""
    found = exact((0.1, 0.2), (0.9, 0.125), (0.625, 0.125), (0.5, 0.13))
    assert found["losses in it < 0.03 / 0.03"][0] == "epoch 3: 0.625 / 0.125" and found["log and model agree"][1]
    found = exact((0.1, 0.2), (0.625, 0.125), (0.9, 0.125))
    assert found["losses in it < 0.03 / 0.03"][0] == "epoch 3: 0.9 / 0.125" and not found["log and model agree"][1]


@pytest.mark.parametrize(
    ("image_size", "checkpoint", "computed"),
    [((450, 200), True, True), ((451, 200), True, False), ((300, 300), False, True), ((301, 301), False, False)],
)
def test_the_limit_on_the_size_of_images(image_size, checkpoint, computed, exact):
    graph = constant(3 * math.prod(image_size), hidden=[1])
    found = exact((1, 1), graph=graph, image_size=image_size, checkpoint=checkpoint)
    if computed:
        assert found["log and model agree"][0].startswith("1 / 1 and 0.") and "losses of the model" not in found
    else:
        why = f"not computed: images of {image_size[0]} x {image_size[1]} pixels are too large"
        assert found["losses of the model"] == (why, None) and "log and model agree" not in found


@pytest.mark.parametrize(("inputs", "outputs", "square"), [(48, 48, True), (48, 51, False), (45, 45, False)])
def test_a_model_of_unknown_image_size_takes_square_images(inputs, outputs, square, exact):
    found = exact((1, 1), graph=constant(inputs, output=outputs), checkpoint=False)
    assert ("loss on all photos < 0.03" in found) is square
    why = ("not computed: its input and output are not square images", None)
    assert found.get("losses of the model") == (None if square else why)
    sizes = f"{inputs}-256-128-64-128-256-{outputs}"
    assert found["3HW-256-128-64-128-256-3HW"] == (sizes, True)


def test_another_architecture(exact):
    asked = "3HW-256-128-64-128-256-3HW", "ReLU; output in [0, 1]"
    right = constant(48).nodes
    for nodes, *expected in (
        (right, ("48-256-128-64-128-256-48", True), ("5 times ReLU, Sigmoid at the end", True)),
        (constant(48, [256, 128, 64, 128, 255]).nodes, ("48-256-128-64-128-255-48", False), None),
        (constant(48, [256, 128, 64, 256]).nodes, ("48-256-128-64-256-48", False), None),
        (constant(48, [7]).nodes, ("48-7-48", False), ("1 times ReLU, Sigmoid at the end", True)),
        (right[:-1], None, ("5 times ReLU, Linear at the end", False)),
        ([*right, ReLU()], None, ("6 times ReLU, ReLU at the end", False)),
        ([node for node in right if not isinstance(node, ReLU)], None, ("0 times ReLU, Sigmoid at the end", False)),
        ([], ("", False), ("0 times ReLU, nothing at the end", False)),
    ):
        found = exact((1, 1), graph=BaseGraph(nodes))
        assert all(want in (None, found[what]) for what, want in zip(asked, expected, strict=True)), found


# Logs


@pytest.mark.parametrize(
    ("losses", "met"),
    [
        ((0.0099, 0.0119), True),
        ((0.01, 0.0119), False),
        ((0.0099, 0.012), False),
        ((0.011, 0.009), False),
        ((0.009, 0.013), False),
    ],
)
def test_both_losses_of_the_best_epoch_are_below_their_bars(losses, met, tmp_path, check):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train_AE.txt").write_text(log_of((0.001, 1), losses, (1, 1)))
    found = check(tmp_path, "Part 3")[1]["within 15 epochs < 0.01 / 0.012"]
    assert found == (f"epoch 2: {losses[0]:.4g} / {losses[1]:.4g}", met)


@pytest.mark.parametrize(("name", "part", "epochs"), [("AE", "Part 3", 15), ("VAE", "Part 4", 20)])
def test_losses_that_came_too_late(name, part, epochs, easy, tmp_path, check):
    (tmp_path / "log").mkdir()
    losses = [7 / epoch for epoch in range(1, 31)]
    path = tmp_path / "log" / f"train_{name}.txt"
    path.write_text(log_of(*zip(losses, losses, strict=True)))
    limit = handout.ASKED_LOSSES[name]["train"]
    best = f"{losses[epochs - 1]:.4g}"
    asked = f"within {epochs} epochs < {limit:g} / {limit:g}"
    assert check(tmp_path, part)[1][asked] == (f"epoch {epochs}: {best} / {best}", True)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[epochs:]))
    assert check(tmp_path, part)[1][asked][0] == "epoch 30: 0.2333 / 0.2333"  # all that is there


def test_an_mlp_has_all_the_epochs_it_takes(easy, tmp_path, check):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train_MLPAE.txt").write_text(log_of(*[(7 / epoch, 7 / epoch) for epoch in range(1, 201)]))
    assert check(tmp_path)[1]["losses in it < 1 / 1"] == ("epoch 200: 0.035 / 0.035", True)


def test_a_model_from_after_the_epochs_asked_for_agrees_with_its_log(submission, check):
    folder = submission("AE")
    checkpoint = load_checkpoint(folder / "models", "AE")
    best = checkpoint["train_loss"], checkpoint["valid_loss"]
    (folder / "log" / "train_AE.txt").write_text(log_of(*[(0.9, 0.9)] * 15, best))
    found = check(folder, "Part 3")[1]
    assert (
        found["within 15 epochs < 0.01 / 0.012"] == ("epoch 15: 0.9 / 0.9", False) and found["log and model agree"][1]
    )


# Models


def test_models_of_other_photos(easy, submission, check, flowers, tmp_path):
    folder = submission("MLPAE")
    fewer = tmp_path / "fewer"
    shutil.copytree(flowers, fewer)
    (fewer / "rose" / "0.png").unlink()
    (fewer / "tulip" / "0.png").unlink()
    status, found = check(folder, root=fewer)
    why = f"not computed: it was trained on other photos than those in {fewer}"
    assert status == 0 and found["losses of the model"] == (why, None)


def test_a_state_dict_of_a_students_own_layers(easy, submission, check):
    folder = submission("MLPAE", "AE")
    path = folder / "models" / "BestModel_AE.pth"
    torch.save(torch.nn.Conv2d(3, 32, 3).state_dict(), path)
    status, found = check(folder, "Part 3")
    words = "not measured: a state_dict of 2 tensors, with layers of the student's own"
    assert status == 0 and found["models/BestModel_AE.pth"] == (words, None)
    assert "losses of the model" not in found and "log and model agree" not in found and found["log/train_AE.txt"][1]


def test_damaged_models_of_this_lab(easy, submission, check):
    folder = submission("MLPAE", "AE")
    for name, reason in ("BestModel_MLPAE.pkl", "checksum"), ("BestModel_AE.pth", "checksum"):
        path = folder / "models" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        status, found = check(folder)
        assert status == 1 and reason in found[f"models/{name}"][0] and not found[f"models/{name}"][1]


def test_models_of_this_lab_with_wrong_parts(tmp_path, check):
    """They are taken neither for course models nor for the student's own layers."""
    parts = {"encoding_dim": 5, "image_size": [8, 8], "data": {"root": "flowers", "fingerprint": "0"}, "epoch": 0}
    parts |= {"train_loss": 0.1, "valid_loss": 0.2, "settings": {"split_seed": 0}}
    (tmp_path / "models").mkdir()
    models = {"MLPAE": MLPAutoencoder(constant(192), 64, (8, 8)), "AE": Autoencoder(5, (8, 8))}
    for (name, model), file in zip(models.items(), ("BestModel_MLPAE.pkl", "BestModel_AE.pth"), strict=True):
        save_checkpoint(parts | {"name": name, "model": model}, tmp_path / "models" / file)
        text, ok = check(tmp_path)[1][f"models/{file}"]
        assert "its epoch is no whole number" in text and ok is False


class relu:
    def __init__(self):
        self.grad, self.cache, self.name, self.params = [], [], "relu", []


class sigmoid(relu):
    pass


class Dense(relu):
    def __init__(self, weight, bias):
        super().__init__()
        self.params = [weight, bias]


class Graph(list):
    pass


Dense.__name__ = Dense.__qualname__ = "Linear"  # the course's name, which is taken here


@pytest.fixture(scope="module")
def course_model(flowers):
    """A pickle of the course's own classes, and the loss of the model on all photos, computed here.

    Its nodes still hold what they saved in a long validation, since nobody flushed them.
    """
    rng = np.random.default_rng(0)
    sizes = [192, 256, 128, 64, 128, 256, 192]
    shapes = itertools.pairwise(sizes)
    again = relu()
    linears = [Dense(rng.standard_normal(shape) * 0.05, np.full(shape[1], 0.01)) for shape in shapes]
    graph = Graph(part for linear in linears for part in (linear, again))
    graph[-1] = sigmoid()
    graph.losses = [np.float64(0.5), 0.25]
    x = images = read_flowers(flowers, 8, 8)[:][0].flatten(1).numpy()
    for weight, bias in (linear.params for linear in linears[:-1]):
        x = np.maximum(x @ weight + bias, 0)
    x = 1 / (1 + np.exp(-(x @ linears[-1].params[0] + linears[-1].params[1])))
    for node in graph:
        node.cache = [np.ones((1, 192), np.float32) + i for i in range(300)]
    module = types.ModuleType("course")
    for kind in relu, sigmoid, Dense, Graph:
        kind.__module__ = "course"
        setattr(module, kind.__name__, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "course", module)
        content = pickle.dumps(graph)
    return content, float(np.mean((x - images) ** 2))


def test_a_model_of_the_courses_own_classes(easy, submission, check, course_model):
    folder = submission("MLPAE")
    content, expected = course_model
    (folder / "models" / "BestModel_MLPAE.pkl").write_bytes(content)
    (folder / "log" / "train_MLPAE.txt").write_text(log_of((expected, expected * 1.05)))
    status, found = check(folder)
    assert status == 0, found
    computed, ok = found["loss on all photos < 1"]
    assert ok and float(computed.split(",")[0]) == pytest.approx(expected, rel=1e-3)
    assert found["3HW-256-128-64-128-256-3HW"][1] and found["log and model agree"][1]
    assert found["ReLU; output in [0, 1]"] == ("5 times ReLU, Sigmoid at the end", True)
    (folder / "log" / "train_MLPAE.txt").write_text(log_of((0.01, 0.01)))
    assert not check(folder)[1]["log and model agree"][1]


def test_without_photos_a_model_of_the_courses_own_is_not_measured(
    submission, course_model, flowers, capsys, tmp_path, monkeypatch
):
    folder = submission("MLPAE", "AE")
    monkeypatch.setattr(check_submission, "LAB", tmp_path / "lab")
    (folder / "models" / "BestModel_MLPAE.pkl").write_bytes(course_model[0])
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), "--json", "--drawn-root", str(flowers)])
    out, err = capsys.readouterr()
    found = {(c["part"], c["asked"]): (c["found"], c["ok"]) for c in json.loads(out)["checks"]}
    why = "not computed: there are no photos here; give them by --data-root"
    assert found["Part 2", "losses of the model"] == (why, None) and ("Part 2", "log and model agree") not in found
    assert found["Part 3", "log and model agree"][1]  # a checkpoint tells which photos it was trained on
    assert f"using the drawn flowers in {flowers} instead" in err


def test_where_flowers_cannot_be_drawn_the_rest_is_looked_at(submission, tmp_path, capsys, monkeypatch):
    """Without photos, in a folder without the right to write."""
    (tmp_path / "lab").touch()
    monkeypatch.setattr(check_submission, "LAB", tmp_path / "lab")
    for folders in ([submission("MLPAE")], [tmp_path / "submission", tmp_path / "submission"]):
        with pytest.raises(SystemExit, match="1"):
            check_submission.main([*map(str, folders), "--json"])
        found = json.loads(capsys.readouterr().out)
        for each in [found] if len(folders) == 1 else found:
            checks = {check["asked"]: (check["found"], check["ok"]) for check in each["checks"]}
            words, ok = checks["losses of the model"]
            assert words.startswith("not computed: ") and str(tmp_path / "lab") in words and ok is None
            assert checks["models/BestModel_MLPAE.pkl"][1] and checks["log/train_MLPAE.txt"][1]
            assert each["points"]["Part 2"] is None


def test_texts_of_a_submission_are_shortened(tmp_path, check):
    """The messages have the name of a class in them, and of a damaged part: the file's own, of any length."""
    (tmp_path / "models").mkdir()
    name = "x" * 10_000
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as file:
        file.writestr(name, b"whole")
    (tmp_path / "models" / "BestModel_MLPAE.pkl").write_bytes(b"](ca\n" + name.encode() + b"\n)\x81e.")
    (tmp_path / "models" / "BestModel_AE.pth").write_bytes(damaged.getvalue().replace(b"whole", b"spoil"))
    for file in "BestModel_MLPAE.pkl", "BestModel_AE.pth":
        text, _ = check(tmp_path)[1][f"models/{file}"]
        assert "xxx" in text and len(text) == 300


# The command


def test_the_table(capsys):
    checks = [
        Check("Part 1", "autograd/Nodes.py", "20 lines", True),
        Check("Part 1", "ReLU", "missing; there is\n\x1b[2J Relu", False),
        Check("Part 4", "within 20 epochs < 800 / 800, or so it says", "epoch 20: 787.1 / 799.3, which is much", None),
        Check("Part 4", "x", "y" * 36 + " z", True),
    ]
    check_submission.print_table(checks)
    assert capsys.readouterr().out.splitlines() == [
        "      asked                                 found",
        "Part 1",
        "  ok  autograd/Nodes.py                     20 lines",
        "  NO  ReLU                                  missing; there is ?[2J Relu",
        "Part 4",
        "  ?   within 20 epochs < 800 / 800, or so   epoch 20: 787.1 / 799.3, which is",
        "      it says                               much",
        "  ok  x                                     yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
        "                                            z",
    ]


def test_the_table_of_a_submission(submission, flowers, capsys):
    folder = submission("MLPAE", "AE")
    (folder / "vis" / "train_AE.png").unlink()
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), "--data-root", str(flowers)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  NO  vis/train_AE.png                      missing" in lines
    assert [line for line in lines if line.startswith("Part")] == ["Part 1", "Part 2", "Part 3", "Part 4"]
    marks = [sum(line.startswith(f"  {mark}  ") for line in lines) for mark in ("ok", "NO", "? ")]
    assert lines[-3:-1] == ["", "{} as asked, {} not, {} to look at yourself.".format(*marks)]
    assert lines[-1] == "Points: Part 1 look, Part 2 look, Part 3 look, Part 4 0."
    assert sum(marks) == 26 and marks[2] == 11  # 6 files of code, 4 pictures, and Part 4


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        check_submission.main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "Checks submissions" in words and "a line for each --" not in words
    assert f"your photos, to compute the losses on (default: {ROOT / 'flowers'})" in words
    assert f"stand-in set, drawn if there are no photos (default: {ROOT / 'drawn_flowers'})" in words
    assert "print JSON instead of a table" in words
    with pytest.raises(SystemExit, match="2"):
        check_submission.main([])
    assert "the following arguments are required: FOLDER" in capsys.readouterr().err


def test_as_a_process(submission):
    result = run_script(
        "check_submission.py", submission(), "--drawn-root", "/dev/null/none", "--data-root", ROOT.parent
    )
    assert result.returncode == 1 and result.stderr == "" and "  NO  models/BestModel_MLPAE.pkl" in result.stdout


def handed_in(folder):
    """What of this repository a student would hand in, in another folder."""
    for name in "autograd", "models", "log", "vis":
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("48", "LastEpoch_*", "*.previous.*"))
    for file in ROOT.glob("*.py"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.photos
def test_the_committed_results_are_as_asked(photos, tmp_path):
    result = run_script("check_submission.py", handed_in(tmp_path / "handed in"), "--data-root", photos)
    assert result.returncode == 0, result.stdout
    assert "  NO" not in result.stdout and result.stdout.count("log and model agree") == 3


def test_never_the_students_own_copy(submission, flowers, tmp_path, capsys, monkeypatch):
    """Neither its script nor its photos: anyone may have changed them."""
    folder = submission("MLPAE")
    for name in "lab", "grading":
        shutil.copytree(ROOT / name, folder / name)
    for file in "check_submission.py", "data_processor.py":
        shutil.copy(ROOT / file, folder)
    shutil.copytree(flowers, folder / "flowers")
    for script, place, cwd in (
        (ROOT / "check_submission.py", ROOT, tmp_path),
        (folder / "check_submission.py", ".", folder),
        (folder / "check_submission.py", folder, tmp_path),
        (folder / "check_submission.py", tmp_path, tmp_path),
    ):
        command = [sys.executable, "-B", str(script), str(place)]
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
        assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
        assert "found this script in it, expected yours outside the submission; python" in result.stderr
    for flag in "--data-root", "--drawn-root":
        error = fails(check_submission, [folder, flag, folder / "flowers"], capsys)
        assert f"{folder}: found {flag} in it, expected yours outside the submission" in error
    monkeypatch.chdir(folder)
    monkeypatch.setattr(check_submission, "LAB", tmp_path / "lab")
    drawn = []
    monkeypatch.setattr("lab.photos.photos_or_drawn", lambda *roots: drawn.append(roots) or roots[0])
    monkeypatch.setattr(grading.process, "checks_in_process", lambda *_, **__: [])
    check_submission.main([str(folder)])
    assert drawn == [(default := str(tmp_path / "lab" / "flowers"), str(tmp_path / "lab" / "drawn_flowers"), default)]


# Nothing outside the folder is read


@unix
@pytest.mark.parametrize(
    "file", ["models/BestModel_MLPAE.pkl", "log/train_MLPAE.txt", "vis/train_MLPAE.png", "autograd/Nodes.py"]
)
@pytest.mark.parametrize("how", ["file", "folder", "chain"])
def test_links_out_of_the_folder_are_not_followed(file, how, submission, check, tmp_path):
    folder = submission("MLPAE")
    path, elsewhere = folder / file, tmp_path / "elsewhere"
    shutil.copytree(path.parent, elsewhere)
    if how == "file":
        path.unlink()
        path.symlink_to(elsewhere / path.name)
    else:
        shutil.rmtree(path.parent)
        path.parent.symlink_to(elsewhere)
        if how == "chain":
            path.parent.unlink()
            (folder / "inner").symlink_to(elsewhere)
            path.parent.symlink_to("inner")
    status, found = check(folder)
    assert status == 1 and found[file] == ("a link out of the folder that was handed in; not read", False)


@unix
def test_links_within_the_folder_are_followed(easy, submission, check, tmp_path):
    folder = submission("MLPAE")
    (folder / "models").rename(folder / "saved models")
    (folder / "models").symlink_to("saved models")
    (tmp_path / "link").symlink_to(folder)
    for place in folder, tmp_path / "link":
        status, found = check(place)
        assert status == 0 and found["models/BestModel_MLPAE.pkl"][1]
    (folder / "vis" / "train_MLPAE.png").unlink()
    (folder / "vis" / "train_MLPAE.png").symlink_to("nowhere")
    assert check(folder)[1]["vis/train_MLPAE.png"] == ("no file, or too large", False)


@unix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
@pytest.mark.parametrize("place", ["models", "log", "vis", "autograd", ".", "models/BestModel_MLPAE.pkl"])
def test_what_may_not_be_read(place, submission, check):
    folder = submission("MLPAE")
    (folder / place).chmod(0)
    try:
        status, found = check(folder)
    finally:
        (folder / place).chmod(0o755)
    assert status == 1 and len(found) > 10


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_what_cannot_be_read_is_a_line_of_the_table(error, submission, check, monkeypatch):
    """As by a folder without the right to read, or a broken disk; the other files are looked at."""
    folder = submission("MLPAE")

    def fail(path, *arguments, **options):
        if "MLPAE" in str(path) and str(path).startswith(str(folder)) and "models" not in str(path):
            raise error
        return real(path, *arguments, **options)

    real = open
    monkeypatch.setattr("builtins.open", fail)
    status, found = check(folder)
    for file in "log/train_MLPAE.txt", "vis/valid_MLPAE.png", "MLPAE_train_script.py":
        assert found[file] == (error.strerror, False)
    assert found["models/BestModel_MLPAE.pkl"][1] and status == 1

    def fail_to_list(path):
        raise error

    monkeypatch.setattr("os.scandir", fail_to_list)
    (folder / "log" / "train_MLPAE.txt").unlink()
    found = check(folder)[1]["log/train_MLPAE.txt"]
    assert found == (f"missing, or not to be seen: {error.strerror}", False)


# Names


@pytest.mark.parametrize("place", ["model", "models"])
@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_models_as_the_courses_scripts_name_them(place, name, easy, trained, submission, check):
    folder = submission(name)
    ending = "pkl" if name == "MLPAE" else "pth"
    path = folder / "models" / f"BestModel_{name}.{ending}"
    path.rename(folder / "models" / f"Best_{name}.{ending}")
    if place == "model":
        (folder / "models").rename(folder / "model")
    part = {model: part for part, model in handout.PARTS.items()}[name]
    found = check(folder, part)[1]
    assert found[f"{place}/Best_{name}.{ending}"][1] and found["log and model agree"][1]


def test_of_two_models_the_one_with_the_handouts_name_counts(submission, check):
    folder = submission("MLPAE")
    (folder / "models" / "Best_MLPAE.pkl").write_bytes(b"")
    assert check(folder)[1]["models/BestModel_MLPAE.pkl"][1]


def test_a_folder_of_many_files(tmp_path, check):
    (tmp_path / "log").mkdir()
    for i in range(2_000):
        (tmp_path / "log" / f"train_MLPA{i}.txt").touch()
    assert check(tmp_path)[1]["log/train_MLPAE.txt"][0].startswith("missing; there is train_MLPA")


def test_the_same_picture_twice(submission, check):
    folder = submission("MLPAE")
    shutil.copy(folder / "vis" / "train_MLPAE.png", folder / "vis" / "valid_MLPAE.png")
    found = check(folder)[1]
    assert found["vis/train_MLPAE.png"][1] is None
    words, ok = found["vis/valid_MLPAE.png"]
    assert words.endswith("the same picture as vis/train_MLPAE.png") and ok is False


def test_a_submission_of_gaps_and_noise(tmp_path, check):
    """Nothing of it is as asked."""
    for file in itertools.chain(*handout.CODE.values()):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("class Linear:\n    def forward(self, x):\n        # TODO\n        pass\n")
    for name in "models", "vis", "log":
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for name in handout.PARTS.values():
        for kind in "train", "valid", "random_images":
            pixels = rng.integers(0, 256, (100, 200, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "vis" / f"{kind}_{name}.png")
        (tmp_path / "log" / f"train_{name}.txt").write_text(log_of((0, 0)))
    status, found = check(tmp_path)
    assert status == 1 and all(ok is False for what, (_, ok) in found.items() if not what.startswith("log/")), found


# A process of its own


@pytest.fixture
def in_process(flowers, tmp_path):
    """Looks at a folder in a process; gives the checks by what was asked."""

    def run(folder, seconds=100):
        checks = grading.process.checks_in_process(folder, Photos(str(flowers)), seconds)
        return {check.asked: (check.found, check.ok) for check in checks}

    return run


def test_a_process_finds_what_this_one_finds(submission, flowers, in_process):
    folder = submission("MLPAE", "AE")
    expected = {check.asked: (check.found, check.ok) for check in checks_of(folder, Photos(str(flowers)))}
    assert in_process(folder) == expected


def test_a_submission_that_takes_too_long(submission, in_process):
    found = in_process(submission("MLPAE"), seconds=0)
    assert found == {"all that can be looked at": ("not finished after 0 seconds", False)}


SLOW_ENDS = "stack", "exit", "memory"
ENDS = {
    "kill": ("os.kill(os.getpid(), 9)", "ended before its end: killed by SIGKILL"),
    "stack": ("ctypes.string_at(0)", "ended before its end: killed by SIGSEGV"),
    "exit": ("os._exit(7)", "ended before its end: exit status 7"),
    "memory": ("raise SystemExit(3)", "ended before its end: out of memory"),
    "hang": ("time.sleep(1000)", "not finished after 5 seconds"),
}


@unix
@pytest.mark.parametrize("end", ["kill", "hang", *(pytest.param(end, marks=pytest.mark.slow) for end in SLOW_ENDS)])
def test_the_end_of_the_process_is_a_line_of_the_table(end, submission, flowers, tmp_path):
    """Whatever becomes of it, the checks that it has finished are kept."""
    what, expected = ENDS[end]
    code = f"""
import ctypes, os, sys, time
from pathlib import Path
import grading.checks, grading.process

def ends(content, seen, name):
    {what}

if __name__ == "__mp_main__":
    grading.checks.look_at_picture = ends
if __name__ == "__main__":
    seconds = 5 if {end == "hang"} else 100
    for check in grading.process.checks_in_process(Path(sys.argv[1]), grading.checks.Photos(sys.argv[2]), seconds):
        print(check.asked, "|", check.found)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(submission("MLPAE")), str(flowers)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    lines = result.stdout.splitlines()
    assert lines[-1] == f"all that can be looked at | {expected}", result.stderr
    assert any(line.startswith("log/train_MLPAE.txt | 3 epochs") for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_the_memory_of_the_process_is_limited():
    code = """
from grading.process import _limit_memory

bytearray(5 * 10**9)
_limit_memory()
bytearray(10**9)
try:
    bytearray(5 * 10**9)
except MemoryError:
    print("limited")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.stdout == "limited\n", result.stderr


def test_errors_of_the_teachers_photos_are_errors_of_the_command(submission, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    error = fails(check_submission, [submission("MLPAE"), "--data-root", tmp_path / "none"], capsys)
    assert "0 usable photos in 0 class folders" in error


# A class


@pytest.fixture
def class_of_eight(submission, course_model, tmp_path):
    """Submissions of every sort, with a folder for each, and a file among them; handed in as for tiny photos."""

    def copy(name, *models):
        folder = tmp_path / "class" / name
        shutil.move(submission(*models), folder)
        return folder

    (tmp_path / "class" / "8 empty").mkdir(parents=True)
    copy("1 complete", "MLPAE", "AE", "VAE")
    copy("2 Part 2 alone", "MLPAE")
    (copy("3 forged log", "MLPAE") / "log" / "train_MLPAE.txt").write_text(log_of((0.001, 0.001)))
    wrong = copy("4 wrong gradients", "MLPAE")
    checkpoint = load_checkpoint(wrong / "models", "MLPAE")
    checkpoint["model"].graph[-2].params[1][:] = 100  # all is white
    save_checkpoint(checkpoint, wrong / "models" / "BestModel_MLPAE.pkl")
    course = copy("5 course", "MLPAE")
    (course / "models" / "BestModel_MLPAE.pkl").write_bytes(course_model[0])
    (course / "log" / "train_MLPAE.txt").write_text(log_of((course_model[1], course_model[1])))
    layout = copy("6 layout of 2025", "MLPAE")
    (layout / "models").rename(layout / "model")
    (layout / "model" / "BestModel_MLPAE.pkl").rename(layout / "model" / "Best_MLPAE.pkl")
    hostile = copy("7 =hostile", "MLPAE")
    (hostile / "models" / "BestModel_MLPAE.pkl").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    (hostile / "log" / "train_MLPAE.txt").unlink()
    (hostile / "log" / "train_MLPAF.txt").touch()
    (tmp_path / "class" / "9 roster.csv").touch()
    return sorted((tmp_path / "class").iterdir())


OF_EIGHT = {
    "1 complete": (["look", "12.5", "7.5", "7.5"], ""),
    "2 Part 2 alone": (["look", "12.5", "0", "0"], ""),
    "3 forged log": (["look", "look", "0", "0"], "log and model agree: 0.001 / 0.001 and"),
    "4 wrong gradients": (["look", "look", "0", "0"], "loss on train photos < 0.2"),
    "5 course": (["look", "12.5", "0", "0"], ""),
    "6 layout of 2025": (["look", "12.5", "0", "0"], ""),
    "7 =hostile": (["look", "look", "0", "0"], "models/BestModel_MLPAE.pkl: no usable model"),
    "8 empty": (["look", "look", "0", "0"], "autograd/BaseNode.py: missing"),
    "9 roster.csv": (["look", "look", "look", "look"], "a folder: a file; unpack it"),
}


@pytest.fixture
def limits_of_the_class(easy, monkeypatch):
    monkeypatch.setitem(handout.ASKED_LOSSES, "MLPAE", {"train": 0.2, "valid": 0.2})


def test_a_class(limits_of_the_class, class_of_eight, flowers, in_this_process, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [*map(str, class_of_eight), "--data-root", str(flowers)]
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([*flags, "--csv", "class.csv"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:9] == ["Part", "1", "Part", "2", "Part", "3", "Part", "4", "points"]
    assert len(lines) == 9 and max(map(len, lines)) <= 120
    for line, (name, (points, first)) in zip(lines, OF_EIGHT.items(), strict=True):
        assert line.startswith(name[:20]) and line[20:].split()[:4] == points and first[:40] in line
        total = sum(float(part) for part in points if part != "look")
        wrong, unsure = map(int, line[20:].split()[5:7])
        assert float(line[20:].split()[4]) == total and bool(wrong) is bool(first)
        assert unsure > 0 or name == "9 roster.csv"
    assert not (tmp_path / "executed").exists()

    with pytest.raises(SystemExit, match="1"):
        check_submission.main([*flags, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [each["folder"] for each in found] == list(map(str, class_of_eight))
    assert [each["complete"] for each in found] == [not first for _, first in OF_EIGHT.values()]
    for each, (points, _) in zip(found, OF_EIGHT.values(), strict=True):
        assert each["points"] == {
            f"Part {i}": None if some == "look" else float(some) for i, some in enumerate(points, 1)
        }

    text = (tmp_path / "class.csv").read_text(encoding="utf-8-sig")
    head, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert head == ["folder", "part", "points", "mark", "asked", "found"]
    expected = [
        [Path(each["folder"]).name, c["part"], c["asked"], c["found"]] for each in found for c in each["checks"]
    ]
    assert [[row[0], row[1], row[4], row[5]] for row in rows] == expected
    marks = [{True: "ok", False: "NO", None: "?"}[c["ok"]] for each in found for c in each["checks"]]
    assert [row[3] for row in rows] == marks
    points = {(row[0], row[1]): row[2] for row in rows if row[1]}
    assert points["1 complete", "Part 2"] == "12.5" and points["3 forged log", "Part 2"] == "look"


def test_texts_that_a_spreadsheet_would_compute(tmp_path):
    texts = ['=HYPERLINK("x")', "+1", "-1", "@x", "\t=1", "1-1", "a=b", "=1\nb", "x, y"]
    checks = [Check("Part 1", "a", text, True) for text in texts]
    check_submission.write_csv([(Path("=cmd"), checks, {"Part 1": None})], tmp_path / "class.csv")
    text = (tmp_path / "class.csv").read_text(encoding="utf-8-sig")
    _, *rows = csv.reader(io.StringIO(text, newline=""))
    expected = ['\'=HYPERLINK("x")', "'+1", "'-1", "'@x", "'=1", "1-1", "a=b", "'=1 b", "x, y"]
    assert [row[5] for row in rows] == expected
    assert {row[0] for row in rows} == {"'=cmd"} and {row[2] for row in rows} == {"look"}


def test_points_are_for_what_can_be_measured():
    def points(*checks):
        return points_of([Check("Part 3", *check) for check in checks])["Part 3"]

    loss, code, wrong = ("loss on train photos < 1", "0.5", True), ("AE.py", "code", None), ("log", "missing", False)
    assert points(loss, code) == 7.5 and points(code) is None and points(loss, wrong) is None
    assert points(("optional", "not handed in", None)) == 0 and points() is None
    assert points(("loss on train photos < 1", "2", False)) is None
    assert points(("losses of the model", "not computed", None), ("log", "20 epochs", True)) is None
    assert handout.POINTS == {"Part 1": 12.5, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}


def test_photos_are_decoded_once_for_a_class(limits_of_the_class, submission, flowers, monkeypatch, capsys, tmp_path):
    folder = submission("MLPAE")
    shutil.copytree(folder, tmp_path / "another")
    read, sizes = grading.checks.read_photos, []
    monkeypatch.setattr(grading.checks, "read_photos", lambda root, size: sizes.append(size) or read(root, size))
    monkeypatch.setattr(grading.process, "checks_in_process", checks_of)
    check_submission.main([str(folder), str(tmp_path / "another"), "--data-root", str(flowers)])
    assert sizes == [(24, 24), (12, 8)]  # in advance, and for these models


def test_a_submission_cannot_change_the_photos_of_the_next(submission, flowers, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import sys
from pathlib import Path
import torch
import grading.checks, grading.process

def spoil(self, size):
    flowers = read(self, size)
    for value in vars(flowers).values():
        if isinstance(value, torch.Tensor):
            value.zero_()
            print("spoiled", flush=True)
    return flowers

read = grading.checks.Photos.read
if __name__ == "__mp_main__":
    grading.checks.Photos.read = spoil
if __name__ == "__main__":
    photos = grading.checks.Photos(sys.argv[2])
    before = photos.read((12, 8))[:][0].clone()
    for check in grading.process.checks_in_process(Path(sys.argv[1]), photos):
        print(check.found)
    print(torch.equal(photos.read((12, 8))[:][0], before))
""")
    command = [sys.executable, str(script), str(submission("MLPAE")), str(flowers)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert "spoiled" in result.stdout and result.stdout.endswith("True\n"), result.stderr


@unix
def test_each_of_a_class_has_a_process_of_its_own(class_of_eight, flowers, tmp_path):
    flags = [*class_of_eight[:1], *class_of_eight[-3:], "--data-root", flowers]
    result = run_script("check_submission.py", *flags, cwd=tmp_path)
    assert result.returncode == 1 and result.stderr == ""
    assert [line[:6] for line in result.stdout.splitlines()[1:]] == ["1 comp", "7 =hos", "8 empt", "9 rost"]
    assert not (tmp_path / "executed").exists()
