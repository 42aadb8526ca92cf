"""A generative adversarial network for few photos (handout, Part 4, step 4).

A generator maps random latent vectors to pictures of a class. A discriminator is trained to distinguish them from
photos, and the generator to make the discriminator take them for photos. With only two thousand photos a
discriminator overfits; so both photos and pictures are augmented before it sees them, by small random changes of colour
and position.

Sources: Goodfellow et al., Generative Adversarial Nets (2014), for the idea and the losses; Radford, Metz and Chintala,
Unsupervised Representation Learning with Deep Convolutional GANs (2016), for the layers, with upsampling and
convolutions in place of transposed ones (Odena et al., Deconvolution and Checkerboard Artifacts, 2016); Mescheder,
Geiger and Nowozin, Which Training Methods for GANs do actually Converge? (2018), for the gradient penalty; Zhao et al.,
Differentiable Augmentation for Data-Efficient GAN Training (2020), for the augmentation; Miyato and Koyama, cGANs with
Projection Discriminator (2018), for the labels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad, softplus

GAN_ENCODING_DIM = 64


class GAN(nn.Module):
    """A generator, latent vectors (N, encoding_dim) from N(0, 1) and labels (N,) -> pictures (N, 3, H, W), and its
    discriminator, which is told the labels as well.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
        classes: the number of classes.
    """

    name = "GAN"

    def __init__(
        self, encoding_dim: int = GAN_ENCODING_DIM, image_size: Sequence[int] = (24, 24), classes: int = 1
    ) -> None:
        super().__init__()
        width, height = image_size
        if min(image_size) < 4 or width % 4 or height % 4:
            raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
        self.encoding_dim, self.classes = encoding_dim, classes
        quarter = height // 4, width // 4
        self.generator = nn.Sequential(
            nn.Linear(encoding_dim + classes, 192 * math.prod(quarter)),
            nn.Unflatten(1, (192, *quarter)),
            nn.BatchNorm2d(192),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(192, 96, 3, padding=1, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.Conv2d(96, 96, 3, padding=1, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(96, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1, bias=False),
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
            nn.Linear(288 * math.prod(quarter), 1 + classes),
        )

    def forward(self, labels: Tensor, latent: Tensor | None = None) -> Tensor:
        """Labels (N,) -> pictures (N, 3, H, W) in [0, 1], of latent vectors (N, encoding_dim), or random ones."""
        weight = next(self.parameters())
        if latent is None:
            latent = torch.randn(len(labels), self.encoding_dim, device=weight.device, dtype=weight.dtype)
        one_hot_labels = one_hot(labels.to(weight.device), self.classes).to(latent.dtype)
        return self.generator(torch.cat([latent, one_hot_labels], dim=1)).to(latent.dtype)

    def score(self, images: Tensor, labels: Tensor) -> Tensor:
        """The discriminator's scores (N,) of images (N, 3, H, W) in [0, 1], augmented, and their labels (N,).

        psi(phi(x)) + y V phi(x) of Miyato and Koyama, equation 3, for a one-hot vector y of the label: the last layer
        is psi and V at once.
        """
        outputs = self.discriminator(augment(images)).to(images.dtype)
        return outputs[:, 0] + outputs[:, 1:].gather(1, labels[:, None])[:, 0]

    @torch.no_grad()
    def sample(self, n: int, labels: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], of these labels (n,) and latent vectors (n, encoding_dim); by default
        these are random."""
        return self(torch.randint(self.classes, (n,)) if labels is None else labels, latent)


def discriminator_loss(photo_scores: Tensor, picture_scores: Tensor) -> Tensor:
    """The cross-entropy of telling photos from pictures, by their scores (N,), which are logits (Goodfellow et al.,
    equation 1): 2 log 2 = 1.39 if the discriminator cannot distinguish them."""
    return (softplus(-photo_scores) + softplus(picture_scores)).mean()


def generator_loss(picture_scores: Tensor) -> Tensor:
    """Minus the mean log-probability, by the discriminator, that its pictures with these scores (N,) are photos: the
    non-saturating loss (Goodfellow et al., section 3)."""
    return softplus(-picture_scores).mean()


def gradient_penalty(model: GAN, photos: Tensor, labels: Tensor) -> Tensor:
    """Half the squared gradient of the score of a photo with respect to its pixels, the mean over the photos (Mescheder
    et al., equation 9): it keeps the discriminator from growing steep around the few photos that it has."""
    photos = photos.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.score(photos, labels).sum(), photos, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


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

    # Translation by -4, 0 or 4 pixels: a window at a random position in the padded image. The generator doubles its
    # pictures twice, which leaves a pattern that repeats every four pixels. Moved by other numbers of pixels, it would
    # be at another place in each picture, and the discriminator could not see it.
    rows = torch.arange(height, device=x.device) + 4 * uniform(0, 3, 1).long()
    columns = torch.arange(width, device=x.device) + 4 * uniform(0, 3, 1).long()
    padded = pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    batch = torch.arange(n, device=x.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).to(images.dtype)
