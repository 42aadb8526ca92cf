"""A Gaussian mixture, fitted by expectation-maximization.

The equations are those of Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.2. Pictures are decoded
from latent vectors that are sampled from a mixture fitted to those of photos, instead of from N(0, 1): Ghosh et al.,
From Variational to Deterministic Autoencoders (2020).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

COMPONENTS = 3  # of 1, 3, 10, 30: the most likely held-out training photos, for AE, VAE and VAE_calibrated
RIDGE = 1e-6  # times the mean of the variances: added to the diagonals of the covariances, or few vectors' are singular
TOLERANCE = 1e-3  # of the mean log-likelihood, in nats
MOST_STEPS = 100


class GaussianMixture:
    """p(x) = sum over k of weights[k] * N(x | means[k], covariances[k])   (equation 9.7)

    weights (K,), means (K, D), and covariances (K, D, D) as their Cholesky factors: factors[k] @ factors[k].T; all of
    float64. K is ``components``, or less: with fewer different vectors, or after a component lost all its vectors.

    Args:
        vectors: (N, D), to which the mixture is fitted.
        seed: of the first means; the global random generator is left as it is.

    Raises:
        ValueError: not of shape (N, D), or no vectors, or numbers that are not finite in float32.
    """

    def __init__(self, vectors: Tensor, components: int = COMPONENTS, seed: int = 0) -> None:
        if vectors.ndim != 2 or not vectors.numel() or not vectors.float().isfinite().all():
            raise ValueError(f"found vectors of shape {tuple(vectors.shape)}, expected (N, D), all finite numbers")
        vectors = vectors.detach().cpu().double()
        float32 = torch.finfo(torch.float32)
        rounding = float32.eps * vectors.abs().max() + float32.tiny  # so that the ridge of equal vectors is not 0
        self.ridge = RIDGE * vectors.var(dim=0, correction=0).mean() + rounding**2
        self.maximize(vectors, first_responsibilities(vectors, components, seed))
        last = -math.inf
        for _ in range(MOST_STEPS):
            log_likelihood = self.log_likelihood(vectors).mean().item()
            if log_likelihood - last < TOLERANCE:
                break
            last = log_likelihood
            self.maximize(vectors, self.log_joint(vectors).softmax(dim=1))

    def maximize(self, vectors: Tensor, responsibilities: Tensor) -> None:
        """The M step for vectors (N, D), and responsibilities (N, K) by the E step: equations 9.24 to 9.26."""
        responsibilities = responsibilities[:, responsibilities.sum(dim=0) > 1e-9]  # others have no mean
        counts = responsibilities.sum(dim=0)
        self.weights = counts / counts.sum()
        self.means = responsibilities.T @ vectors / counts[:, None]
        centered = vectors - self.means[:, None]  # (K, N, D)
        covariances = (responsibilities.T[:, :, None] * centered).mT @ centered / counts[:, None, None]
        covariances.diagonal(dim1=1, dim2=2).add_(self.ridge)
        self.factors = torch.linalg.cholesky(covariances)

    def log_joint(self, vectors: Tensor) -> Tensor:
        """log(weights[k] * N(x | means[k], covariances[k])): (N, D) -> (N, K). Its softmax is the E step (9.23)."""
        centered = vectors.double() - self.means[:, None]
        standard = torch.linalg.solve_triangular(self.factors, centered.mT, upper=False)  # (K, D, N)
        log_determinants = 2 * self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        exponents = (standard**2).sum(dim=1).T + log_determinants + vectors.shape[1] * math.log(2 * math.pi)
        return self.weights.log() - 0.5 * exponents

    def log_likelihood(self, vectors: Tensor) -> Tensor:
        """log p(x): (N, D) -> (N,), float64."""
        return self.log_joint(vectors).logsumexp(dim=1)

    def sample(self, n: int) -> Tensor:
        """n vectors, (n, D), float32, with numbers of PyTorch's global random generator."""
        k = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.means.shape[1], 1, dtype=torch.float64)
        return (self.means[k] + (self.factors[k] @ noise).squeeze(2)).float()


def first_responsibilities(vectors: Tensor, components: int, seed: int) -> Tensor:
    """For vectors (N, D): (N, K), 1 for the nearest of K vectors, which k-means++ chooses as means, and 0 otherwise.

    Each is chosen with a probability proportional to its squared distance to the nearest of those before (Arthur and
    Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007).
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(vectors), (1,), generator=generator)
    while True:
        # Exactly 0 for equal vectors, as torch.cdist is not.
        distances, nearest = ((vectors[:, None] - vectors[chosen]) ** 2).sum(dim=2).min(dim=1)
        if len(chosen) >= components or not distances.any():
            return one_hot(nearest).double()
        chosen = torch.cat([chosen, torch.multinomial(distances, 1, generator=generator)])
