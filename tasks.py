"""What train_script.py trains, and how: models and losses, optimizers, and one epoch of training or validation."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from Autoencoder import Autoencoder
from data_processor import mirror_half
from Diffusion import DDPM_loss_function, Diffusion
from GAN import GAN, GAN_loss_function
from kernel_distance import Features, kernel_distance, random_network
from parallel import count, own_part, sum_of_all
from VarAutoencoder import (
    CalibratedVAE,
    VAE_loss_function,
    VAE_loss_terms,
    VarAutoencoder,
    calibrated_VAE_loss_function,
)


def train_one_epoch(
    model: nn.Module,
    loader: Any,
    task: "Task",
    optimizer: Optimizer,
    schedule: LRScheduler,
    network: nn.Module | None = None,
) -> float:
    """Trains on each batch, half of its images mirrored; returns the mean loss, each as the model was at its turn.

    Args:
        network: what to call in the model's place, where several processes share the work (see parallel.py).
    """
    model.train()
    total: Any = 0
    for images, _ in loader:
        images = mirror_half(images)
        weight_of_all = task.weight(len(images))
        images, *draws = own_part(images, *task.draw(model, images))
        outputs = (network or model)(images, *draws, **task.options)
        loss = task.loss_function(outputs, images)
        optimizer.zero_grad()
        # Of several processes, each has a part of the batch; their gradients are averaged, as if all were of a size.
        (loss * (count() * task.weight(len(images)) / weight_of_all)).backward()
        optimizer.step()
        schedule.step()
        total += task.weight(len(images)) * loss.detach()  # a number yet to come, on a GPU: no batch waits for it
    return sum_of_all(total).item() / len(loader.dataset)


@torch.no_grad()
def validate(model: nn.Module, loader: Any, task: "Task") -> dict[str, float]:
    """The mean loss and whatever else is to be logged, by name, with the same random numbers in each epoch."""
    model.eval()
    totals: dict[str, Any] = defaultdict(float)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, _ in loader:
            outputs = model(images, **task.options)
            values = {"Loss": task.loss_function(outputs, images)} | task.terms(outputs, images)
            for name, value in values.items():
                totals[name] += task.weight(len(images)) * value
    return {name: total.item() / len(loader.dataset) for name, total in totals.items()}


def validate_pictures(model: GAN, loader: DataLoader, task: "Task") -> dict[str, float]:
    """How far pictures by the model are from the loader's photos, which no loss of a GAN's can tell.

    They are seen by a random network, another one than in sample_quality.py. Before that, the generator's batch norms
    take new means and variances: those from training are of other weights, where these are an average.

    Raises:
        OSError: there is no distance to a single photo.
    """
    photos, _ = loader.dataset[:]
    if len(photos) < 2:
        raise OSError("found one validation photo, expected more to measure pictures by; give at least 10 photos")
    features = Features(random_network(seed=1000).to(photos.device), photos)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        update_bn(torch.randn(5, 100, model.encoding_dim, device=photos.device), model.generator)
        pictures = model.eval().sample(len(photos))
    return {"Loss": kernel_distance(features(pictures), features(photos)).item()}


class Recipe(NamedTuple):
    """How an optimizer is used where no flag says otherwise."""

    epochs: int
    lr: float  # the highest
    weight_decay: float = 0
    betas: tuple[float, float] = (0.9, 0.98)  # the second for a shorter memory than usual: the runs are short
    patience: int | None = 15  # epochs to wait for a better model; None: all of them


class Task(NamedTuple):
    """What is particular to training one of the models."""

    model: type
    loss_function: Callable  # (outputs, images) -> a number to minimise
    recipes: dict[str, Recipe]  # by optimizer
    terms: Callable = lambda outputs, images: {}  # (outputs, images) -> what to log beside the loss, by name
    weight: Callable = lambda n: n  # size of a batch -> how much its loss counts: a mean once an image, a sum as 16
    draw: Callable = lambda model, images: ()  # (model, images) -> the random numbers that forward takes after them
    options: Mapping = MappingProxyType({})  # of the model's forward
    whole_batches: bool = False  # it needs all of a batch at once, which several processes would have parts of
    validate: Callable = validate
    averaged: bool = False  # what is kept is the average of the weights over the steps
    digits: int = 4  # of a loss in the log


def VAE_terms(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> dict[str, Tensor]:
    return dict(zip(["Squared Error", "KL Divergence"], VAE_loss_terms(outputs, images), strict=True))


VAE = Task(
    VarAutoencoder,
    VAE_loss_function,
    recipes={
        # A stronger decay than usual: 64 numbers overfit 2,000 photos.
        "AdamW": Recipe(20, 3e-3, weight_decay=0.3),
        "SGD": Recipe(60, 1e-4),
    },
    terms=VAE_terms,
    weight=lambda n: 16,
    draw=VarAutoencoder.draw,
    options={"antithetic": True},
    digits=2,
)

TASKS = {
    "AE": Task(
        Autoencoder,
        mse_loss,
        recipes={
            "AdamW": Recipe(15, 3e-3, weight_decay=0.3),
            "SGD": Recipe(60, 5.0),
        },
    ),
    "VAE": VAE,
    "VAE_calibrated": VAE._replace(
        model=CalibratedVAE,
        loss_function=calibrated_VAE_loss_function,
        whole_batches=True,  # for the mean squared error within the logarithm
        recipes={"AdamW": Recipe(40, 2e-3, weight_decay=0.3)},
        terms=lambda outputs, images: {"VAE Loss": VAE_loss_function(outputs, images)} | VAE_terms(outputs, images),
    ),
    "GAN": Task(
        GAN,
        GAN_loss_function,
        whole_batches=True,  # for the batch norms
        recipes={"AdamW": Recipe(200, 1e-3, betas=(0.5, 0.99), patience=None)},
        validate=validate_pictures,
        averaged=True,
    ),
    "DDPM": Task(
        Diffusion,
        DDPM_loss_function,
        draw=Diffusion.draw,
        recipes={"AdamW": Recipe(90, 2e-3, weight_decay=0.01, patience=None)},
        averaged=True,
    ),
}


def make_optimizer(name: str, model: nn.Module, recipe: Recipe, lr: float, steps: int) -> tuple[Optimizer, LRScheduler]:
    """The optimizer, and a schedule that takes its rate up to ``lr`` and down again, once over all the steps."""
    if name == "SGD":
        optimizer: Optimizer = torch.optim.SGD(model.parameters(), lr, fused=True)
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
        )
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, cycle_momentum=False)


def average_of(model: nn.Module, optimizer: Optimizer) -> AveragedModel:
    """An AveragedModel that follows the model at each step of its optimizer.

    The average is exponential, over the last thousand steps or so; early in training over fewer, so that it soon
    forgets how the weights began.
    """

    def follow(average: Tensor, weight: Tensor, steps: Tensor | int) -> Tensor:
        return average.lerp(weight, 1 - min(0.999, (1 + steps) / (10 + steps)))

    averaged = AveragedModel(model, avg_fn=follow)
    optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(model))
    return averaged
