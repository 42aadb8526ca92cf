"""The check that students run at home: right nodes of any convention pass, and common errors are named."""

import re
import shutil
import sys

import pytest
from conftest import ROOT, fails, run_script

import check_gradients

# Nodes in the terms of the course's framework: grad and cache, cal and backcal, a loss that is given its target.
COURSE = {
    "Nodes": """
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
    def cal(self, X):
        self.cache.append(X)
        return np.clip(X, 0, None)

    def backcal(self, grad):
        return grad * (self.cache[-1] > 0)

class sigmoid(Node):
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
""",
    "BaseNode": """
class Node(object):
    def __init__(self, name="", *params):
        self.grad, self.cache, self.name, self.params = [], [], name, list(params)

    def flush(self):
        self.grad, self.cache = [], []

    def forward(self, X, debug=False):
        return self.cal(X)

    def backward(self, grad, debug=False):
        return self.backcal(grad)
""",
    "BaseGraph": """
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
""",
}


@pytest.fixture
def of_the_course(tmp_path):
    folder = tmp_path / "student"
    (folder / "autograd").mkdir(parents=True)
    for name, code in COURSE.items():
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
        try:
            check_gradients.main([str(folder)])
        except SystemExit as stop:
            status = stop.code
        _, *lines, _, last = capsys.readouterr().out.splitlines()
        rows = re.findall(r"^(ok|NO)  (\w+) *(.*(?:\n .*)*)", "\n".join(lines), re.MULTILINE)
        found = {name: " ".join(words.split()) for _, name, words in rows}
        right = [mark for mark, *_ in rows].count("ok")
        assert right == list(found.values()).count("")
        assert list(found) == ["Linear", "ReLU", "Sigmoid", "MSE", "graph"]
        assert (last, status) == (f"{right} of 5 right.", right < 5)
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


# What stands in the course's nodes, and for each what students write in its place, with words that name it.
ERRORS = {
    ("Linear", "grad.sum(axis=0)"): {
        "grad": r"dL/db: found an array of shape \(5, 3\), expected .* sum over the batch is",
        "grad.mean(axis=0)": "dL/db.*a mean over the batch in place of the sum",
        "grad.sum(axis=1)": "dL/db.*summed over the wrong axis",
    },
    ("Linear", "self.cache[-1].T @ grad"): {
        "grad.T @ self.cache[-1]": r"dL/dW: .*shape \(3, 4\), expected \(4, 3\).*transpo",
        "self.cache[-1] @ grad": "ValueError.*a transpose is missing",
        "grad.sum(axis=0)": "in the order of params",
    },
    ("Linear", "self.grad.append(grad.sum(axis=0))"): {"pass": "after backward there are 1 gradients, expected 2"},
    ("Linear", "return grad @ self.params[0].T"): {
        "pass": "dL/dx: there is none; forward returns y, backward returns dL/dx",
        "grad *= 2; return grad @ self.params[0].T / 2": "changes the array grad",
    },
    ("Linear", "return X @ self.params[0] + self.params[1]"): {
        "return X @ self.params[0]": r"forward\[\d, \d\]: found.*the bias is missing",
    },
    ("Linear", "class Linear"): {"class Other": "no such class in Nodes.py"},
    ("ReLU", "grad * (self.cache[-1] > 0)"): {
        "grad": "the mask is missing",
        "self.cache[-1] > 0": "the chain rule is missing",
        "0 * grad": "it is 0: it has not been computed",
    },
    ("ReLU", "self.cache.append(X)\n        return np.clip(X, 0, None)"): {
        "X[X < 0] = 0\n        return X": "changes the array x"
    },
    ("Sigmoid", "1 / (1 + np.exp(-X))"): {
        "1 / (1 + np.exp(X))": "forward.*the sign of x",
    },
    ("Sigmoid", "grad * self.cache[-1] * (1 - self.cache[-1])"): {
        "self.cache[-1] * (1 - self.cache[-1])": "chain rule",
        "grad * self.cache[-1]": "the factor 1 - y is missing",
    },
    ("MSE", "X - self.target"): {"self.target - X": "the sign: it should be output - target"},
    ("MSE", "grad * 2 * self.cache[-1] / self.cache[-1].size"): {
        "grad * self.cache[-1] / self.cache[-1].size": "the factor 2 of the derivative of a square",
        "grad * 2 * self.cache[-1]": "a sum in place of a mean",
    },
    ("MSE", "np.mean(self.cache[-1] ** 2)"): {
        "np.sum(self.cache[-1] ** 2)": "forward: found .* a sum in place of",
        "np.mean(self.cache[-1] ** 2) / 2": "forward.*a factor 1/2 too much",
        "self.cache[-1] ** 2": "forward.*the mean is missing",
    },
    ("graph", "reversed(self)"): {"self": "backward calls nodes 0, 1, 2 of 0, 1, 2: it should be each, in the reverse"},
    ("graph", "grad = node.backward(grad)"): {
        "node.backward(grad)": "dparam of node 0.*each node is to be given what the next one returned",
    },
    ("graph", "param -= lr * grad"): {
        "param = param - lr * grad": "nothing has changed: param -= ... changes",
        "param += lr * grad": "the sign: a step goes against the gradient",
    },
    ("graph", "        return grad\n"): {"        pass\n": "what backward returns, dL/dx: there is none"},
}


