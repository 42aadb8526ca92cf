import copy
import hashlib
import io
import itertools
import math
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch

from Autoencoder import Autoencoder
from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from generative.Diffusion import Diffusion
from generative.GAN import GAN
from lab.checkpoint import CheckpointError, checkpoint_path, load_checkpoint, new_model, save_checkpoint
from lab.errors import UserError
from lab.mlp_autoencoder import MLPAutoencoder
from VarAutoencoder import VarAutoencoder


def node(kind, *params):
    result = Linear(1, 1) if kind is Linear else kind()
    result.params = list(params)
    return result


def make(name="MLPAE", **changes):
    """A checkpoint as it is in a file: the model is a BaseGraph of images of 2 x 2 pixels, or weights of 8 x 8."""
    if name == "MLPAE":
        rng = np.random.default_rng(0)
        model, size = BaseGraph([Linear(12, 5, rng), ReLU(), Linear(5, 12, rng), Sigmoid()]), [2, 2]
    else:
        torch.manual_seed(0)
        model, size = new_model(name, 192 if name == "DDPM" else 5, (8, 8), classes=2).state_dict(), [8, 8]
    losses = ["discriminator_loss", "generator_loss"] if name == "GAN" else ["train_loss", "valid_loss"]
    parts = {
        "name": name,
        "model": model,
        "encoding_dim": 192 if name == "DDPM" else 5,
        "image_size": size,
        "data": {"root": "flowers", "fingerprint": "0", "classes": {"rose": 700, "tulip": 0}},
        "epoch": 3,
        **dict.fromkeys(losses, 0.1),
        "settings": {"split_seed": 7},
    }
    return parts | changes


def content_of(checkpoint, model_name):
    """The bytes of a file, with the right checksum if it is a pickle."""
    if model_name == "MLPAE":
        return with_checksum(pickle.dumps(checkpoint, protocol=4))
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()


def with_checksum(content):
    return content + hashlib.sha256(content).hexdigest().encode()


def refusal(content, tmp_path, name="MLPAE"):
    """The reason for which a file is refused; it is in one line."""
    path = checkpoint_path(tmp_path, name)
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path, name)
    message = str(error.value)
    assert message.startswith(f"{path}: not a usable checkpoint (") and message.endswith("); train the model again")
    assert "\n" not in message and len(message) < 400 + len(str(path))
    return message


