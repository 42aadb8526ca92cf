"""How the PyTorch models are trained and validated: their losses, and moving averages of their weights."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from Diffusion import DDPM_loss_function
from GAN import GAN_loss_function
from lab.processes import mean_over_processes
from VarAutoencoder import VAE_loss_function, VAE_loss_terms, calibrated_VAE_loss_function


class Criterion(NamedTuple):
    """The loss of a model, and how it is logged.

    Args:
        loss_function: (outputs, images) -> the loss of a batch.
        terms: (outputs, images) -> what is logged beside the loss, by name.
        options: keyword arguments of the model's ``forward``.
        summed: the loss is a sum over the batch, not a mean, and is logged for 16 images (handout, Part 4).
        by_kind: the model's ``forward`` takes the kinds as well.
    """

    loss_function: Callable[..., Tensor]
    terms: Callable[..., dict[str, Tensor]] = lambda outputs, images: {}
    options: Mapping[str, Any] = {}
    summed: bool = False
    by_kind: bool = False

    def outputs(self, model: Any, images: Tensor, kinds: Tensor) -> Any:
        """What the model makes of images (N, 3, H, W) of these kinds (N,)."""
        return model(images, kinds) if self.by_kind else model(images, **self.options)

    def weight(self, n: int) -> int:
        """The weight of the loss of a batch of n images in the mean over all images."""
        return 16 if self.summed else n


def VAE_terms(outputs: Any, images: Tensor) -> dict[str, Tensor]:
    return dict(zip(["Squared Error", "KL Divergence"], VAE_loss_terms(outputs, images), strict=True))


VAE = Criterion(VAE_loss_function, VAE_terms, options={"antithetic": True}, summed=True)

CRITERIA = {
    "MLPAE": Criterion(mse_loss),
    "AE": Criterion(mse_loss),
    "VAE": VAE,
    "VAE_calibrated": VAE._replace(
        loss_function=calibrated_VAE_loss_function,
        terms=lambda outputs, images: {"VAE Loss": VAE_loss_function(outputs, images)} | VAE_terms(outputs, images),
    ),
    "GAN": Criterion(GAN_loss_function, by_kind=True),
    "DDPM": Criterion(DDPM_loss_function, by_kind=True),
}


@torch.no_grad()
def validate(model: Any, loader: Any, criterion: Criterion) -> tuple[float, dict[str, float]]:
    """The mean loss, and the means of its terms, by name; random numbers are the same in each call."""
    model.eval()
    totals: dict[str, Any] = defaultdict(float)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, kinds in loader:
            outputs = criterion.outputs(model, images, kinds)
            losses = {"Loss": criterion.loss_function(outputs, images)} | criterion.terms(outputs, images)
            for name, value in losses.items():
                totals[name] += criterion.weight(len(images)) * value
    means = {name: mean_over_processes(total.item() / len(loader.dataset)) for name, total in totals.items()}
    return means.pop("Loss"), means


def moving_average(model: nn.Module, optimizer: Optimizer) -> AveragedModel:
    """An exponential moving average (EMA) of the model's weights, updated at each step of the optimizer.

    The decay is 0.999, and less in the first steps, so that the initial weights are soon forgotten.
    """

    def average(averaged: Any, weights: Any, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(float(min(0.999, (1 + steps) / (10 + steps))))(averaged, weights, steps)

    averaged = AveragedModel(model, multi_avg_fn=average)
    optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(model))
    return averaged
