"""One training in several processes, by PyTorch's DistributedDataParallel.

    torchrun --nproc-per-node 2 train_script.py --model VAE

Every process puts the photos into the same batches and draws the same random numbers as a single one would; then each
works on its own part of a batch, and DistributedDataParallel brings their gradients together. So the steps are those of
a single process, but for roundings. Without torchrun there is one process, and nothing here does anything.
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
from torch.nn.parallel import DistributedDataParallel

import progress


def join(device: str) -> str:
    """Joins the processes that torchrun has started, if it has any; gives the device of this one.

    Only the first process has a log and progress bars.

    Args:
        device: "cpu" or "cuda"; in the latter case each process gets a GPU of its own.

    Raises:
        OSError: there are fewer GPUs than processes.
    """
    if not distributed.is_torchelastic_launched():
        return device
    if device == "cuda":
        found, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
        if found < wanted:
            raise OSError(f"--device: found {found} GPUs, expected {wanted}, one for each process; take --device cpu")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    atexit.register(_part)
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        progress.quiet = True
    return device


def _part() -> None:
    """Parts from the other processes, when all of them are done."""
    distributed.destroy_process_group()
    # Gloo's threads may still hold tensors, and let go of them only while Python runs: one that comes too late ends the
    # process with "terminate called without an active exception", about one run in ten.
    time.sleep(0.5)


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes: log, history, checkpoints."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def notices_of_the_first() -> contextlib.AbstractContextManager:
    """Within it, what the others have to say on stderr is not heard: the first says the same."""
    return contextlib.nullcontext() if is_first() else contextlib.redirect_stderr(io.StringIO())


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """What to call in the model's place, so that ``backward`` averages gradients over all processes."""
    return DistributedDataParallel(model) if count() > 1 else model


def own_part(*batch: torch.Tensor) -> list[torch.Tensor]:
    """The rows of the tensors, all of one length, that are for this process."""
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    return [tensor.tensor_split(count())[rank] for tensor in batch]


def sum_of_all(value: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' values."""
    if count() > 1:
        distributed.all_reduce(value)
    return value


def as_the_first_has_it(value: Any) -> Any:
    """What the first process has here, in every process: where roundings differ, all still decide alike."""
    values = [value]
    if count() > 1:
        distributed.broadcast_object_list(values)
    return values[0]
