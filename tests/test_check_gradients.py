"""The check that students run at home: right nodes of any convention pass, and common errors are named."""

import re
import shutil
import sys

import pytest
from conftest import ROOT, fails, run_script

import check_gradients

# Nodes in the terms of the course's framework: grad and cache, cal and backcal, a loss that is given its target.
COURSE = """
import numpy as np
from .BaseNode import Node

class Linear(Node):
    def __init__(self, indim, outdim):
        weight = np.random.uniform(-1, 1, (indim, outdim))
        super().__init__("linear", weight, np.zeros((1, outdim)))

    def cal(self, X):
        self.cache.append(X)
        return X @ self.params[0] + self.params[1]

    def backcal(self, grad):
        self.grad.append(self.cache[-1].T @ grad)
        self.grad.append(grad.sum(axis=0))
        return grad @ self.params[0].T

class relu(Node):
    def __init__(self):
        super().__init__("relu")

    def cal(self, X):
        self.cache.append(X)
        return np.clip(X, 0, None)

    def backcal(self, grad):
        return grad * (self.cache[-1] > 0)

class sigmoid(Node):
    def __init__(self):
        super().__init__("sigmoid")

    def cal(self, X):
        self.cache.append(1 / (1 + np.exp(-X)))
        return self.cache[-1]

    def backcal(self, grad):
        return grad * self.cache[-1] * (1 - self.cache[-1])

class MSE(Node):
    def __init__(self, target):
        super().__init__("mse")
        self.target = target

    def cal(self, X):
        self.cache.append(X - self.target)
        return np.mean(self.cache[-1] ** 2)

    def backcal(self, grad):
        return grad * 2 * self.cache[-1] / self.cache[-1].size
"""
COURSE_NODE = """
class Node(object):
    def __init__(self, name, *params):
        self.grad, self.cache, self.name, self.params = [], [], name, list(params)

    def flush(self):
        self.grad, self.cache = [], []

    def forward(self, X, debug=False):
        return self.cal(X)

    def backward(self, grad, debug=False):
        return self.backcal(grad)
"""
COURSE_GRAPH = """
class Graph(list):
    def forward(self, X):
        for node in self:
            X = node.forward(X)
        return X

    def backward(self, grad=1):
        for node in reversed(self):
            grad = node.backward(grad)
        return grad

    def optimstep(self, lr):
        for node in self:
            for param, grad in zip(node.params, node.grad):
                param -= lr * grad
"""


@pytest.fixture
def of_the_course(tmp_path):
    folder = tmp_path / "student"
    (folder / "autograd").mkdir(parents=True)
    for name, code in ("Nodes", COURSE), ("BaseNode", COURSE_NODE), ("BaseGraph", COURSE_GRAPH):
        (folder / "autograd" / f"{name}.py").write_text(code)
    return folder


@pytest.fixture
def of_this_lab(tmp_path):
    shutil.copytree(ROOT / "autograd", tmp_path / "student" / "autograd")
    return tmp_path / "student"


