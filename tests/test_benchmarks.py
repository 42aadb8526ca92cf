"""The benchmarks run and print their tables; how long anything takes is no matter for a test."""

import re
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import epoch, loading, measure, part2, step

ROWS = {
    step: ["autograd", "its matrix products alone", "PyTorch eager", "arithmetic limit"],
    epoch: ["train_script.py", "plain loop, photos in memory", "plain loop over ImageFolder"],
    loading: ["read_flowers", "one pass of ImageFolder"],
    part2: ["MLPAE_train_script.py", "visualization.py", "both scripts"],
}


@pytest.mark.parametrize("subject", ROWS, ids=lambda subject: subject.__name__)
def test_tables(subject, few_photos, monkeypatch, capfd):
    rounds = 1 if subject is part2 else 4

    def briefly(contenders, **_):
        return measure.time_in_turn(contenders, rounds=rounds, pause=0)

    if subject is epoch:
        for name, value in ("MODELS", ["AE"]), ("EPOCHS", 3), ("ROUNDS", 1):
            monkeypatch.setattr(epoch, name, value)
    else:
        monkeypatch.setattr(subject, "time_in_turn", briefly)
    if subject is step:
        monkeypatch.setattr(step, "ROUNDS", rounds)
        monkeypatch.setitem(sys.modules, "jax", None)  # where there is one, its threads would upset the other tests
    name = subject.__name__.removeprefix("benchmarks.")
    benchmarks.main([name, "--data-root", str(few_photos)])
    out, err = capfd.readouterr()
    assert "Python 3" in out and err == ""
    table = [line.strip("| ").split("|")[0].strip() for line in out.splitlines() if line.startswith("| ")]
    assert [row for row in table if row in ROWS[subject]] == ROWS[subject]
    assert len(re.findall(r" 1\.00 \(1\.00 - 1\.00\)", out)) >= 1  # each is as fast as itself


def test_times_are_taken_in_turn():
    calls = []
    times = measure.time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, 3, 1, pause=0)
    assert "".join(calls) == 3 * "aaaabbbb"  # with the round that goes before the first, and the call before each
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_unknown_subjects(capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main(["steps"])
    assert "found steps, expected some of step, epoch, loading, part2" in capsys.readouterr().err
