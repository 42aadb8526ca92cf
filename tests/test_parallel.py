"""Trainings in two processes, which torchrun starts, against those in one."""

import csv
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, run_script

import parallel
import train_script
from checkpoint import load_checkpoint


def torchrun(*arguments):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, ROOT / "train_script.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)


def places(folder):
    return ["--model-dir", folder / "models", "--log-dir", folder / "log"]


def history(folder, name):
    with open(folder / "log" / f"history_{name}.csv") as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


@pytest.mark.parametrize(("name", "optimizer"), [("VAE", "AdamW"), ("AE", "SGD"), ("DDPM", "AdamW")])
def test_two_processes_train_as_one_does(name, optimizer, few_photos, tmp_path):
    flags = ["--model", name, "--optimizer", optimizer, "--data-root", few_photos, "--image-size", 8, "--epochs", 4]
    flags += ["--batch-size", 7]  # of 16 photos: 4 and 3, 4 and 3, 1 and 1
    one, two = tmp_path / "one", tmp_path / "two"
    single = run_script("train_script.py", *flags, *places(one))
    both = torchrun(*flags, *places(two))
    assert (single.returncode, both.returncode) == (0, 0), both.stderr

    expected, found = history(one, name), history(two, name)
    assert len(found) == 4
    for row, same in zip(expected, found, strict=True):
        assert row == pytest.approx(same, rel=1e-4)
    epochs = re.findall(r"^Epoch: (\d)", both.stdout, re.MULTILINE)
    assert epochs == ["1", "2", "3", "4"]  # one log
    assert both.stdout.count("Settings: ") == both.stdout.count("Best epoch: ") == 1
    made = {file.name for folder in ("models", "log") for file in (two / folder).iterdir()}
    assert made == {f".BestModel_{name}.lock", f"BestModel_{name}.pth", f"LastEpoch_{name}.pth", f"history_{name}.csv"}
    assert load_checkpoint(two / "models", name)["valid_loss"] == min(row[2] for row in found)

    again = torchrun(*flags, *places(two), "--resume")
    assert "Resumed after epoch 4\n" in again.stdout and history(two, name) == found


def test_an_error_is_not_left_to_the_other_process(few_photos, tmp_path):
    flags = ["--model", "AE", "--data-root", few_photos, "--image-size", 8, "--batch-size", 5, *places(tmp_path)]
    process = torchrun(*flags)  # 5, 5, 5, and 1 photo for two processes
    assert process.returncode != 0 and process.stdout == ""
    message = "found a batch of 1 photos, expected one or more for each of 2 processes; give another --batch-size"
    assert message in process.stderr


@pytest.mark.parametrize("name", ["GAN", "VAE_calibrated"])
def test_what_needs_whole_batches_is_for_one_process(name, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "count", lambda: 2)
    with pytest.raises(SystemExit, match="2"):
        train_script.main(["--model", name])
    assert f"--model: found 2 processes, expected one for {name}; leave torchrun out" in capsys.readouterr().err


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_photo_is_for_one_process(processes, monkeypatch):
    monkeypatch.setattr(parallel, "count", lambda: processes)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for size in range(processes, 20):
        batch, noise = torch.arange(size), torch.rand(size, 2)
        parts = []
        for rank in range(processes):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            photos, numbers = parallel.own_part(batch, noise)
            assert len(photos) >= 1 and torch.equal(numbers, noise[photos])
            parts.append(photos)
        assert torch.equal(torch.cat(parts), batch)


def test_without_torchrun_there_is_one_process(monkeypatch):
    assert "TORCHELASTIC_RUN_ID" not in os.environ
    assert (parallel.join("cpu"), parallel.count(), parallel.is_first()) == ("cpu", 1, True)
    model, batch = torch.nn.Linear(1, 1), torch.rand(3)
    assert parallel.spread(model) is model
    assert torch.equal(parallel.own_part(batch)[0], batch) and parallel.sum_of_all(batch) is batch


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(OSError, match="found 1 GPUs, expected 2, one for each process; take --device cpu"):
        parallel.join("cuda")
