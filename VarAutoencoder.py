"""The variational autoencoder (handout, Part 4): Kingma and Welling, Auto-Encoding Variational Bayes (2014)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from Autoencoder import Autoencoder

VAE_ENCODING_DIM = 64


class VarAutoencoder(Autoencoder):
    """An autoencoder whose encoder gives a normal distribution of latent vectors for each image: mu and log_var.

    Sizes, arguments and layers are those of the Autoencoder, except that the encoder has twice as many outputs.

    Attributes:
        antithetic: set it to True for antithetic sampling: ``forward`` then decodes mu + sigma * epsilon and
            mu - sigma * epsilon. Both are samples of z, and their average reduces the variance of the gradients (Wu,
            Goodman and Ermon, Differentiable Antithetic Sampling, 2019).
    """

    name = "VAE"
    encoder_outputs = 2
    antithetic = False

    def __init__(self, encoding_dim: int = VAE_ENCODING_DIM, image_size: Sequence[int] = (24, 24)) -> None:
        super().__init__(encoding_dim, image_size)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> mu and log_var of q(z | image), each (N, encoding_dim)."""
        mu, log_var = self.encoder(images).chunk(2, dim=1)
        return mu, log_var

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        """A differentiable sample of N(mu, exp(log_var)): z = mu + sigma * epsilon (section 2.4)."""
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """(N, 3, H, W) -> images (N, 3, H, W) decoded from a sample of z, and mu and log_var, each (N, encoding_dim).

        z is sampled in validation as in training, so that both losses measure the same. With antithetic sampling, the
        first result is (2, N, 3, H, W).
        """
        mu, log_var = self.encode(images)
        z = self.reparameterize(mu, log_var)
        if self.antithetic:
            return self.decoder(torch.cat([z, 2 * mu - z])).unflatten(0, (2, -1)), mu, log_var
        return self.decoder(z), mu, log_var

    @torch.no_grad()
    def standardize_latent(self, images: Tensor) -> None:
        """Moves and scales each latent number so that z, over all these images (N, 3, H, W), has mean 0 and variance 1.

        The encoder's last layer and the decoder's first one change inversely, so that no reconstruction changes. Of all
        moves and scales, the KL divergence is lowest with this one: its derivatives with respect to them are 0.
        """
        mu, log_var = map(torch.cat, zip(*(self.encode(batch) for batch in images.split(256)), strict=True))
        mean = mu.mean(dim=0)
        scale = (log_var.exp() + (mu - mean) ** 2).mean(dim=0).sqrt()
        last: Any = self.encoder[-1]
        (mu_weight, _), (mu_bias, log_var_bias) = last.weight.chunk(2), last.bias.chunk(2)
        mu_weight /= scale[:, None]
        mu_bias.sub_(mean).div_(scale)
        log_var_bias -= 2 * scale.log()
        first: Any = self.decoder[0]  # of z, which is mean + scale * the new z
        first.bias += first.weight @ mean
        first.weight *= scale

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1], decoded from mu, the mean of z."""
        mu, _ = self.encode(images)
        return self.decoder(mu)


def squared_error(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """The squared errors of the reconstructed images, summed over the batch.

    Args:
        outputs: (reconstructed images, mu, log_var) of ``VarAutoencoder.forward``. With reconstructions (K, N, 3, H, W)
            of K samples of z, the squared errors are averaged over the samples.
        images: (N, 3, H, W) in [0, 1].

    Raises:
        ValueError: there are no images; or the reconstructed images, or those of each sample, are not of their shape.
    """
    reconstructed, _, _ = outputs
    if reconstructed.shape[-images.ndim :] != images.shape or not len(images):
        found = f"{tuple(reconstructed.shape)} for images of shape {tuple(images.shape)}"
        raise ValueError(f"expected one image or more, and reconstructed images of their shape, found {found}")
    samples = reconstructed.numel() // images.numel()
    return torch.sum((reconstructed - images) ** 2) / samples


def KL_divergence(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """The KL divergence of q(z | image) to N(0, 1), summed over the batch; arguments are those of squared_error.

    KL(N(mu, sigma^2) || N(0, 1)) = 1/2 sum of (sigma^2 + mu^2 - 1 - log sigma^2)   (appendix B)
    """
    _, mu, log_var = outputs
    return 0.5 * torch.sum(torch.exp(log_var) + mu**2 - 1 - log_var)


def VAE_loss_function(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """Squared errors plus KL divergence, summed over the batch; the handout's 800 is this for 16 images."""
    return squared_error(outputs, images) + KL_divergence(outputs, images)


def calibrated_VAE_loss_function(outputs: tuple[Tensor, Tensor, Tensor], images: Tensor) -> Tensor:
    """VAE_loss_function with the variance of the pixels fitted to the errors: Rybkin et al., Simple and Effective VAE
    Training with Calibrated Decoders (2021).

    A sum of squared errors is, up to a constant, the negative log-likelihood of pixels with variance 1/2. That is 26
    times the actual squared errors, so that most latent dimensions collapse to the prior (posterior collapse).
    The maximum-likelihood variance is the mean squared error, and with it the negative log-likelihood of a batch of D
    pixels is, up to a constant, D/2 log(mean squared error). It is at least that of rounding to bytes, 1/12 of 1/255^2:
    the logarithm of 0 has no gradient. Arguments are those of squared_error.
    """
    mean_squared_error = squared_error(outputs, images) / images.numel()
    variance = mean_squared_error.clamp_min(1 / 12 / 255**2)
    return images.numel() / 2 * torch.log(variance) + KL_divergence(outputs, images)
