"""In the process of a student's code: the nodes and the graph of Part 1, in this lab's terms or the course's."""

import copy
import importlib
import inspect
from typing import Any

import numpy as np

from checking.messages import Unclear, Wrong

Array = np.ndarray


class Autograd:
    def __init__(self) -> None:
        self.modules = [importlib.import_module(f"autograd.{name}") for name in ("Nodes", "BaseGraph")]

    def find(self, *names: str) -> Any:
        """The class of one of these names, in whatever case."""
        for module in self.modules:
            for name, value in vars(module).items():
                if isinstance(value, type) and name.lower() in names:
                    return value
        raise Unclear(f"found no class {names[0]}, in whatever case, in autograd/")


class StudentNode:
    """A new node, "linear", "relu", "sigmoid" or "mse": of this lab (``grads``), or of the course's framework
    (``grad``, ``cache``, ``cal``, ``backcal``, ``Node(name, *params)``). An error in the student's code is raised as it
    is."""

    def __init__(self, kind: str, *sizes: int) -> None:
        cls = Autograd().find(kind)
        name = [kind] if parameters_of(cls)[:1] == ["name"] else []
        # The course's cal(self, X) of a loss, which is given its target when made; this lab's forward(output, target).
        self.of_target = cls if kind == "mse" and len(parameters_of(method_of(cls, "cal", "forward"))) == 2 else None
        self.node: Any = None if self.of_target else cls(*name, *sizes)
        self.nodes: list[Any] = [self.node]

    def forward(self, *inputs: Array) -> Array:
        """y. The course's nodes keep every gradient until they are flushed, which is done here."""
        if self.of_target:
            self.node, inputs = self.of_target(inputs[1].copy()), inputs[:1]
            self.nodes = [self.node]
        for node in self.nodes:
            if not hasattr(node, "grads"):
                node.flush()
        y = self._call(("forward", "cal"), "x", inputs)
        if y is None:
            raise Wrong("forward returns nothing")
        return y

    def backward(self, *grad: Array) -> Array | None:
        """dL/dx of the latest forward. Of a loss it takes no ``grad``; the student's is given 1 if it needs one."""
        parameters = inspect.signature(method_of(self.node, "backward", "backcal")).parameters.values()
        needed = any(each.default is each.empty for each in parameters)
        return self._call(("backward", "backcal"), "grad", grad or ((1.0,) if needed else ()))

    def _call(self, names: tuple[str, str], of: str, arrays: tuple[Any, ...]) -> Array | None:
        copies = copy.deepcopy(arrays)
        found = method_of(self.node, *names)(*copies)
        if not all(map(np.array_equal, copies, arrays)):
            raise Wrong(f"{names[0]} changes the array {of} that it is given: it should make a new one")
        return None if found is None else np.array(found)

    def params(self) -> list[Array]:
        """The parameters as they are now."""
        return [np.array(param) for node in self.nodes for param in node.params]

    def set_params(self, arrays: list[Array]) -> None:
        """Sets the parameters: in place, since a node may have its arrays under other names as well."""
        params = [param for node in self.nodes for param in node.params]
        for param, array in zip(params, arrays, strict=True):
            param[...] = array

    def grads(self) -> list[Array]:
        """The gradients of the parameters, after backward."""
        lists = [node.grads if hasattr(node, "grads") else node.grad for node in self.nodes]
        return [np.array(grad) for grads in lists for grad in grads]


class StudentGraph(StudentNode):
    """A new graph of two Linear(size, size)."""

    def __init__(self, size: int) -> None:
        self.of_target = None
        self.nodes = [StudentNode("linear", size, size).node for _ in range(2)]
        self.node = Autograd().find("basegraph", "graph")(list(self.nodes))

    def optimstep(self, lr: float) -> None:
        self.node.optimstep(lr)


def parameters_of(function: Any) -> list[str]:
    """The names of the arguments by position, but for the course's ``debug``."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in kinds and each.name != "debug"]


def method_of(node: Any, *names: str) -> Any:
    """The first of these methods that there is."""
    for name in names:
        if hasattr(node, name):
            return getattr(node, name)
    raise Unclear(f"found no method {names[0]}")
