"""The diffusion model, 24 x 24 pixels, float32: a training step of 16 images, and sampling of 16 pictures."""

from collections.abc import Callable

import torch

from benchmarks.measure import show, time_in_turn
from Diffusion import DDPM_loss_function, Diffusion
from lab.defaults import DEFAULTS
from lab.pytorch_training import moving_average

BATCH = 16
ROUNDS = 8


def training_step(layout: torch.memory_format, averaged: bool = True) -> Callable[[], None]:
    """A step as in train_script.py."""
    torch.manual_seed(0)
    model = Diffusion().to(memory_format=layout)
    settings = DEFAULTS["DDPM", "AdamW"]
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    if averaged:
        moving_average(model, optimizer)
    images = torch.rand(BATCH, 3, 24, 24).to(memory_format=layout)
    kinds = torch.zeros(BATCH).long()

    def step() -> None:
        loss = DDPM_loss_function(model(images, kinds), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def run(data_root: str) -> None:
    model = Diffusion().to(memory_format=torch.channels_last).eval()
    contenders = {
        "step": training_step(torch.channels_last),
        "step again (control)": training_step(torch.channels_last),
        "step, without the moving average": training_step(torch.channels_last, averaged=False),
        "step, channels first in memory": training_step(torch.contiguous_format),
        "sampling": lambda: model.sample(BATCH),
    }
    times = time_in_turn(contenders, rounds=ROUNDS, calls=3, warm_up=2)
    show(__doc__, times, "ms", against=["step"])
