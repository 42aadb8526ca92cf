"""Part 2: an MLP autoencoder built from the nodes of autograd, and trained on photos of flowers.

    python MLPAE_train_script.py > log/train_MLPAE.txt

The log goes to stdout, one line per epoch, and the best model to models/BestModel_MLPAE.pkl. An interrupted training is
resumed with --resume, and its log with >> instead of >.
"""

import argparse
import math
from typing import Any

import lab.threads  # noqa: F401

# isort: split
import numpy as np  # after lab.threads, which sets the number of its threads

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from lab.command_line import Parser, add_training_flags
from lab.errors import one_line_errors
from lab.files import prepare_folder


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("Trains the MLP autoencoder of Part 2 on photos of flowers.")
    add_training_flags(parser, ["MLPAE"])
    return parser.parse_args(argv)


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


def train_one_epoch(model: BaseGraph, loader: Any, lr: float) -> float:
    """Trains on each batch of the loader once; returns the mean loss over the images, measured during training."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
        model.backward(mse.backward())
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
    """The learning rate of an epoch: linear warm-up over the first tenth of the epochs, then linear decay towards 0.

    The loss is a mean over all 1,728 numbers of an image, so gradients are small, and rates above 1 are needed.
    """
    return highest * min(1, epoch / (0.1 * epochs), (epochs + 1 - epoch) / (0.9 * epochs))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)

    # Imported after the arguments are parsed, so that --help does not wait for PyTorch.
    import torch

    from lab.memory import expect_memory
    from lab.mlp_autoencoder import MLPAutoencoder
    from lab.photos import load_photos
    from lab.training_run import TrainingRun

    prepare_folder(args.model_dir)
    prepare_folder(args.log_dir)
    input_dim = 3 * math.prod(args.image_size)
    # The QR decomposition that initializes a weight has four copies of it in float64 at once.
    expect_memory(4 * 8 * 256 * input_dim, "the MLP at {} x {} pixels".format(*args.image_size))
    training, validation = load_photos(args)
    rng = np.random.default_rng(args.seed)
    model = build_autoencoder(input_dim, rng, args.encoding_dim)
    autoencoder = MLPAutoencoder(model, args.encoding_dim, args.image_size)

    # The arithmetic is NumPy's. PyTorch only makes the batches, and its threads would compete with NumPy's.
    torch.set_num_threads(1)
    with TrainingRun(args, "MLPAE", training, validation, parts=[autoencoder]) as run:
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
