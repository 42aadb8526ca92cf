"""Flags, their defaults and limits, the settings in the log, and errors in one line."""

import argparse
import re
import sys
from unittest.mock import Mock

import pytest
import torch
from conftest import ROOT, skip_if_trained_here

import MLPAE_train_script
import train_script
from generative import train_DDPM, train_GAN
from lab.command_line import Parser, image_size, number_from_0, positive_float, positive_int, seed
from lab.errors import UserError, one_line_errors
from lab.training_run import TrainingRun

TRAININGS = {
    "MLPAE": (MLPAE_train_script, "", MLPAE_train_script.SETTINGS),
    "AE": (train_script, "--model AE", train_script.SETTINGS["AE"]),
    "AE_SGD": (train_script, "--model AE --optimizer SGD", train_script.SETTINGS["AE with SGD"]),
    "VAE": (train_script, "--model VAE", train_script.SETTINGS["VAE"]),
    "VAE_calibrated": (train_script, "--model VAE_calibrated", train_script.SETTINGS["VAE_calibrated"]),
    "GAN": (train_GAN, "", train_GAN.SETTINGS),
    "DDPM": (train_DDPM, "", train_DDPM.SETTINGS),
}


def settings_in(log):
    text, _ = log.split("\nData: ")
    return dict(setting.split(" ", 1) for setting in " ".join(text.split()).removeprefix("Settings: ").split(", "))


@pytest.fixture
def settings_of(folders, monkeypatch, capsys):
    """The settings that the log of a training says it has."""

    def settings(name, *flags):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(TrainingRun, "epochs", Mock(side_effect=KeyboardInterrupt))  # before the first
        script, given, _ = TRAININGS[name]
        with pytest.raises(SystemExit, match="130"):
            script.main([*given.split(), *map(str, folders), *flags])
        return settings_in(capsys.readouterr().out)

    return settings


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_has_its_scripts_settings_as_the_committed_log_has(name, settings_of):
    found, settings = settings_of(name), TRAININGS[name][2]
    assert settings.keys() >= {"image_size", "batch_size", "epochs", "lr"} and settings["image_size"] == (24, 24)
    expected = settings | {"image_size": "24x24"}
    assert {key: found[key] for key in settings} == {key: str(value) for key, value in expected.items()}
    assert (found["seed"], found["split_seed"], found["strict"]) == ("0", "0", "False")
    skip_if_trained_here(name.removesuffix("_SGD"))
    logged = settings_in((ROOT / "log" / f"train_{name}.txt").read_text())
    assert {key: found[key] for key in (*settings, "seed", "split_seed")}.items() <= logged.items()


def test_flags_replace_the_settings(settings_of):
    flags = "--epochs 7 --lr 0.5 --patience 3 --encoding-dim 5 --image-size 8x12 --batch-size 3 --seed 4 --split-seed 5"
    for name in "MLPAE", "AE", "AE_SGD":
        found = settings_of(name, *flags.split())
        for flag, value in zip(flags.split()[::2], flags.split()[1::2], strict=True):
            assert found[flag.removeprefix("--").replace("-", "_")] == value, flag


@pytest.mark.parametrize("script", [MLPAE_train_script, train_script, train_GAN, train_DDPM])
def test_help_shows_the_default_of_each_setting_and_of_which_model(script, capsys):
    settings = script.SETTINGS if script is train_script else {"the only one": script.SETTINGS}
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in {field for of_model in settings.values() for field in of_model}:
        default = re.search(rf" --{field.replace('_', '-')} [A-Z_]+ [^(]*\(default: ([^)]*)\)", text)[1]
        shown = {}
        for part in default.split("; "):
            value, _, names = part.partition(" for ")
            shown |= dict.fromkeys(names.split(", ") if names else settings, value)
        expected = {name: of_model[field] for name, of_model in settings.items()}
        assert shown == {name: "24x24" if value == (24, 24) else str(value) for name, value in expected.items()}


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
        with pytest.raises(argparse.ArgumentTypeError, match=r"^found .*, expected a "):
            kind(text)


@pytest.mark.parametrize("flags", ["--number 0", "--numb 4"])
def test_an_error_of_a_flag_is_one_line_with_exit_status_2(flags, capsys):
    parser = Parser("A description.")
    parser.add_argument("--number", type=positive_int, default=3, help="of things")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(flags.split())
    err = capsys.readouterr().err
    assert f" {flags.split()[0]}" in err and err.count("\n") == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_the_log_is_on_stdout_and_a_bar_on_a_terminal_alone(terminal, folders, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    MLPAE_train_script.main([str(part) for part in (*folders, "--image-size", 4, "--epochs", 1)])
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == ["Settings", "Data", "Epoch", "Best epoch"]
    assert ("1/1 [" in err and "Training MLPAE" in err) is terminal


ERROR = "script.py: error:"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("found\n\tthis\x1b\u202e, \u82b1"), 2, f"{ERROR} found this??, \u82b1\n"),
        (KeyboardInterrupt("Go on like this."), 130, "Go on like this.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (PermissionError(13, "Permission denied", "x.txt"), 2, f"{ERROR} x.txt: Permission denied"),
        (OSError(28, "No space left on device"), 2, f"{ERROR} the log: No space left on device"),
        (MemoryError("can't allocate memory"), 2, f"{ERROR} out of memory"),
        (RuntimeError("can't allocate memory"), 2, f"{ERROR} out of memory"),
        (NotImplementedError("Part 1, step 2: Linear.forward"), 2, f"{ERROR} Part 1, step 2: Linear.forward"),
    ],
)
def test_errors_in_one_line(error, status, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["some/where/script.py"])

    @one_line_errors
    def main(argv=None):
        if argv != ["fine"]:
            raise error

    main(["fine"])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (status, "") and err.startswith(said) and err.count("\n") == 1
    if isinstance(error, NotImplementedError):
        assert f"({__file__}, line {main.__wrapped__.__code__.co_firstlineno + 3})" in err


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), NotImplementedError("a bug")])
def test_bugs_keep_their_traceback(error):
    with pytest.raises(type(error), match="a bug"):
        one_line_errors(Mock(side_effect=error))()
