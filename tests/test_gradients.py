"""The checks of Part 1: right nodes of any convention pass, and common errors are named."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from hand_ins import COURSE

from checking.checks import checks_of
from checking.hand_in import HandIn


@pytest.fixture
def of_the_course(tmp_path):
    folder = tmp_path / "student"
    (folder / "autograd").mkdir(parents=True)
    for name, code in COURSE.items():
        (folder / name).write_text(code)
    return folder


@pytest.fixture
def of_this_lab(tmp_path):
    shutil.copytree(ROOT / "autograd", tmp_path / "student" / "autograd", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "student"


@pytest.fixture
def check():
    """Checks a folder; gives the mark and what is found of what is not right, in one line."""

    def run(folder):
        found = checks_of(HandIn(folder), lambda: None, parts=["Part 1"])
        return {check.asked: f"{check.mark} {' '.join(check.found.split())}" for check in found if check.mark != "ok"}

    return run


def change(folder, old, new, file="Nodes.py"):
    path = folder / "autograd" / file
    code = path.read_text()
    assert code.count(old) == 1, old
    path.write_text(code.replace(old, new))


@pytest.mark.parametrize("whose", ["of_the_course", "of_this_lab"])
def test_right_nodes_pass(whose, check, request):
    assert check(request.getfixturevalue(whose)) == {}


OTHERS = {"Linear": ["graph"]}  # what cannot be checked then
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
    ("Linear", "self.grad.append(grad.sum(axis=0))"): {"pass": "after backward: found 1 gradients, expected 2"},
    ("Linear", "return grad @ self.params[0].T"): {
        "pass": "dL/dx: there is none; forward returns y, backward returns dL/dx",
        "grad *= 2; return grad @ self.params[0].T / 2": "changes the array grad",
    },
    ("Linear", "return X @ self.params[0] + self.params[1]"): {
        "return X @ self.params[0]": r"forward\[\d, \d\]: found.*the bias is missing",
    },
    ("Linear", "class Linear"): {"class Other": "found no class linear"},
    ("ReLU", "grad * (self.cache[-1] > 0)"): {
        "grad": "the mask is missing",
        "self.cache[-1] > 0": "the chain rule is missing",
        "0 * grad": "it is 0: it has not been computed",
    },
    ("ReLU", "return grad * (self.cache[-1] > 0)"): {
        "return grad * np.maximum(self.cache[-1], 0) / self.cache[-1]": "x = 0: found nan times grad.*division by x",
        "return 2 * grad * (self.cache[-1] >= 0) - grad * (self.cache[-1] > 0)": "x = 0: found 2 times grad, ",
        "raise SystemExit": r"Nodes.py, line \d+: raise SystemExit It calls exit\(\)",
    },
    ("ReLU", "self.cache.append(X)\n        return np.clip(X, 0, None)"): {
        "X[X < 0] = 0\n        return X": "changes the array x"
    },
    ("Sigmoid", "1 / (1 + np.exp(-X))"): {
        "1 / (1 + np.exp(X))": "forward.*the sign of x",
        "1 // (1 + np.exp(-X))": "forward.*// is a division that gives whole numbers",
    },
    ("Sigmoid", "grad * self.cache[-1] * (1 - self.cache[-1])"): {
        "self.cache[-1] * (1 - self.cache[-1])": "chain rule",
        "grad * self.cache[-1]": "the factor 1 - y is missing",
    },
    ("Sigmoid", "self.cache.append(1 / (1 + np.exp(-X)))\n        return self.cache[-1]"): {
        "return 1 / (1 + np.exp(-X))": "Nodes.py, line .*IndexError.*Often: forward does not keep what backward needs",
    },
    ("MSE", "X - self.target"): {"self.target - X": "the sign: it should be output - target"},
    ("MSE", "grad * 2 * self.cache[-1] / self.cache[-1].size"): {
        "grad * self.cache[-1] / self.cache[-1].size": "the factor 2 of the derivative of a square",
        "grad * 2 * self.cache[-1]": "a sum in place of a mean",
        "grad * 2 * self.cache[-1] // self.cache[-1].size": "a division that gives whole numbers",
        "grad * 2.0002 * self.cache[-1] / self.cache[-1].size": "dL/doutput.*off by",
    },
    ("MSE", "np.mean(self.cache[-1] ** 2)"): {
        "np.sum(self.cache[-1] ** 2)": "forward: found .* a sum in place of",
        "np.mean(self.cache[-1] ** 2) / 2": "forward.*a factor 1/2 too much",
        "self.cache[-1] ** 2": "forward.*the mean is missing",
    },
    ("graph", "reversed(self)"): {"self": "NO gradient of the weight of node 1"},
    ("graph", "grad = node.backward(grad)"): {
        "node.backward(grad)": "the weight of node 0.*each node is to be given what the next one returned",
    },
    ("graph", "param -= lr * grad"): {
        "param = param - lr * grad": "nothing has changed: param -= ... changes",
        "param += lr * grad": "the sign: a step goes against the gradient",
        "param -= 0.1 * grad": r"optimstep\(0.03\).*the same for every lr: a number stands in place of lr",
    },
    ("graph", "zip(node.params, "): {"zip(node.params[:1], ": "the bias of node 0.*nothing has changed"},
    ("graph", "        return grad\n"): {"        return 2 * grad\n": "what backward returns, dL/dx"},
}


@pytest.mark.parametrize(
    ("node", "old", "new", "words"),
    [(*place, new, words) for place, errors in ERRORS.items() for new, words in errors.items()],
)
def test_common_errors_are_named(node, old, new, words, check, of_the_course):
    change(of_the_course, old, new, "BaseGraph.py" if node == "graph" else "Nodes.py")
    found = check(of_the_course)
    assert re.search(words, found.pop(node)), found
    assert list(found) == OTHERS.get(node, [])


GRADS = "self.grads = [x.T @ grad, grad.sum(axis=0)]"
ADDED = "self.grads = [a + b for a, b in zip(self.grads or [0, 0], [x.T @ grad, grad.sum(axis=0)])]"


@pytest.mark.parametrize(
    ("node", "old", "new", "words"),
    [
        ("Linear", GRADS, ADDED, ".*they accumulate, and should be replaced"),
        ("Linear", "grad.sum(axis=0)", "grad.sum(axis=0, keepdims=True)", ".*keepdims"),
        ("Linear", GRADS, f"{GRADS}\n        self.grads[0][2, 1] += 9", r"dL/dW\[2, 1\]: .* off by 9; 1 of 12 entries"),
        (
            "ReLU",
            "self.saved = x > 0",
            "pass",
            "Nodes.py, .*RuntimeError: ReLU: backward before forward.*Often: forward does not keep",
        ),
        ("Sigmoid", "y = self.recall()", "y = self.y", "Nodes.py, .*no attribute 'y' Often: forward does not keep"),
        ("Linear", "x, (weight, _) = self.recall()", "x, (weight, _) = self.saved[0]", "(?!.*forward does)"),
        ("ReLU", "return np.maximum(x, 0)", 'raise NotImplementedError("step 2")', "not written yet: step 2$"),
        ("ReLU", "np.maximum(x, 0)", "np.maximum(z, 0)", r"Nodes.py, line \d+: return .*NameError: name 'z' is not"),
        ("MSE", "(2 * grad / error.size) * error", "np.nan * error", ".*found nan.*15 of 15 entries are wrong"),
    ],
)
def test_errors_in_nodes_of_this_lab(node, old, new, words, check, of_this_lab):
    change(of_this_lab, old, new)
    found = check(of_this_lab)
    assert re.match(f"(NO|not yet|[?]) {words}", found.pop(node))
    assert list(found) == OTHERS.get(node, [])


ROWS = "for param, grad in zip(node.params, node.grad):\n                param -= lr * grad"
REPLACED = "node.params = [param - lr * grad for param, grad in zip(node.params, node.grad)]"
OF_TWO = """(Node):
    def forward(self, output, target):
        self.error = output - target
        return np.mean(self.error ** 2)

    def backward(self):
        return 2 * self.error / self.error.size
