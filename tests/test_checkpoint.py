"""Checkpoints are loaded as they were saved, and files from elsewhere run no code."""

import hashlib
import io
import itertools
import math
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import saved_model, unix

from autograd import BaseGraph, Linear, ReLU, Sigmoid
from lab.checkpoint import CheckpointError, checkpoint_path, load_checkpoint, save_checkpoint
from lab.mlp_autoencoder import MLPAutoencoder
from lab.models import new_model


def make(name="MLPAE", **changes):
    """A checkpoint as it is in a file: the model is a BaseGraph of images of 2 x 2 pixels, or weights of 8 x 8."""
    if name == "MLPAE":
        rng = np.random.default_rng(0)
        model, size = BaseGraph([Linear(12, 5, rng), ReLU(), Linear(5, 12, rng), Sigmoid()]), [2, 2]
    else:
        torch.manual_seed(0)
        model, size = new_model(name, None if name == "DDPM" else 5, (8, 8), classes=2).state_dict(), [8, 8]
    data = {"root": "flowers", "fingerprint": "0", "classes": {"rose": 700, "tulip": 0}}
    parts = {"name": name, "model": model, "encoding_dim": 5, "image_size": size, "data": data, "epoch": 3}
    return parts | {"train_loss": 0.2, "valid_loss": 0.1, "settings": {"split_seed": 7}} | changes


