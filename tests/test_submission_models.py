"""Models that students saved by classes of their own: measured, left to the teacher, or refused."""

import collections
import contextlib
import io
import itertools
import os
import pickle
import pickletools
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from autograd import Linear, ReLU, Sigmoid
from grading.models import NotCertain, graph_of, look_at_pytorch, sizes_of


class Parts:
    """An object with these attributes."""

    def __init__(self, **parts):
        vars(self).update(parts)


@pytest.fixture(scope="module", autouse=True)
def course():
    """A module with classes as students write them. It is gone when a file is looked at."""
    module = types.ModuleType("course")
    names = "Linear LinearLayer Dense relu ReLULayer sigmoid Dropout LeakyReLU MSELoss SGD Parameter Model"
    kinds = {name: type(name, (Parts,), {"__module__": "course"}) for name in names.split()}
    kinds |= {name: type(name, (list,), {"__module__": "course"}) for name in ("Graph", "Layers")}
    vars(module).update(kinds)
    sys.modules["course"] = module
    yield module
    del sys.modules["course"]


SIZES = [12, 5, 2, 5, 12]
RNG = np.random.default_rng(0)
WEIGHTS = [0.5 * RNG.standard_normal(shape).astype(np.float32) for shape in itertools.pairwise(SIZES)]
BIASES = [RNG.standard_normal(size) for size in SIZES[1:]]
X = RNG.random((3, 12), np.float32)


def output(biases=BIASES, kinds="RRRS"):
    """What the network computes from X: x W + b, and ReLU or Sigmoid after each layer, or neither."""
    x = X
    for weight, bias, kind in zip(WEIGHTS, biases, kinds, strict=True):
        x = x @ weight + bias
        x = np.maximum(x, 0) if kind == "R" else 1 / (1 + np.exp(-x)) if kind == "S" else x
    return x


def layers(course, linear=None, kinds="RRRS"):
    """The nodes in their order; ``linear`` makes one of weight and bias, otherwise it is the course's."""
    linear = linear or (lambda w, b: course.Linear(name="linear", params=[w, b], grad=[], cache=[]))
    found = []
    again = course.relu(params=[], cache=[np.ones(3)])
    for weight, bias, kind in zip(WEIGHTS, BIASES, kinds, strict=True):
        found += [linear(weight, bias), *{"R": [again], "S": [course.sigmoid(params=[])], " ": []}[kind]]
    return found


