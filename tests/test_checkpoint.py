import hashlib
import io
import itertools
import math
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, unix
from hypothesis import given, settings
from hypothesis import strategies as st

from Autoencoder import Autoencoder
from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from Diffusion import Diffusion
from GAN import GAN
from lab.checkpoint import (
    CheckpointError,
    checkpoint_path,
    load_checkpoint,
    load_values,
    new_model,
    save_checkpoint,
    save_values,
)
from lab.errors import UserError
from lab.mlp_autoencoder import MLPAutoencoder
from VarAutoencoder import VarAutoencoder


def make(**changes):
    """What is in a file: a checkpoint whose model is a BaseGraph."""
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


def save(path, **changes):
    """Saves a checkpoint, and gives it back."""
    parts = make(**changes)
    checkpoint = parts | {"model": MLPAutoencoder(parts["model"], 5, (2, 2))}
    save_checkpoint(checkpoint, path)
    return checkpoint


def whole():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "BestModel_MLPAE.pkl")
        save(path)
        return path.read_bytes()


WHOLE = whole()


def refusal(content, tmp_path, checksum=True):
    """The message that refuses a pickle, which has the right checksum at its end unless told otherwise."""
    path = tmp_path / "BestModel_MLPAE.pkl"
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode() * checksum)
    with pytest.raises(CheckpointError, match="not a usable checkpoint") as error:
        load_checkpoint(tmp_path, "MLPAE")
    return str(error.value)


def test_a_model_comes_back_as_it_was(tmp_path):
    saved = save(tmp_path / "BestModel_MLPAE.pkl")
    x = np.random.default_rng(1).random((3, 12), np.float32)
    expected = saved["model"].graph.forward(x)
    loaded = load_checkpoint(tmp_path, "MLPAE")
    graph = loaded["model"].graph
    np.testing.assert_array_equal(graph.forward(x), expected)
    assert {name: part for name, part in loaded.items() if name != "model"} == {
        name: part for name, part in saved.items() if name != "model"
    }
    graph.backward(np.ones_like(expected))
    graph.optimstep(0.1)  # what was loaded can be trained further
    assert [file.name for file in tmp_path.iterdir()] == ["BestModel_MLPAE.pkl"]


def test_plain_pickle_opens_it(tmp_path):
    save(tmp_path / "BestModel_MLPAE.pkl")
    assert (tmp_path / "BestModel_MLPAE.pkl").read_bytes()[:2] == b"\x80\x04"  # of any version of NumPy
    code = f"import pickle; print(len(pickle.load(open({str(tmp_path / 'BestModel_MLPAE.pkl')!r}, 'rb'))['model']))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "4\n"