"""
METHODS = COURSE["autograd/BaseNode.py"].partition("    def forward")[2]  # those that call cal and backcal
CAL_ALONE = (
    (METHODS, "_(self): pass"),
    ("node.forward(X)", "node.cal(X)"),
    ("node.backward(grad)", "node.backcal(grad)"),
)


@pytest.mark.parametrize(
    "changes",
    [
        [("        return grad\n", "")],
        [(ROWS, REPLACED)],
        [('name="", *params', "name, *params")],
        CAL_ALONE,
        [(COURSE["autograd/Nodes.py"].partition("class MSE")[2], OF_TWO)],
        [("np.clip(X, 0, None)", "np.where(X > 0, X, 0)")],
        [
            ("self.cache.append(X)\n        return np.clip", "self.mask = (X > 0, [X])\n        return np.clip"),
            ("grad * (self.cache[-1] > 0)", "grad * self.mask[0]"),
        ],
    ],
)
def test_other_right_nodes_pass(changes, check, of_the_course):
    for old, new in changes:
        change(of_the_course, old, new, next(Path(file).name for file in COURSE if old in COURSE[file]))
    assert check(of_the_course) == {}


def test_linear_that_computes_with_other_arrays(check, of_the_course):
    """With those of params under another name, which is right unless a step replaces those of params."""
    change(of_the_course, "np.zeros((1, outdim)))", "np.zeros((1, outdim)))\n        self.W = weight")
    change(of_the_course, "return X @ self.params[0] +", "return X @ self.W +")
    assert check(of_the_course) == {}
    change(of_the_course, ROWS, REPLACED, "BaseGraph.py")
    assert "arrays that are not those in params" in check(of_the_course)["graph"]


def test_nodes_that_keep_values_in_their_class(check, of_this_lab):
    change(of_this_lab, "self.saved = x > 0", "ReLU.kept = x > 0")
    change(of_this_lab, "return grad * self.recall()", "return grad * ReLU.kept")
    assert (
        check(of_this_lab)["ReLU"] == "NO two nodes share what forward keeps: it belongs to self, and not to the class"
    )


def test_nodes_in_float32(check, of_the_course):
    """Rounding is coarser there, and an error of a thousandth still shows."""
    change(of_the_course, "(indim, outdim))", "(indim, outdim)).astype(np.float32)")
    change(of_the_course, "np.zeros((1, outdim))", "np.zeros((1, outdim), np.float32)")
    change(of_the_course, "X @ self.params[0]", "X.astype(np.float32) @ self.params[0]")
    change(of_the_course, "grad @ self.params[0].T", "(grad @ self.params[0].T).astype(np.float32)")
    assert check(of_the_course) == {}
    change(of_the_course, "grad.sum(axis=0)", "1.001 * grad.sum(axis=0)")
    assert "dL/db" in check(of_the_course)["Linear"]
