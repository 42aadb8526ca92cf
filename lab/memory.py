"""Whether a training fits in the memory: found out before it takes any, since the system may kill it without a word."""

import argparse
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from data_processor import memory_of_the_machine
from lab.checkpoint import new_model
from lab.errors import UserError


def expect_memory(needed: float, what: str, there: float | None = None) -> None:
    """UserError if ``needed`` bytes are more than those of the machine, or than ``there`` are."""
    there = memory_of_the_machine() if there is None else there
    if needed > there:
        found = f"{what} takes {needed / 1e9:,.0f} GB of memory or more, found {there / 1e9:,.0f} GB"
        raise UserError(f"{found}; take a smaller --image-size or --batch-size")


def expect_memory_for_training(args: argparse.Namespace, criterion: Any, copies: int) -> None:
    """UserError if the weights, ``copies`` times, and what is saved for the backward of a batch are too much.

    ``criterion`` is the model's in ``CRITERIA`` (pytorch_training.py).

    The model is built, and runs, without memory: on PyTorch's device "meta".
    """
    saved: dict[int, Any] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[id(storage)] = storage  # kept, so that no other one gets its id
        return tensor

    width, height = args.image_size
    try:
        with torch.device("meta"), torch.random.fork_rng(), saved_tensors_hooks(save, lambda tensor: tensor):
            model = new_model(args.model, args.encoding_dim, args.image_size, kinds=1)
            images, kinds = torch.empty(args.batch_size, 3, height, width), torch.zeros(args.batch_size).long()
            criterion.loss_function(criterion.outputs(model, images, kinds), images)
        needed: float = copies * sum(weight.nbytes for weight in model.parameters())
        needed += sum(storage.nbytes() for storage in saved.values())
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        needed = 2.0**63  # beyond what PyTorch can count
    there = torch.cuda.get_device_properties(args.device).total_memory if args.device == "cuda" else None
    expect_memory(needed, f"{args.model} at {width} x {height} pixels, {args.batch_size} in a batch,", there)
