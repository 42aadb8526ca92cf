"""Submissions to be checked: made by this lab, by the course's own classes, incomplete, damaged, forged and hostile."""

import contextlib
import functools
import io
import itertools
import json
import math
import os
import pickle
import pickletools
import re
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT, fails, run_script
from PIL import Image

import check_submission
import MLPAE_train_script
import random_generation
import train_script
import visualization
from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from data_processor import read_flowers
from grading.checks import Check
from grading.course_models import graph_of, sizes_of
from lab import handout
from lab.checkpoint import load_checkpoint, save_checkpoint
from lab.mlp_autoencoder import MLPAutoencoder


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
def check(flowers, capsys):
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
    assert (status, {ok for _, ok in found.values()}) == (0, {True})
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
        assert found["Autoencoder.py"] == ("0 lines", True) and found["train_script.py"] == ("missing", False)
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


def test_the_size_of_a_model_is_in_megabytes(tmp_path, check):
    (tmp_path / "models").mkdir()
    torch.save({"weight": torch.zeros(300_000)}, tmp_path / "models" / "BestModel_AE.pth")
    found = check(tmp_path, "Part 3")[1]
    assert found["models/BestModel_AE.pth"] == ("1.2 MB; nothing in it was run", True)


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
    sizes = {"log/train_MLPAE.txt": 500_000_001, "vis/train_MLPAE.png": 500_000_001, "vis/valid_MLPAE.png": 500_000_000}
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
    assert found["autograd/Nodes.py"] == ("1 lines", True)
    assert found["vis/valid_MLPAE.png"] == ("0 x 0 pixels, without margins", False)


def test_an_empty_folder_and_none(tmp_path, check, capsys):
    (tmp_path / "empty").mkdir()
    status, found = check(tmp_path / "empty")
    assert status == 1 and {found for found, ok in found.values() if ok is False} == {"missing"}
    (tmp_path / "file").write_text("")
    for name in "none", "file":
        error = fails(check_submission, [tmp_path / name], capsys)
        assert f"{tmp_path / name}: no such folder; give the one that was handed in" in error


def test_code_that_is_none(submission, check):
    folder = submission()
    path = folder / "autograd" / "Nodes.py"
    for content in b"def backward(:", b"\xff\xfe", b"x = " + b"(" * 100_000, b"\0", b"-" * 100_000 + b"1":
        path.write_bytes(content)
        status, found = check(folder)
        text, ok = found["autograd/Nodes.py"]
        assert status == 1 and text.startswith("no Python: ") and ok is False
    path.write_bytes(b"import numpy\n\nx = 1\n")
    assert check(folder)[1]["autograd/Nodes.py"] == ("3 lines", True)


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
            training, _ = read_flowers(black_and_white, 1, 1).split(0)
            parts = {"name": "MLPAE", "encoding_dim": 64, "image_size": list(image_size), "epoch": 1}
            parts |= {"train_loss": 9.0, "valid_loss": 9.0, "settings": {"split_seed": 0}}
            parts |= {"data": {"root": "flowers", "fingerprint": training.fingerprint()}}
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


@pytest.fixture
def epoch_of(tmp_path, check):
    """Checks a log alone; gives the number of epochs, and the best one as it is shown."""

    def run(content):
        (tmp_path / "log").mkdir(exist_ok=True)
        (tmp_path / "log" / "train_AE.txt").write_bytes(content)
        found = check(tmp_path, "Part 3")[1]
        number, ok = found["log/train_AE.txt"]
        assert ok is (number != "0 epochs")
        return number, found.get("within 15 epochs < 0.01 / 0.012", (None,))[0]

    return run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220", "epoch 12: 0.0213 / 0.022"),
        ("EPOCH [7/20] training loss = 5e-3 | validation loss = 1.25E-2 (best)", "epoch 7: 0.005 / 0.0125"),
        ("2024-05-01 10:00:00 epoch 0: lr 0.1, train loss 812.345, valid loss 3.", "epoch 0: 812.3 / 3"),
        ("Best epoch: 3, Train Loss -2.5, KL Divergence: 7, Valid Loss: -1", "epoch 3: -2.5 / -1"),
        ("Epoch 4, Train Loss: 0.5", None),
        ("Epoch 4, Valid Loss: 0.5", None),
        ("Train Loss: 0.5, Valid Loss: 0.5", None),
        ("Epoch, Train Loss: 0.5, Valid Loss: 0.5", None),
        ("Epoch: 4, Train Loss: nan, Valid Loss: nan", None),
        ("Early stopping at epoch 4.", None),
        ("", None),
    ],
)
def test_lines_of_logs(line, found, epoch_of):
    assert epoch_of(f"The log of a training\n{line}\nEnd".encode()) == ("1 epochs" if found else "0 epochs", found)