def content_of(checkpoint, name):
    """The bytes of a file, with the right checksum if it is a pickle."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return with_checksum(pickle.dumps(checkpoint, protocol=4)) if name == "MLPAE" else content.getvalue()


def with_checksum(content):
    return content + hashlib.sha256(content).hexdigest().encode()


def expect_refusal(content, tmp_path, name="MLPAE"):
    """Fails unless the file is refused in one short line that names it."""
    path = checkpoint_path(tmp_path, name)
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path, name)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400 + len(str(path))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_mlp_is_loaded_as_it_was_saved(dtype, order, tmp_path):
    graph = BaseGraph([Linear(18, 5), ReLU(), Linear(5, 18), Sigmoid()])
    graph[2].params = [np.array(param, dtype, order=order) for param in graph[2].params]
    saved = make(image_size=[2, 3], model=MLPAutoencoder(graph, 5, [2, 3]))
    path = checkpoint_path(tmp_path, "MLPAE")
    save_checkpoint(saved, path)
    assert list(tmp_path.iterdir()) == [path] and path.name == "BestModel_MLPAE.pkl"
    unused = path.read_bytes()
    x = np.random.default_rng(1).random((300, 18), np.float32)
    expected = graph.forward(x)
    save_checkpoint(saved, path)
    assert path.read_bytes() == unused  # without the last batch
    np.testing.assert_array_equal(pickle.loads(unused)["model"].forward(x), expected)
    assert b"lab." not in unused  # plain Python needs autograd and NumPy alone
    graph[0].params[0] += 1  # further training does not change the file
    loaded = load_checkpoint(tmp_path, "MLPAE")
    model = loaded["model"]
    np.testing.assert_array_equal(model.graph.forward(x), expected)
    assert (model.encoding_dim, model.image_size, model.training) == (5, [2, 3], False)
    assert loaded | {"model": None} == saved | {"model": None}
    assert model(torch.rand(3, 3, 3, 2)).dtype == torch.float32
    model.graph.backward(np.ones_like(expected[:3]))
    model.graph.optimstep(0.1)  # what was loaded can be trained


@pytest.mark.parametrize(
    ("name", "encoding_dim"), [("AE", 7), ("VAE", 5), ("VAE_calibrated", 6), ("GAN", 4), ("DDPM", 3 * 8 * 12)]
)
def test_pytorch_models_are_loaded_as_they_were_saved(name, encoding_dim, tmp_path):
    torch.manual_seed(1)
    model = new_model(name, encoding_dim, (8, 12), classes=3).to(memory_format=torch.channels_last)
    path = checkpoint_path(tmp_path, name)
    assert path == tmp_path / f"BestModel_{name}.pth"
    data = {"root": "flowers", "fingerprint": "0", "classes": {"iris": 3, "lily": 0, "rose": 4}}
    saved = make(name) | {"model": model, "encoding_dim": encoding_dim, "image_size": [8, 12], "data": data}
    save_checkpoint(saved, path)

    weights = torch.load(path)["model"]  # as in docs/; and what people try with them
    assert all(weight.view(-1).numel() == weight.numel() for weight in weights.values())
    expected = {part: weight.clone() for part, weight in model.state_dict().items()}
    if name == "DDPM":  # in half precision
        expected = {part: weight.half() for part, weight in expected.items()}
    assert all(weight.dtype == expected[part].dtype for part, weight in weights.items())
    for weight in model.parameters():
        weight.data += 1  # further training does not change the file

    torch.set_default_dtype(torch.float64)  # as a notebook may
    try:
        loaded = load_checkpoint(tmp_path, name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert loaded | {"model": None} == saved | {"model": None}
    again = loaded["model"]
    assert (type(again), again.name, again.encoding_dim, again.training) == (type(model), name, encoding_dim, False)
    for found in weights, again.state_dict():
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[part].float(), weight.float()) for part, weight in expected.items())
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    convolutions = [weight for weight in again.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)


def test_models_trained_on_a_gpu_are_loaded_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    content = content_of(make("AE"), "AE")
    assert b"cuda:0" in content
    checkpoint_path(tmp_path, "AE").write_bytes(content)
    weights = load_checkpoint(tmp_path, "AE")["model"].state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in make("AE")["model"].items())


ODD = ["back\\slash", "tab\tand\nline break\r", 255 * "x", "🌷 花", "-rf", "$HOME", "%s%d{}", "\udcff\udc80", "a'b\"c"]


@unix
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_folders_of_odd_names_stay_in_a_checkpoint(odd, few_photos, tmp_path):
    root = few_photos.rename(tmp_path / odd)
    (root / "rose").rename(root / odd)
    for name in "MLPAE", "GAN":
        saved_model(name, root, tmp_path / "models")
        data = load_checkpoint(tmp_path / "models", name)["data"]
        assert data["root"] == str(root) and set(data["classes"]) == {odd, "tulip"}


@pytest.mark.parametrize("name", ["MLPAE", "AE", "GAN"])
def test_damaged_files_are_refused(name, tmp_path):
    path, whole = checkpoint_path(tmp_path, name), content_of(make(name), name)
    path.write_bytes(whole)
    load_checkpoint(tmp_path, name)
    for length in range(0, len(whole), len(whole) // 5):
        expect_refusal(whole[:length], tmp_path, name)
    middle = len(whole) // 2  # in the weights
    expect_refusal(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], tmp_path, name)
    path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        load_checkpoint(tmp_path, name)


def graph(*linears):
    """A graph of Linears with these parameters."""
    graph = BaseGraph(Linear(1, 1) for _ in linears)
    for node, params in zip(graph, linears, strict=True):
        node.params = list(params)
    return {"model": graph}


WEIGHT, BIAS = np.ones((12, 5), np.float32), np.zeros(5, np.float32)
BACK = np.ones((5, 12), np.float32), np.zeros(12, np.float32)


def changed(name, weight):
    """The weights of an AE with one of them changed, or without it if None."""
    weights = make("AE")["model"] | {name: weight}
    return {"model": {name: weight for name, weight in weights.items() if weight is not None}}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *[("MLPAE", {"image_size": size}) for size in ([2, 0], [2, 2, 1], [2**16, 2], [3, 3], None)],
        *[("MLPAE", {part: value}) for part, value in (("valid_loss", math.nan), ("data", None), ("model", None))],
        *[("MLPAE", graph((WEIGHT, BIAS), *others)) for others in ([], [(WEIGHT, BIAS)])],
        *[("MLPAE", graph((WEIGHT * x, BIAS), BACK)) for x in (np.inf, np.nan)],
        *[("MLPAE", graph((WEIGHT.astype(kind), BIAS), BACK)) for kind in (int, object)],
        *[("MLPAE", graph((WEIGHT, bias), BACK)) for bias in (BIAS[:4], np.ones((9, 1), np.float32))],
        *[("AE", {part: value}) for part, value in (("name", "VAE"), ("encoding_dim", 6), ("image_size", [10, 8]))],
        *[("AE", changed("decoder.0.bias", torch.full((n,), x))) for n, x in ((511, 0), (512, math.inf))],
        *[("AE", changed("decoder.0.bias", weight)) for weight in ([0.0] * 512, None)],
        *[("AE", changed("more", torch.zeros(1))), ("AE", {"model": None})],
        *[("MLPAE", {"name": "AE"}), ("VAE", {"name": "VAE_calibrated"}), ("GAN", {"valid_loss": math.inf})],
        *[("DDPM", {"image_size": [side, side], "encoding_dim": size}) for side, size in ((8, 64), (2**14, 3 * 2**28))],
        *[("GAN", {"data": {"classes": {name: 7, "tulip": 1}}}) for name in ("../rose", "a/b", "/")],
        ("GAN", {"data": {"classes": {"rose": 7, "tulip": 1, "iris": 1}}}),  # its weights are for two
    ],
)
def test_what_does_not_fit_is_refused(name, changes, tmp_path):
    expect_refusal(content_of(make(name) | changes, name), tmp_path, name)


class Calls:
    """A pickle of this calls a function when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "a program": lambda trap: pickle.dumps(make(settings=Calls(os.system, f"touch {trap}"))),
    "a chain of attributes": lambda trap: (
        b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch %b'\ntR." % trap.encode()
    ),
    "a dotted name": lambda _: b"\x80\x04\x8c\x0eautograd.Nodes\x8c\x0enp.os.system.x\x93.",
    "what autograd.Nodes imports": lambda _: b"cautograd.Nodes\nBaseNode\n)\x81.",
    "a class of NumPy": lambda _: pickle.dumps(make(settings=np.random.default_rng(0)), protocol=4),
    "bytes as addresses of objects": lambda _: pickle.dumps(make(), protocol=4).replace(b"\x8c\x02f4", b"\x8c\x02O8"),
    "a huge array": lambda _: b"cnumpy\nndarray\n((I1000000\nI1000000\nttR.",
    "a new method for Linear": lambda _: b"cautograd.Nodes\nLinear\nN}S'forward'\nNs\x86b.",
    "new defaults for NumPy": lambda _: b"cnumpy._core.multiarray\n_reconstruct\nN}S'__defaults__'\n(tss\x86b.",
    "a persistent object": lambda _: b"Pos.system\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_execute_and_change_nothing(name, tmp_path):
    trap = tmp_path / "trap"
    classes = Linear, ReLU, Sigmoid, BaseGraph
    before = [vars(each).copy() for each in classes]
    expect_refusal(with_checksum(HOSTILE[name](str(trap))), tmp_path)
    assert not trap.exists() and [vars(each) for each in classes] == before


