"""Pictures that nobody took, by any model (handout, Parts 3 and 4)."""

import torch
from tqdm import tqdm

from autograd import BaseGraph

AT_ONCE = 100  # pictures; more of them at a time take more memory and no less time


def generate(checkpoint, number, seed):
    """(number, 3, H, W) in [0, 1]: what the model makes of random numbers from N(0, 1)."""
    torch.manual_seed(seed)
    progress = tqdm(range(0, number, AT_ONCE), f"Drawing with {checkpoint['name']}", leave=False, disable=None)
    return torch.cat([_some(checkpoint, min(AT_ONCE, number - done)) for done in progress])


def _some(checkpoint, number):
    model = checkpoint["model"]
    if not isinstance(model, BaseGraph):
        return model.eval().sample(number)
    latent = torch.randn(number, checkpoint["encoding_dim"]).numpy()
    decoder = model[len(model) // 2 :]  # the encoder turned round, and a Sigmoid: the larger half
    width, height = checkpoint["image_size"]
    return torch.from_numpy(decoder.forward(latent)).reshape(number, 3, height, width)
