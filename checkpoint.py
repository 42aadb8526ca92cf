"""Best models on disk: saved without losing what was there, loaded without trusting what is there.

A checkpoint is a dict: the model, what is needed to rebuild it, and where it came from.

    name          MLPAE, AE or VAE
    model         a BaseGraph, or a PyTorch model (in the file: its state_dict)
    encoding_dim  the size of the latent vector
    image_size    [width, height] in pixels
    data          root of the photos, and fingerprint of those it was trained on
    epoch, train_loss, valid_loss
    settings      the flags of the training script

Part 2's file, models/BestModel_MLPAE.pkl, is a pickle that ``pickle.load`` opens in any Python that can import
``autograd`` and NumPy. A pickle from a stranger can run anything, though, so that ``load_checkpoint`` admits nothing
but autograd's nodes and arrays of floats. The files of PyTorch's models are opened with ``weights_only=True``.
"""

import io
import os
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from VarAutoencoder import VarAutoencoder

PYTORCH_MODELS = {model.name: model for model in (Autoencoder, VarAutoencoder)}


class CheckpointError(OSError):
    """A file that is no checkpoint, or not the one that is needed."""


def checkpoint_path(model_dir, name):
    """Where the best model of this name lies."""
    return Path(model_dir, f"BestModel_{name}.{'pth' if name in PYTORCH_MODELS else 'pkl'}")


def prepare_folder(folder):
    """Makes ``folder`` and tries it out, so that one that cannot be written is found before hours of training.

    Raises:
        OSError: it cannot be made, or no file can be made in it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder}: expected a folder to write in, found: {error.strerror}; give another one") from None


def save_checkpoint(checkpoint, path):
    """Writes the checkpoint whole or not at all: whatever goes wrong, ``path`` holds the old one or the new one."""
    path = Path(path)
    content = io.BytesIO()
    if checkpoint["name"] in PYTORCH_MODELS:
        torch.save(checkpoint | {"model": checkpoint["model"].state_dict()}, content)
    else:
        # Protocol 4 writes an array in one form in every version of NumPy, the one that _ADMITTED knows.
        pickle.dump(checkpoint, content, protocol=4)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def keep_previous(path):
    """Copies the checkpoint of an earlier run, if there is one, out of the way of this run's first and worst models."""
    path = Path(path)
    if path.exists():
        previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        shutil.copyfile(path, previous)
        print(f"Kept the model of an earlier run as {previous}.", file=sys.stderr)


def load_checkpoint(model_dir, name):
    """The checkpoint of the best model of this name, the model ready to use; nothing in the file can have run.

    Raises:
        FileNotFoundError: there is none; says how to make one.
        CheckpointError: it is damaged or of another model, or its parts do not fit each other.
    """
    path = checkpoint_path(model_dir, name)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint; train the model first, or give its folder")
    with open(path, "rb") as file:
        try:
            if name in PYTORCH_MODELS:
                checkpoint = torch.load(file, map_location="cpu", weights_only=True)
            else:
                checkpoint = _Unpickler(file).load()
            _check(checkpoint, name)
            if name in PYTORCH_MODELS:
                checkpoint["model"] = _rebuild(checkpoint)
            else:
                _check_graph(checkpoint)
        except Exception as error:  # a damaged file can raise anything at all
            raise CheckpointError(f"{path}: not a usable checkpoint ({error}); train the model again") from None
    return checkpoint


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs") from None


def _empty_array(*_):
    """In place of NumPy's own, which would make an array of whatever size the file asks for before it is filled."""
    return np.empty(0, np.float32)


def _float_dtype(name, *_):
    if name not in ("f4", "f8"):
        raise pickle.UnpicklingError(f"it holds an array of {name!r}, expected floats")
    return np.dtype(name, copy=True)


_ADMITTED = {
    ("autograd.BaseGraph", "BaseGraph"): BaseGraph,
    ("autograd.Nodes", "Linear"): Linear,
    ("autograd.Nodes", "ReLU"): ReLU,
    ("autograd.Nodes", "Sigmoid"): Sigmoid,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _float_dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,  # NumPy 2
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,  # NumPy 1
}


_PARTS = {"name", "model", "encoding_dim", "image_size", "data", "epoch", "train_loss", "valid_loss", "settings"}


def _expect(true, message):
    if not true:
        raise CheckpointError(message)


def _check(checkpoint, name):
    """Raises CheckpointError where the parts of any checkpoint are not what they should be."""
    _expect(isinstance(checkpoint, dict), f"found a {type(checkpoint).__name__}, expected a dict")
    missing = _PARTS - checkpoint.keys()
    _expect(not missing, f"it lacks {', '.join(sorted(missing))}")
    _expect(checkpoint["name"] == name, f"it holds the model {checkpoint['name']!r}, expected {name}")
    sides = checkpoint["image_size"]
    fits = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
    _expect(fits, f"its image size is {sides!r}, expected [width, height]")
    _expect(type(checkpoint["data"]["root"]) is str, "its data root is no text")
    _expect(type(checkpoint["data"]["fingerprint"]) is str, "its fingerprint of the photos is no text")
    _expect(type(checkpoint["settings"]["split_seed"]) is int, "its split seed is no whole number")


def _rebuild(checkpoint):
    """The PyTorch model with its weights; raises where they do not fit it or are not finite."""
    weights = checkpoint["model"]
    _expect(all(torch.isfinite(weight).all() for weight in weights.values()), "its weights are not all finite numbers")
    with torch.device("meta"):  # takes no memory, whatever size the file asks for
        model = PYTORCH_MODELS[checkpoint["name"]](checkpoint["encoding_dim"], checkpoint["image_size"])
    model.load_state_dict(weights, assign=True)
    return model


def _check_graph(checkpoint):
    """Raises CheckpointError where a BaseGraph is not as autograd makes it, or does not fit its image size."""
    model = checkpoint["model"]
    _expect(isinstance(model, BaseGraph) and vars(model).keys() == {"nodes"}, "its model is no BaseGraph")
    width = 3 * checkpoint["image_size"][0] * checkpoint["image_size"][1]
    rows = width
    for node in model:
        _expect(type(node) in (Linear, ReLU, Sigmoid), f"its model holds a {type(node).__name__}")
        _expect(vars(node).keys() == {"params", "saved", "grads"}, "a node is not as autograd makes it")
        for array in node.params:
            _expect(
                isinstance(array, np.ndarray) and np.isfinite(array).all(), "its weights are not all finite numbers"
            )
        shapes = [array.shape for array in node.params]
        if type(node) is Linear:
            columns = shapes[-1][0]
            _expect(shapes == [(rows, columns), (columns,)], f"a Linear has {shapes}, expected {rows} inputs")
            rows = columns
        else:
            _expect(not shapes, f"a {type(node).__name__} has parameters")
    _expect(rows == width, f"its model gives {rows} numbers, an image of its size has {width}")
