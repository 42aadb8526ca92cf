import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

import checkpoint as checkpoint_module
from Autoencoder import Autoencoder
from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from checkpoint import CheckpointError, keep_previous, load_checkpoint, prepare_folder, save_checkpoint
from VarAutoencoder import VarAutoencoder


def make(**changes):
    rng = np.random.default_rng(0)
    parts = {
        "name": "MLPAE",
        "model": BaseGraph([Linear(12, 5, rng), ReLU(), Linear(5, 12, rng), Sigmoid()]),
        "encoding_dim": 5,
        "image_size": [2, 2],
        "data": {"root": "flowers", "fingerprint": "0"},
        "epoch": 3,
        "train_loss": 0.1,
        "valid_loss": 0.2,
        "settings": {"split_seed": 0},
    }
    return parts | changes


def refusal(content, tmp_path):
    path = tmp_path / "BestModel_MLPAE.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a usable checkpoint") as error:
        load_checkpoint(tmp_path, "MLPAE")
    return str(error.value)


def test_a_model_comes_back_as_it_was(tmp_path):
    saved = make()
    x = np.random.default_rng(1).random((3, 12), np.float32)
    expected = saved["model"].forward(x)
    save_checkpoint(saved, tmp_path / "BestModel_MLPAE.pkl")
    loaded = load_checkpoint(tmp_path, "MLPAE")
    np.testing.assert_array_equal(loaded["model"].forward(x), expected)
    assert {name: part for name, part in loaded.items() if name != "model"} == {
        name: part for name, part in saved.items() if name != "model"
    }
    loaded["model"].backward(np.ones_like(expected))
    loaded["model"].optimstep(0.1)  # what was loaded can be trained on
    assert [file.name for file in tmp_path.iterdir()] == ["BestModel_MLPAE.pkl"]


def test_plain_pickle_opens_it(tmp_path):
    save_checkpoint(make(), tmp_path / "BestModel_MLPAE.pkl")
    code = f"import pickle; print(len(pickle.load(open({str(tmp_path / 'BestModel_MLPAE.pkl')!r}, 'rb'))['model']))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "4\n"


