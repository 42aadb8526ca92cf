"""The convolutional autoencoder (handout, Part 3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

AE_ENCODING_DIM = 64


class Autoencoder(nn.Module):
    """Encoder: images -> latent vectors; decoder: latent vectors -> images.

    Shapes: images (N, 3, H, W) in [0, 1], latent vectors (N, encoding_dim). The encoder maps 3 x H x W to
    32 x H/2 x W/2, 64 x H/4 x W/4, 128 x H/4 x W/4 and the latent vector; the decoder has the same sizes in reverse.

    There is no activation before the latent vector, nor between it and the first convolution of the decoder: a ReLU
    before the latent vector increases both losses by a tenth. The kernel size of the transposed convolutions is a
    multiple of their stride, which prevents checkerboard artifacts (Odena et al., Deconvolution and Checkerboard
    Artifacts, 2016). ReLU follows the max pooling: they commute, and in this order ReLU has a quarter of the work.
    Weights are initialized as orthogonal (Saxe et al. 2014), with the gain for ReLU.

    Args:
        encoding_dim: the size of the latent vector.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
    """

    name = "AE"
    encoder_outputs = 1  # vectors of size encoding_dim that the encoder computes for an image

    def __init__(self, encoding_dim: int = AE_ENCODING_DIM, image_size: Sequence[int] = (24, 24)) -> None:
        super().__init__()
        width, height = image_size
        if min(image_size) < 4 or width % 4 or height % 4:
            raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
        self.encoding_dim, self.image_size = encoding_dim, (width, height)
        features = (128, height // 4, width // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.Flatten(),
            nn.Linear(math.prod(features), self.encoder_outputs * encoding_dim),
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
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1]."""
        return self.decoder(self.encoder(images))

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1], without gradients."""
        return self(images)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], decoded from latent vectors sampled from N(0, 1)."""
        weight = next(self.parameters())
        return self.decoder(torch.randn(n, self.encoding_dim, device=weight.device, dtype=weight.dtype))
