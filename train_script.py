"""Parts 3 and 4: trains the convolutional autoencoder and the VAE, in PyTorch.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE|VAE|VAE_calibrated > log/train_AE.txt

The log goes to stdout, one line per epoch, and the best model to models/. Several processes: see lab/processes.py.
"""

from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from Autoencoder import Autoencoder
from data_processor import random_horizontal_flip
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import load_photos
from lab.processes import distribute, join_processes, mean_over_processes
from lab.training_run import TrainingRun
from VarAutoencoder import KL_divergence, VAE_loss_function, VarAutoencoder, calibrated_VAE_loss_function, squared_error

VAE_TERMS = {"Squared Error": squared_error, "KL Divergence": KL_divergence}  # logged beside the loss


def train_one_epoch(model: Any, loader: Any, loss_function: Any, optimizer: Any, scheduler: Any) -> float:
    """Trains on each batch of the loader once; returns the mean loss over the images, measured during training."""
    model.train()
    total, count = 0, 0
    for images, _ in loader:
        images = random_horizontal_flip(images)
        outputs = model(images)
        loss = loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        # A mean counts for each of its images; the VAE's sum over the batch is logged per 16 images.
        total += (len(images) if loss_function is mse_loss else 16) * loss.detach()
        count += len(images)
    return mean_over_processes(float(total) / count)


@torch.no_grad()
def validate(model: Any, loader: Any, losses: dict[str, Any]) -> dict[str, float]:
    """The mean of each of the losses over the images, by name; random numbers are the same in each call."""
    model.eval()
    totals = dict.fromkeys(losses, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, _ in loader:
            outputs = model(images)
            for name, loss_function in losses.items():
                loss = loss_function(outputs, images)
                totals[name] += (len(images) if loss_function is mse_loss else 16) * loss
    return {name: float(total) / len(loader.dataset) for name, total in totals.items()}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Trains a model of Parts 3 and 4 on photos of flowers.", ["AE", "VAE", "VAE_calibrated"])
    parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="plain SGD: for AE alone")
    args = parser.parse_training(argv)
    device = join_processes(args)
    training, validation = load_photos(args, device)
    torch.manual_seed(args.seed)
    model: Any = (Autoencoder if args.model == "AE" else VarAutoencoder)(args.encoding_dim, args.image_size)
    model = model.to(device, memory_format=torch.channels_last)
    loss_function: Any = mse_loss
    terms: dict[str, Any] = {}
    if args.model != "AE":
        loss_function, terms = VAE_loss_function, VAE_TERMS
        model.antithetic = True  # two samples of z for each image: mu + sigma * epsilon and mu - sigma * epsilon
    if args.model == "VAE_calibrated":
        loss_function, terms = calibrated_VAE_loss_function, {"VAE Loss": VAE_loss_function} | VAE_TERMS
    network, training = distribute(model, training, args)
    optimizer: Any = torch.optim.SGD(model.parameters(), args.lr, fused=True)
    if args.optimizer == "AdamW":  # with strong weight decay, against overfitting: there are 2,000 training photos
        optimizer = torch.optim.AdamW(model.parameters(), args.lr, betas=(0.9, 0.98), weight_decay=0.3, fused=True)
    scheduler = OneCycleLR(optimizer, args.lr, args.epochs * len(training), cycle_momentum=False)

    with TrainingRun(args, args.model, training, validation, [model, optimizer, scheduler]) as run:
        for epoch in run.epochs():
            train_loss = train_one_epoch(network, training, loss_function, optimizer, scheduler)
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
