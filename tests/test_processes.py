"""Trainings in two processes, started by torchrun, compared with those in one."""

import argparse
import atexit
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run

import train_script
from data_processor import create_flower_dataloaders
from generative import train_DDPM
from lab import processes
from lab.checkpoint import load_checkpoint
from lab.errors import UserError
from lab.plots import read_history

SCRIPTS = {"AE": (train_script, ["--model", "AE", "--optimizer", "SGD"])}
SCRIPTS |= {"VAE": (train_script, ["--model", "VAE"]), "DDPM": (train_DDPM, [])}


def torchrun(name, *arguments):
    """Starts a training in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    script, flags = SCRIPTS[name]
    command = [str(part) for part in [*launcher, script.__name__, *flags, *arguments]]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def flags_of(few_photos, folder):
    places = ["--data-root", few_photos, "--model-dir", folder / "models", "--log-dir", folder / "log"]
    return [*places, "--image-size", 8, "--epochs", 12, "--batch-size", 6]  # of 16 photos, 8 for each: 3, 3, 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AE", "DDPM"])
def test_two_processes_learn_what_one_does(name, few_photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    both = torchrun(name, *flags_of(few_photos, two))
    script, flags = SCRIPTS[name]
    run(script, *flags, *flags_of(few_photos, one))
    out, err = both.communicate()
    assert both.returncode == 0, err

    history = [read_history(folder / "log" / f"history_{name}.csv") for folder in (one, two)]
    for loss in "Train Loss", "Valid Loss":
        expected, found = ([row[loss] for row in rows] for rows in history)
        assert found[-1] == pytest.approx(expected[-1], rel=0.2)  # other random numbers, and few of them
        assert len(found) == 12 and found[-1] < 0.9 * found[0]
    assert re.findall(r"^Epoch: (\d+)", out, re.MULTILINE) == [str(epoch) for epoch in range(1, 13)]  # one log
    assert out.count("Settings: ") == out.count("Best epoch: ") == err.count("history_") == 1
    written = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (one, two)]
    assert written[0] == written[1]
    assert load_checkpoint(two / "models", name)["valid_loss"] == min(found)


@pytest.mark.slow
def test_an_interrupted_training_in_two_processes_is_resumed(few_photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    torchrun("VAE", *flags_of(few_photos, whole)).communicate()
    interrupted = torchrun("VAE", *flags_of(few_photos, parts))
    while not interrupted.stdout.readline().startswith("Epoch: 2"):
        pass
    interrupted.send_signal(signal.SIGTERM)  # torchrun ends all processes
    interrupted.communicate()
    assert interrupted.returncode != 0
    out, _ = torchrun("VAE", *flags_of(few_photos, parts), "--resume").communicate()
    assert "Resumed after epoch " in out
    histories = [(folder / "log" / "history_VAE.csv").read_bytes() for folder in (whole, parts)]
    assert histories[0] == histories[1]
    weights = [load_checkpoint(folder / "models", "VAE")["model"].state_dict() for folder in (whole, parts)]
    assert all(torch.equal(weight, weights[0][part]) for part, weight in weights[1].items())


@pytest.fixture
def process(monkeypatch):
    """Makes this process one of several, as far as torch.distributed tells."""

    def be(rank, count):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: count)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(processes, "DistributedDataParallel", lambda model: [model])

    return be


def test_every_photo_is_for_one_process(process, few_photos):
    training, _ = create_flower_dataloaders(6, few_photos, 8, 8)
    orders, numbers = [], []
    for seed, epoch in (0, 0), (0, 1), (1, 0), (0, 0):
        parts = []
        for rank in 0, 1:
            process(rank, 2)
            model, part = processes.distribute("model", training, argparse.Namespace(batch_size=6, seed=seed))
            assert model == ["model"] and part.generator is training.generator
            part.sampler.sampler.set_epoch(epoch)
            numbers.append(torch.rand(1).item())
            batches = [images for images, _ in part]
            assert [len(images) for images in batches] == [3, 3, 2]
            parts += batches
        orders.append([image.sum().item() for image in torch.cat(parts)])
    whole = sorted(image.sum().item() for image in training.dataset[:][0])
    assert [sorted(order) for order in orders] == [whole] * 4
    # Shuffled by the seed, in each epoch anew, and each time alike; flips and noise are of each process.
    assert [order == orders[0] for order in orders] == [True, False, False, True]
    assert numbers[:2] == numbers[-2:] and len(set(numbers[:4])) == 4


def test_batches_that_cannot_be_divided(process, few_photos):
    process(0, 2)
    training, _ = create_flower_dataloaders(5, few_photos, 8, 8)
    with pytest.raises(UserError, match=r"--batch-size: found 5, .* 2 processes"):
        processes.distribute("model", training, argparse.Namespace(batch_size=5, seed=0))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_writes_where_it_is_told(rank, process, monkeypatch, tmp_path, capsys):
    """Another one resumes from the same state, and writes into a folder that is removed at its end."""
    (tmp_path / "LastEpoch_AE.pth").write_text("the state")
    at_the_end = []
    monkeypatch.setattr(atexit, "register", lambda *call: at_the_end.append(call))
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _: process(rank, 2))
    for stream in "stdout", "stderr":
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    args = argparse.Namespace(device="cpu", resume=True, model="AE", tensorboard="board")
    args.model_dir = args.log_dir = args.vis_dir = tmp_path
    assert processes.join_processes(args) == "cpu"
    print("a line of the log")
    [folder] = {args.model_dir, args.log_dir, args.vis_dir}
    assert Path(folder, "LastEpoch_AE.pth").read_text() == "the state"
    seen = capsys.readouterr().out, args.tensorboard, folder == tmp_path, sys.stderr is sys.stdout
    assert seen == (("", None, False, True) if rank else ("a line of the log\n", "board", True, False))
    if rank:
        sys.stdout.close()
        [(remove, _)] = [call for call in at_the_end if folder in call]
        remove(folder)
        assert not Path(folder).exists()


def test_means_over_all_processes(process, monkeypatch):
    assert processes.mean_over_processes(0.1) == 0.1
    process(1, 3)
    monkeypatch.setattr(
        torch.distributed, "all_gather_object", lambda values, v: values.__setitem__(slice(3), [v, 3, 8])
    )
    assert processes.mean_over_processes(1.0) == 4
