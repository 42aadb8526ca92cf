"""The convolutional autoencoder (handout, Part 3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

AE_ENCODING_DIM = 64


class Autoencoder(nn.Module):
    """Images -> latent vectors -> images, by convolutions.

    Shapes: images (N, 3, H, W) in [0, 1], latent vectors (N, encoding_dim). On the way down, 3 x H x W becomes
    32 x H/2 x W/2, 64 x H/4 x W/4, 128 x H/4 x W/4 and then the latent vector; on the way up, the same in reverse.

    Nothing bends the line between the last convolution and the latent vector, nor between that and the first
    convolution on the way up: a ReLU before the latent vector costs both losses a tenth. The transposed convolutions
    have kernels twice as wide as their stride, so that each pixel is painted as often as its neighbour and no
    checkerboard appears (Odena et al., Deconvolution and Checkerboard Artifacts, 2016). ReLU follows the pooling: the
    largest of four and ReLU may change places, and this way round ReLU has a quarter of the numbers to look at. Weights
    start orthogonal (Saxe et al. 2014), with the gain for ReLU.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
    """

    name = "AE"
    latent_parts = 1  # how many vectors of size encoding_dim the encoder gives

    def __init__(self, encoding_dim: int = AE_ENCODING_DIM, image_size: Sequence[int] = (24, 24)) -> None:
        super().__init__()
        self.encoding_dim = encoding_dim
        features = (128, *quarter_of(image_size))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.Flatten(),
            nn.Linear(math.prod(features), self.latent_parts * encoding_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(encoding_dim, math.prod(features)),
            nn.Unflatten(1, features),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        for layer in [*self.encoder, *self.decoder]:
            if hasattr(layer, "weight"):
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1]."""
        return self.decoder(self.encoder(images))

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W): the best the model can make of the images."""
        return self(images)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], decoded from latent vectors drawn from N(0, 1)."""
        return self.decoder(torch.randn(n, self.encoding_dim, device=next(self.parameters()).device))


def quarter_of(image_size: Sequence[int]) -> tuple[int, int]:
    """(width, height) of an image -> (H / 4, W / 4): what two halvings leave, or ValueError if no whole pixels."""
    width, height = image_size
    if width < 4 or height < 4 or width % 4 or height % 4:
        raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
    return height // 4, width // 4