@pytest.mark.parametrize(("side", "encoding_dim", "epoch", "split_seed"), [(2, 5, 3, 7), (1, 1, 1, 0)])
def test_the_mlp_is_loaded_as_it_was_saved(side, encoding_dim, epoch, split_seed, tmp_path):
    size = 3 * side * side
    graph = BaseGraph([Linear(size, encoding_dim), ReLU(), Linear(encoding_dim, size), Sigmoid()])
    column_major, bias = graph[2].params
    graph[2].params = [np.asfortranarray(column_major, np.float64), bias.astype(np.float64)]
    parts = {"encoding_dim": encoding_dim, "image_size": [side, side], "epoch": epoch}
    parts |= {"model": MLPAutoencoder(graph, encoding_dim, [side, side]), "settings": {"split_seed": split_seed}}
    saved = make(**parts)
    path = checkpoint_path(tmp_path, "MLPAE")
    save_checkpoint(saved, path)
    assert list(tmp_path.iterdir()) == [path] and path.name == "BestModel_MLPAE.pkl"
    x = np.random.default_rng(1).random((3, size), np.float32)
    expected = graph.forward(x)
    in_plain_python = pickle.loads(path.read_bytes())["model"]
    np.testing.assert_array_equal(in_plain_python.forward(x), expected)
    assert b"lab." not in path.read_bytes()  # it needs autograd and NumPy alone
    graph[0].params[0] += 1  # further training does not change the file
    loaded = load_checkpoint(tmp_path, "MLPAE")
    model = loaded["model"]
    np.testing.assert_array_equal(model.graph.forward(x), expected)
    assert (model.encoding_dim, model.image_size, model.training) == (encoding_dim, [side, side], False)
    assert loaded | {"model": None} == saved | {"model": None}
    model.graph.backward(np.ones_like(expected))
    model.graph.optimstep(0.1)  # what was loaded can be trained


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_damaged_files_are_refused(name, tmp_path):
    whole = content_of(make(name), name)
    for length in range(0, len(whole), len(whole) // 10):
        refusal(whole[:length], tmp_path, name)
    if name == "MLPAE":
        refusal(with_checksum(whole[: len(whole) // 2]), tmp_path)  # as of a file that was written like this
        assert "the checksum at its end is missing or does not fit" in refusal(
            whole.replace(b"flowers", b"flawers"), tmp_path
        )


WEIGHT, BIAS = np.ones((12, 5), np.float32), np.zeros(5, np.float32)
BACK = node(Linear, np.ones((5, 12), np.float32), np.zeros(12, np.float32))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_size": [2, 0]}, "its image size is [2, 0], expected [width, height]"),
        ({"image_size": [2, 2, 1]}, "its image size is"),
        ({"image_size": [2**16, 2]}, "its image size is"),
        ({"image_size": [3, 3]}, "its model takes 12 numbers, an image of its size has 27"),
        ({"encoding_dim": True}, "its encoding_dim is no whole number"),
        ({"encoding_dim": 0}, "its encoding_dim is no whole number"),
        ({"epoch": 0}, "its epoch is no whole number"),
        ({"epoch": 2**32}, "its epoch is no whole number"),
        ({"valid_loss": math.nan}, "its losses are no finite numbers"),
        ({"train_loss": "0.1"}, "its losses are no finite numbers"),
        ({"settings": {"split_seed": -1}}, "its split seed is no whole number"),
        ({"settings": {"split_seed": 2**32}}, "its split seed is no whole number"),
        ({"data": None}, ""),
        ({"data": {"root": "\x1b[2J", "fingerprint": "0"}}, "its data root or fingerprint is no plain text"),
        ({"data": {"root": "a", "fingerprint": 0}}, "its data root or fingerprint is no plain text"),
        ({"model": None}, "its model is no BaseGraph"),
        ([node(Linear, WEIGHT, BIAS), Sigmoid()], "its model gives 5 numbers, an image of its size has 12"),
        ([node(Linear, WEIGHT, BIAS), node(Linear, WEIGHT, BIAS)], "Linear expects x of shape (N, 12), found (1, 5)"),
        ([node(Linear, WEIGHT, BIAS[:4]), BACK], "broadcast"),
        ([node(Linear, WEIGHT, np.ones((9, 1), np.float32)), BACK], "the bias of a Linear is no row of numbers"),
        ([node(Linear, WEIGHT[:, :0], BIAS[:0]), BACK], "its weights are not all finite numbers"),
        ([Sigmoid()], "its model takes 0 numbers, an image of its size has 12"),
        ([node(Linear, WEIGHT * np.inf, BIAS), BACK], "its weights are not all finite numbers"),
        ([node(Linear, WEIGHT, BIAS * np.nan), BACK], "its weights are not all finite numbers"),
        ([node(Linear, np.array([None]), BIAS), BACK], ""),
        ([node(Linear, WEIGHT.astype(int), BIAS), BACK], ""),
        ([node(ReLU, BIAS)], "its model takes 5 numbers"),
        ([BaseGraph([])], ""),
    ],
)
def test_parts_that_are_wrong_are_named(changes, reason, tmp_path):
    changes = {"model": BaseGraph(changes)} if type(changes) is list else changes
    assert reason in refusal(content_of(make(**changes), "MLPAE"), tmp_path)


def test_what_is_missing_is_named(tmp_path):
    for name in "MLPAE", "GAN":
        parts = make(name)
        loss = "generator_loss" if name == "GAN" else "valid_loss"
        del parts["settings"], parts[loss]
        assert f"(it lacks {', '.join(sorted(['settings', loss]))})" in refusal(content_of(parts, name), tmp_path, name)
    assert "found a list, expected a dict" in refusal(content_of([1], "MLPAE"), tmp_path)


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
    "another class of autograd": lambda _: pickle.dumps(make(model=BaseGraph([MSE()])), protocol=4),
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
    before = [vars(some).copy() for some in classes]
    refusal(with_checksum(HOSTILE[name](str(trap))), tmp_path)
    assert not trap.exists() and [vars(some) for some in classes] == before


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
def test_pytorch_models_are_loaded_as_they_were_saved(name, kind, encoding_dim, tmp_path):
    torch.manual_seed(1)
    model = new_model(name, encoding_dim, (8, 12), classes=3).to(memory_format=torch.channels_last)
    path = checkpoint_path(tmp_path, name)
    assert path == tmp_path / f"BestModel_{name}.pth"
    data = {"root": "flowers", "fingerprint": "0", "classes": {"iris": 3, "lily": 0, "rose": 4}}
    saved = make(name) | {"model": model, "encoding_dim": encoding_dim, "image_size": [8, 12], "data": data}
    save_checkpoint(saved, path)

    # torch.load, as in docs/training.md; and what people try with the weights
    weights = torch.load(path)["model"]
    assert all(weight.view(-1).numel() == weight.numel() for weight in weights.values())
    expected = {part: weight.clone() for part, weight in model.state_dict().items()}
    for weight in model.parameters():
        weight.data += 1  # further training does not change the file

    loaded = load_checkpoint(tmp_path, name)
    assert loaded | {"model": None} == saved | {"model": None}
    again = loaded["model"]
    assert (type(again), again.name, again.encoding_dim, again.training) == (kind, name, encoding_dim, False)
    if name == "DDPM":  # in half precision
        expected = {part: weight.half() for part, weight in expected.items()}
    for found in weights, again.state_dict():
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[part], weight.to(found[part].dtype)) for part, weight in expected.items())
    assert all(weight.dtype == expected[part].dtype for part, weight in weights.items())
    torch.set_default_dtype(torch.float64)
    try:
        assert load_checkpoint(tmp_path, name)["model"].sample(2).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    convolutions = [weight for weight in again.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    assert again.sample(2).shape == (2, 3, 12, 8)


def test_half_precision_hardly_changes_pictures(tmp_path):
    torch.manual_seed(0)
    model = Diffusion(image_size=(8, 8), classes=2)
    for param in model.parameters():
        param.data += 0.05 * torch.randn_like(param)
    save_checkpoint(make("DDPM") | {"model": model}, checkpoint_path(tmp_path, "DDPM"))
    again = load_checkpoint(tmp_path, "DDPM")["model"]
    noise, labels = torch.randn(4, 192), torch.arange(4) % 2
    found, expected = (each.sample(4, labels, latent=noise) for each in (again, model))
    assert expected.std(dim=0).mean() > 0.1 and 0 < (found - expected).abs().max() < 0.02


def changed(**weights):
    """The checkpoint of an AE with some of its weights changed, or left out if None."""
    model = make("AE")["model"] | {name.replace("__", "."): weight for name, weight in weights.items()}
    return {"model": {name: weight for name, weight in model.items() if weight is not None}}


def classes(value):
    return {"data": {"root": "flowers", "fingerprint": "0", "classes": value}}


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("AE", {"name": "VAE"}, "it holds the model 'VAE', expected AE"),
        ("AE", {"encoding_dim": 6}, "size mismatch"),
        ("AE", {"image_size": [40_000, 40_000]}, "size mismatch"),
        ("AE", {"image_size": [10, 8]}, "expected multiples of 4"),
        ("AE", {"epoch": Calls(os.system, "true")}, ""),
        ("AE", changed(decoder__0__bias=torch.zeros(1).expand(512)), "not all whole tensors of torch.float32"),
        ("AE", changed(decoder__0__bias=torch.zeros(512).double()), "not all whole tensors of torch.float32"),
        ("AE", changed(decoder__0__bias=torch.zeros(511)), "size mismatch"),
        ("AE", changed(decoder__0__bias=torch.full((512,), math.inf)), "not all finite numbers"),
        ("AE", changed(decoder__0__bias=[0.0] * 512), "not all whole tensors"),
        ("AE", changed(decoder__0__bias=None), "its weights are not those of the model"),
        ("AE", changed(more=torch.zeros(1)), "its weights are not those of the model"),
        ("DDPM", {"encoding_dim": 64}, "found an encoding_dim of 64, expected 192"),
        ("GAN", {"generator_loss": math.inf}, "its losses are no finite numbers"),
        ("GAN", classes(["rose"]), ""),
        ("GAN", classes({"../rose": 7, "tulip": 1}), "its classes are no names of folders with numbers of photos"),
        ("GAN", classes({"rose": -1, "tulip": 8}), "its classes are no names"),
        ("GAN", classes({"rose": 0, "tulip": 0}), "its classes are no names"),
        ("GAN", classes({"rose": 7, "tulip": 3, "iris": 1}), "size mismatch"),
    ],
)
def test_pytorch_checkpoints_that_do_not_fit_are_refused(name, changes, reason, tmp_path):
    assert reason in refusal(content_of(make(name) | changes, name), tmp_path, name)


