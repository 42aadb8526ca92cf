"""The benchmarks run, and their table; how long anything takes is no matter for a test."""

from functools import partial

import pytest

from benchmarks import __main__ as benchmarks


def test_a_table_of_what_took_turns(capsys):
    """Of one in the rounds: 1, 2, 3 and 10, of the other 2; the round before does not count."""
    turns = []
    times = {"one": iter([99, 1, 2, 3, 10]), "other": iter([99, 2, 2, 2, 2])}
    contenders = {name: partial(lambda name: turns.append(name) or next(times[name]), name) for name in times}
    benchmarks.compare("A title", contenders, ["other"], rounds=4)
    assert turns == 5 * ["one", "other"]
    out = capsys.readouterr().out
    # The ratios, round by round, are 0.5, 1, 1.5 and 5: their median, and the middle half.
    assert "| one | 2.50 | 1.00 - 10.00 | 1.25 (0.88 - 2.38) |" in out
    assert "| other | 2.00 | 2.00 - 2.00 | 1.00 (1.00 - 1.00) |" in out


@pytest.mark.slow
def test_each_subject_measures_what_it_compares(few_photos, monkeypatch):
    measured = []

    def compare(title, contenders, against, rounds):
        assert set(against) <= contenders.keys()
        for name in contenders.keys() & {"autograd", "PyTorch eager", "busy"}:
            assert contenders[name]() > 0
            measured.append(name)

    monkeypatch.setattr(benchmarks, "compare", compare)
    benchmarks.main(["--data-root", str(few_photos)])
    assert sorted(measured) == ["PyTorch eager", "autograd", "busy", "busy"]


def test_unknown_subjects(capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main(["steps"])
    assert "'steps'" in capsys.readouterr().err
