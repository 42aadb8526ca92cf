"""Checkpoints of the best models: written atomically, and loaded as untrusted files.

A checkpoint is a dict: the model, what is needed to rebuild it, and where it came from.

    name          MLPAE, AE, VAE, VAE_calibrated, GAN or DDPM
    model         an MLPAutoencoder (in the file: its BaseGraph), or a PyTorch model (in the file: its state_dict,
                  of DDPM in half precision)
    encoding_dim  the size of the latent vector
    image_size    [width, height] in pixels
    data          root of the photos, a fingerprint of those it was trained on and validated on, and the number of
                  training photos of each class (without it in some files of earlier versions)
    epoch         of the best model, and its losses: train_loss and valid_loss, or those of the GAN's two networks
    settings      the flags of the training script

Part 2's file, models/BestModel_MLPAE.pkl, is a pickle that ``pickle.load`` opens in any Python that can import
``autograd`` and NumPy, followed by a checksum. Unpickling an untrusted file can execute anything, so
``load_checkpoint`` constructs none of its objects: it records them, and makes new nodes by the classes in
autograd/Nodes.py. The files of PyTorch's models are loaded with ``weights_only=True``.
"""

import hashlib
import importlib
import io
import math
import os
import pickle
import textwrap
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autograd import BaseGraph, BaseNode, Nodes
from lab.defaults import BY_CLASS
from lab.errors import UserError
from lab.files import atomic_write
from lab.mlp_autoencoder import MLPAutoencoder

# The module and the class of each PyTorch model: imported when needed, so that a mistake in one does not stop Part 2.
PYTORCH_MODELS = {
    "AE": ("Autoencoder", "Autoencoder"),
    "VAE": ("VarAutoencoder", "VarAutoencoder"),
    "VAE_calibrated": ("VarAutoencoder", "VarAutoencoder"),
    "GAN": ("generative.GAN", "GAN"),
    "DDPM": ("generative.Diffusion", "Diffusion"),
}


class CheckpointError(UserError):
    """A file that is not a checkpoint, or not of the model that is needed."""


def new_model(name: str, encoding_dim: int | None, image_size: Sequence[int], classes: int) -> Any:
    """A PyTorch model with initial weights; the number of classes is for the models in ``BY_CLASS``."""
    module, class_name = PYTORCH_MODELS[name]
    options = {"classes": classes} if name in BY_CLASS else {}
    model = getattr(importlib.import_module(module), class_name)(encoding_dim, image_size, **options)
    model.name = name
    return model


def checkpoint_path(model_dir: str | Path, name: str) -> Path:
    """The path of the best model of this name."""
    return Path(model_dir, f"BestModel_{name}.{'pth' if name in PYTORCH_MODELS else 'pkl'}")


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Writes the checkpoint atomically: whatever goes wrong, ``path`` holds the old one or the new one, whole."""
    if checkpoint["name"] in PYTORCH_MODELS:
        # Contiguous, since ``weight.view(-1)`` is what people try; the models' own memory format is channels_last.
        weights = {name: weight.contiguous() for name, weight in checkpoint["model"].state_dict().items()}
        if checkpoint["name"] == "DDPM":  # two networks; in half precision, pixels change by at most 0.002
            weights = {name: weight.half() for name, weight in weights.items()}
        save_values(checkpoint | {"model": weights}, path)
    else:
        # With protocol 4, all versions of NumPy write arrays in the same form, which ``_array`` reads.
        graph = BaseGraph.__new__(BaseGraph)
        graph.nodes = list(checkpoint["model"].graph)  # and nothing else that a student's graph may keep
        content = pickle.dumps(checkpoint | {"model": graph}, protocol=4)
        with atomic_write(path) as file:
            file.write(content + _checksum(content))


def save_values(values: dict[str, Any], path: str | Path) -> None:
    """Writes plain values and tensors atomically, in PyTorch's format."""
    with atomic_write(path) as file:
        torch.save(values, file)


