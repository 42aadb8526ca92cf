"""Checkpoints of the best models: written atomically, and loaded as untrusted files.

A checkpoint is a dict: the model, what is needed to rebuild it, and where it came from.

    name, epoch, train_loss, valid_loss, encoding_dim, image_size ([width, height]), settings (the flags)
    model         an MLPAutoencoder (in the file: its BaseGraph), or a PyTorch model (in the file: its state_dict)
    data          the root of the photos, a fingerprint of them, and the number of training photos of each class

The files of PyTorch's models are loaded with ``weights_only=True``. Part 2's file is a pickle that ``pickle.load``
opens in any Python that can import ``autograd`` and NumPy, followed by a checksum. Unpickling an untrusted file can
execute anything, so ``load_checkpoint`` constructs none of its objects: it records them, and makes new nodes by the
classes in autograd/Nodes.py.
"""

import hashlib
import io
import math
import os
import pickle
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autograd import BaseGraph, BaseNode, Nodes
from lab.command_line import LARGEST_SIDE
from lab.errors import UserError
from lab.files import atomic_write
from lab.mlp_autoencoder import MLPAutoencoder
from lab.models import PYTORCH_MODELS, new_model

Checkpoint = dict[str, Any]  # as described above


class CheckpointError(UserError):
    """A file that is not a checkpoint, or not of the model that is needed."""


def checkpoint_path(model_dir: str | Path, name: str) -> Path:
    """The path of the best model of this name."""
    return Path(model_dir, f"BestModel_{name}.{'pth' if name in PYTORCH_MODELS else 'pkl'}")


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
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


def load_checkpoint(model_dir: str | Path, name: str) -> Checkpoint:
    """The checkpoint of the best model of this name, with the model rebuilt, in evaluation mode.

    Nothing in the file is executed.

    Raises:
        CheckpointError: there is none; or it is damaged, of another model, or inconsistent.
    """
    path = checkpoint_path(model_dir, name)
    if not os.path.exists(path):
        raise CheckpointError(f"{path.absolute()}: no such checkpoint; train the model first, or give its folder")
    try:
        checkpoint = values_in(path.read_bytes()) if name in PYTORCH_MODELS else _unpickle(path.read_bytes())
        _check(checkpoint, name)
        checkpoint["model"] = _rebuild(checkpoint) if name in PYTORCH_MODELS else _rebuild_graph(checkpoint)
    except Exception as error:  # a damaged file can raise any exception
        reason = textwrap.shorten(str(error) or type(error).__name__, 300)
        raise CheckpointError(f"{path}: not a usable checkpoint ({reason}); train the model again") from None
    checkpoint["model"].eval()
    return checkpoint


def values_in(content: bytes) -> Any:
    """The values in a file of ``save_values``; nothing in it is executed, but a damaged one raises any exception."""
    damaged = zipfile.ZipFile(io.BytesIO(content)).testzip()  # PyTorch compares no checksums
    _expect(damaged is None, f"the checksum of {damaged!r} in it does not fit")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _expect(true: bool, message: str) -> None:
    if not true:
        raise CheckpointError(message)


def _check(checkpoint: Checkpoint, name: str) -> None:
    """Raises an exception if the checkpoint is of another model, or not as a training writes it."""
    _expect(checkpoint["name"] == name, f"it holds the model {checkpoint['name']!r:.40}, expected {name}")
    width, height = checkpoint["image_size"]
    _expect(1 <= min(width, height) <= max(width, height) <= LARGEST_SIDE, "its image size is none of a training")
    numbers = [value for value in checkpoint.values() if isinstance(value, float)]
    _expect(all(map(math.isfinite, numbers)), "its losses are not all finite numbers")
    complete = {"root", "fingerprint"} <= checkpoint["data"].keys() and {"split_seed"} <= checkpoint["settings"].keys()
    _expect(complete and checkpoint["epoch"] > 0, "it does not say where it came from")
    # They become names of files.
    classes = checkpoint["data"].setdefault("classes", {})  # not in files of earlier versions
    plain = all(Path(name).name == name for name in classes)
    _expect(plain, "its classes are no names of folders")


def _rebuild(checkpoint: Checkpoint) -> nn.Module:
    """The PyTorch model with its weights; raises an exception if they do not fit it or are not finite."""
    classes = len(checkpoint["data"]["classes"])
    with torch.device("meta"):  # takes no memory, whatever size the file asks for
        model = new_model(checkpoint["name"], checkpoint["encoding_dim"], checkpoint["image_size"], classes)
    # float32, and not the default dtype, which a notebook may have set to float64.
    weights = {key: w.float() if w.is_floating_point() else w for key, w in checkpoint["model"].items()}
    _expect(all(weight.isfinite().all() for weight in weights.values()), "its weights are not all finite numbers")
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


def _rebuild_graph(checkpoint: Checkpoint) -> MLPAutoencoder:
    """The model of Part 2, from new nodes; raises an exception if a node is wrong or does not fit the image size."""
    nodes: list[BaseNode] = []
    for recorded in checkpoint["model"].state["nodes"]:
        params = [_array(param) for param in recorded.state["params"]]
        _expect(all(np.isfinite(param).all() for param in params), "its weights are not all finite numbers")
        node_class: Any = _node_class(type(recorded).__name__)
        nodes.append(node_class.__new__(node_class))
        nodes[-1].__setstate__({"params": params})
    size = 3 * math.prod(checkpoint["image_size"])
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
