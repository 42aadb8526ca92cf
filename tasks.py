"""What Parts 3 and 4 train, and how: models and losses, optimizers, and one epoch of training or validation."""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import mse_loss

from Autoencoder import AE_ENCODING_DIM, Autoencoder
from VarAutoencoder import VAE_ENCODING_DIM, VAE_loss_function, VAE_loss_terms, VarAutoencoder


class Task(NamedTuple):
    """What is particular to training one of the models."""

    model: type
    encoding_dim: int
    loss_function: Callable  # (outputs, images) -> a number to minimise
    terms: Callable  # (outputs, images) -> the numbers that the loss is the sum of, by name
    weight: Callable  # size of a batch -> how much its loss counts: a mean once an image, a sum as one of 16 images
    options: dict  # of the model's forward
    digits: int  # of a loss in the log
    # by optimizer: epochs, highest learning rate, and what the handout asks of the training and the validation loss
    optimizers: dict


VAE_LOSS_TERMS = ["Squared Error", "KL Divergence"]

TASKS = {
    "AE": Task(
        Autoencoder,
        AE_ENCODING_DIM,
        mse_loss,
        lambda outputs, images: {"MSE": mse_loss(outputs, images)},
        weight=lambda n: n,
        options={},
        digits=4,
        optimizers={"AdamW": (15, 3e-3, {"train": 0.01, "valid": 0.012}), "SGD": (60, 5.0, {"train": 0.015})},
    ),
    "VAE": Task(
        VarAutoencoder,
        VAE_ENCODING_DIM,
        VAE_loss_function,
        lambda outputs, images: dict(zip(VAE_LOSS_TERMS, VAE_loss_terms(outputs, images), strict=True)),
        weight=lambda n: 16,
        options={"antithetic": True},
        digits=2,
        optimizers={"AdamW": (20, 3e-3, {"train": 800, "valid": 800}), "SGD": (60, 1e-4, {"train": 800, "valid": 800})},
    ),
}


def make_optimizer(name, model, lr, steps):
    """The optimizer, and a schedule that takes its rate up to ``lr`` and down again, once over all the steps."""
    if name == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), lr, fused=True)
    else:
        # A shorter memory and a stronger decay than usual: the runs are short, and 64 numbers overfit 2,000 photos.
        optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.3, fused=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, cycle_momentum=False)


def train_one_epoch(model, loader, task, optimizer, schedule):
    """Trains on each batch, half of its images mirrored; returns the mean loss, each as the model was at its turn."""
    model.train()
    total = 0
    for images, _ in loader:
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
        outputs = model(images, **task.options)
        loss = task.loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += task.weight(len(images)) * loss.detach()  # a number yet to come, on a GPU: no batch waits for it
    return total.item() / len(loader.dataset)


@torch.no_grad()
def validate(model, loader, task):
    """The means of the terms of the loss, by name."""
    model.eval()
    totals = defaultdict(float)
    for images, _ in loader:
        for term, value in task.terms(model(images, **task.options), images).items():
            totals[term] += task.weight(len(images)) * value
    return {term: total.item() / len(loader.dataset) for term, total in totals.items()}
