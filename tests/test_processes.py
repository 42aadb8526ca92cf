"""Trainings in two processes, started by torchrun, compared with those in one."""

import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, fails, run_script
from torch.utils.data import DataLoader, TensorDataset

import train_script
from data_processor import create_flower_dataloaders
from lab import processes
from lab.checkpoint import load_checkpoint
from lab.errors import UserError
from lab.plots import read_history


def torchrun(*arguments):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, ROOT / "train_script.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)


def places(folder):
    return ["--model-dir", folder / "models", "--log-dir", folder / "log"]


def history(folder, name):
    return [list(row.values()) for row in read_history(folder / "log" / f"history_{name}.csv")]


SLOW = [pytest.param(name, "AdamW", marks=pytest.mark.slow) for name in ("VAE", "DDPM")]


@pytest.mark.parametrize(("name", "optimizer"), [("AE", "SGD"), *SLOW])
def test_two_processes_learn_what_one_does(name, optimizer, few_photos, tmp_path):
    flags = ["--model", name, "--optimizer", optimizer, "--data-root", few_photos, "--image-size", 8, "--epochs", 12]
    flags += ["--batch-size", 6]  # of 16 photos, 8 for each process: 3, 3, 2
    one, two = tmp_path / "one", tmp_path / "two"
    single = run_script("train_script.py", *flags, *places(one))
    both = torchrun(*flags, *places(two))
    assert (single.returncode, both.returncode) == (0, 0), both.stderr

    expected, found = history(one, name), history(two, name)
    assert len(found) == 12
    assert expected[-1][1:3] == pytest.approx(found[-1][1:3], rel=0.2)  # other random numbers, and few of them
    assert found[-1][1] < 0.8 * found[0][1]
    epochs = re.findall(r"^Epoch: (\d+)", both.stdout, re.MULTILINE)
    assert epochs == [str(epoch) for epoch in range(1, 13)]  # one log
    assert both.stdout.count("Settings: ") == both.stdout.count("Best epoch: ") == 1
    made = {file.name for folder in ("models", "log") for file in (two / folder).iterdir()}
    files = {f"BestModel_{name}.pth", f"LastEpoch_{name}.pth", f"history_{name}.csv", f"log_{name}.txt"}
    assert made == files | {f".BestModel_{name}.lock", f".history_{name}.lock"}
    assert load_checkpoint(two / "models", name)["valid_loss"] == min(row[2] for row in found)

    again = torchrun(*flags, *places(two), "--resume")
    assert "Resumed after epoch 12\n" in again.stdout and history(two, name) == found


@pytest.mark.slow
def test_an_error_ends_all_processes(few_photos, tmp_path):
    flags = ["--model", "AE", "--data-root", few_photos, "--image-size", 8, "--batch-size", 5, *places(tmp_path)]
    process = torchrun(*flags)
    assert process.returncode != 0 and process.stdout == ""
    assert "--batch-size: found 5 with 2 processes, expected a multiple of 2" in process.stderr


@pytest.fixture
def process(monkeypatch):
    """Makes this process one of several, as far as torch.distributed tells."""

    def be(rank, count):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: count)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)

    return be


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "GAN"], "found 2 processes, expected one for GAN with AdamW; leave torchrun out"),
        (["--model", "VAE", "--optimizer", "SGD"], "found 2 processes, expected one for VAE with SGD; leave"),
        (["--model", "AE", "--batch-size", "5"], "--batch-size: found 5 with 2 processes, expected a multiple of 2"),
    ],
)
def test_what_several_processes_cannot_do(flags, message, process, folders, capsys):
    process(0, 2)
    assert message in fails(train_script, [*flags, *folders, "--image-size", "8", "--epochs", "1"], capsys)


def test_means_and_values_of_all_processes(process, monkeypatch):
    def gather(values, value):
        values[:] = [value, value + 2, value + 7]

    process(1, 3)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert processes.gather(1) == [1, 3, 8] and processes.mean_over_processes(1.0) == 4
    assert (processes.process_count(), processes.rank()) == (3, 1)


def test_notices_are_those_of_the_first_process(process, capsys):
    for rank in 0, 1:
        process(rank, 2)
        with processes.stderr_of_first_process():
            print(f"notice of {rank}", file=sys.stderr)
        print(f"end of {rank}", file=sys.stderr)
    assert capsys.readouterr().err == "notice of 0\nend of 0\nend of 1\n"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_photo_is_for_one_process(count, process):
    generator = torch.Generator()
    loader = DataLoader(TensorDataset(torch.arange(4 * count)), 2 * count, shuffle=True, generator=generator)
    orders = []
    for seed, epoch in (0, 0), (0, 1), (1, 0):
        parts = []
        for rank in range(count):
            process(rank, count)
            part = processes.distribute(loader, seed)
            assert part.generator is generator and part.dataset is loader.dataset
            part.sampler.set_epoch(epoch)
            batches = [photos for (photos,) in part]
            assert [len(photos) for photos in batches] == [2, 2]
            parts += batches
        assert sorted(torch.cat(parts).tolist()) == list(range(4 * count))
        orders.append(torch.cat(parts).tolist())
    assert orders[0] != orders[1] and orders[0] != orders[2]  # shuffled by the seed, and in each epoch


def test_a_part_has_batches_as_the_whole(process, few_photos):
    process(1, 2)
    training, _ = create_flower_dataloaders(6, few_photos, 8, 8)
    part = processes.distribute(training, seed=0)
    assert [tuple(images.shape) for images, _ in part] == [(3, 3, 8, 8), (3, 3, 8, 8), (2, 3, 8, 8)]


def test_without_torchrun_there_is_one_process():
    assert "TORCHELASTIC_RUN_ID" not in os.environ
    assert (processes.join_processes("cpu"), processes.process_count(), processes.rank()) == ("cpu", 1, 0)
    loader = DataLoader(TensorDataset(torch.arange(3)), 2)
    assert processes.distribute(loader, seed=0) is loader and processes.mean_over_processes(0.1) == 0.1


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="found 1 GPUs, expected 2, one per process; take --device cpu"):
        processes.join_processes("cuda")