def test_only_the_first_thousand_characters_of_a_line_are_read(epoch_of):
    """So that no line, however long, can keep the search for losses busy."""
    line = f"Epoch 1, {'-' * 961}, Train Loss: 1, Valid Loss: 2"
    assert len(line) == 1000
    assert epoch_of(line.encode()) == ("1 epochs", "epoch 1: 1 / 2")
    assert epoch_of(f" {line}".encode()) == ("0 epochs", None)


def test_of_two_lines_on_an_epoch_the_last_one_counts(epoch_of):
    assert epoch_of((log_of((1, 1), (2, 2)) + log_of((4, 3))).encode()) == ("2 epochs", "epoch 2: 2 / 2")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "gbk"])
def test_logs_in_other_encodings(encoding, epoch_of):
    """PowerShell writes logs in UTF-16, with a byte order mark."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + "\u8bad\u7ec3\r\n" + log_of((0.25, 0.5), (0.2, 0.4))
    assert epoch_of(text.encode(encoding)) == ("2 epochs", "epoch 2: 0.2 / 0.4")


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
    (folder / "log" / "train_AE.txt").write_text(log_of(*[(2, 2)] * 15, best))
    found = check(folder, "Part 3")[1]
    assert found["within 15 epochs < 0.01 / 0.012"] == ("epoch 15: 2 / 2", False) and found["log and model agree"][1]


# Pictures


def test_pictures(tmp_path, check):
    path = tmp_path / "vis" / "train_MLPAE.png"
    path.parent.mkdir()
    photos = np.random.default_rng(0).integers(0, 255, (54, 418, 3), np.uint8)
    photos[[0, -1]], photos[:, [0, -1]] = 200, 200
    page = np.full((600, 800, 3), 255, np.uint8)
    corner = page[:50, :60] // 2
    corner[0, 0] = 255
    page[100:154, 50:468] = photos  # as matplotlib puts a picture on a white page
    for pixels, width, height in (
        (page, 418, 54),
        (255 - page, 418, 54),
        (page[99:, 49:], 418, 54),
        (photos, 416, 52),
        (page[:154, :468], 418, 54),
        (corner, 60, 50),
        (page[:148, :98], 48, 48),
        (page[:147, :98], 48, 47),
        (page[:148, :97], 47, 48),
        (page[:100], 0, 0),
        (page[..., 0], 418, 54),
        (np.dstack([page, page[..., :1]]), 418, 54),
    ):
        Image.fromarray(pixels).save(path)
        expected = f"{width} x {height} pixels, without margins", width >= 48 and height >= 48
        assert check(tmp_path)[1]["vis/train_MLPAE.png"] == expected
    Image.fromarray(page).quantize(16).save(path)
    assert check(tmp_path)[1]["vis/train_MLPAE.png"] == ("418 x 54 pixels, without margins", True)
    whole = path.read_bytes()
    for content in whole[: len(whole) // 2], b"hello":
        path.write_bytes(content)
        assert check(tmp_path)[1]["vis/train_MLPAE.png"][1] is False


def test_a_large_picture_is_no_reason_to_warn(tmp_path, check, monkeypatch):
    """Pillow warns of pictures above a limit; pictures made by matplotlib can be that large."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000)
    (tmp_path / "vis").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "vis" / "train_MLPAE.png")
    assert check(tmp_path)[1]["vis/train_MLPAE.png"][1] is True


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
    assert status == 0 and found["models/BestModel_AE.pth"][1]
    why = "not computed: a state_dict with layers of the student's own; look at the log and the pictures"
    assert found["losses of the model"] == (why, None) and "log and model agree" not in found
    assert found["log/train_AE.txt"][1]
    for content in torch.nn.Conv2d(3, 32, 3), [torch.zeros(1)]:
        torch.save(content, path)
        status, found = check(folder, "Part 3")
        text, ok = found["models/BestModel_AE.pth"]
        assert status == 1 and ok is False
        assert text.startswith("no state_dict that loads safely: ") and len(text) <= 33 + 200
        assert "losses of the model" not in found


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


def test_without_photos_a_model_of_the_courses_own_is_not_measured(submission, course_model, flowers, capsys):
    folder = submission("MLPAE", "AE")
    (folder / "models" / "BestModel_MLPAE.pkl").write_bytes(course_model[0])
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), "--json", "--data-root", "none", "--drawn-root", str(flowers)])
    out, err = capsys.readouterr()
    found = {(c["part"], c["asked"]): (c["found"], c["ok"]) for c in json.loads(out)["checks"]}
    why = "not computed: there are no photos here; give them by --data-root"
    assert found["Part 2", "losses of the model"] == (why, None) and ("Part 2", "log and model agree") not in found
    assert found["Part 3", "log and model agree"][1]  # a checkpoint tells which photos it was trained on
    assert f"using the drawn flowers in {flowers} instead" in err


