"""Best models on disk: saved without losing what was there, loaded without trusting what is there.

A checkpoint is a dict: the model, what is needed to rebuild it, and where it came from.

    name          MLPAE, AE, VAE, VAE_calibrated, GAN or DDPM
    model         a BaseGraph, or a PyTorch model (in the file: its state_dict)
    encoding_dim  the size of the latent vector
    image_size    [width, height] in pixels
    data          root of the photos, and fingerprint of those it was trained on
    epoch, train_loss, valid_loss
    settings      the flags of the training script

Part 2's file, models/BestModel_MLPAE.pkl, is a pickle that ``pickle.load`` opens in any Python that can import
``autograd`` and NumPy, and a checksum after its end. A pickle from a stranger can run anything, though, so that
``load_checkpoint`` only looks at what it asks for (pickles.py), and makes the nodes itself. The files of
PyTorch's models are opened with ``weights_only=True``, once the zip archives that they are have been checked.
"""

import hashlib
import io
import math
import pickle
import reprlib
import textwrap
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from Diffusion import Diffusion
from files import write_whole
from GAN import GAN
from pickles import NUMPY, array_of, origin_of, read_pickle
from VarAutoencoder import CalibratedVAE, VarAutoencoder

PYTORCH_MODELS = {model.name: model for model in (Autoencoder, VarAutoencoder, CalibratedVAE, GAN, Diffusion)}


class CheckpointError(OSError):
    """A file that is no checkpoint, or not the one that is needed."""


def checkpoint_path(model_dir: str | Path, name: str) -> Path:
    """Where the best model of this name lies."""
    return Path(model_dir, f"BestModel_{name}.{'pth' if name in PYTORCH_MODELS else 'pkl'}")


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Writes the checkpoint whole or not at all: whatever goes wrong, ``path`` holds the old one or the new one."""
    if checkpoint["name"] in PYTORCH_MODELS:
        save_values(checkpoint | {"model": checkpoint["model"].state_dict()}, path)
    else:
        # Protocol 4 writes an array in one form in every version of NumPy, the one that ``array_of`` reads.
        content = pickle.dumps(checkpoint, protocol=4)
        write_whole(path, content + _checksum(content))


def save_values(values: dict[str, Any], path: str | Path) -> None:
    """Writes plain values and tensors whole or not at all, in PyTorch's format."""
    content = io.BytesIO()
    torch.save(values, content)
    write_whole(path, content.getbuffer())


def load_checkpoint(model_dir: str | Path, name: str) -> dict[str, Any]:
    """The checkpoint of the best model of this name, the model ready to use; nothing in the file can have run.

    Raises:
        FileNotFoundError: there is none; says how to make one.
        CheckpointError: it is damaged or of another model, or its parts do not fit each other.
    """
    path = checkpoint_path(model_dir, name)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint; train the model first, or give its folder")
    try:
        if name in PYTORCH_MODELS:
            checkpoint = load_values(path)
            _check(checkpoint, name)
            checkpoint["model"] = _rebuild(checkpoint)
        else:
            checkpoint = _unpickle(path)
            _check(checkpoint, name)
            checkpoint["model"] = _rebuild_graph(checkpoint)
    except Exception as error:  # a damaged file can raise anything at all
        reason = textwrap.shorten(str(error), 300)
        raise CheckpointError(f"{path}: not a usable checkpoint ({reason}); train the model again") from None
    return checkpoint