def test_what_lies_on_disk_does_not_follow_further_training(tmp_path):
    saved = make()
    save_checkpoint(saved, tmp_path / "BestModel_MLPAE.pkl")
    before = saved["model"][0].params[0].copy()
    saved["model"][0].params[0] += 1
    np.testing.assert_array_equal(load_checkpoint(tmp_path, "MLPAE")["model"][0].params[0], before)


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failed_save_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "BestModel_MLPAE.pkl"
    save_checkpoint(make(epoch=1), path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(make(epoch=2), path)
    assert load_checkpoint(tmp_path, "MLPAE")["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_keep_previous(tmp_path, capsys):
    path = tmp_path / "BestModel_MLPAE.pkl"
    keep_previous(path)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().err == ""
    save_checkpoint(make(epoch=1), path)
    keep_previous(path)
    save_checkpoint(make(epoch=2), path)
    assert pickle.loads((tmp_path / "BestModel_MLPAE.previous.pkl").read_bytes())["epoch"] == 1
    assert "BestModel_MLPAE.previous.pkl" in capsys.readouterr().err


# Files from strangers


class Calls:
    """A pickle of this calls a function when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, np.load])
def test_nothing_runs(function, tmp_path, capfd):
    trap = tmp_path / "trapped"
    text = f"touch {trap}" if function is os.system else f"open({str(trap)!r}, 'w')"
    message = refusal(pickle.dumps(make(settings=Calls(function, text))), tmp_path)
    assert "it asks for" in message and not trap.exists()


@pytest.mark.parametrize("node", [MSE(), np.random.default_rng(0)])
def test_other_classes_are_refused(node, tmp_path):
    assert "it asks for" in refusal(pickle.dumps(make(model=BaseGraph([node])), protocol=4), tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    whole = pickle.dumps(make(), protocol=4)
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        refusal(whole[:length], tmp_path)
    refusal(b"hello", tmp_path)
    refusal(b"", tmp_path)


def linear(weight, bias):
    node = Linear(1, 1)
    node.params = [weight, bias]
    return node


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_size": [3, 3]}, "a Linear has"),
        ({"image_size": [0, 2]}, "its image size is"),
        ({"image_size": "2x2"}, "its image size is"),
        ({"data": {"root": 1, "fingerprint": "0"}}, "its data root is no text"),
        ({"data": {"root": "flowers", "fingerprint": None}}, "its fingerprint of the photos is no text"),
        ({"settings": {"split_seed": "0"}}, "its split seed is no whole number"),
        ({"model": None}, "no BaseGraph"),
        ({"model": BaseGraph([Linear(12, 5), Linear(6, 12)])}, "expected 5 inputs"),
        ({"model": BaseGraph([Linear(12, 5)])}, "gives 5 numbers"),
        ({"model": BaseGraph([linear(np.full((12, 12), np.nan, np.float32), np.zeros(12, np.float32))])}, "finite"),
        ({"model": BaseGraph([linear(np.ones((12, 12), int), np.zeros(12))])}, "expected floats"),
        ({"model": BaseGraph([linear(np.array([None]), np.zeros(12))])}, "expected floats"),
        ({"model": BaseGraph(["Linear"])}, "holds a str"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(changes, reason, tmp_path):
    assert reason in refusal(pickle.dumps(make(**changes), protocol=4), tmp_path)


def test_what_is_missing_is_named(tmp_path):
    parts = make()
    del parts["epoch"], parts["settings"]
    assert "it lacks epoch, settings" in refusal(pickle.dumps(parts, protocol=4), tmp_path)
    assert "found a list, expected a dict" in refusal(pickle.dumps([1], protocol=4), tmp_path)


def test_a_huge_array_that_is_only_declared_is_never_made(tmp_path):
    content = pickle.dumps(make(), protocol=4)
    shape = pickle.dumps((12, 5), protocol=4)[11:-2]  # the two numbers, without the frame around them
    assert content.count(shape) == 1
    refusal(content.replace(shape, pickle.dumps((250, 250), protocol=4)[11:-2]), tmp_path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint; train the model first"):
        load_checkpoint(tmp_path, "MLPAE")


def test_prepare_folder(tmp_path):
    prepare_folder(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="expected a folder to write in, found: "):
        prepare_folder(tmp_path / "file")


def test_both_names_of_numpys_array_maker_are_admitted():
    admitted = checkpoint_module._ADMITTED
    assert {("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")} <= admitted.keys()


# PyTorch's models


@pytest.mark.parametrize("model", [Autoencoder(7, (12, 8)), VarAutoencoder(5, (8, 12))])
def test_a_pytorch_model_is_rebuilt_without_flags(model, tmp_path):
    width, height = (12, 8) if model.name == "AE" else (8, 12)
    parts = make(name=model.name, model=model, encoding_dim=model.encoding_dim, image_size=[width, height])
    path = tmp_path / f"BestModel_{model.name}.pth"
    save_checkpoint(parts, path)
    loaded = load_checkpoint(tmp_path, model.name)
    images = torch.rand(2, 3, height, width)
    assert torch.equal(loaded["model"].reconstruct(images), model.reconstruct(images))
    assert loaded["epoch"] == 3 and loaded["settings"] == {"split_seed": 0}

    before = model.decoder[0].bias.detach().clone()
    with torch.no_grad():
        model.decoder[0].bias += 1  # further training does not reach what lies on disk
    assert torch.equal(load_checkpoint(tmp_path, model.name)["model"].decoder[0].bias, before)


def test_a_checkpoint_of_the_other_model_is_refused(tmp_path):
    save_checkpoint(make(name="AE", model=Autoencoder(5, (8, 8)), image_size=[8, 8]), tmp_path / "BestModel_VAE.pth")
    with pytest.raises(CheckpointError, match="it holds the model 'AE', expected VAE"):
        load_checkpoint(tmp_path, "VAE")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding_dim": 6}, "size mismatch"),
        ({"image_size": [16, 8]}, "size mismatch"),
        ({"image_size": [10, 8]}, "expected multiples of 4"),
        ({"image_size": [400_000, 400_000]}, "size mismatch"),
        ({"encoding_dim": "5"}, "not a usable checkpoint"),
        ({"epoch": Calls(os.system, "true")}, "not a usable checkpoint"),
    ],
)
def test_a_pytorch_checkpoint_that_does_not_fit_is_refused(changes, reason, tmp_path):
    path = tmp_path / "BestModel_AE.pth"
    save_checkpoint(make(name="AE", model=Autoencoder(5, (8, 8)), image_size=[8, 8]) | changes, path)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(tmp_path, "AE")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    model = Autoencoder(5, (8, 8))
    torch.nn.init.constant_(model.decoder[0].bias, float("nan"))
    save_checkpoint(make(name="AE", model=model, image_size=[8, 8]), tmp_path / "BestModel_AE.pth")
    with pytest.raises(CheckpointError, match="not all finite"):
        load_checkpoint(tmp_path, "AE")


def test_a_damaged_pytorch_file_is_refused(tmp_path):
    path = tmp_path / "BestModel_AE.pth"
    save_checkpoint(make(name="AE", model=Autoencoder(5, (8, 8)), image_size=[8, 8]), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a usable checkpoint"):
            load_checkpoint(tmp_path, "AE")
