"""Submissions to be checked: made by this lab, by the course's own classes, incomplete, damaged, forged and hostile."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from PIL import Image

import check_submission
import MLPAE_train_script
import random_generation
import train_script
import visualization
from autograd import Linear, ReLU, Sigmoid
from data_processor import read_flowers
from grading.course_models import graph_of, sizes_of
from lab import handout, photos
from lab.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def easy(monkeypatch):
    """A handout that asks so little that tiny trainings meet it."""
    for name, limit in ("MLPAE", 1), ("AE", 1), ("VAE", 1e6):
        monkeypatch.setitem(handout.ASKED_LOSSES, name, {"train": limit, "valid": limit})


@pytest.fixture
def submission(few_photos, tmp_path, capsys):
    """A folder as this lab makes one, with the given models in it."""
    folder = tmp_path / "submission"

    def make(*names, epochs=3):
        for name in ("autograd", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for files in handout.CODE.values():
            for file in files:
                shutil.copy(ROOT / file, folder / file)
        kept = ["--model-dir", folder / "models"]
        trained = [*kept, "--log-dir", folder / "log", "--data-root", few_photos]
        for name in names:
            train = MLPAE_train_script.main if name == "MLPAE" else train_script.main
            model = ["--model", name]
            flags = [] if name == "MLPAE" else model
            train(list(map(str, [*flags, *trained, "--image-size", 8, "--epochs", epochs])))
            (folder / "log" / f"train_{name}.txt").write_text(capsys.readouterr().out)
            drawn = ["--vis-dir", folder / "vis"]
            visualization.main(list(map(str, [*model, *trained, *drawn])))
            if name != "MLPAE":
                random_generation.main(list(map(str, [*model, *kept, *drawn])))
        capsys.readouterr()
        return folder

    return make


@pytest.fixture
def check(few_photos, capsys):
    """Checks a folder; gives the exit status, and what was found by what was asked, of the part that is named."""

    def run(folder, part=None, *flags):
        status = 0
        try:
            check_submission.main([str(folder), "--json", "--data-root", str(few_photos), *map(str, flags)])
        except SystemExit as stop:
            status = stop.code
        out, _ = capsys.readouterr()
        found = json.loads(out)
        assert found["complete"] is (status == 0) and found["folder"] == str(folder)
        return status, {c["asked"]: (c["found"], c["ok"]) for c in found["checks"] if part in (None, c["part"])}

    return run


def test_all_that_is_asked(easy, submission, check):
    status, found = check(submission("MLPAE", "AE", "VAE"))
    assert (status, {ok for _, ok in found.values()}) == (0, {True})
    status, found = check(submission(), "Part 4")
    assert list(found) == [
        "VarAutoencoder.py",
        "models/BestModel_VAE.pth",
        "loss on train photos < 1e+06",
        "loss on valid photos < 1e+06",
        "log/train_VAE.txt",
        "within 20 epochs < 1e+06 / 1e+06",
        "log and model agree",
        "vis/train_VAE.png",
        "vis/valid_VAE.png",
        "vis/random_images_VAE.png",
    ]


def test_part_2_alone(easy, submission, check):
    folder = submission("MLPAE")
    status, found = check(folder)
    assert status == 0 and found["optional"] == ("not handed in", None)
    checkpoint = load_checkpoint(folder / "models", "MLPAE")
    computed, _ = found["loss on valid photos < 1"]
    assert float(computed.split(",")[0]) == pytest.approx(checkpoint["valid_loss"], rel=1e-3)
    assert found["3HW-256-128-64-128-256-3HW"] == ("192-256-128-64-128-256-192", True)
    assert found["ReLU; output in [0, 1]"] == ("4 times ReLU, Sigmoid at the end", True)
    (folder / "models").rename(folder / "model")  # the handout has this name, too
    status, found = check(folder)
    assert status == 0 and found["model/BestModel_MLPAE.pkl"][1]


def test_losses_above_the_bar(submission, check):
    status, found = check(submission("MLPAE", "VAE"))
    assert status == 1
    assert not any(
        found[asked][1] for asked in found if asked.startswith(("loss on train photos < 0.03", "losses in it"))
    )
    assert found["within 20 epochs < 800 / 800"][1]  # of 8 x 8 pixels


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


def test_an_empty_folder_and_none(tmp_path, check, capsys):
    (tmp_path / "empty").mkdir()
    status, found = check(tmp_path / "empty")
    assert status == 1 and {found for found, ok in found.values() if ok is False} == {"missing"}
    with pytest.raises(SystemExit, match="2"):
        check_submission.main([str(tmp_path / "none")])
    assert "no such folder; give the one that was handed in" in capsys.readouterr().err


def test_code_that_is_none(easy, submission, check):
    folder = submission("MLPAE")
    for content in b"def backward(:", b"\xff\xfe", b"x = " + b"(" * 100_000, b"\0", b"#" * 2_000_000:
        (folder / "autograd" / "Nodes.py").write_bytes(content)
        status, found = check(folder)
        assert status == 1 and not found["autograd/Nodes.py"][1]


def test_code_is_never_run(easy, submission, check, tmp_path):
    folder = submission("MLPAE")
    (folder / "autograd" / "Nodes.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')")
    assert check(folder)[0] == 0 and not (tmp_path / "trapped").exists()


# Logs


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gbk"])
def test_logs_in_other_words(encoding, easy, submission, check):
    folder = submission("MLPAE")
    checkpoint = load_checkpoint(folder / "models", "MLPAE")
    train, valid = checkpoint["train_loss"], checkpoint["valid_loss"]
    lines = ["\u8bad\u7ec3", f"Epoch: 0, Train Loss: 0.2, Valid Loss: {valid * 2}"]
    lines += [f"Epoch [1/2] | train loss = {train:.6e} | Validation Loss = {valid:.6e}", "Early stopping at epoch 1."]
    (folder / "log" / "train_MLPAE.txt").write_bytes("\r\n".join(lines).encode(encoding))
    status, found = check(folder)
    assert status == 0 and found["log/train_MLPAE.txt"] == ("2 epochs", True)
    assert found["losses in it < 1 / 1"] == (f"epoch 1: {train:.4g} / {valid:.4g}", True)


def test_a_forged_log(easy, submission, check):
    folder = submission("MLPAE", "AE")
    for name in "MLPAE", "AE":
        log = folder / "log" / f"train_{name}.txt"
        log.write_text(re.sub(r"Loss: 0\.\d+", "Loss: 0.0100", log.read_text()))
    status, found = check(folder)
    assert status == 1 and found["log and model agree"][1] is False
    status, found = check(folder, "Part 3")
    assert found["within 15 epochs < 1 / 1"] == ("epoch 3: 0.01 / 0.01", True) and not found["log and model agree"][1]


def test_losses_that_came_too_late(submission, check, monkeypatch):
    monkeypatch.setitem(handout.ASKED_LOSSES, "AE", {"train": 0.5, "valid": 0.5})
    folder = submission("MLPAE", "AE")
    log = [f"Epoch: {epoch}, Train Loss: {7 / epoch}, Valid Loss: {7 / epoch}" for epoch in range(1, 31)]
    (folder / "log" / "train_AE.txt").write_text("\n".join(log))
    assert check(folder, "Part 3")[1]["within 15 epochs < 0.5 / 0.5"] == ("epoch 15: 0.4667 / 0.4667", True)
    (folder / "log" / "train_AE.txt").write_text("\n".join(log[:13] + log[20:]))
    assert check(folder, "Part 3")[1]["within 15 epochs < 0.5 / 0.5"] == ("epoch 13: 0.5385 / 0.5385", False)


# Pictures


def test_pictures(easy, submission, check):
    folder = submission("MLPAE")
    path = folder / "vis" / "train_MLPAE.png"
    photos = np.random.default_rng(0).integers(0, 255, (54, 418, 3), np.uint8)
    page = np.full((600, 800, 3), 255, np.uint8)
    page[100:154, 50:468] = photos  # as matplotlib puts a picture on a white page
    for pixels, found in (
        (page, ("418 x 54 pixels, without margins", True)),
        (photos, ("418 x 54 pixels, without margins", True)),
        (page[:90], ("0 x 0 pixels, without margins", False)),
        (photos[:24], ("418 x 24 pixels, without margins", False)),
    ):
        Image.fromarray(pixels).save(path)
        status, checks = check(folder)
        assert checks["vis/train_MLPAE.png"] == found and status == (0 if found[1] else 1)
    whole = path.read_bytes()
    for content in whole[: len(whole) // 2], b"hello":
        path.write_bytes(content)
        assert not check(folder)[1]["vis/train_MLPAE.png"][1]


# Models


def test_models_of_other_photos(easy, submission, check, few_photos):
    folder = submission("MLPAE")
    next(few_photos.rglob("*.jpg")).unlink()
    status, found = check(folder)
    why = f"not computed: it was trained on other photos than those in {few_photos}"
    assert status == 0 and found["losses of the model"] == (why, None)


def test_a_state_dict_of_a_students_own_layers(easy, submission, check):
    folder = submission("MLPAE", "AE")
    path = folder / "models" / "BestModel_AE.pth"
    torch.save(torch.nn.Conv2d(3, 32, 3).state_dict(), path)
    status, found = check(folder, "Part 3")
    assert status == 0 and found["models/BestModel_AE.pth"][1]
    assert found["losses of the model"][1] is None and "layers of the student's own" in found["losses of the model"][0]
    torch.save(torch.nn.Conv2d(3, 32, 3), path)
    status, found = check(folder, "Part 3")
    assert status == 1 and "no state_dict that loads safely" in found["models/BestModel_AE.pth"][0]


def test_damaged_models_of_this_lab(easy, submission, check):
    folder = submission("MLPAE", "AE")
    for name, reason in ("BestModel_MLPAE.pkl", "checksum"), ("BestModel_AE.pth", "checksum"):
        path = folder / "models" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        status, found = check(folder)
        assert status == 1 and reason in found[f"models/{name}"][0] and not found[f"models/{name}"][1]


def test_another_architecture(easy, submission, check, monkeypatch):
    folder = submission("MLPAE")
    checkpoint = load_checkpoint(folder / "models", "MLPAE")
    checkpoint["model"].graph.nodes = [Linear(192, 7), ReLU(), Linear(7, 192)]
    save_checkpoint(checkpoint, folder / "models" / "BestModel_MLPAE.pkl")
    status, found = check(folder)
    assert status == 1 and found["3HW-256-128-64-128-256-3HW"] == ("192-7-192", False)
    assert found["ReLU; output in [0, 1]"] == ("1 times ReLU, Linear at the end", False)
    checkpoint["model"].graph.nodes = []
    save_checkpoint(checkpoint, folder / "models" / "BestModel_MLPAE.pkl")
    status, found = check(folder)
    assert status == 1 and found["ReLU; output in [0, 1]"] == ("0 times ReLU, nothing at the end", False)


COURSE = """
import pickle, sys
import numpy as np