def load_checkpoint(model_dir: str | Path, name: str) -> dict[str, Any]:
    """The checkpoint of the best model of this name, with the model rebuilt, in evaluation mode.

    Nothing in the file is executed.

    Raises:
        CheckpointError: there is none; or it is damaged, of another model, or inconsistent.
    """
    path = checkpoint_path(model_dir, name)
    if not os.path.exists(path):
        raise CheckpointError(f"{path.absolute()}: no such checkpoint; train the model first, or give its folder")
    try:
        return checkpoint_in(path.read_bytes(), name)
    except Exception as error:  # a damaged file can raise any exception
        reason = textwrap.shorten(str(error) or type(error).__name__, 300)
        raise CheckpointError(f"{path}: not a usable checkpoint ({reason}); train the model again") from None


def checkpoint_in(content: bytes, name: str) -> dict[str, Any]:
    """``load_checkpoint`` of the content of a file; one that is damaged raises any exception."""
    checkpoint = values_in(content) if name in PYTORCH_MODELS else _unpickle(content)
    _check(checkpoint, name)
    checkpoint["model"] = _rebuild(checkpoint) if name in PYTORCH_MODELS else _rebuild_graph(checkpoint)
    checkpoint["model"].eval()
    return checkpoint


def values_in(content: bytes) -> Any:
    """The values in a file of ``save_values``; nothing in it is executed, but a damaged one raises any exception."""
    # Earlier versions can be made to execute code in spite of weights_only=True: CVE-2025-32434, CVE-2026-24747.
    safe = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 10)
    _expect(safe, f"found PyTorch {torch.__version__}, expected 2.10 or later: pip install -r requirements.txt")
    if zipfile.is_zipfile(io.BytesIO(content)):
        damaged = zipfile.ZipFile(io.BytesIO(content)).testzip()  # PyTorch compares no checksums
        _expect(damaged is None, f"the checksum of {damaged!r} in it does not fit")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _expect(true: bool, message: str) -> None:
    if not true:
        raise CheckpointError(message)


def _check(checkpoint: Any, name: str) -> None:
    """Raises an exception if a part is missing or wrong, whatever the model."""
    losses = ["discriminator_loss", "generator_loss"] if name == "GAN" else ["train_loss", "valid_loss"]
    parts = {"name", "model", "encoding_dim", "image_size", "data", "epoch", "settings", *losses}
    _expect(type(checkpoint) is dict, f"found a {type(checkpoint).__name__}, expected a dict")
    missing = parts - checkpoint.keys()
    _expect(not missing, f"it lacks {', '.join(sorted(missing))}")
    _expect(checkpoint["name"] == name, f"it holds the model {checkpoint['name']!r:.40}, expected {name}")
    sides = checkpoint["image_size"]
    fits = type(sides) is list and len(sides) == 2 and all(_is_number(side, 1, 2**16) for side in sides)
    _expect(fits, f"its image size is {sides!r:.40}, expected [width, height]")
    _expect(_is_number(checkpoint["encoding_dim"], 1, 2**32), "its encoding_dim is no whole number")
    _expect(_is_number(checkpoint["epoch"], 1, 2**32), "its epoch is no whole number")
    finite = all(type(checkpoint[loss]) is float and math.isfinite(checkpoint[loss]) for loss in losses)
    _expect(finite, "its losses are no finite numbers")
    _expect(_is_number(checkpoint["settings"]["split_seed"], 0, 2**32), "its split seed is no whole number")
    data = checkpoint["data"]
    _expect(_is_plain(data["root"]) and _is_plain(data["fingerprint"]), "its data root or fingerprint is no plain text")
    classes = data.get("classes", {})
    plain = all(_is_plain(label) and "/" not in label and "\\" not in label for label in classes)
    counts = type(classes) is dict and all(_is_number(count, 0, 2**32) for count in classes.values())
    enough = sum(classes.values()) > 0 if name in BY_CLASS or classes else True
    _expect(plain and counts and enough, "its classes are no names of folders with numbers of photos")


def _is_number(value: Any, lowest: int, limit: int) -> bool:
    return type(value) is int and lowest <= value < limit


def _is_plain(text: Any) -> bool:
    return type(text) is str and not any(unicodedata.category(char) == "Cc" for char in text)


# PyTorch's models


