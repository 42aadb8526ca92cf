"""Pictures sampled from any model, in batches (handout, Parts 3 and 4), and latent vectors and their distribution."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from tqdm import tqdm

BATCH = 32  # pictures sampled at a time: few enough for the cache, and enough for all cores


def sample_in_batches(model: Any, number: int, seed: int, labels: Tensor | None = None, **options: Any) -> Tensor:
    """(number, 3, H, W) in [0, 1]: ``model.sample`` with random numbers of this seed.

    ``labels`` (number,) are those of the pictures, for the models in ``BY_CLASS``; ``options`` are those of
    ``model.sample``.
    """
    torch.manual_seed(seed)
    training = model.training
    model.eval()
    samples = []
    with tqdm(None, f"Sampling from {model.name}", number, unit="picture", leave=False, disable=None) as bar:
        for start in range(0, number, BATCH):
            if labels is not None:
                options["labels"] = labels[start : start + BATCH]
            samples.append(model.sample(min(BATCH, number - start), **options))
            bar.update(len(samples[-1]))
    model.train(training)
    return torch.cat(samples)


def labels_in_proportion(counts: Mapping[str, int], number: int) -> Tensor:
    """(number,) int64, sorted: labels, each as frequent as its class in ``counts``, rounded (largest remainder)."""
    shares = torch.tensor(list(counts.values())).double() * number / sum(counts.values())
    numbers = shares.floor().long()
    most = (shares - numbers).argsort(descending=True, stable=True)
    numbers[most[: number - int(numbers.sum())]] += 1
    return torch.arange(len(numbers)).repeat_interleave(numbers)


@torch.no_grad()
def latent_vectors(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """The latent vectors (N, encoding_dim) of images (N, 3, H, W) by an autoencoder, and their variances: of a VAE, the
    means and variances of q(z | image); otherwise these are 0."""
    batches = images.split(256)
    if not hasattr(model, "encode"):
        vectors = torch.cat([model.encoder(batch) for batch in batches])
        return vectors, torch.zeros_like(vectors)
    means, log_var = map(torch.cat, zip(*map(model.encode, batches), strict=True))
    return means, log_var.exp()


def fitted_prior(model: Any, photos: Tensor) -> MultivariateNormal:
    """The Gaussian that fits the latent vectors of photos (N, 3, H, W) by an autoencoder, to be sampled in place of
    N(0, 1), in float64: Ghosh et al., From Variational to Deterministic Autoencoders (2020). Those of a VAE are
    samples of q(z | photo): their covariance is that of the means, plus the mean of the variances."""
    means, variances = (outputs.double() for outputs in latent_vectors(model, photos))
    covariance = torch.atleast_2d(means.T.cov(correction=0)) + variances.mean(dim=0).diag()
    # The covariance of few vectors is singular, that of one, or of vectors that are all alike, is 0.
    ridge = 1e-6 * covariance.trace().clamp_min(1e-6) * torch.eye(len(covariance))
    return MultivariateNormal(means.mean(dim=0), covariance + ridge)