@pytest.mark.parametrize(
    ("node", "old", "new", "words"),
    [(*place, new, words) for place, errors in ERRORS.items() for new, words in errors.items()],
)
def test_common_errors_are_named(node, old, new, words, check, of_the_course):
    change(of_the_course, old, new, "BaseGraph.py" if node == "graph" else "Nodes.py")
    found = check(of_the_course)
    assert re.search(words, found.pop(node)), found
    assert not any(found.values())


GRADS = "self.grads = [x.T @ grad, grad.sum(axis=0)]"
ADDED = "self.grads = [a + b for a, b in zip(self.grads or [0, 0], [x.T @ grad, grad.sum(axis=0)])]"


@pytest.mark.parametrize(
    ("node", "old", "new", "words"),
    [
        ("Linear", GRADS, ADDED, ".*they accumulate, and should be replaced"),
        ("Linear", "grad.sum(axis=0)", "grad.sum(axis=0, keepdims=True)", ".*keepdims"),
        ("Linear", GRADS, f"{GRADS}\n        self.grads[0][2, 1] += 9", r"dL/dW\[2, 1\]: .* off by 9; 1 of 12 entries"),
        ("ReLU", "return np.maximum(x, 0)", 'raise NotImplementedError("step 2")', "not written yet: step 2$"),
        ("ReLU", "np.maximum(x, 0)", "np.maximum(z, 0)", r"Nodes.py, line \d+: return .*NameError: name 'z' is not"),
        ("MSE", "(2 * grad / error.size) * error", "np.nan * error", ".*found nan.*15 of 15 entries are wrong"),
    ],
)
def test_errors_in_nodes_of_this_lab(node, old, new, words, check, of_this_lab):
    change(of_this_lab, old, new)
    found = check(of_this_lab)
    assert re.match(words, found.pop(node))
    assert not any(found.values())


def test_nodes_in_float32(check, of_the_course):
    """Differences are coarser there, and an error of a few percent still shows."""
    change(of_the_course, "(indim, outdim))", "(indim, outdim)).astype(np.float32)")
    change(of_the_course, "np.zeros((1, outdim))", "np.zeros((1, outdim), np.float32)")
    change(of_the_course, "X @ self.params[0]", "X.astype(np.float32) @ self.params[0]")
    change(of_the_course, "grad @ self.params[0].T", "(grad @ self.params[0].T).astype(np.float32)")
    assert not any(check(of_the_course).values())
    change(of_the_course, "grad.sum(axis=0)", "1.05 * grad.sum(axis=0)")
    assert "dL/db" in check(of_the_course)["Linear"]


def test_what_cannot_be_imported(of_the_course, capsys):
    change(of_the_course, "class relu(Node):", "class relu(Node)")
    with pytest.raises(SystemExit, match="2"):
        check_gradients.main([str(of_the_course)])
    assert "cannot be imported: Nodes.py, line 19" in capsys.readouterr().err
    shutil.rmtree(of_the_course / "autograd")
    assert "found no autograd/Nodes.py in it" in fails(check_gradients, [of_the_course], capsys)


def test_as_a_process(of_the_course, tmp_path):
    change(of_the_course, "grad * (self.cache[-1] > 0)", "grad")
    result = run_script("check_gradients.py", of_the_course, cwd=tmp_path)
    assert result.returncode == 1 and "NO  ReLU" in result.stdout and result.stderr == ""
