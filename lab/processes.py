"""One training in several processes, by PyTorch's DistributedDataParallel.

    torchrun --nproc-per-node 2 train_script.py --model VAE

Each process trains on its own part of the photos (DistributedSampler), with batches of ``--batch-size`` divided by the
number of processes; DistributedDataParallel averages their gradients. Without torchrun, there is one process.
"""

import atexit
import contextlib
import io
import os
import sys
import time
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler

from lab import command_line
from lab.errors import UserError


def join_processes(device: str) -> str:
    """Joins the process group, if torchrun has started one; returns the device of this process, of type ``device``.

    With "cuda", each process gets its own GPU; UserError if there are too few. Only process 0 has a log.
    """
    if not distributed.is_torchelastic_launched():
        return device
    if device == "cuda":
        found, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
        if found < wanted:
            raise UserError(f"--device: found {found} GPUs, expected {wanted}, one per process; take --device cpu")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    atexit.register(_leave)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        command_line.quiet = True
    return device


def _leave() -> None:
    distributed.destroy_process_group()
    # Gloo's threads may still hold tensors, and can free them only while Python runs: one that is too late ends the
    # process with "terminate called without an active exception", in about one run of ten.
    time.sleep(0.5)


def process_count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; process 0 writes the log and all files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def stderr_of_first_process() -> contextlib.AbstractContextManager:
    """A context in which the other processes print no notices: they are those of the first process."""
    return contextlib.redirect_stderr(io.StringIO()) if rank() > 0 else contextlib.nullcontext()


def distribute(loader: DataLoader, seed: int) -> DataLoader:
    """A loader of this process's part of the photos; UserError if a batch cannot be divided evenly."""
    count, size = process_count(), loader.batch_size or 1
    if count == 1:
        return loader
    if size % count:
        raise UserError(f"--batch-size: found {size} with {count} processes, expected a multiple of {count}")
    sampler: DistributedSampler = DistributedSampler(loader.dataset, seed=seed)
    return DataLoader(
        loader.dataset, size // count, sampler=sampler, generator=loader.generator, collate_fn=loader.collate_fn
    )


def gather(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    values = [value] * process_count()
    if process_count() > 1:
        distributed.all_gather_object(values, value)
    return values


def mean_over_processes(value: float) -> float:
    """The mean of a number over all processes."""
    return sum(gather(value)) / process_count()