@pytest.fixture
def check(capsys, monkeypatch):
    """Checks a folder; gives what is printed of each node, in one line, "" if it is right."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(folder):
        status = 0
        before = {name for name in sys.modules if name.startswith("autograd")}
        try:
            check_gradients.main([str(folder)])
        except SystemExit as stop:
            status = stop.code
        assert {name for name in sys.modules if name.startswith("autograd")} == before
        first, *lines = capsys.readouterr().out.splitlines()
        assert first == f"This runs the code in {folder / 'autograd'}."
        assert max(map(len, lines)) <= 80
        found = {}
        for line in lines[:-2]:
            if mark := re.match(r"(ok|NO)  (\w+) *", line):
                name = mark[2]
                found[name] = line[mark.end() :]
                assert bool(found[name]) is (mark[1] == "NO")
            else:
                found[name] += f" {line.strip()}"
        right = list(found.values()).count("")
        assert lines[-2:] == ["", f"{right} of 5 right."] and list(found) == [
            "Linear",
            "ReLU",
            "Sigmoid",
            "MSE",
            "graph",
        ]
        assert status == (right < 5)
        return found

    return run


def change(folder, old, new, file="Nodes.py"):
    path = folder / "autograd" / file
    code = path.read_text()
    assert code.count(old) == 1, old
    path.write_text(code.replace(old, new))


@pytest.mark.parametrize("whose", ["of_the_course", "of_this_lab"])
def test_right_nodes_pass(whose, check, request):
    assert not any(check(request.getfixturevalue(whose)).values())


ERRORS = [
    # Linear
    (
        "grad.sum(axis=0)",
        "grad",
        "Linear",
        r"dL/db: found an array of shape \(5, 3\), expected .* sum over the batch is",
    ),
    ("grad.sum(axis=0)", "grad.mean(axis=0)", "Linear", "dL/db.*a mean over the batch in place of the sum"),
    ("grad.sum(axis=0)", "grad[0]", "Linear", "dL/db.*one example alone"),
    ("grad.sum(axis=0)", "grad[-1]", "Linear", "dL/db.*one example alone"),
    ("grad.sum(axis=0)", "grad.sum(axis=1)", "Linear", "dL/db.*summed over the wrong axis"),
    ("grad.sum(axis=0)", "grad.sum()", "Linear", "dL/db.*summed over everything"),
    ("grad.sum(axis=0)", "np.full(3, 5.0)", "Linear", "dL/db.*the chain rule is missing"),
    (
        "self.cache[-1].T @ grad",
        "grad.T @ self.cache[-1]",
        "Linear",
        r"dL/dW: .*shape \(3, 4\), expected \(4, 3\).*transpo",
    ),
    ("self.cache[-1].T @ grad", "self.cache[-1].T @ grad / 5", "Linear", "dL/dW.*a mean over the batch"),
    ("self.cache[-1].T @ grad", "self.cache[-1] @ grad", "Linear", "ValueError.*a transpose is missing"),
    ("self.cache[-1].T @ grad", "self.cache[-1].T @ (0 * grad + 1)", "Linear", "dL/dW.*chain rule is missing"),
    ("self.cache[-1].T @ grad", "-self.cache[-1].T @ grad", "Linear", "dL/dW.*Often: the sign"),
    ("self.grad.append(grad.sum(axis=0))", "pass", "Linear", "after backward there are 1 gradients, expected 2"),
    (
        "return grad @ self.params[0].T",
        "pass",
        "Linear",
        "dL/dx: there is none; forward returns y, backward returns dL/dx",
    ),
    ("grad @ self.params[0].T", "grad @ self.params[0]", "Linear", r"Nodes.py, line 17: .*ValueError.*a transpose is"),
    (
        "return grad @ self.params[0].T",
        "grad *= 2; return grad @ self.params[0].T / 2",
        "Linear",
        "changes the array grad",
    ),
    ("return X @ self.params[0] + self.params[1]", "return X @ self.params[0]", "Linear", r"forward\[\d, \d\]: found"),
    ("return X @ self.params[0] + self.params[1]", "pass", "Linear", "forward returns nothing"),
    ("class Linear", "class Other", "Linear", "no such class in Nodes.py"),
    (
        "return X @ self.params[0] + self.params[1]",
        "return X @ self.params[0]",
        "Linear",
        "forward.*the bias is missing",
    ),
    (
        "self.grad.append(self.cache[-1].T @ grad)",
        "self.grad.append(grad.sum(axis=0))",
        "Linear",
        "in the order of params",
    ),
    # ReLU
    ("grad * (self.cache[-1] > 0)", "grad", "ReLU", "the mask is missing"),
    ("grad * (self.cache[-1] > 0)", "grad * (self.cache[-1] < 0)", "ReLU", "the mask is of the wrong side"),
    ("grad * (self.cache[-1] > 0)", "self.cache[-1] > 0", "ReLU", "the chain rule is missing"),
    ("grad * (self.cache[-1] > 0)", "grad * np.clip(self.cache[-1], 0, None)", "ReLU", "multiplied by y"),
    ("grad * (self.cache[-1] > 0)", "grad * (grad > 0)", "ReLU", "the mask is that of grad"),
    ("grad * (self.cache[-1] > 0)", "np.clip(self.cache[-1], 0, None)", "ReLU", "this is y, and not the gradient"),
    ("grad * (self.cache[-1] > 0)", "grad * self.cache[-1]", "ReLU", "multiplied by x, and not by a mask"),
    (
        "self.cache.append(X)\n        return np.clip(X, 0, None)",
        "X[X < 0] = 0\n        return X",
        "ReLU",
        "changes the array x",
    ),
    ("grad * (self.cache[-1] > 0)", "0 * grad", "ReLU", "it is 0: it has not been computed"),
    ("np.clip(X, 0, None)", "np.clip(X, None, 0)", "ReLU", r"forward\[\d, \d\]: found .*, expected"),
    # Sigmoid
    ("1 / (1 + np.exp(-X))", "1 / (1 + np.exp(X))", "Sigmoid", "forward.*the sign of x"),
    ("1 / (1 + np.exp(-X))", "np.exp(-X)", "Sigmoid", "forward.*is missing"),
    ("grad * self.cache[-1] * (1 - self.cache[-1])", "self.cache[-1] * (1 - self.cache[-1])", "Sigmoid", "chain rule"),
    ("grad * self.cache[-1] * (1 - self.cache[-1])", "grad * self.cache[-1]", "Sigmoid", "the factor 1 - y is missing"),
    (
        "grad * self.cache[-1] * (1 - self.cache[-1])",
        "grad * (1 - self.cache[-1])",
        "Sigmoid",
        "the factor y is missing",
    ),
    ("self.cache[-1] * (1 - self.cache[-1])", "self.cache[-1] * (1 + self.cache[-1])", "Sigmoid", "a sign"),
    (
        "self.cache[-1] * (1 - self.cache[-1])",
        "2 * self.cache[-1] * (1 - self.cache[-1])",
        "Sigmoid",
        "factor 2 too much",
    ),
    (
        "grad * self.cache[-1] * (1 - self.cache[-1])",
        "(lambda y: grad * y * (1 - y))(1 / (1 + np.exp(-self.cache[-1])))",
        "Sigmoid",
        "the sigmoid is applied twice",
    ),
    (
        "grad * self.cache[-1] * (1 - self.cache[-1])",
        "(lambda x: grad * x * (1 - x))(np.log(self.cache[-1] / (1 - self.cache[-1])))",
        "Sigmoid",
        "x in place of y",
    ),
    # MSE
    ("X - self.target", "self.target - X", "MSE", "the sign: it should be output - target"),
    ("grad * 2 * self.cache[-1]", "grad * self.cache[-1]", "MSE", "the factor 2 of the derivative of a square"),
    ("2 * self.cache[-1] / self.cache[-1].size", "2 * self.cache[-1]", "MSE", "a sum in place of a mean"),
    ("2 * self.cache[-1] / self.cache[-1].size", "2 * self.cache[-1] / 5", "MSE", "by the number of examples alone"),
    ("2 * self.cache[-1] / self.cache[-1].size", "self.cache[-1] / 5", "MSE", "and without the factor 2"),
    ("2 * self.cache[-1] / self.cache[-1].size", "self.cache[-1]", "MSE", "the factor 2, and the division"),
    ("2 * self.cache[-1] / self.cache[-1].size", "np.mean(self.cache[-1] ** 2)", "MSE", "this is the loss"),
    ("np.mean(self.cache[-1] ** 2)", "np.sum(self.cache[-1] ** 2)", "MSE", "forward: found .* a sum in place of"),
    (
        "np.mean(self.cache[-1] ** 2)",
        "np.sum(self.cache[-1] ** 2) / 5",
        "MSE",
        "forward.*a mean over the examples alone",
    ),
    ("np.mean(self.cache[-1] ** 2)", "np.mean(self.cache[-1] ** 2) / 2", "MSE", "forward.*a factor 1/2 too much"),
    ("np.mean(self.cache[-1] ** 2)", "np.mean(np.abs(self.cache[-1]))", "MSE", "forward.*absolute errors"),
    ("np.mean(self.cache[-1] ** 2)", "np.mean(self.cache[-1] ** 2, 0)", "MSE", "forward.*a mean for each column"),
    ("np.mean(self.cache[-1] ** 2)", "np.mean(self.cache[-1] ** 2, 1)", "MSE", "forward.*a mean for each example"),
    ("np.mean(self.cache[-1] ** 2)", "self.cache[-1] ** 2", "MSE", "forward.*the mean is missing"),
]


@pytest.mark.parametrize(("old", "new", "node", "words"), ERRORS)
def test_common_errors_are_named(old, new, node, words, check, of_the_course):
    change(of_the_course, old, new)
    found = check(of_the_course)
    assert re.search(words, found.pop(node)), found
    assert not any(found.values())


GRAPH_ERRORS = [
    ("reversed(self)", "self", "backward calls nodes 0, 1, 2 of 0, 1, 2: it should be each, in the reverse order"),
    (
        "grad = node.backward(grad)",
        "node.backward(grad)",
        "dparam of node 0.*each node is to be given what the next one returned",
    ),
    ("grad = node.backward(grad)", "pass", "backward calls nodes none of 0, 1, 2"),
    ("in reversed(self):", "in self[1:]:", r"backward calls nodes 1, 2 of 0, 1, 2"),
    ("node.backward(grad)", "node.backward(0 * grad + 1)", "dparam of node 2.*it was given ones"),
    ("param -= lr * grad", "param = param - lr * grad", "nothing has changed: param -= ... changes"),
    ("param -= lr * grad", "param += lr * grad", "the sign: a step goes against the gradient"),
    ("param -= lr * grad", "param -= grad", "lr is missing"),
    ("param -= lr * grad", "param[:] = -lr * grad", "the parameter is replaced by the step"),
    ("zip(node.params, node.grad)", "[]", "nothing has changed"),
    ("for param, grad in zip(", "assert node.params\n            for param, grad in zip(", "AssertionError"),
    ("        return grad\n", "        pass\n", "what backward returns, dL/dx: there is none"),
]


@pytest.mark.parametrize(("old", "new", "words"), GRAPH_ERRORS)
def test_errors_of_the_graph_are_named(old, new, words, check, of_the_course):
    change(of_the_course, old, new, "BaseGraph.py")
    found = check(of_the_course)
    assert re.search(words, found.pop("graph"))
    assert not any(found.values())


def test_the_entry_that_is_wrong(check, of_this_lab):
    change(of_this_lab, "self.grads = [x.T @ grad, grad.sum(axis=0)]", "self.grads = [x.T @ grad, grad.sum(axis=0)]\n"
           "        self.grads[0][2, 1] += 0.25")  # fmt: skip
    found = re.fullmatch(
        r"dL/dW\[2, 1\]: found (\S+), expected (\S+), off by 0.25; 1 of 12 entries are wrong\.",
        check(of_this_lab)["Linear"],
    )
    assert float(found[1]) - float(found[2]) == pytest.approx(0.25, abs=1e-4)


def test_gradients_that_accumulate(check, of_this_lab):
    change(of_this_lab, "self.grads = [x.T @ grad, grad.sum(axis=0)]", "new = [x.T @ grad, grad.sum(axis=0)]\n"
           "        self.grads = [a + b for a, b in zip(self.grads, new)] if self.grads else new")  # fmt: skip
    assert "they accumulate, and should be replaced" in check(of_this_lab)["Linear"]


def test_nodes_in_float32_and_under_other_names(check, of_the_course):
    """Differences are coarser there, and an error of a few percent still shows."""
    change(of_the_course, "(indim, outdim))", "(indim, outdim)).astype(np.float32)")
    change(of_the_course, "np.zeros((1, outdim))", "np.zeros((1, outdim), np.float32)")
    change(
        of_the_course,
        "return X @ self.params[0] + self.params[1]",
        "return X.astype(np.float32) @ self.weight + self.bias",
    )
    change(of_the_course, "    def cal(self, X):\n        self.cache.append(X)\n        return X.astype",
           "        self.weight, self.bias = self.params\n\n    def cal(self, X):\n"
           "        self.cache.append(X)\n        return X.astype")  # fmt: skip
    change(of_the_course, "return grad @ self.params[0].T", "return (grad @ self.weight.T).astype(np.float32)")
    assert not any(check(of_the_course).values())
    change(of_the_course, "grad.sum(axis=0)", "1.05 * grad.sum(axis=0)")
    assert "dL/db" in check(of_the_course)["Linear"]


def test_values_that_are_no_numbers(check, of_the_course):
    change(of_the_course, "grad * (self.cache[-1] > 0)", "grad / 0")
    change(of_the_course, "import numpy as np", "import numpy as np\nnp.seterr(all='ignore')")
    change(of_the_course, "grad * 2 * self.cache[-1]", "np.nan * grad * 2 * self.cache[-1]")
    found = check(of_the_course)
    assert "found inf" in found["ReLU"] or "found -inf" in found["ReLU"]
    assert "found nan" in found["MSE"] and "15 of 15 entries are wrong" in found["MSE"]


def test_errors_that_are_raised(check, of_the_course):
    change(of_the_course, "return np.clip(X, 0, None)", "return np.clip(Y, 0, None)")
    words = "Nodes.py, line 25: return np.clip(Y, 0, None) NameError: name 'Y' is not defined"
    assert check(of_the_course)["ReLU"] == words


def test_parts_that_are_not_written_yet(check, of_this_lab):
    change(of_this_lab, "return np.maximum(x, 0)", 'raise NotImplementedError("Part 1, step 2: ReLU.forward")')
    assert check(of_this_lab)["ReLU"] == "not written yet: Part 1, step 2: ReLU.forward"


def test_what_cannot_be_imported(of_the_course, capsys):
    change(of_the_course, "class relu(Node):", "class relu(Node)")
    with pytest.raises(SystemExit, match="2"):
        check_gradients.main([str(of_the_course)])
    assert "cannot be imported: Nodes.py, line 19: expected ':'" in capsys.readouterr().err
    shutil.rmtree(of_the_course / "autograd")
    assert "found no autograd/Nodes.py in it" in fails(check_gradients, [of_the_course], capsys)


def test_as_a_process(of_the_course, tmp_path):
    assert run_script("check_gradients.py").stdout.endswith("5 of 5 right.\n")
    change(of_the_course, "grad * (self.cache[-1] > 0)", "grad")
    result = run_script("check_gradients.py", of_the_course, cwd=tmp_path)
    assert result.returncode == 1 and "NO  ReLU" in result.stdout and result.stderr == ""


def test_a_gradient_that_the_step_could_not_subtract(check, of_this_lab):
    """(1, 3) for a parameter (3,): every entry is right, and param -= lr * grad fails."""
    change(of_this_lab, "grad.sum(axis=0)", "grad.sum(axis=0, keepdims=True)")
    assert check(of_this_lab)["Linear"] == (
        "dL/db: found an array of shape (1, 3), expected (3,), that of the parameter. Often: keepdims."
    )
