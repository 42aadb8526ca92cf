import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lab.untrusted_pickle import NUMPY, Recorded, array_of, origin_of, read_pickle

floats = st.sampled_from(["<f4", "<f8", ">f4", ">f8"])
matrices = floats.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0)))


@given(matrices, st.sampled_from([3, 4, 5]), st.sampled_from(["as it is", "transposed", "every other row"]))
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
