"""Part 2: an MLP autoencoder built from the nodes of autograd, and trained on photos of flowers.

    python MLPAE_train_script.py > log/train_MLPAE.txt

The log goes to stdout, one line per epoch, and the best model to models/BestModel_MLPAE.pkl. An interrupted training is
resumed with --resume, and its log with >> instead of >.
"""

import math
from typing import Any

import lab.threads  # noqa: F401  (before NumPy and PyTorch)

import numpy as np
import torch

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from data_processor import FlowerLoader
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.mlp_autoencoder import MLPAutoencoder
from lab.photos import load_photos
from lab.training_run import TrainingRun

# Defaults of the flags of these names.
SETTINGS: dict[str, Any] = {
    "image_size": (24, 24),  # width and height in pixels, as in the handout
    "encoding_dim": 64,  # numbers that an image is compressed to, as in the handout
    "batch_size": 16,
    "epochs": 100,  # plain SGD is slow; they take 20 seconds
    "lr": 8.0,  # the highest rate: the loss is a mean over 1,728 numbers of an image, so that its gradients are small
    "patience": 20,  # early stopping after so many epochs without a better model
}


def build_autoencoder(input_dim: int, rng: np.random.Generator, encoding_dim: int = 64) -> BaseGraph:
    """The autoencoder: (N, input_dim) -> (N, input_dim), both in [0, 1], with the layer sizes of the handout.

    ReLU after each hidden layer except the latent vector, which may be negative; Sigmoid at the end.
    """
    first = Linear(input_dim, 256, rng)
    first.input_grad = False  # the input is data, so its gradient is not needed
    encoder = [
        first,
        ReLU(),
        Linear(256, 128, rng),
        ReLU(),
        Linear(128, encoding_dim, rng),
    ]
    decoder = [
        Linear(encoding_dim, 128, rng),
        ReLU(),
        Linear(128, 256, rng),
        ReLU(),
        Linear(256, input_dim, rng),
        Sigmoid(),
    ]
    return BaseGraph(encoder + decoder)


def train_one_epoch(model: BaseGraph, loader: FlowerLoader, lr: float) -> float:
    """Trains on each batch of the loader once; returns the mean loss over the images, measured during training."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
        model.backward(mse.backward())
        model.optimstep(lr)
    return total / len(loader.dataset)


def validate(model: BaseGraph, loader: FlowerLoader) -> float:
    """The mean loss over the images of the loader."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
    return total / len(loader.dataset)


def learning_rate(epoch: int, epochs: int, highest: float) -> float:
    """The learning rate of an epoch: linear warm-up over the first tenth of the epochs, then linear decay towards 0."""
    return highest * min(1, epoch / (0.1 * epochs), (epochs + 1 - epoch) / (0.9 * epochs))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Trains the MLP autoencoder of Part 2 on photos of flowers.")
    args = parser.parse_training(argv, {"MLPAE": SETTINGS})
    training, validation = load_photos(args)
    rng = np.random.default_rng(args.seed)
    model = build_autoencoder(3 * math.prod(args.image_size), rng, args.encoding_dim)
    autoencoder = MLPAutoencoder(model, args.encoding_dim, args.image_size)

    # The arithmetic is NumPy's. PyTorch only makes the batches, and its threads would compete with NumPy's.
    torch.set_num_threads(1)
    with np.errstate(over="ignore", invalid="ignore"), TrainingRun(args, training, validation, [autoencoder]) as run:
        for epoch in run.epochs():
            lr = learning_rate(epoch, args.epochs, args.lr)
            train_loss = train_one_epoch(model, training, lr)
            valid_loss = validate(model, validation)
            run.log(epoch, train_loss, valid_loss)
            run.show_samples(autoencoder, epoch)

            if valid_loss < run.best_loss:
                run.save_best(autoencoder, epoch, train_loss, valid_loss)
            elif epoch - run.best_epoch >= args.patience:
                break  # early stopping


if __name__ == "__main__":
    main()
