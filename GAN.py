"""A generative adversarial network for few photos (handout, Part 4, step 4).

A generator maps random latent vectors to pictures of a kind of flower. A discriminator is trained to distinguish them
from photos, and the generator to make the discriminator take them for photos. With only two thousand photos a
discriminator overfits; so both photos and pictures are augmented before it sees them, by small random changes of colour
and position.

Sources: Goodfellow et al., Generative Adversarial Nets (2014), for the idea; Radford, Metz and Chintala, Unsupervised
Representation Learning with Deep Convolutional GANs (2016), for the layers; Lim and Ye, Geometric GAN (2017), for the
hinge loss; Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training (2020), for the augmentation;
Miyato and Koyama, cGANs with Projection Discriminator (2018), for the kinds.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot, pad, relu

GAN_ENCODING_DIM = 64


class GAN(nn.Module):
    """A generator, latent vectors (N, encoding_dim) from N(0, 1) and kinds (N,) -> pictures (N, 3, H, W), and its
    discriminator, which is told the kind as well.

    Both are trained in the same step: the loss is the sum of a loss for each, and the gradients of each loss reach one
    of the networks alone.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
        kinds: the number of kinds of flower.
    """

    name = "GAN"

    def __init__(
        self, encoding_dim: int = GAN_ENCODING_DIM, image_size: Sequence[int] = (24, 24), kinds: int = 1
    ) -> None:
        super().__init__()
        width, height = image_size
        if min(image_size) < 4 or width % 4 or height % 4:
            raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
        self.encoding_dim, self.kinds = encoding_dim, kinds
        quarter = height // 4, width // 4
        self.generator = nn.Sequential(
            nn.Linear(encoding_dim + kinds, 192 * math.prod(quarter)),
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
            nn.Conv2d(3, 72, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(72, 144, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(144, 288, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(288 * math.prod(quarter), 1 + kinds),
        )

    def forward(self, images: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, H, W) in [0, 1] and their kinds (N,) -> the discriminator's scores, each (N,), of

        - the images;
        - as many pictures of the same kinds, for the loss of the discriminator: without gradients for the generator;
        - the same pictures, for the loss of the generator: without gradients for the discriminator.
        """

        def score(outputs: Tensor) -> Tensor:
            """(N, 1 + number of kinds) -> (N,): psi(phi(x)) + y V phi(x) of Miyato and Koyama, for a one-hot
            vector y of the kind, where the last layer is psi and V at once."""
            return outputs[:, 0] + outputs[:, 1:].gather(1, kinds[:, None])[:, 0]

        pictures = self.generate(len(images), kinds)
        photo_scores = score(self.discriminator(augment(images)))
        picture_scores = score(self.discriminator(augment(pictures.detach())))
        constants = {name: param.detach() for name, param in self.discriminator.named_parameters()}
        fooled_scores = score(functional_call(self.discriminator, constants, augment(pictures)))
        return photo_scores, picture_scores, fooled_scores

    def random_inputs(self, n: int, kinds: Tensor | None = None) -> Tensor:
        """n inputs of the generator, (n, encoding_dim + number of kinds): latent vectors sampled from N(0, 1), and the
        kinds (n,) as one-hot vectors; by default they are at random."""
        weight = next(self.parameters())
        latent = torch.randn(n, self.encoding_dim, device=weight.device, dtype=weight.dtype)
        chosen = torch.randint(self.kinds, (n,), device=weight.device) if kinds is None else kinds.to(weight.device)
        return torch.cat([latent, one_hot(chosen, self.kinds).to(latent.dtype)], dim=1)

    def generate(self, n: int, kinds: Tensor | None = None) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], of ``random_inputs``."""
        return self.generator(self.random_inputs(n, kinds))

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