class Node:
    def __init__(self, name, *params):
        self.grad, self.cache, self.name, self.params = [], [], name, list(params)

class relu(Node):
    def __init__(self):
        super().__init__("relu")

class sigmoid(Node):
    def __init__(self):
        super().__init__("sigmoid")

class Linear(Node):
    def __init__(self, indim, outdim):
        weight = np.random.default_rng(indim).standard_normal((indim, outdim)) * 0.05
        super().__init__("linear", weight, np.full(outdim, 0.01))

class Graph(list):
    def __init__(self, nodes):
        super().__init__(nodes)
        self.losses = [np.float64(0.5), 0.25]

def forward(graph, x):
    for node in graph:
        node.cache.append(x)
        kind = type(node).__name__
        if kind == "Linear":
            x = x @ node.params[0] + node.params[1]
        elif kind == "relu":
            x = np.maximum(x, 0)
        else:
            x = 1 / (1 + np.exp(-x))
    return x

again = relu()
sizes = [192, 256, 128, 64, 128, 256, 192]
nodes = [part for i in range(6) for part in (Linear(*sizes[i:i + 2]), again)]
nodes[-1] = sigmoid()
graph = Graph(nodes)
for _ in range(300):  # batches of a validation, after which nobody has flushed the nodes
    forward(graph, np.ones((1, 192), np.float32))
