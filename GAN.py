"""A generative adversarial network for few photos (handout, Part 4, step 4).

A generator makes pictures out of random vectors. A discriminator learns to tell them from photos, and the generator to
have them taken for photos. Two thousand photos are few enough to learn by heart, after which a discriminator has
nothing more to teach; so it sees photos and pictures alike only after small random changes of colour and place.

Sources: Goodfellow et al., Generative Adversarial Nets (2014), for the idea; Radford, Metz and Chintala, Unsupervised
Representation Learning with Deep Convolutional GANs (2016), for the layers; Lim and Ye, Geometric GAN (2017), for the
hinge loss; Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training (2020), for the random changes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from Autoencoder import quarter_of

GAN_ENCODING_DIM = 64


class GAN(nn.Module):
    """A generator, latent vectors (N, encoding_dim) from N(0, 1) -> pictures (N, 3, H, W), and its discriminator.

    Both learn at once, in the training loop of any other model: each has a part of the loss to itself.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
    """

    name = "GAN"

    def __init__(self, encoding_dim: int = GAN_ENCODING_DIM, image_size: Sequence[int] = (24, 24)) -> None:
        super().__init__()
        self.encoding_dim = encoding_dim
        quarter = quarter_of(image_size)
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
        - as many pictures, for it to learn from: no gradient goes from here to the generator;
        - the same pictures, for the generator to learn from: no gradient goes from here to the discriminator.
        """
        pictures = self.generate(len(images))
        photo_scores = self.discriminator(augment(images))
        picture_scores = self.discriminator(augment(pictures.detach()))
        self.discriminator.requires_grad_(False)
        fooled_scores = self.discriminator(augment(pictures))
        self.discriminator.requires_grad_(True)
        return photo_scores, picture_scores, fooled_scores

    def generate(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], made of latent vectors drawn from N(0, 1)."""
        latent = torch.randn(n, self.encoding_dim, device=next(self.parameters()).device)
        return self.generator(latent)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """As ``generate``, for looking at: no gradient goes back from here."""
        return self.generate(n)


def augment(images: Tensor) -> Tensor:
    """Changes each image a little, in its own way: brightness, saturation, contrast, and where it stands.

    Images (N, 3, H, W) in [0, 1] -> the same shape, in about [-1, 1], with 0 where an image was moved away from.
    """
    n, _, height, width = images.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=images.device).uniform_(low, high)

    x = 2 * images - 1 + draw(-0.2, 0.2, 1, 1, 1)
    gray = x.mean(dim=1, keepdim=True)
    x = gray + draw(0.6, 1.4, 1, 1, 1) * (x - gray)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + draw(0.8, 1.2, 1, 1, 1) * (x - mean)

    # Up to an eighth of a side up or down, right or left: the rows and columns to take of an image with a margin.
    down, right = height // 8, width // 8
    rows = torch.arange(height, device=x.device) + draw(0, 2 * down + 1, 1).long()
    columns = torch.arange(width, device=x.device) + draw(0, 2 * right + 1, 1).long()
    margined = pad(x, (right, right, down, down)).permute(0, 2, 3, 1)
    which = torch.arange(n, device=x.device)[:, None, None]
    return margined[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def GAN_loss_terms(outputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The hinge losses of the discriminator, 2 for one that cannot tell at all, and of the generator."""
    photo_scores, picture_scores, fooled_scores = outputs
    return (relu(1 - photo_scores) + relu(1 + picture_scores)).mean(), -fooled_scores.mean()


def GAN_loss_function(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Any:
    """Both hinge losses, added up; the gradients of each are for one of the networks alone."""
    return sum(GAN_loss_terms(outputs))