def test_what_lies_on_disk_does_not_follow_further_training(tmp_path):
    first = save(tmp_path / "BestModel_MLPAE.pkl")["model"].graph[0]
    before = first.params[0].copy()
    first.params[0] += 1
    np.testing.assert_array_equal(load_checkpoint(tmp_path, "MLPAE")["model"].graph[0].params[0], before)


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(step, name, tmp_path, monkeypatch):
    path = checkpoint_path(tmp_path, name)
    model = MLPAutoencoder(make()["model"], 5, (2, 2)) if name == "MLPAE" else Autoencoder(5, (8, 8))
    parts = make(name=name, model=model, image_size=[2, 2] if name == "MLPAE" else [8, 8])
    save_checkpoint(parts | {"epoch": 1}, path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(UserError, match="disk full"):
        save_checkpoint(parts | {"epoch": 2}, path)
    assert load_checkpoint(tmp_path, name)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


# Part 2's graph as a PyTorch module


@pytest.fixture(scope="module")
def mlp():
    """An autoencoder of images of 3 x 2 pixels with two numbers in its middle, and its weights and biases."""
    rng = np.random.default_rng(0)
    sizes = [18, 7, 2, 6, 18]
    linears = [Linear(*shape, rng) for shape in itertools.pairwise(sizes)]
    for linear in linears:
        linear.params[1] += rng.standard_normal(linear.params[1].shape, np.float32)
    nodes = [node for linear in linears for node in (linear, ReLU())]
    graph = BaseGraph([*nodes[:3], *nodes[4:-1], Sigmoid()])
    return MLPAutoencoder(graph, 2, (3, 2)), [linear.params for linear in linears]


def layers_of(x, params, relus):
    for (weight, bias), relu in zip(params, relus, strict=True):
        x = x @ weight + bias
        x = np.maximum(x, 0) if relu else x
    return x


def test_the_mlp_as_a_module(mlp):
    model, params = mlp
    assert (model.name, model.encoding_dim, model.image_size) == ("MLPAE", 2, (3, 2))
    images = torch.rand(5, 3, 2, 3)
    output = 1 / (1 + np.exp(-layers_of(images.flatten(1).numpy(), params, [1, 0, 1, 0])))
    for found in model(images), model.reconstruct(images):
        assert found.shape == images.shape and found.dtype == torch.float32
        np.testing.assert_allclose(found.flatten(1), output, rtol=1e-4)
    torch.manual_seed(0)
    found = model.sample(4)
    torch.manual_seed(0)
    output = 1 / (1 + np.exp(-layers_of(torch.randn(4, 2).numpy(), params[2:], [1, 0])))
    assert found.shape == (4, 3, 2, 3)
    np.testing.assert_allclose(found.flatten(1), output, rtol=1e-4)
    np.testing.assert_array_equal(model.decoder.forward(np.ones((1, 2), np.float32)).shape, (1, 18))


def test_the_state_dict_of_the_mlp_is_its_graph(mlp):
    """It shares the memory of the graph's parameters, so that restoring it restores the graph, and PyTorch has none."""
    model, params = mlp
    state = model.state_dict()
    expected = [param for pair in params for param in pair]
    assert list(state) == [str(i) for i in range(8)] and not list(model.parameters())
    for value, param in zip(state.values(), expected, strict=True):
        assert value.numpy().base is param or np.shares_memory(value.numpy(), param)
    before = {name: value.clone() for name, value in state.items()}
    params[0][0][:] += 1
    assert torch.equal(model.state_dict()["0"], before["0"] + 1)
    model.load_state_dict(before)
    np.testing.assert_array_equal(params[0][0], before["0"])


# Untrusted files


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
    path = tmp_path / "BestModel_MLPAE.pkl"
    save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        assert "the checksum at its end" in refusal(whole[:length], tmp_path, checksum=False)
        refusal(whole[:length], tmp_path)
    for other in b"", b"hello", b"\x80", b"PK\x03\x04", b"." * 1000, bytes(1000):
        refusal(other, tmp_path, checksum=False)
        refusal(other, tmp_path)


def linear(weight, bias):
    node = Linear(1, 1)
    node.params = [weight, bias]
    return node


TUPLES = ()
for _ in range(200):
    TUPLES = TUPLES, TUPLES  # 2**200 of them, in a file of a few hundred bytes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_size": [3, 3]}, "a Linear has"),
        ({"image_size": "2x2"}, "its image size is"),
        ({"data": {"root": 1, "fingerprint": "0"}}, "its data root is no text"),
        ({"data": {"root": "flowers", "fingerprint": None}}, "its fingerprint of the photos is no text"),
        ({"data": {"root": "\x1b[2J", "fingerprint": "0"}}, "control characters"),
        ({"data": None}, "not a usable checkpoint"),
        ({"settings": {"split_seed": "0"}}, "its split seed is no whole number"),
        ({"settings": {"split_seed": 10**5000}}, "its split seed is no whole number"),
        ({"encoding_dim": True}, "its encoding_dim is no whole number"),
        ({"epoch": -1}, "its epoch is no whole number"),
        ({"valid_loss": float("nan")}, "its losses are no finite numbers"),
        ({"image_size": [TUPLES, 2]}, "it holds tuples in tuples without end"),
        ({"image_size": [((((2,),),),), 2]}, "its image size is [((("),
        ({"image_size": [2, 2, [[[[]]]]]}, "its image size is [2, 2, [[["),
        ({"model": BaseGraph([ReLU()] * 101)}, "its model has more than 100 nodes"),
        ({"name": ["MLPAE"] * 1000}, "it holds the model ['MLPAE', 'MLPAE', "),
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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_size": [0, 2]}, "its image size is [0, 2], expected [width, height]"),
        ({"image_size": [2, 0]}, "its image size is [2, 0]"),
        ({"image_size": [65536, 2]}, "its image size is [65536, 2]"),
        ({"image_size": [2, 65536]}, "its image size is [2, 65536]"),
        ({"image_size": [2, 2.0]}, "its image size is [2, 2.0]"),
        ({"image_size": [2, 2, 1]}, "its image size is [2, 2, 1]"),
        ({"image_size": [4]}, "its image size is [4]"),
        ({"image_size": (2, 2)}, "its image size is (2, 2)"),
        ({"image_size": [65535, 2]}, "a Linear has [(12, 5), (5,)], expected 393210 inputs"),
        ({"image_size": [2, 65535]}, "a Linear has [(12, 5), (5,)], expected 393210 inputs"),
        ({"encoding_dim": 0}, "its encoding_dim is no whole number"),
        ({"encoding_dim": 2**32}, "its encoding_dim is no whole number"),
        ({"encoding_dim": 5.0}, "its encoding_dim is no whole number"),
        ({"epoch": 0}, "its epoch is no whole number"),
        ({"epoch": 2**32}, "its epoch is no whole number"),
        ({"epoch": 3.0}, "its epoch is no whole number"),
        ({"train_loss": math.inf}, "its losses are no finite numbers"),
        ({"valid_loss": -math.inf}, "its losses are no finite numbers"),
        ({"train_loss": 1}, "its losses are no finite numbers"),
        ({"valid_loss": "0.2"}, "its losses are no finite numbers"),
        ({"settings": {"split_seed": -1}}, "its split seed is no whole number"),
        ({"settings": {"split_seed": 2**32}}, "its split seed is no whole number"),
        ({"settings": {"split_seed": False}}, "its split seed is no whole number"),
        ({"settings": {}}, "('split_seed')"),
        ({"data": {"root": "a\nb", "fingerprint": "0"}}, "its data root holds control characters"),
        ({"data": {"root": "a\x9bb", "fingerprint": "0"}}, "its data root holds control characters"),
        ({"data": {"root": "a"}}, "('fingerprint')"),
        ({"name": "AE"}, "it holds the model 'AE', expected MLPAE"),
    ],
)
def test_parts_beyond_their_limits_are_refused(changes, reason, tmp_path):
    reason = reason.replace("('", "").replace("')", "")
    assert reason in refusal(pickle.dumps(make(**changes), protocol=4), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 1, "settings": {"split_seed": 2**32 - 1, "lr": 8.0}},
        {"epoch": 2**32 - 1, "settings": {"split_seed": 0}},
        {"train_loss": -0.5, "valid_loss": 0.0},
        {"data": {"root": "D:/\u82b1 photos", "fingerprint": ""}, "more": [None]},
    ],
)
def test_parts_at_their_limits_are_taken(changes, tmp_path):
    saved = save(tmp_path / "BestModel_MLPAE.pkl", **changes)
    loaded = load_checkpoint(tmp_path, "MLPAE")
    assert loaded | {"model": None} == saved | {"model": None}