def test_hostile_archives_execute_nothing(tmp_path):
    class Adds(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torchscript, trap = io.BytesIO(), tmp_path / "trap"
    hostile = make("AE", settings=Calls(os.system, f"touch {trap}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch wants to see the end of it
        torch.jit.save(torch.jit.script(Adds()), torchscript)
        module = content_of(new_model("AE", 5, (8, 8), 0), "AE")
        for content in torchscript.getvalue(), module, content_of(hostile, "AE"), pickle.dumps(hostile):
            expect_refusal(content, tmp_path, "AE")
    assert not trap.exists()


def test_the_mlp_as_a_module():
    """Of images of 3 x 2 pixels, with two numbers in its middle."""
    rng = np.random.default_rng(0)
    linears = [Linear(*sizes, rng) for sizes in itertools.pairwise([18, 7, 2, 6, 18])]
    for linear in linears:
        linear.params[1] += rng.standard_normal(linear.params[1].shape, np.float32)
    *before, _ = (node for linear in linears for node in (linear, ReLU()))
    model, params = MLPAutoencoder(BaseGraph([*before, Sigmoid()]), 2, (3, 2)), [linear.params for linear in linears]
    assert all(map(np.array_equal, itertools.chain(*params), model.state_dict().values()))

    def through(x, *numbers):
        for i in numbers:
            x = x @ params[i][0] + params[i][1]
            x = 1 / (1 + np.exp(-x)) if i == 3 else np.maximum(x, 0)
        return torch.from_numpy(x)

    images = torch.rand(5, 3, 2, 3)
    flat = images.flatten(1).numpy()
    torch.testing.assert_close(model.encoder(images), through(flat, 0, 1))
    for found in model(images), model.reconstruct(images):
        torch.testing.assert_close(found, through(flat, 0, 1, 2, 3).view(5, 3, 2, 3))
    torch.manual_seed(0)
    found = model.sample(4)
    torch.manual_seed(0)
    latent = torch.randn(4, 2)
    for pictures in found, model.decoder(latent):
        torch.testing.assert_close(pictures, through(latent.numpy(), 2, 3).view(4, 3, 2, 3))