@pytest.mark.parametrize("length", [200, 201])
def test_reasons_are_shortened_to_200_characters(length, tmp_path, check):
    """The messages have the name of a class in them, and of a damaged part: the file's own, of any length."""
    (tmp_path / "models").mkdir()
    course = ("it holds a ", ", expected Linear, ReLU and Sigmoid alone")
    archive = ("the checksum of '", "' in it does not fit")
    names = ["x" * (length - len("".join(words))) for words in (course, archive)]
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as file:
        file.writestr(names[1], b"whole")
    (tmp_path / "models" / "BestModel_MLPAE.pkl").write_bytes(b"](ca\n" + names[0].encode() + b"\n)\x81e.")
    (tmp_path / "models" / "BestModel_AE.pth").write_bytes(damaged.getvalue().replace(b"whole", b"spoil"))
    found = check(tmp_path)[1]
    for file, start, name, words in (
        ("BestModel_MLPAE.pkl", "no usable model: ", names[0], course),
        ("BestModel_AE.pth", "no state_dict that loads safely: ", names[1], archive),
    ):
        text, ok = found[f"models/{file}"]
        assert text.startswith(start) and len(text) <= len(start) + 200 and ok is False
        assert text == start + name.join(words) if length == 200 else text.endswith(" [...]")


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
    assert lines[-2:] == ["", "{} as asked, {} not, {} to look at yourself.".format(*marks)]
    assert sum(marks) == 26 and marks[2] == 1  # Part 4


def test_by_default_the_folder_that_one_is_in(easy, submission, flowers, monkeypatch, capsys):
    """Also the photos in it, or else the stand-in set."""
    folder = submission("MLPAE")
    monkeypatch.chdir(folder)
    shutil.copytree(flowers, "flowers")
    check_submission.main([])
    out, err = capsys.readouterr()
    assert "log and model agree" in out and "0 not, 3 to look at yourself." in out and err == ""
    os.rename("flowers", "drawn_flowers")
    check_submission.main(["--json"])
    out, err = capsys.readouterr()
    assert (
        out.startswith('{\n  "folder": ".",\n  "complete": true,\n  "checks": [\n    {\n      "part": "Part 1",\n')
        and "log and model agree" in out
    )
    assert err == "No photos at ./flowers: using the drawn flowers in ./drawn_flowers instead.\n"


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        check_submission.main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "Checks a submission" in words and "FOLDER the submission (default: .)" in words
    assert "the photos, to compute the losses on (default: ./flowers)" in words
    assert "stand-in set, drawn if there are no photos (default: ./drawn_flowers)" in words
    assert "print JSON instead of a table" in words


def test_as_a_process(submission):
    result = run_script("check_submission.py", submission(), "--drawn-root", "/dev/null/none", "--data-root", ROOT)
    assert result.returncode == 1 and result.stderr == "" and "  NO  models/BestModel_MLPAE.pkl" in result.stdout


# Pickles by classes of any name


class Relu:
    pass


class Sequential:
    def __init__(self, **parts):
        vars(self).update(parts)


class LINEAR(Sequential):
    pass


class MSELoss(Sequential):
    pass


class Layers(list):
    pass


def linear(weight, bias, weight_name="W", bias_name="b"):
    return LINEAR(**{weight_name: weight, bias_name: bias})


def test_graphs_in_other_forms():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 2)), rng.random((2, 3), np.float32)
    x = np.ones((1, 3), np.float32)
    expected = np.maximum(x @ first + 1, 0) @ second
    bias, no_bias = np.ones((1, 2)), np.zeros(3)
    names = "weight", "bias"
    ends = linear(first, bias, *names), linear(second, no_bias, "w", "b")
    line = Layers([ends[0]])
    line.more = [Relu(), ends[1]]
    forms = [
        [linear(first, bias), Relu(), linear(second, no_bias)],
        Sequential(encoder=[ends[0], Relu()], decoder=Sequential(layers=(linear(second, no_bias, *names),))),
        {"epoch": 3, "model": Sequential(nodes=[linear(first.T, bias), Relu(), linear(second.T, no_bias)], rng=rng)},
        [Sequential(nodes=[ends[0], Relu(), ends[1]]), MSELoss(), np.float64(0.5), rng, None],
        [Sequential(other=Sequential(), params=[1], parts={"x": MSELoss(), "y": [*ends[:1], Relu(), ends[1]]})],
        line,
        [LINEAR(params=[first, bias], W=None, b=None), Relu(), LINEAR(params=[], w=second, b=no_bias)],
    ]
    for form in forms:
        for protocol in 3, 4, 5:
            graph = graph_of(pickle.dumps(form, protocol))
            assert [type(node) for node in graph] == [Linear, ReLU, Linear]
            assert sizes_of(graph) == [3, 2, 3]
            np.testing.assert_allclose(graph.forward(x), expected, rtol=1e-6)
            assert [param.dtype for node in graph for param in node.params] == ["f8", "f8", "f4", "f8"]
            assert [param.ndim for node in graph for param in node.params] == [2, 1, 2, 1]


