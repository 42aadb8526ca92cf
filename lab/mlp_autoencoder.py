"""Part 2's graph as a PyTorch module, so that the scripts treat all models alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autograd import BaseGraph


class MLPAutoencoder(nn.Module):
    """An autoencoder of images whose arithmetic is that of a BaseGraph: (N, 3HW) -> (N, 3HW), both in [0, 1].

    Its ``state_dict`` holds the parameters that the nodes have at that moment, and shares their memory. PyTorch's
    autograd has no part in it.
    """

    name = "MLPAE"

    def __init__(self, graph: BaseGraph, encoding_dim: int, image_size: Sequence[int]) -> None:
        super().__init__()
        self.graph, self.encoding_dim, self.image_size = graph, encoding_dim, image_size

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        params = (param for node in self.graph for param in node.params)
        return {str(i): torch.from_numpy(param) for i, param in enumerate(params)}

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Sets the parameters of the nodes; KeyError or ValueError if these are others."""
        values = (state_dict[name].numpy() for name in self.state_dict())
        for node in self.graph:
            node.restore([next(values) for _ in node.params])

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1]."""
        return _forward(self.graph, images.flatten(1)).reshape(images.shape)

    reconstruct = forward

    def encoder(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> latent vectors (N, encoding_dim), by the first half of the Linears."""
        return _forward(self.graph[: self._middle()], images.flatten(1))

    def decoder(self, latent: Tensor) -> Tensor:
        """Latent vectors (N, encoding_dim) -> images (N, 3, H, W) in [0, 1], by the second half of the Linears."""
        width, height = self.image_size
        return _forward(self.graph[self._middle() :], latent).reshape(-1, 3, height, width)

    def _middle(self) -> int:
        linears = [i for i, node in enumerate(self.graph) if node.params]
        return linears[len(linears) // 2]

    def sample(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], decoded from latent vectors sampled from N(0, 1)."""
        return self.decoder(torch.randn(n, self.encoding_dim))


def _forward(graph: BaseGraph, x: Tensor) -> Tensor:
    # float32, as images are, whatever the nodes compute in.
    return torch.from_numpy(np.ascontiguousarray(graph.forward(x.numpy()), np.float32))
