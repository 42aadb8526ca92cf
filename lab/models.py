"""The models by name, and the losses that the handout asks of them."""

import importlib
from collections.abc import Sequence
from typing import Any

AUTOENCODERS = ["MLPAE", "AE", "VAE", "VAE_calibrated"]
BY_CLASS = ["GAN", "DDPM"]  # learn with the label of each photo, and sample pictures of a class
MODELS = AUTOENCODERS + BY_CLASS

# The module and the class of each PyTorch model: imported when needed, so that a mistake in one does not stop Part 2.
PYTORCH_MODELS = {
    "AE": ("Autoencoder", "Autoencoder"),
    "VAE": ("VarAutoencoder", "VarAutoencoder"),
    "VAE_calibrated": ("VarAutoencoder", "VarAutoencoder"),
    "GAN": ("generative.GAN", "GAN"),
    "DDPM": ("generative.Diffusion", "Diffusion"),
}

# Bounds of the losses, and the epochs within which they are asked; None: no limit.
REQUIRED: dict[str, tuple[dict[str, float], int | None]] = {
    "MLPAE": ({"train": 0.03, "valid": 0.03}, None),  # Part 2, step 3
    "AE": ({"train": 0.01, "valid": 0.012}, 15),  # Part 3, step 2
    "AE with SGD": ({"train": 0.015}, 60),  # Part 3, step 1
    "VAE": ({"train": 800, "valid": 800}, 20),  # Part 4, step 3, for a batch of 16
}


def new_model(name: str, encoding_dim: int | None, image_size: Sequence[int], classes: int) -> Any:
    """A PyTorch model with initial weights; the number of classes is for the models in ``BY_CLASS``."""
    module, class_name = PYTORCH_MODELS[name]
    options = {"classes": classes} if name in BY_CLASS else {}
    model = getattr(importlib.import_module(module), class_name)(encoding_dim, image_size, **options)
    model.name = name
    return model


def required_losses(
    name: str, optimizer: str | None = None, image_size: Sequence[int] = (24, 24)
) -> tuple[dict[str, float], int | None]:
    """The row of ``REQUIRED`` of a model; no bounds where the handout gives none, as for another image size."""
    if tuple(image_size) != (24, 24):
        return {}, None
    return REQUIRED.get(f"{name} with {optimizer}") or REQUIRED.get(name, ({}, None))