pickle.dump(graph, open(sys.argv[1], "wb"))
x = np.load(sys.argv[2])
print(np.mean((forward(graph, x) - x) ** 2))
"""


@pytest.fixture
def course_model(few_photos, tmp_path):
    """Makes a model of a student's own classes, in another process; gives its loss on all photos, computed there."""
    np.save(tmp_path / "photos.npy", read_flowers(few_photos, 8, 8)[:][0].flatten(1).numpy())

    def make(path):
        arguments = [sys.executable, "-c", COURSE, path, tmp_path / "photos.npy"]
        return float(subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=True).stdout)

    return make


def test_a_model_of_the_courses_own_classes(easy, submission, check, course_model):
    folder = submission("MLPAE")
    expected = course_model(folder / "models" / "BestModel_MLPAE.pkl")
    (folder / "log" / "train_MLPAE.txt").write_text(f"Epoch: 0, Train Loss: {expected}, Valid Loss: {expected * 1.05}")
    status, found = check(folder)
    assert status == 0, found
    computed, ok = found["loss on all photos < 1"]
    assert ok and float(computed.split(",")[0]) == pytest.approx(expected, rel=1e-3)
    assert found["3HW-256-128-64-128-256-3HW"][1] and found["log and model agree"][1]
    assert found["ReLU; output in [0, 1]"] == ("5 times ReLU, Sigmoid at the end", True)
    (folder / "log" / "train_MLPAE.txt").write_text("Epoch: 0, Train Loss: 0.01, Valid Loss: 0.01")
    assert not check(folder)[1]["log and model agree"][1]