@pytest.mark.parametrize("size", [(65535, 1), (1, 65535)])
def test_the_smallest_latent_vector_and_the_longest_side(size, tmp_path):
    graph = BaseGraph([Linear(3 * 65535, 1), ReLU(), Linear(1, 3 * 65535), Sigmoid()])
    parts = make(encoding_dim=1, image_size=list(size))
    save_checkpoint(parts | {"model": MLPAutoencoder(graph, 1, size)}, tmp_path / "BestModel_MLPAE.pkl")
    model = load_checkpoint(tmp_path, "MLPAE")["model"]
    assert (model.encoding_dim, tuple(model.image_size)) == (1, size)


def test_what_is_missing_is_named(tmp_path):
    for name in make():
        parts = make()
        del parts[name]
        assert f"(it lacks {name})" in refusal(pickle.dumps(parts, protocol=4), tmp_path)
    parts = make()
    del parts["settings"], parts["epoch"]
    assert "(it lacks epoch, settings)" in refusal(pickle.dumps(parts, protocol=4), tmp_path)
    everything = "data, encoding_dim, epoch, image_size, model, name, settings, train_loss, valid_loss"
    assert f"(it lacks {everything})" in refusal(pickle.dumps({}), tmp_path)
    assert "found a list, expected a dict" in refusal(pickle.dumps([1], protocol=4), tmp_path)


class Parts:
    """An object whose pickle is that of a class of autograd, with these attributes."""

    def __init__(self, kind, **attributes):
        self.kind, self.attributes = kind, attributes

    def __reduce__(self):
        return self.kind, (), self.attributes


WEIGHT, BIAS_5 = np.ones((12, 5), np.float32), np.zeros(5, np.float32)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Parts(BaseGraph, nodes=[], more=1), "its model is no BaseGraph"),
        (Parts(BaseGraph, nodes=()), "its model is no BaseGraph"),
        (Parts(BaseGraph, node=[]), "its model is no BaseGraph"),
        (Parts(Linear, nodes=[]), "its model is no BaseGraph"),
        ([], "its model is no BaseGraph"),
        (BaseGraph([BaseGraph([])]), "its model holds a BaseGraph"),
        (BaseGraph([Parts(ReLU, params=[], saved=None)]), "a node is not as autograd makes it"),
        (BaseGraph([Parts(ReLU, params=[], saved=None, grads=[], more=1)]), "a node is not as autograd makes it"),
        (BaseGraph([Parts(ReLU, params=(), saved=None, grads=[])]), "a node is not as autograd makes it"),
        (BaseGraph([ReLU.of(BIAS_5)]), "a ReLU has parameters"),
        (BaseGraph([Sigmoid.of(BIAS_5)]), "a Sigmoid has parameters"),
        (BaseGraph([Linear.of(WEIGHT, BIAS_5[:4])]), "a Linear has [(12, 5), (4,)], expected 12 inputs"),
        (BaseGraph([Linear.of(WEIGHT.T, BIAS_5)]), "a Linear has [(5, 12), (5,)], expected 12 inputs"),
        (BaseGraph([Linear.of(BIAS_5, WEIGHT)]), "a Linear has [(5,), (12, 5)], expected 12 inputs"),
        (BaseGraph([Linear.of(WEIGHT, BIAS_5, BIAS_5)]), "a Linear has [(12, 5), (5,), (5,)], expected 12 inputs"),
        (BaseGraph([Linear.of(BIAS_5)]), "a Linear has [(5,)], expected 12 inputs"),
        (BaseGraph([Linear.of(WEIGHT, BIAS_5), Sigmoid()]), "its model gives 5 numbers, an image of its size has 12"),
        (BaseGraph([Linear.of(WEIGHT, BIAS_5 * np.nan)]), "its weights are not all finite numbers"),
        (BaseGraph([Linear.of(WEIGHT * np.inf, BIAS_5)]), "its weights are not all finite numbers"),
    ],
)
def test_graphs_that_autograd_would_not_make_are_refused(model, reason, tmp_path):
    assert f"({reason})" in refusal(pickle.dumps(make(model=model), protocol=4), tmp_path)


