"""Checkpoints of the best models: written atomically, and loaded as untrusted files.

A checkpoint is a dict: the model, what is needed to rebuild it, and where it came from.

    name          MLPAE, AE, VAE, VAE_calibrated, GAN or DDPM
    model         an MLPAutoencoder (in the file: its BaseGraph), or a PyTorch model (in the file: its state_dict)
    encoding_dim  the size of the latent vector
    image_size    [width, height] in pixels
    data          root of the photos, a fingerprint of those it was trained on and validated on, and the kinds of
                  flower, with the number of training photos of each; without the kinds in files of earlier versions
    epoch, train_loss, valid_loss
    settings      the flags of the training script

Part 2's file, models/BestModel_MLPAE.pkl, is a pickle that ``pickle.load`` opens in any Python that can import
``autograd`` and NumPy, followed by a checksum. Unpickling an untrusted file can execute anything, so
``load_checkpoint`` only inspects the pickle (untrusted_pickle.py), and constructs the nodes itself. The files of
PyTorch's models are zip archives: what is in them is checked, packed again, and loaded with ``weights_only=True``.
"""

import hashlib
import importlib
import io
import math
import os
import pickle
import re
import reprlib
import textwrap
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autograd import BaseGraph, Linear, ReLU, Sigmoid
from lab.defaults import BY_KIND
from lab.errors import UserError
from lab.files import atomic_write
from lab.mlp_autoencoder import MLPAutoencoder
from lab.untrusted_pickle import MOST_NODES, NUMPY, array_of, check_steps, origin_of, read_pickle

# The class of each PyTorch model, and the file it is in: imported when needed, since Part 2 needs none of them.
PYTORCH_MODELS = {"AE": "Autoencoder", "VAE": "VarAutoencoder", "GAN": "GAN", "DDPM": "Diffusion"}
PYTORCH_MODELS["VAE_calibrated"] = "VarAutoencoder"  # the same network, trained with another loss


# Earlier versions can be made to execute code by a file, or to write out of bounds, in spite of ``weights_only=True``:
# CVE-2025-32434 (before 2.6), CVE-2026-24747 (before 2.10).
SAFE_PYTORCH = (2, 10)

# What is in an archive by ``torch.save``. TorchScript's, which hold code, have other parts as well.
_ARCHIVE = re.compile(r"[^/]+/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|data/\d+)")
_ARCHIVE_ID = re.compile(r"[^/]+/\.data/serialization_id")

# Opcodes of the pickle in a file of PyTorch: a resumed training has a history, with some dozens for each epoch.
_MOST_STEPS = 1_000_000


class CheckpointError(UserError):
    """A file that is not a checkpoint, or not of the model that is needed."""


def new_model(name: str, encoding_dim: int | None, image_size: Sequence[int], kinds: int) -> Any:
    """A PyTorch model with initial weights, by the name that ``--model`` gives it; the number of kinds is for those in
    ``BY_KIND``."""
    class_name = PYTORCH_MODELS[name]
    options = {"kinds": kinds} if name in BY_KIND else {}
    model = getattr(importlib.import_module(class_name), class_name)(encoding_dim, image_size, **options)
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
        save_values(checkpoint | {"model": weights}, path)
    else:
        # With protocol 4, all versions of NumPy write arrays in the same form, which ``array_of`` reads.
        content = pickle.dumps(checkpoint | {"model": checkpoint["model"].graph}, protocol=4)
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
        UserError: the installed version of PyTorch is not safe to load it with.
    """
    path = checkpoint_path(model_dir, name)
    if not os.path.exists(path):
        raise CheckpointError(f"{path}: no such checkpoint; train the model first, or give its folder")
    if name in PYTORCH_MODELS:
        expect_safe_pytorch()
    try:
        return checkpoint_in(_read(path), name)
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


def load_values(path: str | Path) -> Any:
    """The values in a file of ``save_values``; nothing in it is executed, but a damaged one raises any exception."""
    return values_in(_read(path))


def values_in(content: bytes) -> Any:
    """``load_values`` of the content of a file."""
    expect_safe_pytorch()
    checked = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(checked, "w") as packed:
        parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        _expect(stored, "it is compressed, which checkpoints never are")
        _expect(sum(part.file_size for part in parts) <= len(content), "its parts are larger than the whole")
        damaged = archive.testzip()
        _expect(damaged is None, f"the checksum of {damaged!r} in it does not fit")
        names = [part.filename for part in parts]
        _expect(len(set(names)) == len(names), "it holds two parts of one name")
        for name in names:
            if not _ARCHIVE_ID.fullmatch(name):
                _expect(_ARCHIVE.fullmatch(name) is not None, f"it holds {name!r}, which no checkpoint needs")
                part = archive.read(name)
                if name.endswith("/data.pkl"):
                    check_steps(part, _MOST_STEPS)
                packed.writestr(name, part)
    # What is loaded is what was checked: PyTorch's own reader may find other parts in the same bytes.
    checked.seek(0)
    return torch.load(checked, map_location="cpu", weights_only=True)


def expect_safe_pytorch() -> None:
    """Raises a UserError if the installed version of PyTorch has known holes in loading untrusted files."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_PYTORCH:
        expected = "{}.{} or later".format(*SAFE_PYTORCH)
        found = f"found PyTorch {torch.__version__}, which a file can make execute code, expected {expected}"
        raise UserError(f"{found}; pip install -r requirements.txt")


