import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lab.untrusted_pickle import NUMPY, Recorded, array_of, origin_of, read_pickle

floats = st.sampled_from(["<f4", "<f8", ">f4", ">f8"])
matrices = floats.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0)))


@given(matrices, st.sampled_from(range(6)), st.sampled_from(["as it is", "transposed", "every other row"]))
def test_arrays_come_back(array, protocol, form):
    array = {"transposed": array.T, "every other row": array[::2] if array.ndim else array}.get(form, array)
    found = array_of(read_pickle(pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=") and found.flags.writeable


@pytest.mark.parametrize(
    "array", [np.zeros(3, int), np.array([None]), np.zeros(3, "f2"), np.zeros(3, bool), [1.0], None]
)
def test_what_is_no_array_of_floats_is_refused(array):
    remembered = read_pickle(pickle.dumps(array, 4))
    with pytest.raises(ValueError, match="expected"):
        array_of(remembered)


def part(value):
    """The steps of a pickle that put a value on the stack."""
    return pickle.dumps(value, 3)[2:-1]


SIX = np.arange(6, dtype="f4")


def array_pickle(module, shape=(2, 3), dtype=SIX.dtype, order="C", content=SIX.tobytes()):  # noqa: B008
    """As versions of NumPy write arrays in the different protocols."""
    end = part(shape), part(dtype), part(order == "F"), part(content)
    if module.endswith("numeric"):
        return b"".join(
            [b"\x80\x03c", module.encode(), b"\n_frombuffer\n(", end[3], end[1], end[0], part(order), b"tR."]
        )
    made = part(np.ndarray) + part((0,)) + part(b"b")
    return b"".join([b"\x80\x03c", module.encode(), b"\n_reconstruct\n(", made, b"tR(K\x01", *end, b"tb."])


MODULES = [f"numpy.{core}.{name}" for core in ("core", "_core") for name in ("multiarray", "numeric")]


@pytest.mark.parametrize("module", MODULES)
def test_arrays_of_all_versions_of_numpy(module):
    for order, expected in ("C", [[0, 1, 2], [3, 4, 5]]), ("F", [[0, 2, 4], [1, 3, 5]]):
        found = array_of(read_pickle(array_pickle(module, order=order), NUMPY))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
    for shape in ((2**32 - 1, 0), (0, 2**32 - 1), ()):
        content = b"1234" if shape == () else b""
        assert array_of(read_pickle(array_pickle(module, shape, content=content), NUMPY)).shape == shape


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"shape": (2**32, 0), "content": b""}, "it holds an array of shape (4294967296, 0)"),
        ({"shape": (0, -1), "content": b""}, "it holds an array of shape (0, -1)"),
        ({"shape": (-2, -3)}, "it holds an array of shape (-2, -3)"),
        ({"shape": (2, 3.0)}, "it holds an array of shape (2, 3.0)"),
        ({"shape": (6, True)}, "it holds an array of shape (6, True)"),
        ({"shape": [2, 3]}, "it holds an array of shape [2, 3]"),
        ({"shape": 6}, "it holds an array of shape 6"),
        ({"shape": (2, 4)}, "it holds an array of shape (2, 4) with 6 numbers in it"),
        ({"shape": (5,)}, "it holds an array of shape (5,) with 6 numbers in it"),
        ({"dtype": np.dtype("i4")}, "it holds an array of 'i4', expected floats"),
        ({"dtype": np.dtype("f8,f8")}, "it holds an array of 'V16', expected floats"),
        ({"dtype": [1] * 1000}, "it holds an array of [1, 1, 1, 1, 1, 1, ...], expected floats"),
    ],
)
def test_arrays_that_are_not_what_they_should_be(module, wrong, reason):
    with pytest.raises(ValueError) as error:
        array_of(read_pickle(array_pickle(module, **wrong)))
    assert str(error.value) == reason


def test_a_dtype_without_a_state_has_the_byte_order_of_the_machine():
    state = pickle.dumps(np.dtype("f4"), 3)[2:-1]
    content = array_pickle("numpy.core.multiarray")
    assert content.count(state) == 1
    content = content.replace(state, b"cnumpy\ndtype\n(X\x02\0\0\0f4tR")
    np.testing.assert_array_equal(array_of(read_pickle(content)), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match=r"it holds an array of <.*>, expected floats"):
        array_of(read_pickle(content.replace(b"cnumpy\ndtype", b"cother\ndtype")))