@pytest.mark.parametrize("length", [300, 301])
def test_reasons_are_shortened_to_300_characters(length, tmp_path):
    """The message has 41 characters around the name of a class, which is the pickle's own."""
    message = refusal(b"ca\n" + b"x" * (length - 41) + b"\n.", tmp_path)
    reason = message.removeprefix(f"{tmp_path / 'BestModel_MLPAE.pkl'}: not a usable checkpoint (")
    reason = reason.removesuffix("); train the model again")
    assert reason.startswith("it asks for") and reason.endswith("[...]") is (length > 300)
    assert len(reason) == 300 or length > 300 > len(reason)


def test_a_huge_array_that_is_only_declared_is_never_made(tmp_path):
    content = pickle.dumps(make(), protocol=4)
    shape = pickle.dumps((12, 5), protocol=4)[11:-2]  # the two numbers, without the frame around them
    assert content.count(shape) == 1
    refusal(content.replace(shape, pickle.dumps((250, 250), protocol=4)[11:-2]), tmp_path)


def test_flags_of_a_dtype_are_nobodys_business(tmp_path):
    """NumPy would take them over from the pickle, and then clean up after floats as if they were objects."""
    end_of_state = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    content = WHOLE[:-64]
    assert content.count(end_of_state + b"\0") == 1
    content = content.replace(end_of_state + b"\0", end_of_state + b"\xff")
    (tmp_path / "BestModel_MLPAE.pkl").write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    loaded = load_checkpoint(tmp_path, "MLPAE")["model"].graph[0].params[0]
    np.testing.assert_array_equal(loaded, make()["model"][0].params[0])
    assert loaded.dtype == np.dtype("float32") and loaded.dtype.flags == 0


# Programs for the machine that opens pickles, each a way to take the memory, or to change what the next model will be.
LINEAR, GRAPH, NDARRAY = b"cautograd.Nodes\nLinear\n", b"cautograd.BaseGraph\nBaseGraph\n", b"cnumpy\nndarray\n"
MAKE_ARRAY, DTYPE = b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n"
HOSTILE = {
    "a call of Linear(10**6, 10**6)": LINEAR + b"(I1000000\nI1000000\ntR.",
    "the same by INST": b"(I1000000\nI1000000\niautograd.Nodes\nLinear\n.",
    "the same by OBJ": b"(" + LINEAR + b"I1000000\nI1000000\no.",
    "a call of ndarray((10**6, 10**6))": NDARRAY + b"((I1000000\nI1000000\nttR.",
    "an empty array of great shape": MAKE_ARRAY + b"(" + NDARRAY + b"(I1000000\nI1000000\ntc__builtin__\nbytes\ntR.",
    "an array of objects": DTYPE + b"(S'O8'\nI0\nI1\ntR.",
    "an array of great elements": DTYPE + b"(S'S1000000000'\nI0\nI1\ntR.",
    "a place far up in the table": b"Nr\xff\xff\xff\x3f.",
    "the same in text": b"Np1000000000\n.",
    "a string of 2**62 bytes": b"\x8e" + (2**62).to_bytes(8, "little") + b".",
    "a text of 2**31 bytes": b"X\xff\xff\xff\x7f.",
    "a frame of 2**62 bytes": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.",
    "a number of 2**31 bytes": b"\x8b\xff\xff\xff\x7f.",
    "a number of 10,000 digits": b"L" + b"9" * 10_000 + b"L\n.",
    "a million steps": b"N0" * 500_000 + b"N.",
    "tuples in tuples, 2**200 in all": b")" + b"2\x86" * 200 + b".",
    "these as the key of a dict": b"})" + b"2\x86" * 200 + b"Ns.",
    "these as the key of one of several": b"}(K\x01N)" + b"2\x86" * 200 + b"Nu.",
    "these as the key of an object": GRAPH + b")\x81)" + b"2\x86" * 200 + b"Ns.",
    "these by the table": b")q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"}h\x00Ns.",
    "these by the table of protocol 4": b")\x94"
    + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(200))
    + b"}h\xc8Ns.",
    "these in a set": b"\x8f()" + b"2\x86" * 200 + b"\x90.",
    "these in a frozenset": b"()" + b"2\x86" * 200 + b"\x91.",
    "these by threes": b"})" + b"22\x87" * 120 + b"Ns.",
    "these by marks": b")q\x00" + b"(h\x00h\x00tq\x00" * 200 + b"}h\x00Ns.",
    "these in the call of a class": GRAPH + b")" + b"2\x86" * 200 + b"R.",
    "tuples in tuples, five thousand deep": b"})" + b"\x85" * 5_000 + b"Ns.",
    "keys of one hash": b"}("
    + b"".join(b"\x8a\x0b" + (k * (2**61 - 1)).to_bytes(11, "little") + b"N" for k in range(1, 4_000))
    + b"u.",
    "five thousand lists in each other": b"]" * 5_000 + b"a" * 4_999 + b".",
    "a node that has itself for a part": LINEAR + b")\x81q\x00}(S'params'\nh\x00S'saved'\nNS'grads'\n]ub.",
    "a new method for Linear": LINEAR + b"N}S'forward'\nNs\x86b.",
    "a new method for BaseGraph": GRAPH + b"N}S'forward'\n" + LINEAR + b"s\x86b.",
    "new defaults for the maker of arrays": MAKE_ARRAY + b"N}S'__defaults__'\n(tss\x86b.",
    "a persistent object": b"Pos.system\n.",
    "an extension": b"\x82\x01.",
    "the getattr chain": b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'true'\ntR.",
    "a dotted name": b"\x80\x04\x8c\x0eautograd.Nodes\x8c\x15np.lib.os.system.extra\x93.",
    "another name of the module": b"\x80\x04\x8c\x08autograd\x8c\x06Linear\x93.",
    "no end": b"N",
    "nothing to end with": b".",
    "a dict for a model": b"}.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name, tmp_path):
    before = [vars(node).copy() for node in (Linear, ReLU, Sigmoid, BaseGraph)]
    refusal(HOSTILE[name], tmp_path)
    refusal(HOSTILE[name], tmp_path, checksum=False)
    assert [vars(node) for node in (Linear, ReLU, Sigmoid, BaseGraph)] == before
    save(tmp_path / "BestModel_MLPAE.pkl")
    assert type(load_checkpoint(tmp_path, "MLPAE")["model"].graph[0]) is Linear  # and the next file is read as ever


