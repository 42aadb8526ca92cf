"""Parts 3 and 4: trains the convolutional autoencoder and the VAE, in PyTorch.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE|VAE|VAE_calibrated > log/train_AE.txt

The log goes to stdout, one line per epoch, and the best model to models/. Several processes: see lab/processes.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from Autoencoder import Autoencoder
from data_processor import FlowerLoader, random_horizontal_flip
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import load_photos
from lab.processes import distribute, join_processes, mean_over_processes
from lab.training_run import TrainingRun
from VarAutoencoder import KL_divergence, VAE_loss_function, VarAutoencoder, calibrated_VAE_loss_function, squared_error

# Defaults of the flags of these names.
ALL: dict[str, Any] = {
    "image_size": (24, 24),  # width and height in pixels, as in the handout
    "encoding_dim": 64,  # size of the latent vector, as in the handout
    "batch_size": 16,  # as in the handout
    "patience": 15,  # early stopping after so many epochs without a better model
}
SETTINGS = {  # lr is the highest rate of the cycle
    "AE": ALL | {"epochs": 15, "lr": 3e-3},  # the handout's limit of epochs
    # The loss is a mean over 1,728 numbers of an image: its gradients are small, which AdamW makes up for, and SGD not.
    "AE with SGD": ALL | {"epochs": 60, "lr": 5.0},
    "VAE": ALL | {"epochs": 20, "lr": 3e-3},  # the handout's limit of epochs
    "VAE_calibrated": ALL | {"epochs": 40, "lr": 2e-3},  # all 64 latent numbers are in use, which takes longer
}
BETAS = 0.9, 0.98  # of AdamW
WEIGHT_DECAY = 0.3  # of AdamW: strong, against overfitting, since there are 2,000 training photos

Loss = Callable[[Any, Tensor], Tensor]
VAE_TERMS: dict[str, Loss] = {"Squared Error": squared_error, "KL Divergence": KL_divergence}  # logged beside the loss


def weight(loss_function: Loss, images: Tensor) -> int:
    """By what the loss of a batch is multiplied, for the mean over all images: a mean over its images by their number;
    a sum over its images, as the VAE's losses, by 16, since it is logged for 16 images, the handout's unit."""
    return len(images) if loss_function is mse_loss else 16


def train_one_epoch(
    model: nn.Module, loader: FlowerLoader, loss_function: Loss, optimizer: Any, scheduler: LRScheduler
) -> float:
    """Trains on each batch of the loader once; returns the mean loss over the images, measured during training."""
    model.train()
    total: Any = 0
    count = 0
    for images, _ in loader:
        images = random_horizontal_flip(images)
        outputs = model(images)
        loss = loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += weight(loss_function, images) * loss.detach()
        count += len(images)
    return mean_over_processes(float(total) / count)


@torch.no_grad()
def validate(model: nn.Module, loader: FlowerLoader, losses: Mapping[str, Loss]) -> dict[str, float]:
    """The mean of each of the losses over the images, by name; random numbers are the same in each call."""
    model.eval()
    totals: dict[str, Any] = dict.fromkeys(losses, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, _ in loader:
            outputs = model(images)
            for name, loss_function in losses.items():
                totals[name] += weight(loss_function, images) * loss_function(outputs, images)
    return {name: float(total) / len(loader.dataset) for name, total in totals.items()}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Trains a model of Parts 3 and 4 on photos of flowers.", ["AE", "VAE", "VAE_calibrated"])
    parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="plain SGD: for AE alone")
    args = parser.parse_training(argv, SETTINGS)
    device = join_processes(args)
    training, validation = load_photos(args, device)
    torch.manual_seed(args.seed)
    model: Any = (Autoencoder if args.model == "AE" else VarAutoencoder)(args.encoding_dim, args.image_size)
    model = model.to(device, memory_format=torch.channels_last)
    loss_function: Loss = mse_loss
    terms: dict[str, Loss] = {}
    if args.model != "AE":
        loss_function, terms = VAE_loss_function, VAE_TERMS
        model.antithetic = True  # two samples of z for each image: mu + sigma * epsilon and mu - sigma * epsilon
    if args.model == "VAE_calibrated":
        loss_function, terms = calibrated_VAE_loss_function, {"VAE Loss": VAE_loss_function} | VAE_TERMS
    network, training = distribute(model, training, args)
    optimizer: Any = torch.optim.SGD(model.parameters(), args.lr, fused=True)
    if args.optimizer == "AdamW":
        optimizer = torch.optim.AdamW(model.parameters(), args.lr, BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    scheduler = OneCycleLR(optimizer, args.lr, args.epochs * len(training), cycle_momentum=False)

    with TrainingRun(args, training, validation, [model, optimizer, scheduler]) as run:
        for epoch in run.epochs():
            train_loss = train_one_epoch(network, training, loss_function, optimizer, scheduler)
            if args.model == "VAE_calibrated":
                model.standardize_latent(training.dataset[:][0])
            losses = validate(model, validation, {"Loss": loss_function} | terms)
            valid_loss = losses.pop("Loss")
            run.log(epoch, train_loss, valid_loss, losses)
            run.show_samples(model, epoch)

            if valid_loss < run.best_loss:
                run.save_best(model, epoch, train_loss, valid_loss)
            elif epoch - run.best_epoch >= args.patience:
                break  # early stopping


if __name__ == "__main__":
    main()