def _rebuild(checkpoint: dict[str, Any]) -> nn.Module:
    """The PyTorch model with its weights; raises an exception if they do not fit it or are not finite."""
    classes = len(checkpoint["data"].get("classes", ()))
    with torch.device("meta"):  # takes no memory, whatever size the file asks for
        model = new_model(checkpoint["name"], checkpoint["encoding_dim"], checkpoint["image_size"], classes)
    weights, expected = checkpoint["model"], model.state_dict()
    _expect(weights.keys() == expected.keys(), "its weights are not those of the model")
    for name, weight in weights.items():
        # Not the default dtype, which a notebook may have set to float64.
        dtype = torch.float32 if expected[name].is_floating_point() else expected[name].dtype
        dtypes = {dtype, torch.float16} if dtype == torch.float32 else {dtype}
        plain = type(weight) is torch.Tensor and weight.layout == torch.strided and weight.dtype in dtypes
        # An expanded tensor repeats one number: any size, for a few bytes.
        whole = plain and weight.device.type == "cpu" and weight.nbytes <= weight.untyped_storage().nbytes()
        _expect(whole, f"its weights are not all whole tensors of {dtype}")
        weights[name] = weight.to(dtype)
    _expect(all(torch.isfinite(weight).all() for weight in weights.values()), "its weights are not all finite numbers")
    model.load_state_dict(weights, assign=True)
    return model.to(memory_format=torch.channels_last)


# Graphs of autograd


class _Recorded:
    """An object in a pickle: its arguments and its state are recorded, and it is not constructed."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


# What NumPy makes arrays with, in versions 1 and 2, and the graph. The nodes are those of autograd/Nodes.py.
ADMITTED = {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}
ADMITTED |= {("numpy", "ndarray"), ("numpy", "dtype"), ("autograd.BaseGraph", "BaseGraph")}


class _Unpickler(pickle.Unpickler):
    """Not even NumPy's own constructors are called: ``numpy.ndarray`` takes any bytes for addresses of objects."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in ADMITTED and not (module == Nodes.__name__ and _node_class(name)):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no node in autograd/Nodes.py")
        return type(name, (_Recorded,), {})


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _unpickle(content: bytes) -> Any:
    content, checksum = content[:-64], content[-64:]
    _expect(_checksum(content) == checksum, "the checksum at its end is missing or does not fit")
    return _Unpickler(io.BytesIO(content)).load()


def _node_class(name: str) -> type[BaseNode] | None:
    """The class of nodes of this name that is defined in autograd/Nodes.py, if there is one."""
    found = vars(Nodes).get(name)
    is_node = isinstance(found, type) and issubclass(found, BaseNode) and found.__module__ == Nodes.__name__
    return found if is_node else None


def _rebuild_graph(checkpoint: dict[str, Any]) -> MLPAutoencoder:
    """The model of Part 2, from new nodes; raises an exception if a node is wrong or does not fit the image size."""
    graph = checkpoint["model"]
    _expect(type(graph).__name__ == "BaseGraph", "its model is no BaseGraph")
    nodes: list[BaseNode] = []
    for recorded in graph.state["nodes"]:
        kind = type(recorded).__name__
        params = [_array(param) for param in recorded.state["params"]]
        finite = all(param.size and np.isfinite(param).all() for param in params)
        _expect(finite, "its weights are not all finite numbers")
        # A bias of many rows would make many examples of one, and large arrays of a small file.
        row = len(params) != 2 or params[1].shape[-1:] == (params[1].size,)
        _expect(row, f"the bias of a {kind} is no row of numbers")
        cls: Any = _node_class(kind)
        nodes.append(cls.__new__(cls))
        nodes[-1].__setstate__({"params": params})
    size = 3 * math.prod(checkpoint["image_size"])
    inputs = next((len(node.params[0]) for node in nodes if node.params), 0)
    _expect(inputs == size, f"its model takes {inputs} numbers, an image of its size has {size}")
    shape = BaseGraph(nodes).forward(np.zeros((1, size), np.float32)).shape
    _expect(shape == (1, size), f"its model gives {shape[-1]} numbers, an image of its size has {size}")
    return MLPAutoencoder(BaseGraph(nodes), checkpoint["encoding_dim"], checkpoint["image_size"])


def _array(recorded: Any) -> np.ndarray:
    """The array of float32 or float64 that was recorded; raises an exception if it is none."""
    _, shape, dtype, column_major, content = recorded.state
    kind = {"f4": "f4", "f8": "f8"}[dtype.arguments[0]]
    # The state of a dtype begins with its version and its byte order.
    array = np.frombuffer(content, np.dtype(dtype.state[1] + kind))
    return array.reshape(shape, order="F" if column_major else "C").astype(kind)
