"""In the process of a student's code: the models of Parts 2 to 4, from their files, by the student's own classes."""

import ast
import contextlib
import importlib
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from checking.messages import Unclear


class StudentMLP:
    """The model of Part 2: a pickle of a graph, a list of layers, an object with ``forward``, or a dict with one of
    these. A pickle calls the classes of the ``script`` that trained it ``__main__``'s."""

    def __init__(self, file: str, script: str) -> None:
        sys.modules["__main__"] = Definitions(script)
        value = pickle.loads(Path(file).read_bytes())
        self.layers = layers_in(value)
        if not self.layers:
            raise Unclear(f"found a {type(value).__name__}, and nothing in it that has forward")
        parts = value.values() if isinstance(value, dict) else [value]
        self.models = [part for part in parts if hasattr(part, "forward")]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3HW) -> the output: by the model's own forward, or else from layer to layer."""
        if len(self.models) == 1:  # and not an encoder and a decoder
            y = self.models[0].forward(x.copy())
            if np.size(y) == x.size:  # the last node of a graph may be the loss
                return np.asarray(y)
        return self.steps(x)[0]

    def steps(self, x: np.ndarray) -> list[Any]:
        """x (N, 3HW) -> the output from layer to layer, the widths, and how many layers compute max(x, 0)."""
        widths, relus = [x.shape[1]], 0
        for layer in self.layers:
            y = np.asarray((getattr(layer, "forward", None) or layer.cal)(x.copy()))
            if y.shape[:1] != x.shape[:1]:
                if layer is self.layers[-1] is not self.layers[0]:  # the loss
                    break
                raise Unclear(f"{type(layer).__name__} gives {y.shape} for {x.shape}")
            y = y.reshape(len(y), -1)
            relus += bool((x < 0).any() and np.array_equal(y, np.maximum(x, 0)))
            widths += [y.shape[1]] if y.shape != x.shape else []
            x = y
        return [x, widths, relus]


def layers_in(value: Any) -> list[Any]:
    """The layers in what a file holds, in their order: of a graph, of a list of layers or graphs, of an encoder and a
    decoder, or of what a dict or an object holds; none if there are none."""
    if isinstance(getattr(value, "nodes", None), list):
        value = value.nodes
    if isinstance(value, list | tuple):
        return [layer for part in value for layer in layers_in(part)]
    parts = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    if {"encoder", "decoder"} <= parts.keys():
        return layers_in(parts["encoder"]) + layers_in(parts["decoder"])
    if not isinstance(value, dict | type) and (hasattr(value, "forward") or hasattr(value, "cal")):
        return [value]
    return next(filter(None, map(layers_in, parts.values())), [])


class Definitions(types.ModuleType):
    """The classes of a script, and what they use; the rest of it is not run: it may train."""

    def __init__(self, script: str) -> None:
        super().__init__("__main__")
        self.script = script

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        for part in ast.parse(Path(self.script).read_bytes(), self.script).body:
            calls = any(isinstance(inner, ast.Call | ast.Subscript) for inner in ast.walk(part))
            definition = isinstance(part, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            if definition or (isinstance(part, ast.Assign) and not calls):
                with contextlib.suppress(Exception):  # an import that these classes may not need
                    exec(compile(ast.Module([part], []), self.script, "exec"), vars(self))
        return vars(self)[name]


class StudentNetwork:
    """The model of Part 3 or 4: the whole of it, or its weights, alone or with others in a dict. Weights are loaded
    into the class in ``script`` that they fit."""

    def __init__(self, file: str, script: str) -> None:
        import torch

        self.torch = torch
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        self.classes = vars(importlib.import_module(Path(script).stem)) if Path(script).exists() else {}
        value = torch.load(file, map_location="cpu", weights_only=False)
        found = list(self._parts(value))
        models = [part for part in found if not isinstance(part, dict)]
        if not found:
            raise Unclear(f"found a {type(value).__name__}, with neither a model nor its weights in it")
        dim = value.get("encoding_dim", 64) if isinstance(value, dict) else 64
        # The largest dict of tensors is not that of an optimizer.
        self.model = (models[0] if models else self._with_weights(max(found, key=len), dim)).float().eval()

    def _parts(self, value: Any) -> Iterator[Any]:
        """The models and the dicts of tensors in what a file holds."""
        of_tensors = isinstance(value, dict) and value and all(map(self.torch.is_tensor, value.values()))
        if of_tensors or isinstance(value, self.torch.nn.Module):
            yield value
        elif isinstance(value, dict):
            for part in value.values():
                yield from self._parts(part)

    def _with_weights(self, weights: dict[str, Any], encoding_dim: Any) -> Any:
        errors: list[Exception] = []
        for cls in list(self.classes.values()):
            if isinstance(cls, type) and issubclass(cls, self.torch.nn.Module):
                for arguments in [encoding_dim], []:
                    try:
                        model = cls(*arguments)
                        model.load_state_dict(weights)
                        return model
                    except Exception as error:
                        errors.append(error)
        raise errors[0] if errors else Unclear("found no class of a model that its weights could be loaded into")

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Images (N, 3, H, W) -> the outputs: of a VAE, images, mu and log_var."""
        outputs = self.model(self.torch.from_numpy(x))
        return [output.numpy() for output in ([outputs] if self.torch.is_tensor(outputs) else outputs)]

    def steps(self, x: np.ndarray) -> list[Any]:
        """Images (N, 3, H, W) -> the operations on the way, each with the shape of its result without N."""
        torch, found = self.torch, list[Any]()

        class Recorded(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined]
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = function(*args, **(kwargs or {}))
                for part in result if isinstance(result, tuple | list) else [result]:
                    if torch.is_tensor(part) and part.shape[:1] == (len(x),):
                        found.append([function.__name__, list(part.shape[1:])])
                return result

        with Recorded():
            self.model(torch.from_numpy(x))
        return found

    def decode(self, z: np.ndarray) -> list[np.ndarray]:
        """Latent vectors -> images, by the model's ``decode`` and ``decoder``, also with the Sigmoid of ``forward``."""
        found = []
        for name in "decode", "decoder":
            with contextlib.suppress(Exception):
                images = getattr(self.model, name)(self.torch.from_numpy(z))
                found += [images.numpy(), images.sigmoid().numpy()]
        return found