def test_without_photos_a_model_of_the_courses_own_is_not_measured(
    submission, course_model, tmp_path, monkeypatch, check
):
    folder = submission("MLPAE")
    course_model(folder / "models" / "BestModel_MLPAE.pkl")
    monkeypatch.setattr(photos, "photos_or_drawn", lambda photos, drawn: drawn)
    _, found = check(folder, "Part 2", "--drawn-root", tmp_path / "drawn")
    why = "not computed: there are no photos here; give them by --data-root"
    assert found["losses of the model"] == (why, None) and "log and model agree" not in found


def test_the_table_fits_80_columns(submission, few_photos, capsys):
    folder = submission("MLPAE", "AE")
    (folder / "vis" / "train_AE.png").unlink()
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(folder), "--data-root", str(few_photos)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"^  NO  vis/train_AE.png +missing$", out, re.MULTILINE)
    assert re.search(r"^\d+ as asked, \d+ not, 1 to look at yourself.$", out, re.MULTILINE)  # Part 4


def test_as_a_process(easy, submission):
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


def linear(weight, bias):
    return LINEAR(**{"W": weight, "b": bias} if bias.ndim == 1 else {"weight": weight, "bias": bias})


def test_graphs_in_other_forms():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 2)), rng.random((2, 3), np.float32)
    x = np.ones((1, 3), np.float32)
    expected = np.maximum(x @ first + 1, 0) @ second
    bias, no_bias = np.ones((1, 2)), np.zeros(3)
    forms = [
        [linear(first, bias), Relu(), linear(second, no_bias)],
        Sequential(encoder=[linear(first, bias), Relu()], decoder=Sequential(layers=(linear(second, no_bias),))),
        {"epoch": 3, "model": Sequential(nodes=[linear(first.T, bias), Relu(), linear(second.T, no_bias)], rng=rng)},
        [Sequential(nodes=[linear(first, bias), Relu(), linear(second, no_bias)]), MSELoss(), 0.5, None],
    ]
    for form in forms:
        for protocol in 3, 4, 5:
            graph = graph_of(pickle.dumps(form, protocol))
            assert sizes_of(graph) == [3, 2, 3]
            np.testing.assert_allclose(graph.forward(x), expected, rtol=1e-6)


def test_graphs_that_are_none():
    weight, bias = np.ones((3, 2)), np.zeros(2)
    circle = [linear(weight, bias)]
    circle.append(circle)
    deep = ()
    for _ in range(60):
        deep = deep, deep
    for form, message in (
        ([], "no Linear"),
        ([Relu()], "no Linear"),
        ("hello", "no Linear"),
        ([linear(weight, bias), Sequential()], "it holds a Sequential, expected Linear, ReLU and Sigmoid alone"),
        ([linear(weight, bias), linear(weight, bias)], "expected 2 inputs"),
        ([linear(weight, np.zeros(7))], r"a Linear has \(2, 3\) and \(7,\)"),
        ([linear(np.full((3, 2), np.nan), bias)], "not all finite"),
        ([linear(np.ones((3, 2), int), bias)], "expected floats"),
        (circle, "too many things|recursion"),
        ([linear(weight, bias), deep], "too many things"),
    ):
        with pytest.raises(Exception, match=message):
            graph_of(pickle.dumps(form, 4))


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