def test_a_weight_is_transposed_only_if_it_does_not_fit_as_it_is():
    rng = np.random.default_rng(0)
    square, other = rng.random((3, 3)), rng.random((2, 3))
    for form in [linear(square, np.zeros(3)), linear(other.T, np.zeros(2))], [linear(other, np.zeros(3))] * 1:
        graph = graph_of(pickle.dumps(form, 4))
        for node, given in zip(graph, form, strict=True):
            np.testing.assert_array_equal(node.params[0], vars(given)["W"])
    graph = graph_of(pickle.dumps([linear(other, np.zeros(2)), linear(other.T, np.zeros(3))], 4))
    np.testing.assert_array_equal(graph[0].params[0], other.T)
    np.testing.assert_array_equal(graph[1].params[0], other)


def test_graphs_that_are_none():
    weight, bias = np.ones((3, 2)), np.zeros(2)
    circle = [linear(weight, bias)]
    circle.append(circle)
    deep = ()
    for _ in range(60):
        deep = deep, deep
    no_number = np.array([[1, np.nan], [1, 1], [1, 1]])
    for form, message in (
        ([], "no Linear"),
        ([Relu()], "no Linear"),
        ("hello", "no Linear"),
        ([linear(weight, bias), Sequential()], "it holds a Sequential, expected Linear, ReLU and Sigmoid alone"),
        ([linear(weight, bias), Sequential(x=1)], "it holds a Sequential, expected Linear, ReLU and Sigmoid alone"),
        ({"model": Sequential(nodes=(Sequential(),))}, "it holds a Sequential"),
        ([linear(weight, bias), linear(weight, bias)], "expected 2 inputs"),
        ([linear(weight, bias), Relu(), linear(np.ones((3, 3)), np.zeros(3))], "expected 2 inputs"),
        ([linear(weight, np.zeros(7))], r"a Linear has \(2, 3\) and \(7,\), expected any number of inputs"),
        ([linear(no_number, bias)], "not all finite"),
        ([linear(weight, np.array([0, -np.inf]))], "not all finite"),
        ([linear(np.ones(3), np.zeros(3))], "in rows and columns"),
        ([linear(np.ones((1, 3, 2)), bias)], "in rows and columns"),
        ([linear(np.ones((3, 2), int), bias)], "expected floats"),
        (circle, "too many things|recursion"),
        ([linear(weight, bias), deep], "too many things"),
    ):
        with pytest.raises(Exception, match=message):
            graph_of(pickle.dumps(form, 4))
    for form in [linear(weight, bias, "weight", "b")], [LINEAR(params=[weight])], [LINEAR()]:
        with pytest.raises(Exception):  # noqa: B017
            graph_of(pickle.dumps(form, 4))


@pytest.mark.parametrize("more", [0, 1])
def test_limits_on_the_steps_of_a_pickle_and_on_what_is_in_it(more):
    node = linear(np.ones((3, 2)), np.zeros(2))
    content = pickle.dumps([node], 4)
    steps = 300_000 + more - sum(1 for _ in pickletools.genops(content))
    # Steps that change nothing: None, and its removal; for an odd number, the mark of the protocol once more.
    padded = content[:2] * (1 + steps % 2) + b"N0" * (steps // 2) + content[2:]
    thousand = [None] * 999
    nested = pickle.dumps([node, *[thousand] * 299, *[None] * (998 + more)], 4)
    for form, message in (padded, "too many steps"), (nested, "too many things"):
        with pytest.raises(Exception, match=message) if more else contextlib.nullcontext():
            assert sizes_of(graph_of(form)) == [3, 2]


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_hostile_pickles_do_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in Trap(), [linear(np.ones((3, 2)), np.zeros(2)), Trap()], {"model": Trap()}:
        with pytest.raises(ValueError):
            graph_of(pickle.dumps(form, 4))
    assert list(tmp_path.iterdir()) == []
    assert isinstance(
        graph_of(pickle.dumps([linear(np.ones((3, 2)), np.zeros(2)), Sequential(x=[Sigmoid()])], 4))[1], Sigmoid
    )


@pytest.mark.photos
def test_the_committed_results_are_as_asked(photos):
    result = run_script("check_submission.py", ROOT, "--data-root", photos)
    assert result.returncode == 0, result.stdout
    assert "  NO" not in result.stdout and "log and model agree" in result.stdout
