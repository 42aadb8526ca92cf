"""Submissions to be checked: made by this lab, incomplete, damaged, forged, foreign and hostile."""

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, fails, run_script, unix
from PIL import Image

import MLPAE_train_script
import random_generation
import train_script
import visualization
from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from data_processor import read_flowers
from lab.checkpoint import load_checkpoint, save_checkpoint
from lab.defaults import REQUIRED_LOSSES
from lab.mlp_autoencoder import MLPAutoencoder
from lab.photos import fingerprint
from teaching import check_submission, checks
from teaching.checks import CODE, PARTS, Check, Photos, checks_of, look_at_code
from teaching.process import checks_in_process

SAVED_MODELS = {"MLPAE": "models/BestModel_MLPAE.pkl", "AE": "models/BestModel_AE.pth"}


@pytest.fixture
def easy(monkeypatch):
    """A handout that requires so little that tiny trainings meet it."""
    for name, limit in ("MLPAE", 1), ("AE", 1), ("VAE", 1e6):
        monkeypatch.setitem(REQUIRED_LOSSES, name, {"train": limit, "valid": limit})


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A data root with twenty noisy photos of two classes."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("flowers")
    for name in "rose", "tulip":
        (root / name).mkdir()
        for i in range(10):
            pixels = rng.uniform(0, 180, 3) + rng.uniform(0, 75, (30, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
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
        for file in itertools.chain(*CODE.values()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        for name in names:
            shutil.copytree(trained(name), folder, dirs_exist_ok=True)
        return folder

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Submissions are looked at in this process, where tests can change what is required."""
    monkeypatch.setattr(check_submission, "checks_in_process", checks_of)


@pytest.fixture
def check(flowers, capsys, in_this_process):
    """Checks a folder; gives the exit status, and what was found by what was asked, of the part that is named."""

    def run(folder, part=None, root=flowers):
        status = 0
        try:
            check_submission.main([str(folder), "--json", "--data-root", str(root)])
        except SystemExit as stop:
            status = stop.code
        found = json.loads(capsys.readouterr().out)
        assert found["complete"] is (status == 0) and found["folder"] == str(folder)
        assert status == (1 if any(c["ok"] is False for c in found["checks"]) else 0)
        return status, {c["asked"]: (c["found"], c["ok"]) for c in found["checks"] if part in (None, c["part"])}

    return run


def log_of(*losses):
    """A log with the losses (train, valid) of each epoch."""
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, 1))


# What is asked


ASKED = {
    "Part 1": "autograd/BaseNode.py | autograd/BaseGraph.py | autograd/Nodes.py",
    "Part 2": "MLPAE_train_script.py | models/BestModel_MLPAE.pkl | "
    "3HW-256-128-64-128-256-3HW | ReLU; output in [0, 1] | "
    "loss on train photos < 0.03 | loss on valid photos < 0.03 | log/train_MLPAE.txt | losses in it < 0.03 / 0.03 | "
    "log and model agree | vis/train_MLPAE.png | vis/valid_MLPAE.png",
    "Part 3": "Autoencoder.py | train_script.py | random_generation.py | models/BestModel_AE.pth | "
    "loss on train photos < 0.01 | loss on valid photos < 0.012 | log/train_AE.txt | "
    "within 15 epochs < 0.01 / 0.012 | log and model agree | "
    "vis/train_AE.png | vis/valid_AE.png | vis/random_images_AE.png",
    "Part 4": "VarAutoencoder.py | models/BestModel_VAE.pth | "
    "loss on train photos < 800 | loss on valid photos < 800 | log/train_VAE.txt | within 20 epochs < 800 / 800 | "
    "log and model agree | vis/train_VAE.png | vis/valid_VAE.png | vis/random_images_VAE.png",
    "Photos": "to be left out",
}


def test_what_is_asked_of_each_part(submission, flowers):
    folder = submission("MLPAE", "AE", "VAE")
    (folder / "flowers").mkdir()
    found = list(checks_of(folder, Photos(str(flowers))))
    assert {part: " | ".join(check.asked for check in found if check.part == part) for part in ASKED} == ASKED


def test_a_complete_submission_is_as_asked(easy, submission, check):
    folder = submission("MLPAE", "AE", "VAE")
    status, found = check(folder)
    assert status == 0 and {ok for _, ok in found.values()} == {True, None}
    # Code and pictures are for the teacher to look at.
    assert {asked.rpartition(".")[2] for asked, (_, ok) in found.items() if ok is None} == {"py", "png"}
    assert found["3HW-256-128-64-128-256-3HW"][0] == "288-256-128-64-128-256-288"
    for part, name in PARTS.items():
        _, found = check(folder, part)
        checkpoint = load_checkpoint(folder / "models", name)
        for which, limit in REQUIRED_LOSSES[name].items():
            loss, how = found[f"loss on {which} photos < {limit:g}"][0].split(", ")
            tolerance = 1e-3 if which == "valid" else 0.25  # the training loss is measured during the training
            assert float(loss) == pytest.approx(checkpoint[f"{which}_loss"], rel=tolerance) and how == "computed anew"


def test_part_2_alone_is_complete_and_photos_may_be_in_it(easy, submission, check):
    folder = submission("MLPAE")
    (folder / "flowers").mkdir()
    status, found = check(folder)
    assert status == 0 and found["optional"] == ("not handed in", None)
    assert found["to be left out"] == ("flowers is there", None)


@pytest.mark.parametrize("file", [SAVED_MODELS["AE"], "model/Best_AE.pth", "log/train_AE.txt", "vis/train_AE.png"])
def test_an_optional_part_counts_as_handed_in_by_any_of_its_files(file, tmp_path, check):
    (tmp_path / "Autoencoder.py").touch()  # was there from the beginning
    assert check(tmp_path, "Part 3")[1] == {"optional": ("not handed in", None)}
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).touch()
    found = check(tmp_path, "Part 3")[1]
    assert found["Autoencoder.py"] == ("no code in it", False) and found["train_script.py"] == ("missing", False)
    assert check(tmp_path, "Part 4")[1] == {"optional": ("not handed in", None)}


@pytest.mark.parametrize("place", ["model", "models"])
@pytest.mark.parametrize("start", ["BestModel", "Best"])
def test_models_named_by_the_handout_or_by_the_courses_scripts(place, start, trained, tmp_path, check):
    (tmp_path / "models").mkdir()
    (tmp_path / place).mkdir(exist_ok=True)
    shutil.copy(trained("MLPAE") / SAVED_MODELS["MLPAE"], tmp_path / place / f"{start}_MLPAE.pkl")
    assert check(tmp_path)[1][f"{place}/{start}_MLPAE.pkl"] == ("0.9 MB; nothing in it was run", True)


# Files


@pytest.mark.parametrize(
    "file", ["autograd/Nodes.py", "log/train_MLPAE.txt", "vis/valid_MLPAE.png", SAVED_MODELS["MLPAE"]]
)
def test_files_that_are_empty_or_missing_or_folders(file, easy, submission, check):
    path = submission("MLPAE") / file

    def found():
        status, found = check(path.parent.parent)
        assert status == 1 and [what for what, (_, ok) in found.items() if ok is False] == [file]
        return found[file][0]

    path.write_bytes(b"")
    assert found()
    path.unlink()
    assert found() == "missing"
    path.mkdir()
    assert found() == "no file, or too large"


def test_limits_on_the_sizes_of_files(tmp_path, check):
    """Sparse files, which take no space on most disks."""
    sizes = {"MLPAE_train_script.py": 10_000_001, "log/train_MLPAE.txt": 10_000_001, "vis/train_MLPAE.png": 500_000_001}
    for file, size in sizes.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        with open(tmp_path / file, "wb") as content:
            content.truncate(size)
    found = check(tmp_path)[1]
    assert {found[file] for file in sizes} == {("no file, or too large", False)}


def test_an_empty_folder_and_none(tmp_path, check, capsys):
    (tmp_path / "empty").mkdir()
    status, found = check(tmp_path / "empty")
    assert status == 1 and {found for found, ok in found.values() if ok is False} == {"missing"}
    (tmp_path / "file").write_text("")
    for name in "none", "file":
        assert f"{tmp_path / name}: no such folder" in fails(check_submission, [tmp_path / name], capsys)


@unix
@pytest.mark.parametrize("file", [SAVED_MODELS["MLPAE"], "log/train_MLPAE.txt", "autograd/Nodes.py"])
@pytest.mark.parametrize("how", ["file", "folder"])
def test_links_out_of_the_folder_are_not_followed(file, how, submission, check, tmp_path):
    folder = submission("MLPAE")
    path, elsewhere = folder / file, tmp_path / "elsewhere"
    shutil.copytree(path.parent, elsewhere)
    if how == "file":
        path.unlink()
        path.symlink_to(elsewhere / path.name)
    else:
        shutil.rmtree(path.parent)
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
    assert check(folder)[0] == check(tmp_path / "link")[0] == 0
    (folder / "vis" / "train_MLPAE.png").unlink()
    (folder / "vis" / "train_MLPAE.png").symlink_to("train_MLPAE.png")
    assert check(folder)[1]["vis/train_MLPAE.png"][1] is False


# Code


@pytest.mark.parametrize("file", [*ROOT.glob("*.py"), *ROOT.glob("autograd/*.py")], ids=lambda path: path.name)
def test_code_is_for_the_teacher_to_read(file):
    content = file.read_bytes()
    assert look_at_code(content) == (f"{len(content.splitlines())} lines, not run: read them yourself", None)


def test_code_is_never_run(easy, submission, check, tmp_path):
    folder = submission("MLPAE")
    (folder / "autograd" / "Nodes.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')")
    assert check(folder)[0] == 0 and not (tmp_path / "trapped").exists()


GAP = 'def f():\n    raise NotImplementedError("Part 1, step 2: {}")\n'


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (b"", "no code in it"),
        (b'"""Part 1."""\n\n# TODO\nencoder = None\npass\n', "no code in it"),
        (GAP.format("Linear.forward").encode(), "gaps as they were handed out: Linear.forward"),
        (
            "".join(GAP.format(name) for name in "abcdef").encode(),
            "gaps as they were handed out: a, b, c, d, e, ...",
        ),
    ],
)
def test_empty_code_and_gaps_as_handed_out_are_not_as_asked(code, found):
    assert look_at_code(code) == (found, False)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"class Node:\n    def forward(self, x):\n        raise NotImplementedError\n", "3 lines, not run"),
        ("x = f()  # TODO\n# \u8865\u5168\n".encode(), "; marks of gaps in line 1, 2"),
        (b"x = 1\ndef backward(:\n", "line 2 is not of Python 3."),
        (b"\xff\xfe", "a mistake, or newer syntax"),
        (b"x = " + b"(" * 500_000, "a mistake, or newer syntax"),
        (b"-" * 100_000 + b"1", "cannot be parsed: "),
    ],
)
def test_other_code_is_described_for_the_teacher(code, words):
    found, ok = look_at_code(code)
    assert words in found and ok is None


# Losses that are known exactly


@pytest.fixture(scope="module")
def black_and_white(tmp_path_factory):
    """Twenty photos: those to train on are black, those to validate on are white."""
    root = tmp_path_factory.mktemp("black and white")
    names = [f"{name}/{i}.png" for name in ("rose", "tulip") for i in range(10)]
    for color in "black", "white":
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (5, 5), color).save(root / name)
        names = read_flowers(root, 1, 1).split(0)[1].names
    return root


def constant(size, hidden=(256, 128, 64, 128, 256)):
    """Nodes whose output is 1 in the first half and 0.5 in the rest: 5/8 from black photos, 1/8 from white ones."""
    nodes = []
    for shape in itertools.pairwise([size, *hidden, size]):
        nodes += [Linear(*shape), ReLU()]
        nodes[-2].params = [np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)]
    nodes[-2].params[1][: size // 2] = 100
    return [*nodes[:-1], Sigmoid()]


@pytest.fixture
def exact(black_and_white, tmp_path, check):
    """Checks a constant model, on losses of 0.625 (training) and 0.125 (validation), and a log; gives what is found."""
    for name in "models", "log":
        (tmp_path / name).mkdir()

    def run(*losses, nodes=None, image_size=(4, 4)):
        graph = BaseGraph(constant(48) if nodes is None else nodes)
        split = read_flowers(black_and_white, 1, 1).split(0)
        parts = {"name": "MLPAE", "encoding_dim": 64, "image_size": list(image_size), "epoch": 1}
        parts |= {"train_loss": 9.0, "valid_loss": 9.0, "settings": {"split_seed": 0}}
        parts |= {"data": {"root": "flowers", "fingerprint": fingerprint(*split)}}
        model = MLPAutoencoder(graph, 64, image_size)
        save_checkpoint(parts | {"model": model}, tmp_path / SAVED_MODELS["MLPAE"])
        (tmp_path / "log" / "train_MLPAE.txt").write_text(log_of(*losses))
        return check(tmp_path, "Part 2", black_and_white)[1]

    return run


@pytest.mark.parametrize(("train", "valid"), [(0.625, 0.125), (0.6251, 0.125), (0.625, 0.1251), (0.6251, 0.1251)])
def test_losses_are_below_the_limit_and_not_at_it(train, valid, exact, monkeypatch):
    monkeypatch.setitem(REQUIRED_LOSSES, "MLPAE", {"train": train, "valid": valid})
    found = exact((0.625, 0.125))
    assert found[f"loss on train photos < {train}"] == ("0.625, computed anew", train > 0.625)
    assert found[f"loss on valid photos < {valid}"] == ("0.125, computed anew", valid > 0.125)
    met = train > 0.625 and valid > 0.125
    assert found[f"losses in it < {train} / {valid}"] == ("epoch 1: 0.625 / 0.125", met)


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
    ],
)
def test_how_far_a_log_may_be_from_its_model(train, valid, agree, exact):
    assert exact((train, valid))["log and model agree"] == (f"{train:.4g} / {valid:.4g} and 0.625 / 0.125", agree)


def test_the_best_epoch_of_a_log_is_that_of_the_model(exact):
    """The lowest validation loss; of equal ones, the last."""
    found = exact((0.1, 0.2), (0.9, 0.125), (0.625, 0.125), (0.5, 0.13))
    assert found["losses in it < 0.03 / 0.03"][0] == "epoch 3: 0.625 / 0.125" and found["log and model agree"][1]


def test_images_that_are_too_large_are_not_computed(exact):
    found = exact((0.5, 0.5), nodes=constant(3 * 301 * 300, hidden=[1]), image_size=(301, 300))
    assert found["losses of the model"] == ("not computed: images of 301 x 300 pixels are too large", None)
    assert "log and model agree" not in found


RIGHT = constant(48)
LINEAR = [node for node in RIGHT if not isinstance(node, ReLU)]


@pytest.mark.parametrize(
    ("nodes", "sizes", "layers", "ok"),
    [
        (RIGHT, "48-256-128-64-128-256-48", "5 times ReLU, Sigmoid at the end", (True, True)),
        (constant(48, [256, 128, 64, 128, 255]), "48-256-128-64-128-255-48", None, (False, True)),
        (constant(48, [7]), "48-7-48", "1 times ReLU, Sigmoid at the end", (False, True)),
        (RIGHT[:-1], None, "5 times ReLU, Linear at the end", (True, False)),
        (LINEAR, None, "0 times ReLU, Sigmoid at the end", (True, False)),
        ([], "", "0 times ReLU, nothing at the end", (False, False)),
    ],
)  # fmt: skip
def test_the_layers_of_the_mlp(nodes, sizes, layers, ok, exact):
    found = exact((1, 1), nodes=nodes)
    of_sizes, of_layers = found["3HW-256-128-64-128-256-3HW"], found["ReLU; output in [0, 1]"]
    assert (of_sizes[1], of_layers[1]) == ok and sizes in (None, of_sizes[0]) and layers in (None, of_layers[0])


# Logs


@pytest.mark.parametrize(
    ("losses", "met"),
    [
        ((0.0099, 0.0119), True),
        ((0.01, 0.0119), False),
        ((0.0099, 0.012), False),
        ((0.009, 0.013), False),
        ((0.0, 0.0), False),  # which cannot be
        ((-1.0, -1.0), False),
    ],
)
def test_both_losses_of_the_best_epoch_are_below_their_limits(losses, met, tmp_path, check):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train_AE.txt").write_text(log_of((0.001, 1.0), losses, (1.0, 1.0)))
    words, ok = check(tmp_path, "Part 3")[1]["within 15 epochs < 0.01 / 0.012"]
    assert words.startswith(f"epoch 2: {losses[0]:.4g} / {losses[1]:.4g}") and ok is met
    assert words.endswith("which cannot be") is (losses[0] <= 0)


@pytest.mark.parametrize(("name", "part", "epochs"), [("AE", "Part 3", 15), ("VAE", "Part 4", 20)])
def test_losses_that_are_reached_too_late_do_not_count(name, part, epochs, tmp_path, check):
    (tmp_path / "log").mkdir()
    path = tmp_path / "log" / f"train_{name}.txt"
    path.write_text(log_of(*[(7 / epoch, 7 / epoch) for epoch in range(1, 31)]))
    limits = " / ".join(f"{limit:g}" for limit in REQUIRED_LOSSES[name].values())
    asked, best = f"within {epochs} epochs < {limits}", f"{7 / epochs:.4g}"
    assert check(tmp_path, part)[1][asked][0].startswith(f"epoch {epochs}: {best} / {best}")


def test_a_model_from_after_the_epochs_asked_for_agrees_with_its_log(submission, check):
    folder = submission("AE")
    checkpoint = load_checkpoint(folder / "models", "AE")
    best = checkpoint["train_loss"], checkpoint["valid_loss"]
    (folder / "log" / "train_AE.txt").write_text(log_of(*[(0.9, 0.9)] * 15, best))
    found = check(folder, "Part 3")[1]
    assert found["within 15 epochs < 0.01 / 0.012"] == ("epoch 15: 0.9 / 0.9", False)
    assert found["log and model agree"][1]


@pytest.mark.parametrize(("text", "ok"), [("", False), ("Epoch 1 Train Loss: 0,5 Valid Loss: 0,5", None)])
def test_a_log_that_is_not_understood_is_for_the_teacher(text, ok, tmp_path, check):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train_MLPAE.txt").write_text(text)
    found = check(tmp_path)[1]
    assert found["log/train_MLPAE.txt"][1] is ok and "losses in it < 0.03 / 0.03" not in found


# Models


def test_the_losses_of_a_model_of_other_photos_are_not_computed(easy, submission, check, flowers, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(flowers, fewer)
    (fewer / "rose" / "0.png").unlink()
    status, found = check(submission("MLPAE"), root=fewer)
    why = f"not computed: it was trained on other photos than those in {fewer}"
    assert status == 0 and found["losses of the model"] == (why, None)


class Hostile:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return open, (str(self.trap), "w")


def saved_by_torch(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore")  # PyTorch's, on pickles by another protocol than its own
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("MLPAE", pickle.dumps),
        ("AE", pickle.dumps),
        ("AE", saved_by_torch),
        ("AE", lambda _: saved_by_torch(Autoencoder(5, (8, 8)))),
        ("AE", lambda _: saved_by_torch(Autoencoder(5, (8, 8)).state_dict())),
        ("AE", lambda _: saved_by_torch({"epoch": 3, "model": Autoencoder(5, (8, 8)).state_dict()})),
    ],
)
def test_models_that_are_not_of_this_lab_are_for_the_teacher_and_not_opened(name, save, tmp_path, check):
    path = tmp_path / SAVED_MODELS[name]
    path.parent.mkdir()
    path.write_bytes(save(Hostile(tmp_path / "trapped")))
    found = check(tmp_path)[1]
    assert found[SAVED_MODELS[name]] == ("none of this lab's checkpoints, so not opened: look at it yourself", None)
    assert not (tmp_path / "trapped").exists() and not any("loss on" in asked for asked in found)


@pytest.mark.parametrize(("name", "reason"), [("MLPAE", "checksum"), ("AE", "no usable model")])
def test_damaged_models_of_this_lab_are_not_as_asked(name, reason, submission, check):
    folder = submission(name)
    path = folder / SAVED_MODELS[name]
    content = path.read_bytes()
    damaged = content[:1000] + content[1001:]
    path.write_bytes(damaged)
    words, ok = check(folder)[1][SAVED_MODELS[name]]
    assert reason in words and ok is False


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_checkpoints_of_this_lab_with_wrong_parts_are_not_as_asked(name, submission, check):
    folder = submission(name)
    checkpoint = load_checkpoint(folder / "models", name)
    save_checkpoint(checkpoint | {"epoch": 0}, folder / SAVED_MODELS[name])
    words, ok = check(folder)[1][SAVED_MODELS[name]]
    assert "its epoch is no whole number" in words and ok is False


def test_errors_that_name_parts_of_a_file_are_shortened(tmp_path, check):
    (tmp_path / "models").mkdir()
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as file:
        file.writestr("x" * 10_000, b"whole")
    (tmp_path / SAVED_MODELS["AE"]).write_bytes(damaged.getvalue().replace(b"whole", b"spoil"))
    words, ok = check(tmp_path)[1][SAVED_MODELS["AE"]]
    assert "xxx" in words and len(words) < 350 and ok is False


# The command


def test_the_table(capsys):
    found = [
        Check("Part 1", "autograd/Nodes.py", "20 lines", True),
        Check("Part 1", "ReLU", "missing; there is\n\x1b[2J Relu", False),
        Check("Part 4", "within 20 epochs < 800 / 800, or so it says", "epoch 20: 787.1 / 799.3, which is much", None),
        Check("Part 4", "x", "y" * 36 + " z", True),
    ]
    points = {"Part 1": None, "Part 2": 12.5}
    check_submission.print_table(check_submission.Result(Path("zhang"), found, points))
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
        "",
        "2 as asked, 1 not, 1 to look at yourself.",
        "Points: Part 1 look, Part 2 12.5.",
    ]


def test_photos_are_by_default_those_of_the_lab_and_not_of_the_current_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        check_submission.main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"(default: {ROOT / 'flowers'})" in words and f"(default: {ROOT / 'drawn_flowers'})" in words


def test_without_photos_the_drawn_ones_are_used(submission, flowers, in_this_process, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check_submission, "LAB", tmp_path / "lab")
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(submission("MLPAE")), "--drawn-root", str(flowers)])
    out, err = capsys.readouterr()
    assert "loss on train photos" in out and f"using the drawn flowers in {flowers} instead" in err


def test_errors_of_the_teachers_photos_are_errors_of_the_command(submission, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    error = fails(check_submission, [submission("MLPAE"), "--data-root", tmp_path / "none"], capsys)
    assert str(tmp_path / "none") in error


@pytest.mark.photos
def test_the_committed_results_are_as_asked(photos, tmp_path):
    for name in "autograd", "models", "log", "vis":
        shutil.copytree(ROOT / name, tmp_path / "handed in" / name)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, tmp_path / "handed in")
    result = run_script("teaching.check_submission", tmp_path / "handed in", "--data-root", photos)
    assert result.returncode == 0, result.stdout
    assert "  NO" not in result.stdout and result.stdout.count("log and model agree") == 3


def test_the_students_own_copy_of_script_and_photos_is_refused(submission, flowers, tmp_path, capsys):
    folder = submission("MLPAE")
    for name in "autograd", "lab", "teaching":
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    shutil.copy(ROOT / "data_processor.py", folder)
    shutil.copytree(flowers, folder / "flowers")
    command = [sys.executable, "-B", "-m", "teaching.check_submission", "."]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "found this script in it, expected yours outside the submission" in result.stderr
    for flag in "--data-root", "--drawn-root":
        error = fails(check_submission, [folder, flag, folder / "flowers"], capsys)
        assert f"{folder}: found {flag} in it, expected yours outside the submission" in error


# A process of its own


def test_a_process_finds_what_this_one_finds(submission, flowers):
    folder, photos = submission("MLPAE", "AE"), Photos(str(flowers))
    assert list(checks_in_process(folder, photos)) == list(checks_of(folder, photos))


FAULTS = {
    "is killed": lambda _: os.kill(os.getpid(), 9),
    "exits": lambda _: os._exit(7),
    "hangs": lambda _: time.sleep(1000),
    "takes 5 GB": lambda _: np.empty(5 * 10**9, np.uint8),
    "blackens them": lambda photos: photos.decoded[12, 8].pixels.zero_(),
}


class FaultyPhotos(Photos):
    """Photos that something happens to in another process, when they are read there."""

    def __init__(self, root, fault):
        super().__init__(str(root))
        self.fault, self.process = fault, os.getpid()
        self.read((12, 8))

    def read(self, size):
        if os.getpid() != self.process:
            FAULTS[self.fault](self)
        return super().read(size)


@unix
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("is killed", "ended before its end: SIGKILL"),
        ("exits", "ended before its end: exit status 7"),
        pytest.param("hangs", "not finished after 10 seconds", marks=pytest.mark.slow),
    ],
)
def test_the_end_of_the_process_is_a_line_below_the_checks_it_has_finished(fault, end, submission, flowers):
    folder = submission("MLPAE")
    *before, last = checks_in_process(folder, FaultyPhotos(flowers, fault), seconds=10)
    expected = list(checks_of(folder, Photos(str(flowers))))
    assert before == expected[: len(before)] and before[-1].asked == "ReLU; output in [0, 1]"
    assert last == ("Part 2", "all that can be looked at", end, False)


def test_a_submission_that_takes_too_long_is_given_up(submission, flowers):
    found = list(checks_in_process(submission(), Photos(str(flowers)), seconds=0))
    assert found == [("Part 1", "all that can be looked at", "not finished after 0 seconds", False)]


def test_a_submission_cannot_change_the_photos_of_the_next_one(submission, flowers):
    photos = FaultyPhotos(flowers, "blackens them")
    before = photos.read((12, 8)).pixels.clone()
    folder = submission("MLPAE")
    assert list(checks_in_process(folder, photos)) != list(checks_of(folder, photos))
    assert torch.equal(photos.read((12, 8)).pixels, before)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_the_memory_of_the_process_is_limited(submission, flowers):
    found = {
        check.asked: check for check in checks_in_process(submission("MLPAE"), FaultyPhotos(flowers, "takes 5 GB"))
    }
    words, ok = found["losses of the model"][2:]
    assert words.startswith("not computed: Unable to allocate") and ok is None
    assert "vis/valid_MLPAE.png" in found


# A class


@pytest.fixture
def class_of_six(submission, tmp_path, monkeypatch):
    """Submissions of every sort, with a folder for each, and a file among them; with limits for tiny trainings."""
    for name, limit in ("MLPAE", 0.2), ("AE", 1), ("VAE", 1e6):
        monkeypatch.setitem(REQUIRED_LOSSES, name, {"train": limit, "valid": limit})

    def copy(name, *models):
        folder = tmp_path / "class" / name
        shutil.move(submission(*models), folder)
        return folder

    (tmp_path / "class" / "5 empty").mkdir(parents=True)
    copy("1 complete", "MLPAE", "AE", "VAE")
    (copy("2 forged log", "MLPAE") / "log" / "train_MLPAE.txt").write_text(log_of((0.001, 0.001)))
    wrong = copy("3 white", "MLPAE")
    checkpoint = load_checkpoint(wrong / "models", "MLPAE")
    checkpoint["model"].graph[-2].params[1][:] = 100  # all is white
    save_checkpoint(checkpoint, wrong / SAVED_MODELS["MLPAE"])
    foreign = copy("4 =foreign", "MLPAE") / SAVED_MODELS["MLPAE"]
    foreign.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    (tmp_path / "class" / "6 roster.csv").touch()
    return sorted((tmp_path / "class").iterdir())


OF_SIX = {
    "1 complete": (["look", "12.5", "7.5", "7.5"], ""),
    "2 forged log": (["look", "look", "0", "0"], "log and model agree: 0.001 / 0.001 and"),
    "3 white": (["look", "look", "0", "0"], "loss on train photos < 0.2"),
    "4 =foreign": (["look", "look", "0", "0"], ""),
    "5 empty": (["look", "look", "0", "0"], "autograd/BaseNode.py: missing"),
    "6 roster.csv": (["look", "look", "look", "look"], "a folder: a file; unpack it"),
}


def test_a_class_is_a_line_each_and_a_row_for_each_check(class_of_six, flowers, in_this_process, capsys, tmp_path):
    flags = [*map(str, class_of_six), "--data-root", str(flowers)]
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([*flags, "--csv", str(tmp_path / "class.csv")])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:9] == ["Part", "1", "Part", "2", "Part", "3", "Part", "4", "points"]
    assert max(map(len, lines)) <= 120
    for line, (name, (points, first)) in zip(lines, OF_SIX.items(), strict=True):
        columns = line[20:].split()
        assert line.startswith(name) and columns[:4] == points and first[:40] in line
        assert float(columns[4]) == sum(float(part) for part in points if part != "look")
        assert bool(int(columns[5])) is bool(first) and (int(columns[6]) > 0 or name == "6 roster.csv")
    assert not (tmp_path / "executed").exists()

    with pytest.raises(SystemExit, match="1"):
        check_submission.main([*flags, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [each["folder"] for each in found] == list(map(str, class_of_six))
    assert [each["complete"] for each in found] == [not first for _, first in OF_SIX.values()]
    in_words = [["look" if some is None else f"{some:g}" for some in each["points"].values()] for each in found]
    assert in_words == [points for points, _ in OF_SIX.values()]

    text = (tmp_path / "class.csv").read_text(encoding="utf-8")
    head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    assert text.startswith("\ufeff")  # by which Excel knows UTF-8
    assert head == ["folder", "part", "points", "mark", "asked", "found"]
    marks = {True: "ok", False: "NO", None: "?"}
    expected = [
        [Path(each["folder"]).name, c["part"], marks[c["ok"]], c["asked"], c["found"]]
        for each in found
        for c in each["checks"]
    ]
    assert [[row[0], row[1], *row[3:]] for row in rows] == expected
    points = {(row[0], row[1]): row[2] for row in rows if row[1]}
    assert points["1 complete", "Part 2"] == "12.5" and points["2 forged log", "Part 2"] == "look"


def test_each_of_a_class_has_a_process_of_its_own(class_of_six, flowers, capsys, tmp_path):
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([*map(str, class_of_six), "--data-root", str(flowers)])
    out, err = capsys.readouterr()
    assert err == "" and [line[:8].strip() for line in out.splitlines()[1:]] == [name[:8].strip() for name in OF_SIX]
    assert not (tmp_path / "executed").exists()


def test_texts_that_a_spreadsheet_would_compute_are_quoted(tmp_path):
    texts = ['=HYPERLINK("x")', "+1", "-1", "@x", "\t=1", "1-1", "a=b", "=1\nb", "x, y"]
    found = [Check("Part 1", "a", text, True) for text in texts]
    result = check_submission.Result(Path("=cmd"), found, {"Part 1": None})
    check_submission.write_csv([result], tmp_path / "class.csv")
    _, *rows = csv.reader(io.StringIO((tmp_path / "class.csv").read_text(encoding="utf-8-sig"), newline=""))
    expected = ['\'=HYPERLINK("x")', "'+1", "'-1", "'@x", "'=1", "1-1", "a=b", "'=1 b", "x, y"]
    assert [row[5] for row in rows] == expected and {row[0] for row in rows} == {"'=cmd"}


def test_photos_are_decoded_once_for_a_class(submission, flowers, in_this_process, monkeypatch, tmp_path):
    folder = submission("MLPAE")
    shutil.copytree(folder, tmp_path / "another")
    read, sizes = checks.read_photos, []
    monkeypatch.setattr(checks, "read_photos", lambda root, size: sizes.append(size) or read(root, size))
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), str(tmp_path / "another"), "--data-root", str(flowers)])
    assert sizes == [(24, 24), (12, 8)]  # in advance, and for these models
