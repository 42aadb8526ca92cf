"""Parts 3 and 4: trains the convolutional autoencoder (AE) or the variational one (VAE) on photos of flowers.

    python train_script.py --model AE --optimizer SGD > log/train_AE_SGD.txt
    python train_script.py --model AE > log/train_AE.txt
    python train_script.py --model VAE > log/train_VAE.txt

The log goes to stdout, one line an epoch; the best model goes to models/BestModel_AE.pth or models/BestModel_VAE.pth.
"""

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import mse_loss
from tqdm import tqdm

from Autoencoder import AE_ENCODING_DIM, Autoencoder
from checkpoint import checkpoint_path, keep_previous, prepare_folder, save_checkpoint
from command_line import Parser, image_size, log, log_settings, one_line_errors, positive_float, positive_int, seed
from data_processor import create_flower_dataloaders
from drawn_flowers import photos_or_drawn
from VarAutoencoder import VAE_ENCODING_DIM, VAE_loss_function, VAE_loss_terms, VarAutoencoder


class Task(NamedTuple):
    """What is particular to training one of the models."""

    model: type
    encoding_dim: int
    loss_function: Callable  # (outputs, images) -> a number to minimise
    terms: Callable  # (outputs, images) -> the numbers that the loss is the sum of
    weight: Callable  # size of a batch -> how much its loss counts: a mean once an image, a sum as one of 16 images
    options: dict  # of the model's forward, in training
    digits: int  # of a loss in the log
    # by optimizer: epochs, highest learning rate, and what the handout asks of the training and the validation loss
    optimizers: dict


TASKS = {
    "AE": Task(
        Autoencoder,
        AE_ENCODING_DIM,
        mse_loss,
        lambda outputs, images: [mse_loss(outputs, images)],
        weight=lambda n: n,
        options={},
        digits=4,
        optimizers={"AdamW": (15, 3e-3, {"train": 0.01, "valid": 0.012}), "SGD": (60, 5.0, {"train": 0.015})},
    ),
    "VAE": Task(
        VarAutoencoder,
        VAE_ENCODING_DIM,
        VAE_loss_function,
        VAE_loss_terms,
        weight=lambda n: 16,
        options={"antithetic": True},
        digits=2,
        optimizers={"AdamW": (20, 3e-3, {"train": 800, "valid": 800}), "SGD": (60, 1e-4, {"train": 800, "valid": 800})},
    ),
}


def parse_arguments(argv):
    parser = Parser("Trains the convolutional autoencoder of Part 3 or the variational one of Part 4.")
    parser.add_argument("--model", choices=list(TASKS), required=True, default=argparse.SUPPRESS, help="which one")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model goes")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="images in a batch")
    parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW", help="SGD: plain, without momentum")
    parser.add_argument(
        "--epochs", type=positive_int, default=argparse.SUPPRESS, help="(default: 15 for AE, 20 for VAE, 60 with SGD)"
    )
    parser.add_argument(
        "--lr",
        type=positive_float,
        default=argparse.SUPPRESS,
        help="highest learning rate (default: 0.003; with SGD 5 for AE, 0.0001 for VAE)",
    )
    parser.add_argument("--patience", type=positive_int, default=15, help="epochs to wait for a better model")
    parser.add_argument("--seed", type=seed, default=0, help="of the first weights and the order of the photos")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there is one")
    args = parser.parse_args(argv)
    if any(side % 4 for side in args.image_size):
        parser.error("argument --image-size: found {} x {}, expected multiples of 4".format(*args.image_size))
    epochs, lr, _ = TASKS[args.model].optimizers[args.optimizer]
    args.epochs, args.lr = getattr(args, "epochs", epochs), getattr(args, "lr", lr)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: found no GPU that PyTorch can use, expected one for cuda; take --device cpu")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def make_optimizer(args, model, steps):
    """The optimizer, and a schedule that takes its rate up and down again once over all the steps."""
    if args.optimizer == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), args.lr)
    else:
        # A shorter memory and a stronger decay than usual: the runs are short, and 64 numbers overfit 2,000 photos.
        optimizer = torch.optim.AdamW(model.parameters(), args.lr, betas=(0.9, 0.98), weight_decay=0.3)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, cycle_momentum=False)


def train_one_epoch(model, loader, task, optimizer, schedule, device):
    """Trains on each batch, half of its images mirrored; returns the mean loss, each as the model was at its turn."""
    model.train()
    total = torch.zeros((), device=device)
    for images, _ in loader:
        images = images.to(device)
        mirrored = torch.rand(len(images), 1, 1, 1, device=device) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
        outputs = model(images, **task.options)
        loss = task.loss_function(outputs, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += task.weight(len(images)) * loss.detach()
    return total.item() / len(loader.dataset)


@torch.no_grad()
def validate(model, loader, task, device):
    """The means of the terms of the loss."""
    model.eval()
    total = 0
    for images, _ in loader:
        images = images.to(device)
        terms = torch.stack(list(task.terms(model(images), images)))
        total += task.weight(len(images)) * terms
    return (total / len(loader.dataset)).tolist()


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)
    task = TASKS[args.model]
    model_path = checkpoint_path(args.model_dir, args.model)
    prepare_folder(args.model_dir)
    data_root = photos_or_drawn(args.data_root, args.drawn_root)
    training, validation = create_flower_dataloaders(
        args.batch_size, data_root, *args.image_size, seed=args.seed, split_seed=args.split_seed
    )
    torch.manual_seed(args.seed)
    model = task.model(task.encoding_dim, args.image_size).to(args.device)
    optimizer, schedule = make_optimizer(args, model, args.epochs * len(training))
    log_settings(args)
    log(f"Data: {data_root}, {len(training.dataset)} training and {len(validation.dataset)} validation photos")

    best = None
    for epoch in tqdm(range(1, args.epochs + 1), "Training", unit="epoch", leave=False, disable=None):
        lr = schedule.get_last_lr()[0]
        train_loss = train_one_epoch(model, training, task, optimizer, schedule, args.device)
        terms = validate(model, validation, task, args.device)
        valid_loss = sum(terms)
        line = f"Epoch: {epoch}, Train Loss: {train_loss:.{task.digits}f}, Valid Loss: {valid_loss:.{task.digits}f}"
        if len(terms) > 1:
            line += ", Valid Squared Error: {:.2f}, Valid KL Divergence: {:.2f}".format(*terms)
        log(line)
        if not math.isfinite(train_loss + valid_loss):
            raise SystemExit(f"Stopped: loss no longer a number in epoch {epoch}, at rate {lr:g}; try a lower --lr")

        if best is None or valid_loss < best["valid_loss"]:
            if best is None:
                keep_previous(model_path)
            best = {
                "name": args.model,
                "model": model,
                "encoding_dim": task.encoding_dim,
                "image_size": list(args.image_size),
                "data": {"root": str(data_root), "fingerprint": training.dataset.fingerprint()},
                "epoch": epoch,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "settings": vars(args),
            }
            save_checkpoint(best, model_path)
        elif epoch - best["epoch"] >= args.patience:
            log(f"Stopped early: no better model in {args.patience} epochs")
            break

    losses = best["train_loss"], best["valid_loss"]
    log("Best epoch: {}, Train Loss: {:.{d}f}, Valid Loss: {:.{d}f}".format(best["epoch"], *losses, d=task.digits))
    _, _, limits = task.optimizers[args.optimizer]
    asked = ", ".join(f"{name} loss below {limit:g}" for name, limit in limits.items())
    met = all(best[f"{name}_loss"] < limit for name, limit in limits.items())
    log(f"Asked by the handout: {asked}: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