def load_values(path: str | Path) -> Any:
    """What ``save_values`` wrote; raises anything at all where the file is damaged, but nothing in it can have run."""
    content = _read(path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        _expect(stored, "it is compressed, which ours never are")
        _expect(sum(part.file_size for part in parts) <= len(content), "its parts are larger than the whole")
        damaged = archive.testzip()
        _expect(damaged is None, f"the checksum of {damaged!r} in it does not fit")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _read(path: str | Path) -> bytes:
    _expect(Path(path).is_file(), "it is no file")
    return Path(path).read_bytes()


def _expect(true: bool, message: str) -> None:
    if not true:
        raise CheckpointError(message)


# What a checkpoint must be, whatever the model


_PARTS = {"name", "model", "encoding_dim", "image_size", "data", "epoch", "train_loss", "valid_loss", "settings"}


def _check(checkpoint: Any, name: str) -> None:
    """Raises where the parts of any checkpoint are not what they should be."""
    _expect(type(checkpoint) is dict, f"found a {type(checkpoint).__name__}, expected a dict")
    missing = _PARTS - checkpoint.keys()
    _expect(not missing, f"it lacks {', '.join(sorted(missing))}")
    # reprlib, because a small file can describe a value whose whole text would fill any memory.
    _expect(checkpoint["name"] == name, f"it holds the model {reprlib.repr(checkpoint['name'])}, expected {name}")
    sides = checkpoint["image_size"]
    fits = type(sides) is list and len(sides) == 2 and all(_is_number(side, 1, 2**16) for side in sides)
    _expect(fits, f"its image size is {reprlib.repr(sides)}, expected [width, height]")
    _expect(_is_number(checkpoint["encoding_dim"], 1, 2**32), "its encoding_dim is no whole number")
    root, fingerprint = checkpoint["data"]["root"], checkpoint["data"]["fingerprint"]
    _expect(type(root) is str, "its data root is no text")
    _expect(not any(unicodedata.category(char) == "Cc" for char in root), "its data root holds control characters")
    _expect(type(fingerprint) is str, "its fingerprint of the photos is no text")
    _expect(_is_number(checkpoint["epoch"], 1, 2**32), "its epoch is no whole number")
    losses = checkpoint["train_loss"], checkpoint["valid_loss"]
    _expect(all(type(loss) is float and math.isfinite(loss) for loss in losses), "its losses are no finite numbers")
    _expect(_is_number(checkpoint["settings"]["split_seed"], 0, 2**32), "its split seed is no whole number")


def _is_number(value: Any, lowest: int, limit: int) -> bool:
    return type(value) is int and lowest <= value < limit


# PyTorch's models


def _rebuild(checkpoint: dict[str, Any]) -> nn.Module:
    """The PyTorch model with its weights; raises where they do not fit it or are not finite."""
    with torch.device("meta"):  # takes no memory, whatever size the file asks for
        model = PYTORCH_MODELS[checkpoint["name"]](checkpoint["encoding_dim"], checkpoint["image_size"])
    weights, expected = checkpoint["model"], model.state_dict()
    _expect(weights.keys() == expected.keys(), "its weights are not those of the model")
    for name, weight in weights.items():
        plain = type(weight) is torch.Tensor and weight.layout == torch.strided and weight.dtype == expected[name].dtype
        # An expanded tensor shows one number many times over: any size, for no bytes.
        whole = plain and weight.device.type == "cpu" and weight.nbytes <= weight.untyped_storage().nbytes()
        _expect(whole, f"its weights are not all whole tensors of {expected[name].dtype}")
    _expect(all(torch.isfinite(weight).all() for weight in weights.values()), "its weights are not all finite numbers")
    model.load_state_dict(weights, assign=True)
    return model


# Graphs of autograd


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _unpickle(path: str | Path) -> Any:
    content = _read(path)
    content, checksum = content[:-64], content[-64:]
    _expect(_checksum(content) == checksum, "the checksum at its end is missing or does not fit")
    return read_pickle(content, NUMPY | {_GRAPH} | _NODES.keys())


_GRAPH = ("autograd.BaseGraph", "BaseGraph")
_NODES = {("autograd.Nodes", node.__name__): node for node in (Linear, ReLU, Sigmoid)}


def _rebuild_graph(checkpoint: dict[str, Any]) -> BaseGraph:
    """The BaseGraph, of real nodes; raises where one is not as autograd makes it, or does not fit the image size."""
    graph = checkpoint["model"]
    fits = origin_of(graph) == _GRAPH and graph.state.keys() == {"nodes"} and type(graph.state["nodes"]) is list
    _expect(fits, "its model is no BaseGraph")
    width = 3 * math.prod(checkpoint["image_size"])
    rows = width
    nodes = []
    for node in graph.state["nodes"]:
        kind = type(node).__name__
        _expect(origin_of(node) in _NODES, f"its model holds a {kind}")
        fits = node.state.keys() == {"params", "saved", "grads"} and type(node.state["params"]) is list
        _expect(fits, "a node is not as autograd makes it")
        params = [array_of(param) for param in node.state["params"]]
        _expect(all(np.isfinite(param).all() for param in params), "its weights are not all finite numbers")
        shapes = [param.shape for param in params]
        if kind == "Linear":
            columns = shapes[-1][0]
            _expect(shapes == [(rows, columns), (columns,)], f"a Linear has {shapes}, expected {rows} inputs")
            rows = columns
        else:
            _expect(not shapes, f"a {kind} has parameters")
        nodes.append(_NODES[node.origin].of(*params))
    _expect(rows == width, f"its model gives {rows} numbers, an image of its size has {width}")
    return BaseGraph(nodes)