@pytest.mark.parametrize("most", [10, 10_000])
def test_limits_on_steps_and_places(most):
    limit = {} if most == 10_000 else {"most_steps": most}
    assert read_pickle(b"N0" * (most // 2 - 1) + b"N.", **limit) is None
    with pytest.raises(pickle.UnpicklingError, match="too many steps"):
        read_pickle(b"N0" * (most // 2 - 1) + b"N\x94.", **limit)
    puts = [lambda n: b"p%d\n" % n, lambda n: b"r" + n.to_bytes(4, "little")]
    if most < 256:
        puts.append(lambda n: b"q" + bytes([n]))
    for put in puts:
        assert read_pickle(b"N" + put(0) + put(most - 1) + b".", **limit) is None
        for more in most, most + 50:
            with pytest.raises(pickle.UnpicklingError, match="a table of great size"):
                read_pickle(b"N" + put(more) + put(0) + b".", **limit)


def test_what_would_take_any_time_to_hash_is_not_hashed():
    """A tuple of 2^200 tuples, in 400 bytes, as a key: in a process, since it would never end."""
    code = """
import pickle
from lab.untrusted_pickle import read_pickle

for content in (
    b"})" + b"2\\x86" * 200 + b"Ns.",
    b"}(N)" + b"2\\x86" * 200 + b"u.",
    b")q\\x00" + b"h\\x00h\\x00\\x86q\\x00" * 200 + b"}h\\x00Ns.",
    b")q\\x00" + b"(h\\x00h\\x00tq\\x00" * 200 + b"}h\\x00Ns.",
    b")\\x94" + b"".join(b"h%ch%c\\x86\\x94" % (i, i) for i in range(200)) + b"}h\\xc8Ns.",
    b"})" + b"22\\x87" * 120 + b"Ns.",
    b"\\x8f()" + b"2\\x86" * 200 + b"\\x90.",
    b"()" + b"2\\x86" * 200 + b"\\x91.",
    b"ccollections\\nOrderedDict\\n)R)" + b"2\\x86" * 200 + b"Ns.",
    b"c_codecs\\nencode\\n)R)" + b"2\\x86" * 200 + b"Ns.",
):
    try:
        read_pickle(content)
    except pickle.UnpicklingError as error:
        print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert found.stdout.splitlines() == ["it holds tuples in tuples without end"] * 10, found.stderr


@pytest.mark.parametrize("parts", [2_000, 2_001])
def test_limits_on_the_parts_of_a_tuple(parts):
    flat = b"}(" + b"N" * (parts - 1) + b"tNs."
    deep = b"})" + b"\x85" * (parts - 1) + b"Ns."
    for content in flat, deep:
        if parts == 2_000:
            assert len(read_pickle(content)) == 1
        else:
            with pytest.raises(pickle.UnpicklingError, match="tuples in tuples without end"):
                read_pickle(content)


@pytest.mark.parametrize("number", [1_000, 1_001])
def test_limits_on_keys_that_may_have_one_hash(number):
    """Multiples of 2^61 - 1 all have the hash 0."""
    content = pickle.dumps({k * (2**61 - 1): None for k in range(1, number + 1)})
    if number == 1_000:
        assert len(read_pickle(content)) == number
    else:
        with pytest.raises(pickle.UnpicklingError, match="too many large numbers"):
            read_pickle(content)
    assert len(read_pickle(pickle.dumps([2**53] * 2_000 + [-(2**53)] * 2_000))) == 4_000


class Keyed(dict):
    pass


def test_dicts_of_other_classes_are_remembered():
    for protocol in range(6):
        for kind in OrderedDict, Keyed:
            found = read_pickle(pickle.dumps(kind(a=1, b=[2]), protocol))
            assert origin_of(found)[1] == kind.__name__ and found.entries == {"a": 1, "b": [2]} and found.items == []


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_objects_and_arrays_of_old_protocols(protocol):
    found = read_pickle(pickle.dumps([Line(1, 2), SIX, SIX[:0], SIX.reshape(2, 3).T], protocol))
    assert (origin_of(found[0]), found[0].items, found[0].state) == ((__name__, "Line"), [1, 2], {"name": "line"})
    for array, expected in zip(found[1:], (SIX, SIX[:0], SIX.reshape(2, 3).T), strict=True):
        np.testing.assert_array_equal(array_of(array), expected)


def test_a_pickle_cannot_copy_its_parts_any_number_of_times():
    """Ten thousand objects by the protocols 0 and 1, each of which has the same thousand elements."""
    make = b"h\x00(h\x01c__builtin__\nlist\nh\x02tR"
    start = b"ccopy_reg\n_reconstructor\nq\x00cthis\nthat\nq\x01](" + b"N" * 1_000 + b"eq\x02("
    found = read_pickle(start + make * 1_000 + b"l.")
    assert len(found) == 1_000 and all(part.items is found[0].items for part in found)
    text = b"c_codecs\nencode\nq\x00(V" + b"x" * 1_000 + b"\nVlatin1\ntq\x01(" + b"h\x00h\x01R" * 1_000 + b"l."
    found = read_pickle(text)
    assert len({id(part.arguments[0]) for part in found}) == 1 and type(found[0]) is not bytes


@pytest.mark.parametrize("kind", [b"N", b"I1\n", b"cbuiltins\nobject\n)R", b"V\n"])
def test_objects_of_what_is_no_class(kind):
    with pytest.raises(pickle.UnpicklingError, match="what is no class"):
        read_pickle(b"ccopyreg\n_reconstructor\n(" + kind + b"cbuiltins\nobject\nNtR.")


def test_nothing_may_follow_the_end_of_a_pickle():
    with pytest.raises(pickle.UnpicklingError, match="more after its end"):
        read_pickle(b"N..")


class Line(list):
    def __init__(self, *nodes):
        super().__init__(nodes)
        self.name = "line"


class Node:
    __slots__ = ("width",)

    def __init__(self, width):
        self.width = width

    def __reduce__(self):
        return Node, (self.width,)


def test_objects_are_remembered_and_not_made():
    node = Node(3)
    line = read_pickle(pickle.dumps({"model": Line(node, node), "done": True}))
    assert line.keys() == {"model", "done"} and line["done"] is True
    line = line["model"]
    assert isinstance(line, Recorded) and type(line).__name__ == "Line"
    assert origin_of(line) == (__name__, "Line") and line.state == {"name": "line"}
    assert [origin_of(item) for item in line.items] == [(__name__, "Node")] * 2
    assert line.items[0] is line.items[1] and line.items[0].arguments == (3,)
    assert line.items[0].state is None and line.items[0].items == [] and line.arguments == ()


@pytest.mark.parametrize("number", [0, 1, 2, 2000])
def test_items_are_remembered_in_order(number):
    """One item, and several, are appended by different steps; more than a thousand by several of them."""
    for protocol in 2, 4:
        assert read_pickle(pickle.dumps(Line(*range(number)), protocol)).items == list(range(number))


def test_each_pickle_has_classes_of_its_own():
    content = pickle.dumps([Node(1), Node(2), Line()])
    (first, second, line), (again, *_) = read_pickle(content), read_pickle(content)
    assert type(first) is type(second) and type(first) is not type(again) and type(first) is not type(line)
    assert origin_of(first) == origin_of(again) and origin_of(3) is None


def test_nothing_runs(tmp_path, capfd):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'trapped'}",)

    remembered = read_pickle(pickle.dumps([Trap(), OrderedDict()][0]))
    assert origin_of(remembered)[1] == "system" and not (tmp_path / "trapped").exists()
    with pytest.raises(pickle.UnpicklingError, match="system, which no checkpoint needs"):
        read_pickle(pickle.dumps(Trap()), NUMPY)


def test_no_class_can_be_changed_by_a_pickle():
    """BUILD, the step that gives an object its state, here given a class."""
    before = dict(vars(Recorded))
    with pytest.raises(TypeError):
        read_pickle(b"cthis\nthat\nN}S'origin'\nI1\ns\x86b.")
    assert vars(Recorded) == before
    assert origin_of(read_pickle(b"cthis\nthat\n)R.")) == ("this", "that")
