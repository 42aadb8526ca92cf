"""Flags, their defaults and limits, the log, and errors in one line."""

import argparse
import re
import sys
from unittest.mock import Mock

import pytest
from conftest import ROOT, skip_if_trained_here

import MLPAE_train_script
import train_script
from generative import train_DDPM, train_GAN
from lab import command_line
from lab.command_line import Parser, image_size, log, number_from_0, positive_float, positive_int, progress, seed
from lab.errors import UserError, one_line_errors

TRAININGS = {
    "MLPAE": (MLPAE_train_script, ""),
    "AE": (train_script, "--model AE"),
    "AE_SGD": (train_script, "--model AE --optimizer SGD"),
    "VAE": (train_script, "--model VAE"),
    "VAE_calibrated": (train_script, "--model VAE_calibrated"),
    "GAN": (train_GAN, ""),
    "DDPM": (train_DDPM, ""),
}


@pytest.fixture
def settings_of(monkeypatch):
    """The arguments with which a training begins."""

    def settings(name, flags=""):
        script, given = TRAININGS[name]
        load_photos = Mock(side_effect=InterruptedError("it has begun"))
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr("torch.cuda.is_available", lambda: False)
            patch.setattr(script, "load_photos", load_photos)
            script.main([*given.split(), *flags.split()])
        return vars(load_photos.call_args.args[0])

    return settings


@pytest.mark.parametrize("name", TRAININGS)
def test_the_defaults_are_the_settings_of_the_committed_results(name, settings_of):
    skip_if_trained_here(name.removesuffix("_SGD"))
    text, _ = (ROOT / "log" / f"train_{name}.txt").read_text().split("\nData: ")
    logged = dict(setting.split(" ", 1) for setting in " ".join(text.split()).removeprefix("Settings: ").split(", "))
    found = settings_of(name)
    found["image_size"] = "{}x{}".format(*found["image_size"])
    if name == "DDPM":
        found["encoding_dim"] = 3 * 24 * 24  # which its log gives as what it is
    assert found.pop("resume") is False
    for key in "epochs", "lr", "patience", "encoding_dim", "image_size", "batch_size":
        assert str(found.pop(key)) == logged[key]
    assert all(str(value) == logged.get(key, str(value)) for key, value in found.items())


def test_flags_replace_the_defaults_of_a_model(settings_of):
    found = settings_of("AE", "--epochs 7 --lr 0.5 --patience 3 --encoding-dim 5 --image-size 8x12 --samples-every 2")
    assert (found["epochs"], found["lr"], found["patience"], found["encoding_dim"]) == (7, 0.5, 3, 5)
    assert (found["image_size"], found["samples_every"]) == ((8, 12), 2)
    assert settings_of("GAN", "--epochs 7")["patience"] == 7  # no early stopping


def test_help_says_which_default_is_of_which_model(capsys):
    with pytest.raises(SystemExit, match="0"):
        train_script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "maximum number of epochs (default: 15 for AE; 60 for AE with SGD; 20 for VAE; 40 for VAE_calibrated)" in text
    )
    assert "size of the latent vector (default: 64)" in text


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (positive_int, {"1": 1, "16": 16}, ["0", "-1", "1.5", "one", ""]),
        (seed, {"0": 0, "4294967295": 2**32 - 1}, ["-1", "4294967296", "0.5"]),
        (number_from_0, {"0": 0, "0.5": 0.5, "3": 3}, ["-1", "inf", "nan", "much"]),
        (positive_float, {"1e-9": 1e-9, "0.5": 0.5, "3": 3}, ["0", "-1", "inf", "nan", "much"]),
        (
            image_size,
            {"1": (1, 1), "24": (24, 24), "32X20": (32, 20), "1024": (1024, 1024)},
            ["0", "24x0", "0x24", "24x", "24x24x24", "2.5", "-4", "big", "1025", "24x1025"],
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


@pytest.mark.parametrize(("quiet", "ci", "shown"), [(False, "", True), (True, "", False), (False, "true", False)])
def test_the_log_is_on_stdout_and_progress_on_stderr(quiet, ci, shown, monkeypatch, capsys):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(command_line, "quiet", quiet)
    for number in progress([1, 2], "Counting", unit="number"):
        log(f"line {number}")
    out, err = capsys.readouterr()
    assert out == "line 1\nline 2\n"
    assert ("Counting" in err and "2 [" in err and "number" in err) is shown and "\n" not in err  # no bar is left


ERROR = "script.py: error:"
MEMORY = f"{ERROR} out of memory (can't allocate memory); take fewer or smaller images"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("found\n\tthis\x1b\u202e, \u82b1"), 2, f"{ERROR} found this??, \u82b1"),
        (KeyboardInterrupt("Go on like this."), 130, "Go on like this."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (PermissionError(13, "Permission denied", "x.txt"), 2, f"{ERROR} x.txt: Permission denied; give another place"),
        (OSError(28, "No space left on device"), 2, f"{ERROR} the log: No space left on device; give another place"),
        (MemoryError("can't allocate memory"), 2, MEMORY),
        (RuntimeError("can't allocate memory"), 2, MEMORY),
        (NotImplementedError("Part 1, step 2: Linear.forward"), 2, f"{ERROR} Part 1, step 2: Linear.forward"),
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
    if isinstance(error, NotImplementedError):
        where = re.fullmatch(rf"{line} is not written yet \((.*), line (\d+)\)\n", err)
        assert where[1] == __file__ and int(where[2]) == main.__wrapped__.__code__.co_firstlineno + 5
    else:
        assert err == f"{line}\n"
    assert (stop.value.code, out) == (status, "") and main.__doc__ == "What it does."


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), NotImplementedError("a bug")])
def test_bugs_keep_their_traceback(error):
    @one_line_errors
    def main(argv=None):
        raise error

    with pytest.raises(type(error), match="a bug"):
        main()