def test_hostile_files_take_no_memory(tmp_path):
    """All hostile pickles once more, in a process that may take 1 GB more than it has."""
    names = []
    for i, content in enumerate(HOSTILE.values()):
        (tmp_path / str(i)).mkdir()
        checksum = hashlib.sha256(content).hexdigest().encode()
        (tmp_path / str(i) / "BestModel_MLPAE.pkl").write_bytes(content + checksum)
        names.append(str(tmp_path / str(i)))
    code = """
import re, sys
from pathlib import Path
from lab.checkpoint import CheckpointError, load_checkpoint

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
for folder in sys.argv[1:]:
    try:
        load_checkpoint(folder, "MLPAE")
    except CheckpointError:
        print(folder)
print(peak() - before)
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads the peak of the memory as Linux gives it")
    found = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    *refused, kilobytes = found.stdout.split()
    assert refused == names
    assert int(kilobytes) < 50_000


def with_flipped_bits(content, data):
    content = bytearray(content)
    for bit in data.draw(st.sets(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=5)):
        content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


@given(st.data())
@settings(max_examples=300)
def test_no_flipped_bits_go_unnoticed(data):
    content = with_flipped_bits(WHOLE, data)
    with tempfile.TemporaryDirectory() as folder:
        refusal(content, Path(folder), checksum=False)


@given(st.data())
@settings(max_examples=300)
def test_damage_under_a_right_checksum_gives_an_error_or_a_whole_model(data):
    content = bytearray(WHOLE[:-64])
    for place in data.draw(st.sets(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "BestModel_MLPAE.pkl")
        path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
        try:
            model = load_checkpoint(folder, "MLPAE")["model"]
        except CheckpointError:
            return
    assert all(np.isfinite(param).all() for node in model.graph for param in node.params)
    with np.errstate(over="ignore", invalid="ignore"):  # a weight may be finite, and its product with another not
        assert model.graph.forward(np.ones((1, 12), np.float32)).shape == (1, 12)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_noise_is_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        refusal(content, Path(folder))


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint; train the model first"):
        load_checkpoint(tmp_path, "MLPAE")


# PyTorch's models


@pytest.mark.parametrize(
    ("name", "kind", "encoding_dim"),
    [
        ("AE", Autoencoder, 7),
        ("VAE", VarAutoencoder, 5),
        ("VAE_calibrated", VarAutoencoder, 6),
        ("GAN", GAN, 4),
        ("DDPM", Diffusion, 3 * 8 * 12),
    ],
)
def test_every_model_is_made_and_saved_by_its_name(name, kind, encoding_dim, tmp_path):
    torch.manual_seed(1)
    model = new_model(name, encoding_dim, (8, 12), kinds=3)
    assert type(model) is kind and model.name == name
    path = checkpoint_path(tmp_path, name)
    assert path == tmp_path / f"BestModel_{name}.pth"
    data = {"root": "flowers", "fingerprint": "0", "kinds": {"iris": 3, "lily": 0, "rose": 4}}
    save_checkpoint(make(name=name, model=model, encoding_dim=encoding_dim, image_size=[8, 12], data=data), path)
    loaded = load_checkpoint(tmp_path, name)
    assert type(loaded["model"]) is kind and (loaded["model"].name, loaded["model"].encoding_dim) == (
        name,
        encoding_dim,
    )
    weights = loaded["model"].state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[part], weight) for part, weight in model.state_dict().items())
    trained = {part: weight.requires_grad for part, weight in loaded["model"].named_parameters()}
    assert trained == {part: not part.startswith("early.") for part in trained}
    assert loaded["model"].sample(2).shape == (2, 3, 12, 8)


def test_the_checkpoint_of_part_2_is_a_pickle(tmp_path):
    assert checkpoint_path(tmp_path, "MLPAE") == tmp_path / "BestModel_MLPAE.pkl"


@pytest.mark.parametrize("model", [Autoencoder(7, (12, 8)), VarAutoencoder(5, (8, 12))])
def test_a_pytorch_model_is_rebuilt_without_flags(model, tmp_path):
    model.to(memory_format=torch.channels_last)  # as in training
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
        ({"image_size": [400_000, 400_000]}, "its image size is"),
        ({"image_size": [40_000, 40_000]}, "size mismatch"),
        ({"encoding_dim": 2**32 - 1}, "size mismatch"),
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


def pytorch_parts(**weights):
    torch.manual_seed(0)
    model = Autoencoder(5, (8, 8))
    return make(name="AE", model=model.state_dict() | weights, image_size=[8, 8])


def pytorch_refusal(content, tmp_path):
    path = tmp_path / "BestModel_AE.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a usable checkpoint") as error:
        load_checkpoint(tmp_path, "AE")
    return str(error.value)


def saved(values):
    content = io.BytesIO()
    torch.save(values, content)
    return content.getvalue()


def repacked(content, compression=zipfile.ZIP_STORED, **parts):
    """The archive again, with some of its parts changed, and right checksums."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", compression) as new:
        for name in old.namelist():
            changed = [part for ending, part in parts.items() if name.endswith("/" + ending.replace("_", "/"))]
            new.writestr(name, changed[0] if changed else old.read(name))
    return result.getvalue()