def repacked(content, old, new):
    """A file of PyTorch with some bytes of its pickle replaced, and the right checksums."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(result, "w") as other:
        for name in archive.namelist():
            part = archive.read(name)
            other.writestr(name, part.replace(old, new) if name.endswith("/data.pkl") else part)
    assert result.getvalue() != content
    return result.getvalue()


def test_hostile_archives_execute_nothing(tmp_path):
    class Adds(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torchscript = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch wants to see the end of it
        torch.jit.save(torch.jit.script(Adds()), torchscript)
        whole, trap = content_of(make("AE"), "AE"), tmp_path / "trap"
        program = b"cos\nsystem\n(S'touch %b'\ntR0" % str(trap).encode()
        for content in (
            torchscript.getvalue(),
            repacked(whole, b"\x80\x02", b"\x80\x02" + program),
            content_of(make("AE", settings=Calls(os.system, f"touch {trap}")), "AE"),
            pickle.dumps(make("AE", settings=Calls(os.system, f"touch {trap}"))),
            content_of(Autoencoder(5, (8, 8)), "AE"),
        ):
            refusal(content, tmp_path, "AE")
    assert not trap.exists()


def test_models_trained_on_a_gpu_are_loaded_on_the_cpu(tmp_path):
    cpu, gpu = (b"X" + len(place).to_bytes(4, "little") + place for place in (b"cpu", b"cuda:0"))
    (tmp_path / "BestModel_AE.pth").write_bytes(repacked(content_of(make("AE"), "AE"), cpu, gpu))
    weights = load_checkpoint(tmp_path, "AE")["model"].state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in make("AE")["model"].items())


# Part 2's graph as a PyTorch module


@pytest.fixture
def mlp():
    """An autoencoder of images of 3 x 2 pixels with two numbers in its middle, and its weights and biases."""
    rng = np.random.default_rng(0)
    linears = [Linear(*shape, rng) for shape in itertools.pairwise([18, 7, 2, 6, 18])]
    for node in linears:
        node.params[1] += rng.standard_normal(node.params[1].shape, np.float32)
    first, middle, third, last = linears
    graph = BaseGraph([first, ReLU(), middle, ReLU(), third, ReLU(), last, Sigmoid()])
    return MLPAutoencoder(graph, 2, (3, 2)), [node.params for node in linears]


def expected_of(x, params, relus):
    for (weight, bias), relu in zip(params, relus, strict=True):
        x = x @ weight + bias
        x = np.maximum(x, 0) if relu else x
    return 1 / (1 + np.exp(-x))


def test_the_mlp_as_a_module(mlp):
    model, params = mlp
    assert (model.name, model.encoding_dim, model.image_size) == ("MLPAE", 2, (3, 2))
    images = torch.rand(5, 3, 2, 3)
    expected = expected_of(images.flatten(1).numpy(), params, [1, 1, 1, 0])
    for found in model(images), model.reconstruct(images):
        assert found.shape == images.shape and found.dtype == torch.float32
        np.testing.assert_allclose(found.flatten(1), expected, rtol=1e-4)
    torch.manual_seed(0)
    found = model.sample(4)
    torch.manual_seed(0)
    latent = torch.randn(4, 2)
    expected = expected_of(latent.numpy(), params[2:], [1, 0])
    for pictures in found, model.decoder(latent):
        assert pictures.shape == (4, 3, 2, 3)
        np.testing.assert_allclose(pictures.flatten(1), expected, rtol=1e-4)
    with pytest.raises(UserError, match=r"found a latent vector of 2 .*, expected the encoding_dim, 3"):
        model.decoder(torch.randn(4, 3))


def test_the_state_dict_of_the_mlp_shares_the_memory_of_its_graph(mlp):
    """So that restoring it restores the graph."""
    model, params = mlp
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert list(before) == [str(i) for i in range(8)] and not list(model.parameters())
    for array, value in zip(itertools.chain(*params), before.values(), strict=True):
        np.testing.assert_array_equal(array, value)
        array += 1
    assert all(torch.equal(value, before[name] + 1) for name, value in model.state_dict().items())
    for other in before | {"7": before["0"]}, {"0": before["0"]}:
        with pytest.raises(ValueError, match="found parameters of shapes"):
            model.load_state_dict(other)
    model.load_state_dict(before)
    np.testing.assert_array_equal(params[3][1], before["7"])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_the_state_dict_of_the_mlp_is_that_of_the_moment(mlp, duplicate):
    """Also where the parameters have been replaced by others, and of a copy."""
    model, _ = mlp
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for node in model.graph:
        node.params = [np.asfortranarray(2 * param, np.float64) for param in node.params]
    twin, images = duplicate(model), torch.rand(2, 3, 2, 3)
    assert all(torch.equal(value, 2 * before[name].double()) for name, value in twin.state_dict().items())
    assert twin.graph[0].params[0].flags.f_contiguous and torch.equal(twin(images), model(images))
    assert twin(images).dtype == torch.float32
    twin.load_state_dict(before)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert not torch.equal(twin(images), model(images))


def test_a_changed_byte_in_the_weights_is_noticed(tmp_path):
    content = content_of(make("AE"), "AE")
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    assert "the checksum of" in refusal(changed, tmp_path, "AE")


def test_a_pytorch_that_a_file_can_make_execute_code_is_refused(tmp_path, monkeypatch):
    for version, safe in {"2.9.1": False, "2.10.0+cpu": True}.items():
        monkeypatch.setattr(torch, "__version__", version)
        if safe:
            checkpoint_path(tmp_path, "AE").write_bytes(content_of(make("AE"), "AE"))
            load_checkpoint(tmp_path, "AE")
        else:
            assert "pip install -r requirements.txt" in refusal(content_of(make("AE"), "AE"), tmp_path, "AE")
