"""One training in several processes, by PyTorch's DistributedDataParallel and DistributedSampler.

    torchrun --nproc-per-node 2 train_script.py --model VAE > log/train_VAE.txt

Each process trains on its share of the photos, with batches of ``--batch-size`` divided by the number of processes, and
the gradients are averaged. The first process writes the log and all files; what the others write is thrown away.
"""

import argparse
import atexit
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DistributedSampler

from data_processor import FlowerLoader
from lab.errors import UserError


def join_processes(args: argparse.Namespace) -> str:
    """Joins the processes that torchrun has started, if it has; returns the device of this one, by ``--device``."""
    if not distributed.is_torchelastic_launched():
        return args.device
    device = args.device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    atexit.register(time.sleep, 0.5)  # Gloo's threads may still hold tensors, and can free them only while Python runs
    atexit.register(distributed.destroy_process_group)
    if distributed.get_rank() > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder)
        if args.resume:
            for state in Path(args.model_dir).glob(f"*_{args.model}.pth"):
                shutil.copy(state, folder)
        args.model_dir = args.log_dir = args.vis_dir = folder
        args.tensorboard = None
    return device


class SeedingSampler(DistributedSampler):
    """The photos of this process, shuffled anew in each epoch; each process gets its own random numbers for it."""

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        torch.manual_seed(self.seed + 10_000 * (epoch * self.num_replicas + self.rank))


def distribute(model: nn.Module, loader: FlowerLoader, args: argparse.Namespace) -> tuple[nn.Module, FlowerLoader]:
    """The model with its gradients averaged over the processes, and a loader of the photos of this process; or the
    model and the loader that are given, if there is one process."""
    if not distributed.is_initialized():
        return model, loader
    sampler = SeedingSampler(loader.dataset, seed=args.seed)
    if args.batch_size % sampler.num_replicas:
        found = f"found {args.batch_size}, expected a multiple of {sampler.num_replicas} processes"
        raise UserError(f"--batch-size: {found}")
    batches = BatchSampler(sampler, args.batch_size // sampler.num_replicas, drop_last=False)
    loader = FlowerLoader(loader.dataset, batch_size=None, sampler=batches, generator=loader.generator)
    return DistributedDataParallel(model), loader


def mean_over_processes(value: float) -> float:
    """The mean of a number over all processes."""
    values: list[Any] = [value]
    if distributed.is_initialized():
        values *= distributed.get_world_size()
        distributed.all_gather_object(values, value)
    return sum(values) / len(values)