BIAS = "decoder.0.bias"
PYTORCH_PARTS = pytorch_parts()
PYTORCH_WHOLE = saved(PYTORCH_PARTS)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (lambda: torch.zeros(1).expand(512), "its weights are not all whole tensors of torch.float32"),
        (lambda: torch.zeros(1).expand(10**6, 10**6), "its weights are not all whole tensors of torch.float32"),
        (lambda: torch.zeros(512, dtype=torch.float64), "its weights are not all whole tensors of torch.float32"),
        (lambda: torch.zeros(512, dtype=torch.int64), "its weights are not all whole tensors of torch.float32"),
        (lambda: torch.zeros(512).to_sparse(), "its weights are not all whole tensors of torch.float32"),
        (
            lambda: torch.zeros(1, dtype=torch.bfloat16).expand(10**12),
            "its weights are not all whole tensors of torch.float32",
        ),
        (lambda: torch.zeros(512, device="meta"), "its weights are not all whole tensors of torch.float32"),
        (
            lambda: torch.quantize_per_tensor(torch.zeros(512), 1, 0, torch.qint8),
            "its weights are not all whole tensors of torch.float32",
        ),
        (lambda: torch.zeros(511), "size mismatch"),
        (lambda: torch.full((512,), math.inf), "finite"),
        (lambda: [0.0] * 512, "not a usable checkpoint"),
        (lambda: None, "not a usable checkpoint"),
    ],
)
def test_hostile_tensors(weight, reason, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, on kinds of tensors that it wants to see the end of
        assert reason in pytorch_refusal(saved(pytorch_parts(**{BIAS: weight()})), tmp_path)


def test_a_tensor_may_be_a_part_of_a_larger_one(tmp_path):
    weight = torch.cat([PYTORCH_PARTS["model"][BIAS], torch.zeros(100)])[:512]
    (tmp_path / "BestModel_AE.pth").write_bytes(saved(pytorch_parts(**{BIAS: weight})))
    assert torch.equal(load_checkpoint(tmp_path, "AE")["model"].state_dict()[BIAS], weight)


def test_weights_from_a_gpu_are_loaded_on_the_cpu(tmp_path):
    with zipfile.ZipFile(io.BytesIO(PYTORCH_WHOLE)) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    cpu, gpu = (b"X" + len(place).to_bytes(4, "little") + place for place in (b"cpu", b"cuda:0"))
    assert cpu in pickled
    content = repacked(PYTORCH_WHOLE, **{"data.pkl": pickled.replace(cpu, gpu)})
    (tmp_path / "BestModel_AE.pth").write_bytes(content)
    weights = load_checkpoint(tmp_path, "AE")["model"].state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in PYTORCH_PARTS["model"].items())
    assert {weight.device.type for weight in weights.values()} == {"cpu"}


