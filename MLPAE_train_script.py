"""Part 2: an autoencoder built from hand-written nodes, and trained on photos of flowers.

    python MLPAE_train_script.py > log/train_MLPAE.txt

The log goes to stdout, one line an epoch; the best model goes to models/BestModel_MLPAE.pkl. A training that was cut
off goes on with --resume, and its log with >> in place of >. The loop over the epochs, with the best model and the
early end, is ``train`` in training.py: the same for every model of the lab.
"""

import math

import numpy as np

from autograd import MSE, BaseGraph, Linear, ReLU, Sigmoid
from command_line import Parser, image_size, one_line_errors, positive_float, positive_int, seed

ENCODING_DIM = 64
ASKED = {"train": 0.03, "valid": 0.03}  # by the handout, of the losses


def parse_arguments(argv):
    parser = Parser("Trains the MLP autoencoder of Part 2 on photos of flowers.")
    parser.add_argument("--data-root", default="./flowers", help="the photos: a folder of class folders")
    parser.add_argument("--drawn-root", default="./drawn_flowers", help="the set drawn where there are no photos")
    parser.add_argument("--model-dir", default="./models", help="where the best model goes")
    parser.add_argument("--log-dir", default="./log", help="where the history of the losses goes")
    parser.add_argument("--image-size", type=image_size, default="24", help="in pixels: 24, or as in 32x24")
    parser.add_argument("--batch-size", type=positive_int, default=16, help="images in a batch")
    parser.add_argument("--epochs", type=positive_int, default=100, help="times through the training photos, at most")
    parser.add_argument("--lr", type=positive_float, default=8.0, help="highest learning rate")
    parser.add_argument("--patience", type=positive_int, default=20, help="epochs to wait for a better model")
    parser.add_argument("--seed", type=seed, default=0, help="of the first weights and the order of the photos")
    parser.add_argument("--split-seed", type=seed, default=0, help="of the split into training and validation photos")
    parser.add_argument("--strict", action="store_true", help="make an error of a photo that cannot be read")
    parser.add_argument("--resume", action="store_true", help="go on with a training that was cut off")
    return parser.parse_args(argv)


def build_autoencoder(input_dim, rng):
    """The autoencoder, input_dim - 256 - 128 - 64 - 128 - 256 - input_dim: (N, input_dim) in [0, 1] -> the same.

    ReLU between the layers, but for the latent vector, which is free to be negative; Sigmoid at the end.
    """
    encoder = [
        Linear(input_dim, 256, rng),
        ReLU(),
        Linear(256, 128, rng),
        ReLU(),
        Linear(128, ENCODING_DIM, rng),
    ]
    decoder = [
        Linear(ENCODING_DIM, 128, rng),
        ReLU(),
        Linear(128, 256, rng),
        ReLU(),
        Linear(256, input_dim, rng),
        Sigmoid(),
    ]
    return BaseGraph(encoder + decoder)


def train_one_epoch(model, loader, lr):
    """Trains on each batch of the loader; returns the mean loss over its images, each as the model was at its turn."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
        model.backward_params(mse.backward())
        model.optimstep(lr)
    return total / len(loader.dataset)


def validate(model, loader):
    """The mean loss over the images of the loader."""
    mse = MSE()
    total = 0.0
    for images, _ in loader:
        x = images.flatten(1).numpy()
        total += mse.forward(model.forward(x), x) * len(x)
    return total / len(loader.dataset)


def learning_rate(epoch, epochs, highest):
    """Rises in a straight line over the first tenth of the epochs, then falls in a straight line towards 0.

    A mean over all 1,728 numbers of an image makes for small gradients: hence rates above 1.
    """
    return highest * min(1, epoch / (0.1 * epochs), (epochs + 1 - epoch) / (0.9 * epochs))


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)

    # Only now, past the arguments, so that --help need not wait for PyTorch.
    import torch

    from training import prepare, train

    training, validation, data = prepare(args)
    model = build_autoencoder(3 * math.prod(args.image_size), np.random.default_rng(args.seed))

    # NumPy does the arithmetic here. PyTorch only hands out batches, and its threads would fight NumPy's for the cores.
    torch.set_num_threads(1)
    train(
        args,
        {
            "name": "MLPAE",
            "model": model,
            "encoding_dim": ENCODING_DIM,
            "image_size": list(args.image_size),
            "data": data,
        },
        training,
        train_one_epoch=lambda epoch: train_one_epoch(model, training, learning_rate(epoch, args.epochs, args.lr)),
        validate=lambda: {"MSE": validate(model, validation)},
        asked=ASKED,
    )


if __name__ == "__main__":
    main()
