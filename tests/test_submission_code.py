"""Source files of a submission: what can be said of them without running them."""

import sys
import warnings

import pytest
from conftest import ROOT

from grading.code import look_at_code

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("file", [*ROOT.glob("*.py"), *ROOT.glob("autograd/*.py")], ids=lambda path: path.name)
def test_code_is_for_the_teacher_to_read(file):
    content = file.read_bytes()
    assert look_at_code(content) == (f"{len(content.splitlines())} lines, not run: read them yourself", None)


LINEAR = "gaps as they were handed out: Linear.forward"
FORWARD = "    def forward(self, x):\n        {}\n"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("", "no code in it"),
        ("# TODO\n", "no code in it"),
        ('"""Part 1."""\n\npass\n', "no code in it"),
        ("# TODO\npass\n...\n", "no code in it"),
        ("encoder = None  # TODO\ndecoder = ...\n", "no code in it"),
        ("raise NotImplementedError\n", "no code in it"),
        ("import numpy as np\nclass Linear:\n    pass\n", "nothing but gaps"),
        ("import numpy as np\n\ndef helper():\n    pass\n", "nothing but gaps"),
        ("class Linear:\n" + FORWARD.format("pass"), LINEAR),
        ("class Linear:\n" + FORWARD.format("# TODO\n        pass"), LINEAR),
        ("class Linear:\n" + FORWARD.format("..."), LINEAR),
        ("class Linear:\n" + FORWARD.format('"""x W + b."""'), LINEAR),
        ("class Linear:\n" + FORWARD.format("raise NotImplementedError"), LINEAR),
        ("class Linear:\n" + FORWARD.format("raise NotImplementedError('x')"), LINEAR),
        ("class Linear:\n" + FORWARD.format("return None"), LINEAR),
        ("class Linear:\n" + FORWARD.format("y = None\n        pass"), LINEAR),
        ("x = 1\nasync def VAE_loss_function(a):\n    return\n", "gaps as they were handed out: VAE_loss_function"),
        (
            "".join(f"class {name}:\n" + FORWARD.format("pass") for name in "ABCDEFG"),
            "gaps as they were handed out: A.forward, B.forward, C.forward, D.forward, E.forward, ...",
        ),
        (
            "def main():\n    def train():\n        return 1\n    def validate():\n        pass\n",
            "gaps as they were handed out: main.validate",
        ),
        ("x = '\0'", "no text"),
    ],
)  # fmt: skip
def test_gaps_are_not_as_asked(code, found):
    assert look_at_code(code.encode()) == (found, False)


@pytest.mark.parametrize(
    "code",
    [
        "class BaseNode:\n"
        + FORWARD.format("raise NotImplementedError")
        + "    def flush(self):\n        self.x = 1\n",
        "class Node:\n" + FORWARD.format("pass") + "\nx = 1\n",
        "class Base:\n" + FORWARD.format("pass") + "class Linear(Base):\n" + FORWARD.format("return x + 1"),
        "class Base:\n    @abstractmethod\n" + FORWARD.format("pass") + "\nx = 1\n",
        "class MyError(Exception):\n    pass\n\ndef forward(x):\n    return x\n",
        "class Graph:\n    def flush(self):\n        pass\n" + FORWARD.format("return x"),
        "from .core import *\n",
        "x = 1\n",
        "def forward(x):\n    return 0\n",
    ],
)
def test_what_may_be_empty(code):
    words, ok = look_at_code(code.encode())
    assert words.endswith("lines, not run: read them yourself") and ok is None


def test_marks_of_gaps_are_pointed_at():
    code = "x = 1\n# TODO: the encoder\ny = 2  # YOUR CODE HERE\nz = '# nothing'\n# \u8865\u5168\n" + "# todo\n" * 9
    found = look_at_code(code.encode())
    assert found == ("14 lines, not run: read them yourself; marks of gaps in line 2, 3, 5, 6, 7, ...", None)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"x = 1\ndef backward(:\n", "line 2: invalid syntax"),
        (b"print 'hello'\n", "line 1: Missing parentheses"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b"type X[T] = list[T]\n    y\n", "line "),
        (b"-" * 100_000 + b"1", ""),
    ],
)
def test_code_that_does_not_parse_is_for_the_teacher(content, where):
    """It may be in the syntax of a newer Python than the one that looks at it."""
    words, ok = look_at_code(content)
    assert words.startswith(f"not parsed by Python {PYTHON} (") and where in words and ok is None
    assert words.endswith("): a mistake, or newer syntax")


@pytest.mark.parametrize("deep", [200, 201])
def test_limits_on_brackets_in_brackets(deep):
    words, ok = look_at_code(b"x = " + b"[" * (deep - 1) + b"(1)" + b"]" * (deep - 1) + b"\n")
    expected = "1 lines, not run: read them yourself" if deep == 200 else "brackets more than 200 deep, so not parsed"
    assert (words, ok) == (expected, None)
    assert look_at_code(b"x = " + b"(" * 500_000)[1] is None


def test_the_parser_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look_at_code(b"x = '\\d'\nassert (1, 'x')\n")[1] is None


def test_code_is_never_run(tmp_path):
    trap = tmp_path / "trapped"
    assert look_at_code(f"open({str(trap)!r}, 'w')".encode())[1] is None and not trap.exists()
