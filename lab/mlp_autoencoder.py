"""Part 2's graph as a PyTorch module, so that the scripts treat all models alike."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autograd import BaseGraph


class MLPAutoencoder(nn.Module):
    """An autoencoder of images whose arithmetic is that of a BaseGraph: (N, 3HW) -> (N, 3HW), both in [0, 1].

    Its ``state_dict`` holds the parameters of the graph and shares their memory. PyTorch's autograd has no part in it.
    """

    name = "MLPAE"

    def __init__(self, graph: BaseGraph, encoding_dim: int, image_size: Sequence[int]) -> None:
        super().__init__()
        self.graph, self.encoding_dim, self.image_size = graph, encoding_dim, image_size
        for i, param in enumerate(param for node in graph for param in node.params):
            self.register_buffer(str(i), torch.from_numpy(param))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W), both in [0, 1]."""
        return torch.from_numpy(self.graph.forward(images.flatten(1).numpy())).reshape(images.shape)

    reconstruct = forward

    def decoder(self, latent: Tensor) -> Tensor:
        """Latent vectors (N, encoding_dim) -> images (N, 3, H, W) in [0, 1], by the second half of the graph."""
        width, height = self.image_size
        half = self.graph[len(self.graph) // 2 :]  # the larger one: the layers of the encoder, and a Sigmoid
        return torch.from_numpy(half.forward(latent.numpy())).reshape(-1, 3, height, width)

    def sample(self, n: int) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], decoded from latent vectors sampled from N(0, 1)."""
        return self.decoder(torch.randn(n, self.encoding_dim))
