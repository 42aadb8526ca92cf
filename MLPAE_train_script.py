"""Part 2: an autoencoder built from hand-written nodes, and trained on photos of flowers.

    python MLPAE_train_script.py > log/train_MLPAE.txt

The log goes to stdout, one line an epoch; the best model goes to models/BestModel_MLPAE.pkl. A training that was cut
off goes on with --resume, and its log with >> in place of >. The loop over the epochs, with the best model and the
early end, is ``train`` in training.py: the same for every model of the lab.
"""

import argparse
import math
from typing import Any

import numpy as np

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from command_line import Parser, add_training_flags, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Trains the MLP autoencoder of Part 2 on photos of flowers.")
    add_training_flags(parser, encoding_dim=64, epochs=100, lr=8.0, patience=20)
    return parser.parse_args(argv)


def build_autoencoder(input_dim: int, rng: np.random.Generator, encoding_dim: int = 64) -> BaseGraph:
    """The autoencoder: (N, input_dim) in [0, 1] -> the same, by way of 256, 128, encoding_dim, 128 and 256 numbers.

    ReLU between the layers, but for the latent vector, which is free to be negative; Sigmoid at the end.
    """
    encoder = [
        Linear(input_dim, 256, rng),
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


def train_one_epoch(model: BaseGraph, loader: Any, lr: float) -> float:
    """Trains on each batch of the loader; returns the mean loss over its images, each as the model was at its turn."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
        model.backward_params(mse.backward())
        model.optimstep(lr)
    return total / len(loader.dataset)


def validate(model: BaseGraph, loader: Any) -> float:
    """The mean loss over the images of the loader."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
    return total / len(loader.dataset)


def learning_rate(epoch: int, epochs: int, highest: float) -> float:
    """Rises in a straight line over the first tenth of the epochs, then falls in a straight line towards 0.

    A mean over all 1,728 numbers of an image makes for small gradients: hence rates above 1.
    """
    return highest * min(1, epoch / (0.1 * epochs), (epochs + 1 - epoch) / (0.9 * epochs))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    import torch

    from training import prepare, train

    training, validation, data = prepare(args)
    model = build_autoencoder(3 * math.prod(args.image_size), np.random.default_rng(args.seed), args.encoding_dim)

    # NumPy does the arithmetic here. PyTorch only hands out batches, and its threads would fight NumPy's for the cores.
    torch.set_num_threads(1)
    train(
        args,
        {
            "name": "MLPAE",
            "model": model,
            "encoding_dim": args.encoding_dim,
            "image_size": list(args.image_size),
            "data": data,
        },
        training,
        train_one_epoch=lambda epoch: train_one_epoch(model, training, learning_rate(epoch, args.epochs, args.lr)),
        validate=lambda: {"Loss": validate(model, validation)},
    )


if __name__ == "__main__":
    main()
