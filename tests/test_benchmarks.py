"""The benchmarks run and print their tables; how long anything takes is no matter for a test."""

import re

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import busy, epoch, measure, step

ROWS = {
    step: ["autograd", "PyTorch eager, one thread", "PyTorch eager"],
    epoch: ["train_script.py", "plain loop, photos in memory", "plain loop over ImageFolder"],
    busy: ["idle", "idle, the libraries' own threads", "busy", "busy, the libraries' own threads"],
}


@pytest.mark.slow
@pytest.mark.parametrize("subject", ROWS, ids=lambda subject: subject.__name__)
def test_each_subject_prints_its_table(subject, few_photos, monkeypatch, capfd):
    def briefly(contenders, **_):
        return {name: [measure._seconds(function)] for name, function in contenders.items()}

    if subject is epoch:
        for name, value in ("MODELS", ["AE"]), ("EPOCHS", 2), ("ROUNDS", 1):
            monkeypatch.setattr(epoch, name, value)
    else:
        monkeypatch.setattr(subject, "time_in_turn", briefly)
    training = ["MLPAE_train_script.py", "--epochs", "1", "--image-size", "8"]
    monkeypatch.setattr(busy, "TRAININGS", {"MLPAE": training})
    benchmarks.main([subject.__name__.removeprefix("benchmarks."), "--data-root", str(few_photos)])
    out, err = capfd.readouterr()
    assert "Python 3" in out and err == ""
    _, *rows = [line.strip("| ").split("|")[0].strip() for line in out.splitlines() if line.startswith("| ")]
    assert [row for row in rows if not row.endswith("(control)")] == ROWS[subject]
    assert re.search(r" \d+\.\d\d \(\d+\.\d\d - \d+\.\d\d\) \|$", out, re.MULTILINE)


def test_a_table_of_times(capsys):
    times = {"one": [0.001, 0.002, 0.003, 0.010], "other": [0.002, 0.002, 0.002, 0.002]}
    measure.show("A title", times, "ms", against=["other"])
    out = capsys.readouterr().out
    assert "A title" in out and "median, ms" in out
    # The ratios, round by round, are 0.5, 1, 1.5 and 5: their median, and the middle half.
    assert "| one   | 2.50 | 1.00 - 10.00 | 1.25 (1.00 - 1.50) |" in out
    assert "| other | 2.00 | 2.00 - 2.00 | 1.00 (1.00 - 1.00) |" in out


def test_times_are_taken_in_turn():
    calls = []
    times = measure.time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, 3, 1, pause=0)
    assert "".join(calls) == 3 * "aaaabbbb"  # with the round that goes before the first, and the call before each
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_unknown_subjects(capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main(["steps"])
    assert "found steps, expected some of step, epoch, busy" in capsys.readouterr().err
