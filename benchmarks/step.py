"""One training step of the MLP of Part 2, batch 16, 24 x 24 pixels, float32: forward, backward, update."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from benchmarks.measure import show, time_in_turn

SIZES = [1728, 256, 128, 64, 128, 256, 1728]
BATCH = 16
LR = 0.1
ROUNDS = 30


def autograd_step(x: np.ndarray) -> Callable[[], None]:
    """As in MLPAE_train_script.py."""
    rng = np.random.default_rng(0)
    a, b, c, d, e, f = (Linear(rows, columns, rng) for rows, columns in pairwise(SIZES))
    a.input_grad = False
    model = BaseGraph([a, ReLU(), b, ReLU(), c, d, ReLU(), e, ReLU(), f, Sigmoid()])
    mse = MSE()

    def step() -> None:
        mse.forward(model.forward(x), x)
        model.backward(mse.backward())
        model.optimstep(LR)

    return step


def pytorch_step(x: torch.Tensor, threads: int) -> Callable[[], None]:
    """The same model and step."""
    a, b, c, d, e, f = (nn.Linear(rows, columns) for rows, columns in pairwise(SIZES))
    model = nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c, d, nn.ReLU(), e, nn.ReLU(), f, nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), LR)

    def step() -> None:
        torch.set_num_threads(threads)
        loss = nn.functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def run(data_root: str) -> None:
    x = np.random.default_rng(0).random((BATCH, SIZES[0]), np.float32)
    contenders = {
        "autograd": autograd_step(x),
        "autograd again (control)": autograd_step(x),
        "PyTorch eager, one thread": pytorch_step(torch.from_numpy(x), 1),
        "PyTorch eager": pytorch_step(torch.from_numpy(x), torch.get_num_threads()),
    }
    times = time_in_turn(contenders, rounds=ROUNDS, calls=40, warm_up=20)
    show(__doc__, times, "ms", against=["PyTorch eager", "PyTorch eager, one thread"])
