"""The student's side of a check that runs their code: it computes, and judges nothing.

    python student_side.py STUDENT_CODE.py FOLDER USER THREADS

reads calls from stdin, one in a line, and writes their results to stdout. ``teaching/fence.py`` starts it in a sandbox.
There the package ``lab`` is the student's: lab/student_code.py is loaded by its path.
"""

import ast
import base64
import contextlib
import gzip
import importlib.util
import io
import json
import os
import pickle
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DTYPES = {"<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1"}
NOBODY = 65534  # the user of that name
MEMORY, LARGEST_FILE = 4_000_000_000, 200_000_000  # bytes: what a process may write to, and a file
ENCODING_DIM = 64
PROCESSES = 100  # and threads, more than the user has


def encode(value: Any) -> Any:
    """What JSON has no form for: an array, as its dtype, shape and bytes. TypeError if it is anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return {"array": [value.dtype.str, value.shape, base64.b64encode(np.ascontiguousarray(value).data).decode()]}
    raise TypeError(f"found a {type(value).__name__}, expected numbers")


def decode(value: dict[str, Any]) -> Any:
    """The array that ``encode`` wrote; of any other dict, the dict. ValueError or TypeError if it is no array."""
    if value.keys() != {"array"}:
        return value
    dtype, shape, content = value["array"]
    if dtype not in DTYPES:
        raise ValueError(f"found an array of {dtype}, expected numbers")
    return np.ndarray(shape, dtype, base64.b64decode(content)).copy()


class Definitions(types.ModuleType):
    """The classes and functions of a script, as its pickles name them; the rest of the script is not run."""

    def __init__(self, script: Path) -> None:
        super().__init__("__main__")
        self._script: Path | None = script

    def __getattr__(self, name: str) -> Any:
        script, self._script = self._script, None
        if not script:
            raise AttributeError(f"no {name} in the script")
        kinds = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign
        for part in ast.parse(source(script.name, script.read_bytes())).body:
            if isinstance(part, kinds) and not (isinstance(part, ast.Assign) and not constant(part.value)):
                with contextlib.suppress(Exception):  # an import that these classes may not need
                    exec(compile(ast.Module([part], []), script.name, "exec"), vars(self))
        return getattr(self, name)


def constant(value: ast.expr) -> bool:
    return not any(isinstance(part, ast.Call | ast.Subscript) for part in ast.walk(value))


def source(name: str, content: bytes) -> bytes:
    """The code of a script, or that in the cells of a notebook; ValueError if it cannot be read as one."""
    if not name.endswith(".ipynb"):
        return content
    lines = []
    for cell in json.loads(content)["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            lines += ["" if line.lstrip().startswith(("%", "!")) else line for line in text.splitlines()]
    return "\n".join(lines).encode()


def load(path: str, script: str | None) -> Any:
    """What a pickle or a file of PyTorch holds, whatever classes it asks for; also compressed by gzip."""
    if script:
        sys.modules["__main__"] = Definitions(Path(script))
    content = Path(path).read_bytes()
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    if not content.startswith(b"PK"):
        with contextlib.suppress(pickle.UnpicklingError):  # PyTorch's older format begins as a pickle does
            value = pickle.loads(content)
            if not isinstance(value, int):
                return value
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)


class Pickled:
    """A model of Part 2."""

    def __init__(self, folder: Path) -> None:
        self.value: Any = None

    def load(self, path: str, script: str | None) -> None:
        self.value = load(path, script)
        if not layers_in(self.value):
            raise ValueError("found nothing in it that has forward")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3HW) -> the output: by its own forward, or else from layer to layer."""
        model = next(models_in(self.value), None)
        found = model.forward(x.copy()) if model else None
        parts: Any = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
        outputs = [np.asarray(part) for part in parts if np.size(part) == x.size]
        return outputs[0] if outputs else self.steps(x)[0]

    def steps(self, x: np.ndarray) -> list[Any]:
        """x (N, 3HW) -> the output from layer to layer, the widths, and how many layers compute max(x, 0)."""
        widths, relus, layers = [x.shape[1]], 0, layers_in(self.value)
        for i, layer in enumerate(layers):
            y = np.asarray((getattr(layer, "forward", None) or layer.cal)(x.copy()))
            if y.shape[:1] != x.shape[:1]:
                if 0 < i == len(layers) - 1:  # the loss, in some graphs the last node
                    break
                raise ValueError(f"{type(layer).__name__} gives {y.shape} for {x.shape}")
            y = y.reshape(len(y), -1)
            relus += bool((x < 0).any() and np.array_equal(y, np.maximum(x, 0)))
            widths += [y.shape[1]] if y.shape != x.shape else []
            x = y
        return [x, widths, relus]


def models_in(value: Any) -> Iterator[Any]:
    """The objects with forward in what a file holds; none in a list of layers, or beside an encoder and a decoder."""
    if hasattr(value, "forward") and not isinstance(value, type):
        yield value
    elif isinstance(value, dict) and not {"encoder", "decoder"} <= value.keys():
        for part in value.values():
            yield from models_in(part)


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