MEASURED = {
    "a list": lambda c: layers(c),
    "the course's Graph": lambda c: c.Graph(layers(c)),
    "no ReLU at the latent vector": lambda c: c.Graph(layers(c, kinds="R RS")),
    "a model with a graph": lambda c: c.Model(graph=c.Graph(layers(c)), losses=[0.5, np.float64(0.2)], lr=0.1),
    "nodes in slots": lambda c: c.Model(graph=tuple(layers(c))),
    "encoder and decoder": lambda c: c.Model(encoder=layers(c)[:4], decoder=c.Graph(layers(c)[4:])),
    "decoder before encoder": lambda c: c.Model(decoder=layers(c)[4:], encoder=layers(c)[:4]),
    "a list and the same nodes by name": lambda c: (
        lambda nodes: c.Model(encoder=nodes[:4], decoder=nodes[4:], layers=nodes)
    )(layers(c)),
    "the same nodes by name, and a list": lambda c: (lambda nodes: c.Model(layers=nodes, decoder=nodes[4:]))(layers(c)),
    "a model twice": lambda c: (lambda graph: {"model": graph, "best_model": graph})(c.Graph(layers(c))),
    "a checkpoint": lambda c: {"epoch": 3, "model": c.Graph(layers(c)), "rng": np.random.default_rng(0), "more": None},
    "an OrderedDict": lambda c: collections.OrderedDict(epoch=3, model=c.Graph(layers(c))),
    "a defaultdict": lambda c: collections.defaultdict(list, model=c.Graph(layers(c))),
    "an OrderedDict of layers": lambda c: c.Model(
        layers=collections.OrderedDict((f"layer {i}", n) for i, n in enumerate(layers(c)))
    ),
    "model and loss": lambda c: (c.Graph(layers(c)), c.MSELoss(output=np.ones(3))),
    "a list in a list": lambda c: [layers(c)[:3], [layers(c)[3:]]],
    "LinearLayer": lambda c: layers(c, lambda w, b: c.LinearLayer(W=w, b=b)),
    "Dense": lambda c: layers(c, lambda w, b: c.Dense(weight=w, bias=b[None])),
    "params as a dict": lambda c: layers(c, lambda w, b: c.Linear(params={"W": w, "b": b}, grads={"W": w, "b": b})),
    "params as objects": lambda c: layers(c, lambda w, b: c.Linear(params=[c.Parameter(data=w), c.Parameter(data=b)])),
    "params that are empty": lambda c: layers(c, lambda w, b: c.Linear(params=[], w=w, b=b)),
    "PyTorch's layout": lambda c: layers(c, lambda w, b: c.Linear(weight=w.T, bias=b)),
    "no bias": lambda c: layers(c, lambda w, b: c.Linear(params=[w])),
    "a bias that is None": lambda c: layers(c, lambda w, b: c.Linear(W=w, b=None, activation=None)),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", MEASURED)
def test_models_whose_meaning_is_certain(form, protocol, course):
    graph = graph_of(pickle.dumps(MEASURED[form](course), protocol))
    kinds = "R RS" if "no ReLU" in form else "RRRS"
    expected = output([0 * bias for bias in BIASES] if "bias" in form else BIASES, kinds)
    assert "".join(type(node).__name__[0] for node in graph) == "".join(f"L{kind}" for kind in kinds).replace(" ", "")
    assert sizes_of(graph) == SIZES
    np.testing.assert_allclose(graph.forward(X), expected, rtol=1e-4)
    assert [node.params[0].dtype for node in graph if type(node) is Linear] == [np.float32] * 4


NOT_CERTAIN = {
    "layers that are attributes": (
        lambda c: c.Model(fc1=layers(c)[0], fc2=layers(c)[2], relu=c.relu(), sigmoid=c.sigmoid()),
        "nodes in several attributes (fc1, fc2, relu, sigmoid), whose order is in the code alone",
    ),
    "lists of other names": (lambda c: c.Model(first=layers(c)[:4], second=layers(c)[4:]), "in several attributes"),
    "two encoders": (lambda c: c.Model(encoder=layers(c)[:4], encoder_2=layers(c)[:4]), "in several attributes"),
    "three parts": (
        lambda c: c.Model(encoder=layers(c)[:4], decoder=layers(c)[4:], last=[c.sigmoid()]),
        "in several attributes",
    ),
    "two models": (lambda c: {"model": layers(c), "best": layers(c)}, "nodes in several attributes (model, best)"),
    "two models in a row": (lambda c: [layers(c), layers(c)], "more than one autoencoder in a row"),
    "hundreds of names": (
        lambda c: c.Model(**{f"fc{i}": c.Linear(params=WEIGHTS[:1]) for i in range(500)}),
        "in several attributes",
    ),
    "a Dropout": (
        lambda c: [*layers(c)[:2], c.Dropout(p=0.5), *layers(c)[2:]],
        "it holds a Dropout, expected Linear, ReLU and Sigmoid alone",
    ),
    "a LeakyReLU": (lambda c: [layers(c)[0], c.LeakyReLU(), *layers(c)[2:]], "it holds a LeakyReLU"),
    "a slope": (lambda c: [layers(c)[0], c.relu(slope=0.1), *layers(c)[2:]], "a relu with slope, whose meaning is"),
    "an activation within": (
        lambda c: layers(c, lambda w, b: c.Linear(params=[w, b], activation="tanh")),
        "a Linear with activation, whose meaning is in the code alone",
    ),
    "an optimizer beside it": (lambda c: (layers(c), c.SGD(lr=0.1, params=WEIGHTS)), "it holds a SGD"),
    "no activations": (lambda c: layers(c, kinds="    "), "Linear Linear Linear Linear: other activations may be"),
    "no activation at the end": (lambda c: layers(c, kinds="RRR "), "other activations may be in the code alone"),
    "no ReLU": (lambda c: layers(c, kinds="SSSS"), "other activations may be in the code alone"),
    "a bias of another name": (
        lambda c: layers(c, lambda w, b: c.Linear(W=w, beta=b)),
        "a Linear without a bias, unless it is beta",
    ),
    "three parameters": (
        lambda c: layers(c, lambda w, b: c.Linear(params=[w, b, b])),
        "a Linear with 3 parameters, expected a weight and a bias",
    ),
    "no parameters": (lambda c: layers(c, lambda w, b: c.Linear()), "a Linear with 0 parameters"),
    "square weights": (
        lambda c: [c.Linear(params=[np.eye(12), np.zeros(12)]), c.relu()],
        "square weights, of which rows or columns may be the inputs",
    ),
    "plain arrays": (lambda c: [*WEIGHTS, *BIASES], "8 arrays without the layers that they are of"),
    "a dict of arrays": (lambda c: {f"W{i}": w for i, w in enumerate(WEIGHTS)}, "4 arrays without the layers"),
    "arrays in an object": (lambda c: c.Model(weights=WEIGHTS), "4 arrays without the layers"),
}


@pytest.mark.parametrize("protocol", [0, 4])
@pytest.mark.parametrize("form", NOT_CERTAIN)
def test_models_whose_meaning_is_not_certain(form, protocol, course):
    make, words = NOT_CERTAIN[form]
    with pytest.raises(NotCertain) as raised:
        graph_of(pickle.dumps(make(course), protocol))
    assert words in str(raised.value)


def test_files_of_other_kinds():
    archive, array = io.BytesIO(), io.BytesIO()
    np.savez(archive, *WEIGHTS)
    np.save(array, WEIGHTS[0])
    with pytest.raises(NotCertain, match=r"a zip archive, as by torch\.save; expected a pickle of the graph"):
        graph_of(archive.getvalue())
    with pytest.raises(NotCertain, match=r"an array by numpy\.save; expected a pickle"):
        graph_of(array.getvalue())


def test_damaged_models_and_none(course):
    def node(weight, bias):
        return [course.Linear(params=[weight, bias]), course.relu()]

    first = layers(course)
    circle = [*first]
    circle.append(circle)
    deep = ()
    for _ in range(60):
        deep = deep, deep
    wrong = np.array([[1, np.nan], [1, 1], [1, 1]])
    for form, message in (
        ([], "no Linear"),
        ([course.relu()], "no Linear"),
        ("hello", "no Linear"),
        ([*first[:2], *first[4:]], r"are not the inputs of the next: \(12, 5\) \(2, 5\) \(5, 12\)"),
        (node(np.ones((3, 2)), np.zeros(7)), r"are not the inputs of the next: \(3, 2\)"),
        (node(wrong, np.zeros(2)), "not all finite"),
        (node(np.ones((3, 2)), np.array([0, -np.inf])), "not all finite"),
        (node(np.ones(3), np.zeros(3)), "in rows and columns"),
        (node(np.ones((1, 3, 2)), np.zeros(2)), "in rows and columns"),
        (node(np.ones((3, 2), int), np.zeros(2)), "expected floats"),
        (node("W", "b"), "expected an array"),
        (circle, "too many things|recursion"),
        ([*first, deep], "tuples in tuples without end"),
    ):
        with pytest.raises(Exception, match=message) as raised:
            graph_of(pickle.dumps(form, 4))
        assert not isinstance(raised.value, NotCertain)


def test_references_do_not_multiply(course):
    """A list of references to one layer, in a list of references: few bytes in the file, any number of layers."""
    large = course.Linear(params=[np.eye(512), np.zeros(512)])
    for line in [[large, course.relu()] * 25, [[course.relu()] * 500] * 500 + layers(course)]:
        with pytest.raises(ValueError, match=r"larger than the file|more than 100 nodes|too many things"):
            graph_of(pickle.dumps(line, 4))
    with pytest.raises(ValueError, match="more than 100 nodes"):
        graph_of(pickle.dumps([*layers(course)[:-1], *[course.relu()] * 93, course.sigmoid()], 4))
    graph = graph_of(pickle.dumps([*layers(course)[:-1], *[course.relu()] * 92, course.sigmoid()], 4))
    assert [type(node) for node in graph][-3:] == [ReLU, ReLU, Sigmoid] and len(graph) == 100


@pytest.mark.parametrize("more", [0, 1])
def test_limits_on_the_steps_of_a_pickle_and_on_what_is_in_it(more, course):
    content = pickle.dumps(layers(course), 4)
    steps = 300_000 + more - sum(1 for _ in pickletools.genops(content))
    # Steps that change nothing: None, and its removal; for an odd number, the mark of the protocol once more.
    padded = content[:2] * (1 + steps % 2) + b"N0" * (steps // 2) + content[2:]
    # Lists of numbers are visited one by one: the outer list, its 8 nodes, 299 lists of 1,000, and the rest.
    nested = pickle.dumps([*layers(course), *[[None] * 999] * 299, *[None] * (991 + more)], 4)
    for form, message in (padded, "too many steps"), (nested, "too many things"):
        with pytest.raises(Exception, match=message) if more else contextlib.nullcontext():
            assert sizes_of(graph_of(form)) == SIZES


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_hostile_pickles_do_nothing(tmp_path, monkeypatch, course):
    monkeypatch.chdir(tmp_path)
    for form in Trap(), [*layers(course), Trap()], {"model": Trap()}, course.Linear(params=[Trap(), Trap()]):
        for protocol in range(6):
            with pytest.raises((ValueError, NotCertain)):
                graph_of(pickle.dumps(form, protocol))
    assert list(tmp_path.iterdir()) == []


# Files of PyTorch


def saved(value, **options):
    content = io.BytesIO()
    torch.save(value, content, **options)
    return content.getvalue()


NETWORK = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: saved(NETWORK.state_dict()), "a state_dict of 2 tensors, with layers of the student's own"),
        (
            lambda: saved({"epoch": 3, "model_state_dict": NETWORK.state_dict(), "optimizer": {"lr": 0.1}}),
            "a dict with a state_dict of 2 tensors (model_state_dict), with layers of the student's own",
        ),
        (lambda: saved([torch.zeros(1)]), "a list, with layers of the student's own"),
        (lambda: saved({"losses": [1.0, 2.0]}), "a dict of 1 parts, with layers of the student's own"),
        (lambda: saved(torch.zeros(2)), "a Tensor, with layers of the student's own"),
        (
            lambda: saved(NETWORK),
            "a whole model with its classes (torch.nn.modules.container.Sequential): to open it would execute code",
        ),
        (
            lambda: saved({"model": NETWORK.state_dict(), "loss": np.float64(0.5)}),
            "a whole model with its classes (numpy._core.multiarray.scalar): to open it would execute code",
        ),
        (lambda: saved(types.SimpleNamespace), None),  # of Python's own library
        (lambda: saved(Trap()), None),
        (lambda: saved({"model": NETWORK, "trap": Trap()}), None),
        (
            lambda: saved(NETWORK.state_dict(), _use_new_zipfile_serialization=False),
            "a file of PyTorch before 1.6, which is not opened: save it again with a newer version",
        ),
        (lambda: pickle.dumps(Trap()), "a plain pickle, which is not opened: expected a file by torch.save"),
        (lambda: b"", None),
        (lambda: b"hello", None),
        (lambda: saved(NETWORK.state_dict())[:-50], None),
    ],
)
def test_files_by_torch_save(make, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = make()
    if found is None:
        with pytest.raises(Exception):  # noqa: B017
            look_at_pytorch(content)
    else:
        assert look_at_pytorch(content) == found
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_in_the_place_of_a_pickle_is_not_unpacked():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 10_000_000 + b"N.")
    with pytest.raises(Exception, match="it is compressed"):
        look_at_pytorch(content.getvalue())


def test_a_large_linear_takes_little_time():
    """The course's own sizes, in text as protocol 0 has it: in a process, so that the time is that of a whole run."""
    code = """
import pickle, sys, types, numpy as np
course = sys.modules["course"] = types.ModuleType("course")
for name, base in ("Linear", object), ("relu", object), ("sigmoid", object), ("Graph", list):
    setattr(course, name, type(name, (base,), {"__module__": "course"}))
sizes = [1728, 256, 128, 64, 128, 256, 1728]
graph = course.Graph()
for i, shape in enumerate(zip(sizes, sizes[1:])):
    linear = course.Linear()
    linear.params = [np.ones(shape), np.zeros(shape[1])]
    graph += [linear, course.sigmoid() if i == 5 else course.relu()]
from grading.models import graph_of, sizes_of
print(sizes_of(graph_of(pickle.dumps(graph, 0))))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert found.stdout == "[1728, 256, 128, 64, 128, 256, 1728]\n"
