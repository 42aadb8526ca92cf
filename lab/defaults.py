"""The models, and the settings they are trained with by default: ``--help`` and the training scripts read them here."""

from typing import NamedTuple


class Settings(NamedTuple):
    """Default settings of a training; the first four have flags.

    Args:
        epochs: maximum number of epochs.
        lr: maximum learning rate of the schedule.
        patience: early stopping after so many epochs without a better model; None: no early stopping.
        encoding_dim: size of the latent vector; None: given by the image size.
        weight_decay: of AdamW.
        betas: of AdamW; the second is lower than PyTorch's 0.999, since the trainings are short.
        averaged: whether the model that is kept is an exponential moving average of the weights.
    """

    epochs: int
    lr: float
    patience: int | None = 15
    encoding_dim: int | None = 64
    weight_decay: float = 0
    betas: tuple[float, float] = (0.9, 0.98)
    averaged: bool = False


# By model and optimizer. The strong weight decay is against overfitting: there are 2,000 training photos.
DEFAULTS = {
    ("MLPAE", "SGD"): Settings(epochs=100, lr=8.0, patience=20),
    ("AE", "AdamW"): Settings(epochs=15, lr=3e-3, weight_decay=0.3),
    ("AE", "SGD"): Settings(epochs=60, lr=5.0),
    ("VAE", "AdamW"): Settings(epochs=20, lr=3e-3, weight_decay=0.3),
    ("VAE", "SGD"): Settings(epochs=60, lr=1e-4),
    ("VAE_calibrated", "AdamW"): Settings(epochs=40, lr=2e-3, weight_decay=0.3),
    ("GAN", "AdamW"): Settings(epochs=150, lr=1e-3, patience=None, betas=(0.5, 0.99), averaged=True),
    ("DDPM", "AdamW"): Settings(
        epochs=110, lr=2e-3, patience=None, encoding_dim=None, weight_decay=0.01, averaged=True
    ),
}

DATA_ROOT = "./flowers"  # if no other is given, and there is none, flowers are drawn
FOLDERS = {"model_dir": "./models", "log_dir": "./log", "vis_dir": "./vis"}

MODELS = list(dict.fromkeys(name for name, _ in DEFAULTS))
BY_KIND = ["GAN", "DDPM"]  # learn with the kind of each photo, and sample pictures of a kind
AUTOENCODERS = [name for name in MODELS if name not in BY_KIND]