class Network:
    """A model of Part 3 or 4."""

    def __init__(self, folder: Path) -> None:
        import torch

        self.torch, self.module = torch, types.ModuleType("")
        self.model: Any = None
        torch.set_grad_enabled(False)

    def load(self, path: str, script: str | None, module: str | None) -> None:
        """Loads a file: a model, or its weights, alone or with others in a dict. Weights are loaded into the class in
        ``module``, by whatever name and arguments they fit."""
        if module:
            sys.path.insert(1, str(Path(module).resolve().parent))
            with contextlib.suppress(ImportError):  # a whole model may need none
                self.module = importlib.import_module(Path(module).stem)
        value = load(path, script)
        found = list(self._candidates(value))
        if not found:
            raise ValueError("found neither a model nor its weights in it")
        model = max(found, key=len) if all(isinstance(some, dict) for some in found) else found[0]
        if isinstance(model, dict):
            dim = value.get("encoding_dim", ENCODING_DIM)
            # By DataParallel and by torch.compile.
            weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): part for name, part in model.items()}
            model = self._with_weights(weights, dim)
        self.model = model.float().eval()

    def _candidates(self, value: Any) -> Iterator[Any]:
        """The models in what a file holds, and the dicts of tensors: the largest is not that of an optimizer."""
        if isinstance(value, self.torch.nn.Module):
            yield value
        elif isinstance(value, dict):
            halves: list[Any] = [value.get("encoder"), value.get("decoder")]
            if all(isinstance(half, self.torch.nn.Module) for half in halves):
                yield self.torch.nn.Sequential(*halves)
            if value and all(map(self.torch.is_tensor, value.values())):
                yield value
            for part in value.values():
                yield from self._candidates(part)

    def _with_weights(self, weights: dict[str, Any], encoding_dim: int) -> Any:
        errors = []
        for cls in vars(self.module).values():
            if not isinstance(cls, type) or not issubclass(cls, self.torch.nn.Module):
                continue
            for arguments in (encoding_dim,), (), (3, encoding_dim), (encoding_dim, 3):
                try:
                    model = cls(*arguments)
                    model.load_state_dict(weights)
                    return model
                except Exception as error:
                    errors.append(error)
        raise errors[0] if errors else ValueError(f"found no class of a model in {self.module.__name__}.py")

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Images (N, 3, H, W) -> the outputs: of a VAE, images, mu and log_var."""
        outputs = self.model(self.torch.from_numpy(x))
        return [output.numpy() for output in ([outputs] if self.torch.is_tensor(outputs) else outputs)]

    def steps(self, x: np.ndarray) -> list[Any]:
        """Images (N, 3, H, W) -> the operations on the way, each with the shape of its result without N. No other size
        may be N."""
        torch, found = self.torch, list[Any]()

        class Recorded(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[name-defined]
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = function(*args, **(kwargs or {}))
                parts = result if isinstance(result, tuple | list) else [result]
                shapes = [list(part.shape) for part in parts if torch.is_tensor(part)]
                found.extend([function.__name__, shape[1:]] for shape in shapes if shape[:1] == [len(x)])
                return result

        with Recorded():
            self.model(torch.from_numpy(x))
        return found

    def decode(self, name: str, z: np.ndarray) -> np.ndarray | None:
        """Latent vectors (N, encoding_dim) -> images, by the model's ``decode`` or ``decoder``; None if it has none."""
        decode = getattr(self.model, name, None)
        return decode and decode(self.torch.from_numpy(z)).numpy()

    def sample(self, n: int) -> list[Any]:
        """The latent vectors that ``sample`` of random_generation.py decodes, and its n images."""
        taken: list[Any] = []
        hook = self.model.decoder.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].numpy()))
        try:
            images = importlib.import_module("random_generation").sample(self.model, n)
        finally:
            hook.remove()
        return [np.concatenate(taken), images.numpy()]


def answers(student_code: Any, folder: Path, calls: Any) -> Iterator[bytes]:
    """The result of each call, as a line of JSON; an error of the student's code is one, too."""
    classes = {"nodes": student_code.StudentNodes, "pickled": Pickled, "network": Network}
    objects: dict[str, Any] = {}
    for line in calls:
        which, method, *arguments = json.loads(line, object_hook=decode)
        try:
            if which not in objects:
                objects[which] = classes[which](folder)
            answer = json.dumps({"result": getattr(objects[which], method)(*arguments)}, default=encode)
        except BaseException as error:  # also exit()
            words = student_code.in_words(error, folder)
            answer = json.dumps({"error": str(words)[:500], "wrong": type(error) is student_code.Wrong})
        yield answer.encode() + b"\n"


def limit(user: int, threads: int) -> None:
    """Sets the limits of this process and of those that it starts."""
    if resource:
        if user != os.getuid():  # since limits on processes do not hold for root
            os.setgid(user)
            os.setuid(user)
        most = {resource.RLIMIT_DATA: MEMORY, resource.RLIMIT_FSIZE: LARGEST_FILE, resource.RLIMIT_CORE: 0}
        if threads >= 0:
            most[resource.RLIMIT_NPROC] = threads + PROCESSES
        for which, value in most.items():
            _, hard = resource.getrlimit(which)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (value, value))


def main() -> None:
    path, folder, user, threads = sys.argv[1:]
    spec: Any = importlib.util.spec_from_file_location("_student_code", path)
    student_code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(student_code)
    limit(int(user), int(threads))
    calls, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for standard in 0, 1, 2:  # the student's prints are no results
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    os.chdir(folder)
    sys.path[0] = folder  # in place of that of this script
    for answer in answers(student_code, Path(folder), calls):
        results.write(answer)
        results.flush()


if __name__ == "__main__":
    main()