def test_archives_whose_parts_are_not_what_they_should_be(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", b"1" * 1000)
        archive.filelist.append(archive.filelist[0])  # the same part twice, in one place
    assert "(its parts are larger than the whole)" in pytorch_refusal(file.getvalue(), tmp_path)
    weight = PYTORCH_PARTS["model"][BIAS].numpy().tobytes()
    assert PYTORCH_WHOLE.count(weight) == 1
    damaged = PYTORCH_WHOLE.replace(weight, weight[:-1] + b"?")
    assert "(the checksum of 'archive/data/" in pytorch_refusal(damaged, tmp_path)
    compressed = repacked(PYTORCH_WHOLE, zipfile.ZIP_DEFLATED)
    assert "(it is compressed, which checkpoints never are)" in pytorch_refusal(compressed, tmp_path)


def test_values_come_back(tmp_path):
    values = {"epoch": 3, "losses": [0.5, None], "order": torch.arange(3, dtype=torch.uint8), "name": "AE"}
    save_values(values, tmp_path / "state")
    found = load_values(tmp_path / "state")
    assert torch.equal(found.pop("order"), values.pop("order")) and found == values
    with pytest.raises(CheckpointError, match="it is no file"):
        load_values(tmp_path)


def test_the_same_checks_for_pytorch_models(tmp_path):
    for name in PYTORCH_PARTS:
        parts = {part: value for part, value in PYTORCH_PARTS.items() if part != name}
        assert f"(it lacks {name})" in pytorch_refusal(saved(parts), tmp_path)
    weights = PYTORCH_PARTS["model"]
    fewer = {name: weight for name, weight in weights.items() if name != BIAS}
    for others in fewer, weights | {"more": torch.zeros(1)}, {}:
        assert "(its weights are not those of the model)" in pytorch_refusal(
            saved(PYTORCH_PARTS | {"model": others}), tmp_path
        )


def test_hostile_archives(tmp_path):
    good = saved(pytorch_parts())
    (tmp_path / "BestModel_AE.pth").write_bytes(repacked(good))
    load_checkpoint(tmp_path, "AE")  # the way of packing is not what is refused below
    bomb = repacked(good, zipfile.ZIP_DEFLATED, data_0=bytes(10**8))
    assert len(bomb) < 10**6 and "it is compressed" in pytorch_refusal(bomb, tmp_path)
    for content in (
        repacked(good, data_0=b"1234"),  # less than the tensor is said to have
        repacked(good, **{"data.pkl": b"cos\nsystem\n(S'true'\ntR."}),
        repacked(good, **{"data.pkl": pickle.dumps(pytorch_parts(), protocol=2)}),
        repacked(good, **{"data.pkl": b"\x80\x02Nr\xff\xff\xff\x3f."}),
        repacked(good, byteorder=b"middle"),
        saved(pytorch_parts() | {"model": {}}),
        saved(pytorch_parts() | {"model": pytorch_parts()["model"] | {"more": torch.zeros(1)}}),
        saved([1]),
        saved(Autoencoder(5, (8, 8)).state_dict()),
        pickle.dumps(pytorch_parts()),
        WHOLE,
        b"",
        b"hello",
        b"PK\x05\x06" + bytes(18),  # an archive with nothing in it
    ):
        pytorch_refusal(content, tmp_path)


@given(st.data())
@settings(max_examples=150)
def test_no_flipped_bits_go_unnoticed_in_a_pytorch_file(data):
    content = with_flipped_bits(PYTORCH_WHOLE, data)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "BestModel_AE.pth").write_bytes(content)
        try:
            model = load_checkpoint(folder, "AE")["model"]
        except CheckpointError:
            return
        for name, weight in PYTORCH_PARTS["model"].items():  # the damage was between the parts of the archive
            assert torch.equal(model.state_dict()[name], weight)


def test_parts_of_generative_models_that_do_not_fit(tmp_path):
    data = {"root": "flowers", "fingerprint": "0", "kinds": {"rose": 7}}

    def refusal(model, /, **parts):
        content = saved(make(name=model.name, model=model.state_dict(), image_size=[8, 8], data=data) | parts)
        (tmp_path / f"BestModel_{model.name}.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a usable checkpoint") as error:
            load_checkpoint(tmp_path, model.name)
        return str(error.value)

    assert "found an encoding_dim of 64, expected 192" in refusal(Diffusion(image_size=(8, 8)), encoding_dim=64)
    gan = GAN(5, (8, 8))
    assert "size mismatch" in refusal(gan, encoding_dim=6)
    weights = gan.state_dict()
    counter, mean = "generator.2.num_batches_tracked", "generator.2.running_mean"
    not_whole = {counter: torch.tensor(1.0), mean: torch.zeros(192, dtype=torch.int64)}
    for (name, value), dtype in zip(not_whole.items(), ("int64", "float32"), strict=True):
        assert f"not all whole tensors of torch.{dtype})" in refusal(gan, encoding_dim=5, model=weights | {name: value})
    assert "not those of the model" in refusal(gan, encoding_dim=5, model=dict(list(weights.items())[1:]))

    for kinds, reason in (
        (None, "it is of an earlier version, which did not learn with the kinds of flower"),
        (["rose"], "its kinds of flower are no dict of names"),
        ({3: 7}, "its kinds of flower are no names of folders with numbers"),
        ({"../rose": 7}, "its kinds of flower are no names of folders with numbers"),
        ({"ro\nse": 7}, "its kinds of flower are no names of folders with numbers"),
        ({"rose": -7}, "its kinds of flower are no names of folders with numbers"),
        ({"rose": 7.5}, "its kinds of flower are no names of folders with numbers"),
        ({"rose": 0}, "its kinds of flower have no photos"),
        ({}, "its kinds of flower have no photos"),
        ({"rose": 7, "tulip": 3}, "size mismatch"),
    ):
        assert reason in refusal(gan, encoding_dim=5, data=data | {"kinds": kinds})
    del data["kinds"]
    assert "it is of an earlier version" in refusal(gan, encoding_dim=5)


