"""Muon, an optimizer for the weights between hidden layers (handout, Part 4, step 4).

Gradient descent with momentum, in which each step is a matrix whose singular values are all about 1. A gradient has a
few large singular values and many small ones; when they are made equal, what the small ones stand for is learned at the
same pace.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024),
https://kellerjordan.github.io/posts/muon. PyTorch's own, ``torch.optim.Muon``, is for matrices alone, in bfloat16.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized.

    Args:
        weights: (out, in, ...) each, of linear layers or convolutions: seen as matrices (out, in * ...).
        lr: the learning rate, which is about the spectral norm of a step; for a matrix with more rows than columns,
            times the root of rows / columns.
        momentum: the decay of the average of the gradients.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if not self.state[weight]:
                    self.state[weight]["average"] = torch.zeros_like(weight)
                average = self.state[weight]["average"].lerp_(weight.grad, 1 - group["momentum"])
                step = orthogonalized(weight.grad.lerp(average, group["momentum"]).flatten(1))
                rows, columns = step.shape
                weight.sub_(step.reshape(weight.shape), alpha=group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonalized(matrix: Tensor) -> Tensor:
    """U S V^T (M, N) -> about U V^T: singular values that are no smaller than 0.002 of the norm become 0.7 to 1.2.

    Five Newton-Schulz iterations, X <- (a I + b X X^T + c (X X^T)^2) X, as in the source. Together they multiply X from
    the left by a matrix that is as small as X X^T, so that X itself, which is wider, is multiplied only twice.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T).T
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T  # X X^T, as it is after each iteration
    product = identity = torch.eye(len(x), device=x.device, dtype=x.dtype)
    for _ in range(5):
        factor = 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    return product @ x
