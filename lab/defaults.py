"""The models, the settings they are trained with by default, and the losses that the handout requires of them."""

from collections.abc import Sequence
from typing import NamedTuple

AUTOENCODERS = ["MLPAE", "AE", "VAE", "VAE_calibrated"]
BY_CLASS = ["GAN", "DDPM"]  # learn with the label of each photo, and sample pictures of a class
MODELS = AUTOENCODERS + BY_CLASS

DATA_ROOT = "./flowers"  # if no other is given, and there is none, flowers are drawn
FOLDERS = {"model_dir": "./models", "log_dir": "./log", "vis_dir": "./vis"}


class Settings(NamedTuple):
    """Default settings of a training, which have flags.

    Args:
        epochs: maximum number of epochs.
        lr: maximum learning rate of the schedule.
        patience: early stopping after so many epochs without a better model; None: no early stopping.
        encoding_dim: size of the latent vector; None: given by the image size.
        batch_size: images in a batch.
    """

    epochs: int
    lr: float
    patience: int | None = 15
    encoding_dim: int | None = 64
    batch_size: int = 16


DEFAULTS = {
    "MLPAE": Settings(epochs=100, lr=8.0, patience=20),
    "AE": Settings(epochs=15, lr=3e-3),
    "AE with SGD": Settings(epochs=60, lr=5.0),
    "VAE": Settings(epochs=20, lr=3e-3),
    "VAE_calibrated": Settings(epochs=40, lr=2e-3),
    "GAN": Settings(epochs=110, lr=1e-3, patience=None, batch_size=32),
    "DDPM": Settings(epochs=100, lr=2e-3, patience=None, encoding_dim=None),
}

REQUIRED_LOSSES: dict[str, dict[str, float]] = {
    "MLPAE": {"train": 0.03, "valid": 0.03},  # Part 2, step 3
    "AE": {"train": 0.01, "valid": 0.012},  # Part 3, step 2
    "AE with SGD": {"train": 0.015},  # Part 3, step 1
    "VAE": {"train": 800, "valid": 800},  # Part 4, step 3, for a batch of 16
}
REQUIRED_EPOCHS = {"AE": 15, "AE with SGD": 60, "VAE": 20}  # within which the losses are required; MLPAE: no limit


def required_losses(
    name: str, optimizer: str | None = None, image_size: Sequence[int] = (24, 24)
) -> tuple[dict[str, float], int | None]:
    """Upper bounds of a model's losses, by "train" and "valid", and the epochs within which they are required (None:
    no limit); no bounds where the handout gives none, as for another image size."""
    key = f"{name} with SGD" if (name, optimizer) == ("AE", "SGD") else name
    return REQUIRED_LOSSES.get(key, {}) if tuple(image_size) == (24, 24) else {}, REQUIRED_EPOCHS.get(key)
