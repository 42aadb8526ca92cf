"""A generative adversarial network for few photos (handout, Part 4, step 4).

A generator maps random latent vectors to pictures. A discriminator is trained to distinguish them from photos, and the
generator to make the discriminator take them for photos. With only two thousand photos a discriminator overfits; so
both photos and pictures are augmented before it sees them, by small random changes of colour and position.

Sources: Goodfellow et al., Generative Adversarial Nets (2014), for the idea; Radford, Metz and Chintala, Unsupervised
Representation Learning with Deep Convolutional GANs (2016), for the layers; Lim and Ye, Geometric GAN (2017), for the
hinge loss; Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training (2020), for the augmentation.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import pad, relu

GAN_ENCODING_DIM = 64


class GAN(nn.Module):
    """A generator, latent vectors (N, encoding_dim) from N(0, 1) -> pictures (N, 3, H, W), and its discriminator.

    Both are trained in the same step: the loss is the sum of a loss for each, and the gradients of each loss reach one
    of the networks alone.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
    """

    name = "GAN"

    def __init__(self, encoding_dim: int = GAN_ENCODING_DIM, image_size: Sequence[int] = (24, 24)) -> None:
        super().__init__()
        width, height = image_size
        if min(image_size) < 4 or width % 4 or height % 4:
            raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
        self.encoding_dim = encoding_dim
        quarter = height // 4, width // 4
        self.generator = nn.Sequential(
            nn.Linear(encoding_dim, 192 * math.prod(quarter)),
            nn.Unflatten(1, (192, *quarter)),
            nn.BatchNorm2d(192),
            nn.ReLU(),
            nn.ConvTranspose2d(192, 96, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.ConvTranspose2d(96, 48, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 3, 3, padding=1),
            nn.Sigmoid(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, 48, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(48, 96, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(96, 192, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(192 * math.prod(quarter), 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, H, W) in [0, 1] -> the discriminator's scores, each (N, 1), of

        - the images;
        - as many pictures, for the loss of the discriminator: without gradients for the generator;
        - the same pictures, for the loss of the generator: without gradients for the discriminator.
        """
        pictures = self.generate(len(images))
        photo_scores = self.discriminator(augment(images))
        picture_scores = self.discriminator(augment(pictures.detach()))
        constants = {name: param.detach() for name, param in self.discriminator.named_parameters()}
        fooled_scores = functional_call(self.discriminator, constants, augment(pictures))
        return photo_scores, picture_scores, fooled_scores

    def generate(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], of latent vectors sampled from N(0, 1)."""
        weight = next(self.parameters())
        return self.generator(torch.randn(n, self.encoding_dim, device=weight.device, dtype=weight.dtype))

    sample = torch.no_grad()(generate)


def augment(images: Tensor) -> Tensor:
    """Random changes of brightness, saturation, contrast and position, different for each image.

    Images (N, 3, H, W) in [0, 1] -> the same shape, in about [-1, 1]; translation fills with 0.
    """
    n, _, height, width = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=images.device).uniform_(low, high)

    x = 2 * images - 1 + uniform(-0.2, 0.2, 1, 1, 1)
    gray = x.mean(dim=1, keepdim=True)
    x = gray + uniform(0.6, 1.4, 1, 1, 1) * (x - gray)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + uniform(0.8, 1.2, 1, 1, 1) * (x - mean)

    # Translation by up to an eighth of each side: a window at a random position in the padded image.
    down, right = height // 8, width // 8
    rows = torch.arange(height, device=x.device) + uniform(0, 2 * down + 1, 1).long()
    columns = torch.arange(width, device=x.device) + uniform(0, 2 * right + 1, 1).long()
    padded = pad(x, (right, right, down, down)).permute(0, 2, 3, 1)
    batch = torch.arange(n, device=x.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).to(images.dtype)


def GAN_loss_terms(outputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The hinge losses of the discriminator (2 if it cannot distinguish at all) and of the generator."""
    photo_scores, picture_scores, fooled_scores = outputs
    return (relu(1 - photo_scores) + relu(1 + picture_scores)).mean(), -fooled_scores.mean()


def GAN_loss_function(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Any:
    """The sum of both hinge losses; see ``GAN``."""
    return sum(GAN_loss_terms(outputs))