@unix
def test_checkpoints_that_are_no_files(tmp_path):
    (tmp_path / "BestModel_AE.pth").mkdir()
    os.mkfifo(tmp_path / "BestModel_MLPAE.pkl")
    for name in "AE", "MLPAE":
        with pytest.raises(CheckpointError, match="it is no file"):
            load_checkpoint(tmp_path, name)


# Archives of PyTorch that are more than plain tensors


def torchscript():
    """A model saved with its code."""

    class Adds(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch wants to see the end of it
        torch.jit.save(torch.jit.script(Adds()), content)
    return content.getvalue()


def with_part(name, part=b"", content=None):
    """The archive with one more part."""
    result = io.BytesIO(PYTORCH_WHOLE if content is None else content)
    with zipfile.ZipFile(result, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, on a second part of one name
        archive.writestr(name, part)
    return result.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "archive/code/__torch__.py",
        "archive/constants.pkl",
        "archive/code/x.debug_pkl",
        "data.pkl",
        "archive/extra/data.pkl",
    ],
)
def test_archives_that_hold_more_than_tensors(name, tmp_path):
    assert f"it holds {name!r}, which no checkpoint needs" in pytorch_refusal(with_part(name), tmp_path)


def test_torchscript_is_refused_however_it_is_packed(tmp_path):
    """PyTorch before 2.6 executed such an archive in spite of weights_only=True, if it was packed anew."""
    assert "it is compressed" in pytorch_refusal(torchscript(), tmp_path)
    assert "which no checkpoint needs" in pytorch_refusal(repacked(torchscript()), tmp_path)


def test_two_parts_of_one_name(tmp_path):
    content = with_part("archive/data.pkl", pickle.dumps(Calls(os.system, "true"), 2))
    assert "it holds two parts of one name" in pytorch_refusal(content, tmp_path)


def test_hash_bombs_in_an_archive(tmp_path):
    bomb = b"})" + b"2\x86" * 200 + b"Ns."
    for start in b"", b"\x80\x02":
        content = repacked(PYTORCH_WHOLE, **{"data.pkl": start + bomb})
        assert "tuples in tuples without end" in pytorch_refusal(content, tmp_path)


@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cu121", "2.9.1", "1.13.1"])
def test_versions_of_pytorch_with_known_holes_are_not_used(version, tmp_path, monkeypatch):
    (tmp_path / "BestModel_AE.pth").write_bytes(PYTORCH_WHOLE)
    monkeypatch.setattr(torch, "__version__", version)
    words = (
        f"found PyTorch {version}, which a file can make execute code, expected 2.10 or later; "
        "pip install -r requirements.txt"
    )
    for load in lambda: load_checkpoint(tmp_path, "AE"), lambda: load_values(tmp_path / "BestModel_AE.pth"):
        with pytest.raises(UserError) as raised:
            load()
        assert str(raised.value) == words
    save(tmp_path / "BestModel_MLPAE.pkl")
    load_checkpoint(tmp_path, "MLPAE")  # by no part of PyTorch


@pytest.mark.parametrize("version", ["2.10.0", "2.14.1+cpu", "3.0.0a0"])
def test_versions_of_pytorch_without_known_holes(version, tmp_path, monkeypatch):
    (tmp_path / "BestModel_AE.pth").write_bytes(PYTORCH_WHOLE)
    monkeypatch.setattr(torch, "__version__", version)
    load_checkpoint(tmp_path, "AE")


def test_weights_are_stored_contiguous_and_loaded_as_in_training(tmp_path):
    model = Autoencoder(5, (8, 8)).to(memory_format=torch.channels_last)
    assert not model.encoder[0].weight.is_contiguous()
    save_checkpoint(make(name="AE", model=model, image_size=[8, 8]), tmp_path / "BestModel_AE.pth")
    weights = torch.load(tmp_path / "BestModel_AE.pth")["model"]
    assert all(weight.view(-1).numel() == weight.numel() for weight in weights.values())
    Autoencoder(5, (8, 8)).load_state_dict(weights)
    loaded = load_checkpoint(tmp_path, "AE")["model"]
    assert loaded.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)