def _read(path: str | Path) -> bytes:
    _expect(Path(path).is_file(), "it is no file")
    return Path(path).read_bytes()


def _expect(true: bool, message: str) -> None:
    if not true:
        raise CheckpointError(message)


# Checks for all models


PARTS_OF_A_CHECKPOINT = {"name", "model", "encoding_dim", "image_size", "data"}
PARTS_OF_A_CHECKPOINT |= {"epoch", "train_loss", "valid_loss", "settings"}


def _check(checkpoint: Any, name: str) -> None:
    """Raises a CheckpointError if a part is missing or wrong, whatever the model."""
    _expect(type(checkpoint) is dict, f"found a {type(checkpoint).__name__}, expected a dict")
    missing = PARTS_OF_A_CHECKPOINT - checkpoint.keys()
    _expect(not missing, f"it lacks {', '.join(sorted(missing))}")
    # reprlib, since a small file can describe a value whose full representation would exhaust the memory.
    _expect(checkpoint["name"] == name, f"it holds the model {reprlib.repr(checkpoint['name'])}, expected {name}")
    sides = checkpoint["image_size"]
    fits = type(sides) is list and len(sides) == 2 and all(_is_number(side, 1, 2**16) for side in sides)
    _expect(fits, f"its image size is {reprlib.repr(sides)}, expected [width, height]")
    _expect(_is_number(checkpoint["encoding_dim"], 1, 2**32), "its encoding_dim is no whole number")
    if "kinds" in checkpoint["data"] or name in BY_KIND:
        _check_kinds(checkpoint["data"].get("kinds"))
    root, fingerprint = checkpoint["data"]["root"], checkpoint["data"]["fingerprint"]
    _expect(type(root) is str, "its data root is no text")
    _expect(not any(unicodedata.category(char) == "Cc" for char in root), "its data root holds control characters")
    _expect(type(fingerprint) is str, "its fingerprint of the photos is no text")
    _expect(_is_number(checkpoint["epoch"], 1, 2**32), "its epoch is no whole number")
    losses = checkpoint["train_loss"], checkpoint["valid_loss"]
    _expect(all(type(loss) is float and math.isfinite(loss) for loss in losses), "its losses are no finite numbers")
    _expect(_is_number(checkpoint["settings"]["split_seed"], 0, 2**32), "its split seed is no whole number")


def _check_kinds(kinds: Any) -> None:
    _expect(kinds is not None, "it is of an earlier version, which did not learn with the kinds of flower")
    _expect(type(kinds) is dict and len(kinds) < 2**16, "its kinds of flower are no dict of names")
    for kind, number in kinds.items():
        plain = type(kind) is str and not any(unicodedata.category(char) == "Cc" or char in "/\\" for char in kind)
        _expect(plain and _is_number(number, 0, 2**32), "its kinds of flower are no names of folders with numbers")
    _expect(sum(kinds.values()) > 0, "its kinds of flower have no photos")


def _is_number(value: Any, lowest: int, limit: int) -> bool:
    return type(value) is int and lowest <= value < limit


# PyTorch's models


def _rebuild(checkpoint: dict[str, Any]) -> nn.Module:
    """The PyTorch model with its weights; raises an exception if they do not fit it or are not finite."""
    with torch.device("meta"):  # takes no memory, whatever size the file asks for
        model = new_model(
            checkpoint["name"],
            checkpoint["encoding_dim"],
            checkpoint["image_size"],
            len(checkpoint["data"].get("kinds", ())),
        )
    weights, expected = checkpoint["model"], model.state_dict()
    _expect(weights.keys() == expected.keys(), "its weights are not those of the model")
    for name, weight in weights.items():
        plain = type(weight) is torch.Tensor and weight.layout == torch.strided and weight.dtype == expected[name].dtype
        # An expanded tensor repeats one number: any size, for a few bytes.
        whole = plain and weight.device.type == "cpu" and weight.nbytes <= weight.untyped_storage().nbytes()
        _expect(whole, f"its weights are not all whole tensors of {expected[name].dtype}")
    _expect(all(torch.isfinite(weight).all() for weight in weights.values()), "its weights are not all finite numbers")
    model.load_state_dict(weights, assign=True)
    return model.to(memory_format=torch.channels_last)


# Graphs of autograd


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _unpickle(content: bytes) -> Any:
    content, checksum = content[:-64], content[-64:]
    _expect(_checksum(content) == checksum, "the checksum at its end is missing or does not fit")
    return read_pickle(content, NUMPY | {_GRAPH} | _NODES.keys())


_GRAPH = ("autograd.BaseGraph", "BaseGraph")
_NODES = {("autograd.Nodes", node.__name__): node for node in (Linear, ReLU, Sigmoid)}


def _rebuild_graph(checkpoint: dict[str, Any]) -> MLPAutoencoder:
    """The model of Part 2, from new nodes; raises an exception if a node is wrong or does not fit the image size."""
    graph = checkpoint["model"]
    fits = origin_of(graph) == _GRAPH and graph.state.keys() == {"nodes"} and type(graph.state["nodes"]) is list
    _expect(fits, "its model is no BaseGraph")
    _expect(len(graph.state["nodes"]) <= MOST_NODES, f"its model has more than {MOST_NODES} nodes")
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
    return MLPAutoencoder(BaseGraph(nodes), checkpoint["encoding_dim"], checkpoint["image_size"])
