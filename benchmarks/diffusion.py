"""The diffusion model, 24 x 24 pixels, float32: a training step of 16 images, and sampling of 16 pictures."""

import copy
from collections.abc import Callable

import torch

from benchmarks.measure import show, time_in_turn
from generative.Diffusion import DDPM_loss_function, Diffusion
from lab.defaults import DEFAULTS

BATCH = 16
ROUNDS = 8


def training_step(layout: torch.memory_format, with_average: bool = True) -> Callable[[], None]:
    """A step as in generative/train_DDPM.py."""
    torch.manual_seed(0)
    model = Diffusion().to(memory_format=layout)
    averaged = copy.deepcopy(model)
    lr = DEFAULTS["DDPM"].lr
    optimizer = torch.optim.AdamW(model.network.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    images = torch.rand(BATCH, 3, 24, 24).to(memory_format=layout)
    labels = torch.zeros(BATCH).long()

    def step() -> None:
        outputs = model(images, labels)
        loss = DDPM_loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if with_average:
            weights = zip(averaged.network.parameters(), model.network.parameters(), strict=True)
            for average, weight in weights:
                average.data.lerp_(weight.data, 0.001)

    return step


def run(data_root: str) -> None:
    model = Diffusion().to(memory_format=torch.channels_last).eval()
    contenders = {
        "step": training_step(torch.channels_last),
        "step again (control)": training_step(torch.channels_last),
        "step, without the moving average": training_step(torch.channels_last, with_average=False),
        "step, channels first in memory": training_step(torch.contiguous_format),
        "sampling": lambda: model.sample(BATCH),
    }
    times = time_in_turn(contenders, rounds=ROUNDS, calls=3, warm_up=2)
    show(__doc__, times, "ms", against=["step"])
