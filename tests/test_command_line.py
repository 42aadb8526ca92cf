"""Flags, their defaults and limits, and errors in one line."""

import argparse
import io
import re
import sys

import pytest
from conftest import ROOT, skip_if_trained_here

import MLPAE_train_script
import train_script
from lab import command_line
from lab.command_line import Parser, image_size, log, number_from_0, positive_float, positive_int, progress, seed
from lab.errors import UserError, one_line, one_line_errors

RUNS = [
    ("MLPAE", []),
    ("AE", []),
    ("AE_SGD", ["--model", "AE", "--optimizer", "SGD"]),
    ("VAE", []),
    ("VAE_calibrated", []),
    ("GAN", []),
    ("DDPM", []),
]


def settings_of(name, flags):
    script = MLPAE_train_script if name == "MLPAE" else train_script
    args = script.parse_arguments(flags or ([] if name == "MLPAE" else ["--model", name]))
    return {key: str(value) for key, value in vars(args).items()}


@pytest.mark.parametrize(("name", "flags"), RUNS)
def test_the_defaults_are_the_settings_of_the_committed_results(name, flags):
    skip_if_trained_here(name.removesuffix("_SGD"))
    first_line = (ROOT / "log" / f"train_{name}.txt").read_text().splitlines()[0].removeprefix("Settings: ")
    logged = dict(setting.split(" ", 1) for setting in first_line.split(", "))
    found = settings_of(name, flags)
    width, height = map(int, re.findall(r"\d+", found["image_size"]))
    found |= {"image_size": f"{width}x{height}"}
    if name != "MLPAE":
        assert found["device"] == "auto"  # which the log gives as what it is, as it does None
        found["device"] = "cpu"
    if name == "DDPM":
        found["encoding_dim"] = str(3 * width * height)
    assert found.pop("resume") == "False"
    logged.setdefault("vis_dir", "./vis")  # was no setting of a training at first
    assert found == logged


def test_defaults_without_a_committed_result():
    found = settings_of("VAE", ["--model", "VAE", "--optimizer", "SGD"])
    assert (found["epochs"], found["lr"], found["patience"], found["encoding_dim"]) == ("60", "0.0001", "15", "64")


def test_flags_replace_the_defaults_of_a_model():
    flags = ["--model", "AE", "--epochs", "7", "--lr", "0.5", "--patience", "3", "--encoding-dim", "5"]
    args = train_script.parse_arguments(flags)
    assert (args.epochs, args.lr, args.patience, args.encoding_dim) == (7, 0.5, 3, 5)
    assert train_script.parse_arguments(["--model", "GAN", "--epochs", "7"]).patience == 7  # no early stopping


def test_help_says_which_default_is_of_which_model(capsys):
    with pytest.raises(SystemExit, match="0"):
        train_script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: 15 for AE; 60 for AE with SGD, VAE with SGD; 20 for VAE; 40 for VAE_calibrated; 150 for" in text
    assert (
        "(default: 64 for AE, AE with SGD, VAE, VAE with SGD, VAE_calibrated, GAN; 3 x width x height for DDPM)" in text
    )
    assert "then early stopping (default: 15 for AE, AE with SGD, VAE, VAE with SGD, VAE_calibrated; all epochs" in text
    with pytest.raises(SystemExit, match="0"):
        MLPAE_train_script.main(["--help"])
    assert "maximum number of epochs (default: 100)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (positive_int, {"1": 1, "16": 16}, ["0", "-1", "1.5", "one", ""]),
        (seed, {"0": 0, "4294967295": 2**32 - 1}, ["-1", "4294967296", "0.5"]),
        (number_from_0, {"0": 0, "0.5": 0.5, "3": 3}, ["-1", "inf", "nan", "much"]),
        (positive_float, {"1e-9": 1e-9, "0.5": 0.5, "3": 3}, ["0", "-1", "inf", "nan", "much"]),
        (
            image_size,
            {"1": (1, 1), "24": (24, 24), "32x20": (32, 20), "32X20": (32, 20)},
            ["0", "24x0", "0x24", "24x", "x", "24x24x24", "24x24x24x24", "2.5", "-4", "big"],
        ),
    ],
)
def test_what_flags_take(kind, right, wrong):
    for text, value in right.items():
        assert kind(text) == value
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match=rf"^found '{text}', expected a "):
            kind(text)


def test_an_error_of_a_flag_is_one_line_with_exit_status_2(capsys):
    parser = Parser("A description.")
    parser.prog = "script.py"
    parser.add_argument("--number", type=positive_int, default=3, help="of things")
    for flags, message in (
        (["--number", "0"], "argument --number: found '0', expected a whole number from 1 up"),
        (["--numb", "4"], "unrecognized arguments: --numb 4"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args(flags)
        assert capsys.readouterr().err == f"script.py: error: {message} (see --help)\n"
    assert vars(parser.parse_args(["--quiet"])) == {"number": 3} and command_line.quiet is True
    assert parser.parse_args([]).number == 3 and command_line.quiet is False


def test_the_log_is_on_stdout_and_progress_on_stderr(monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for switched_off, environment in (False, {}), (True, {}), (False, {"CI": "true"}):
        monkeypatch.setattr(command_line, "quiet", switched_off)
        with monkeypatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            for number in progress([1, 2], "Counting", unit="number"):
                log(f"line {number}")
        out, err = capsys.readouterr()
        assert out == "line 1\nline 2\n"
        assert ("Counting" in err) is (not switched_off and not environment) and "\n" not in err  # no bar is left
    with progress(None, "By hand", 10, "thing") as bar:
        assert (bar.total, bar.unit) == (10, "thing")


def test_a_line_of_the_log_is_written_at_once(monkeypatch):
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="utf-8", newline="\n"))
    log("a line")
    assert file.getvalue() == b"a line\n"


def test_untrusted_text_in_one_line():
    assert one_line("two\nlines,\ttabs  and \x1b[2J, \x7f, \u202e") == "two lines, tabs and ?[2J, ?, ?"
    assert one_line("\u82b1 and \u00e9") == "\u82b1 and \u00e9"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("found\nthis\x1b"), 2, "script.py: error: found this?"),
        (KeyboardInterrupt("Go on like this."), 130, "Go on like this."),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_errors_in_one_line(error, status, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["some/where/script.py"])

    @one_line_errors
    def main(argv=None):
        """What it does."""
        if argv == ["fine"]:
            return
        raise error

    main(["fine"])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err) == (status, "", f"{line}\n") and main.__doc__ == "What it does."


def test_bugs_keep_their_traceback():
    for error in OSError("a bug"), ValueError("a bug"):

        @one_line_errors
        def main(argv=None, error=error):
            raise error

        with pytest.raises(type(error), match="a bug"):
            main()
