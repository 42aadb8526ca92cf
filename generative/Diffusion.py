"""A denoising diffusion model (handout, Part 4, step 4): noise is denoised to pictures of a class in 25 steps.

An image x is mixed with noise epsilon from N(0, 1); the share of noise grows with the time t in [0, 1]:

    x_t = alpha_t x + sigma_t epsilon,   alpha_t = cos(pi t / 2),   sigma_t = sin(pi t / 2)

A network predicts v = alpha_t epsilon - sigma_t x from x_t and t. With v, x and epsilon can be computed from x_t:

    x = alpha_t x_t - sigma_t v,   epsilon = sigma_t x_t + alpha_t v

Sampling starts from noise at t = 1 and goes back to t = 0 in small steps. Those below t = 1/2 are guided by an early
version of the same network: what the training has changed since then is exaggerated.

Sources: Ho, Jain and Abbeel, Denoising Diffusion Probabilistic Models (2020), for the idea and the U-Net; Nichol and
Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), for the cosine schedule; Salimans and Ho,
Progressive Distillation for Fast Sampling of Diffusion Models (2022), for v; Song, Meng and Ermon, Denoising Diffusion
Implicit Models (2021), for the sampler, and Lu et al., DPM-Solver++ (2022), for its second order; Karras et al.,
Guiding a Diffusion Model with a Bad Version of Itself (2024), for the guidance, and Kynkäänniemi et al., Applying
Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models (2024), for its interval.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, mse_loss, silu

WIDTHS = 48, 64, 96  # channels at full, half and quarter resolution
TIME_FEATURES = 64
HALVED = 48  # pixels: photos of this size or more are halved in the first half of the training
GUIDED_BELOW = 0.5  # the time t: with more noise, guidance makes pictures alike


class Diffusion(nn.Module):
    """A network that predicts v for a label, and an early version of it; both together sample pictures.

    Args:
        encoding_dim: 3HW or None: the latent vector is noise of the image's size.
        image_size: (width, height) in pixels, each a multiple of 4; ValueError if not.
        classes: the number of classes.

    Attributes:
        network: the ``UNet`` that is trained.
        early: a copy of it from early in the training: weak in the same way as the final one, but weaker.
        guidance: how far to go away from it by default: further from that of halved photos, which is less early.
    """

    name = "DDPM"

    def __init__(self, encoding_dim: int | None = None, image_size: Sequence[int] = (24, 24), classes: int = 1) -> None:
        super().__init__()
        width, height = image_size
        if min(image_size) < 4 or width % 4 or height % 4:
            raise ValueError(f"found an image size of {width} x {height}, expected multiples of 4")
        self.encoding_dim = 3 * width * height
        if encoding_dim not in (None, self.encoding_dim):
            raise ValueError(f"found an encoding_dim of {encoding_dim}, expected {self.encoding_dim}, as in an image")
        self.image_size, self.classes = (width, height), classes
        self.network = UNet(classes)
        self.early = copy.deepcopy(self.network).requires_grad_(False)
        self.guidance = 1.0 if min(image_size) >= HALVED else 0.5

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) in [0, 1] and their labels (N,) -> predicted and true v, each like images, for images
        mixed with noise at random times."""
        t = stratified_times(len(images), images.device)
        epsilon = torch.randn_like(images)
        x = 2 * images - 1
        alpha, sigma = (factor.to(images.dtype) for factor in schedule(t[:, None, None, None]))
        return self.network(alpha * x + sigma * epsilon, t, labels), alpha * epsilon - sigma * x

    @torch.no_grad()
    def denoise(
        self,
        n: int,
        labels: Tensor | None = None,
        guidance: float | None = None,
        steps: int = 25,
        latent: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Noise, and what each step makes of it: steps + 1 times n pictures, (n, 3, H, W), the last in [0, 1].

        Args:
            n: number of pictures.
            labels: (n,) int64; by default at random.
            guidance: g in v + g (v - v_early), equation 3 of Karras et al., whose w is 1 + g, where t is below
                ``GUIDED_BELOW``; 0 for none, and by default that of the attribute.
            steps: how many.
            latent: the noise (n, 3HW); by default from N(0, 1).
        """
        width, height = self.image_size
        weight = self.network.enter.weight
        if latent is None:
            latent = torch.randn(n, self.encoding_dim, device=weight.device, dtype=weight.dtype)
        noise = latent.view(n, 3, height, width)
        chosen = torch.randint(self.classes, (n,)) if labels is None else labels
        chosen = chosen.to(weight.device)
        g = self.guidance if guidance is None else guidance

        def guided_v(x: Tensor, t: Tensor) -> Tensor:
            v = self.network(x, t, chosen)
            return v + g * (v - self.early(x, t, chosen)) if g and t[0] < GUIDED_BELOW else v

        for x in ddim(guided_v, noise, steps):
            yield (x + 1) / 2

    def sample(self, n: int, labels: Tensor | None = None, **options: Any) -> Tensor:
        """n pictures, (n, 3, H, W) in [0, 1], denoised from noise; arguments are those of ``denoise``."""
        *_, pictures = self.denoise(n, labels, **options)
        return pictures


class UNet(nn.Module):
    """x_t (N, 3, H, W), t (N,) in [0, 1] and labels (N,) -> v (N, 3, H, W).

    Three resolutions down and up again, with skip connections at each.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        full, half, quarter = WIDTHS
        time = 4 * full
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, time), nn.SiLU(), nn.Linear(time, time))
        self.label = nn.Embedding(classes, time)
        self.enter = nn.Conv2d(3, full, 3, padding=1)
        self.down = nn.ModuleList(
            [ResidualBlock(full, full, time), ResidualBlock(full, half, time), ResidualBlock(half, quarter, time)]
        )
        self.middle = nn.ModuleList(
            [ResidualBlock(quarter, quarter, time), Attention(quarter), ResidualBlock(quarter, quarter, time)]
        )
        self.up = nn.ModuleList(
            [
                ResidualBlock(2 * quarter, half, time),
                ResidualBlock(2 * half, full, time),
                ResidualBlock(2 * full, full, time),
            ]
        )
        self.leave = nn.Sequential(nn.GroupNorm(8, full), nn.SiLU(), nn.Conv2d(full, 3, 3, padding=1))
        nn.init.zeros_(self.label.weight)
        nn.init.zeros_(self.leave[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        time = silu(self.time(time_features(t).to(x.dtype)) + self.label(labels))
        x = self.enter(x)
        kept: list[Tensor] = []
        for block in self.down:
            x = block(avg_pool2d(x, 2) if kept else x, time)
            kept.append(x)
        before, attention, after = self.middle
        x = after(attention(before(x, time)), time)
        for block in self.up:
            x = block(torch.cat([x, kept.pop()], dim=1), time)
            if kept:
                x = interpolate(x, scale_factor=2)
        return self.leave(x)


def stratified_times(n: int, device: torch.device | None = None) -> Tensor:
    """n times in [0, 1], one in each of n equal intervals, which reduces the variance of the loss (Kingma et al.,
    Variational Diffusion Models, 2021, appendix I)."""
    return (torch.arange(n, device=device) + torch.rand(n, device=device)) / n


def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t, the factors of image and noise in x_t: alpha_t^2 + sigma_t^2 = 1."""
    return torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)


def ddim(predict_v: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Iterator[Tensor]:
    """Noise (N, ...) at t = 1 -> x_t after each step, noise first, and last the images (N, ...) in [-1, 1] at t = 0.

    Each step estimates image and noise from x_t, and mixes them again with less noise (DDIM, equation 12, without new
    noise). The estimate of the image is extrapolated to the middle of the step from this estimate and the last one, as
    in DPM-Solver++(2M), algorithm 2, for steps of equal size in log-SNR.
    """
    x = noise
    last_estimate = None
    yield x
    for now, then in itertools.pairwise(sampling_times(steps, noise.device)):
        alpha, sigma = schedule(now)
        estimate = (alpha * x - sigma * predict_v(x, now.expand(len(x)))).clamp(-1, 1)
        image = estimate if last_estimate is None else (estimate + (estimate - last_estimate) / 2).clamp(-1, 1)
        epsilon = (x - alpha * image) / sigma
        alpha, sigma = schedule(then)
        x = alpha * image + sigma * epsilon
        last_estimate = estimate
        yield x


def sampling_times(steps: int, device: torch.device | None = None) -> Tensor:
    """The times of ``ddim``, (steps + 1,), from 1 to 0. Those between are at equal distances in log(alpha_t / sigma_t),
    half the log-SNR: they divide the interval from -4 to 6, that is from t = 0.99, which 1 replaces, to 0.002."""
    times = 2 / math.pi * torch.exp(-torch.linspace(-4, 6, steps, device=device)).atan()
    return torch.cat([times.new_ones(1), times[1:], times.new_zeros(1)])


def time_features(t: Tensor) -> Tensor:
    """t (N,) in [0, 1] -> (N, TIME_FEATURES): cosines and sines of frequencies from 1 to 1000."""
    frequencies = torch.logspace(0, 3, TIME_FEATURES // 2, device=t.device)
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResidualBlock(nn.Module):
    """(N, in_channels, H, W) and the time (N, time_size) -> (N, out_channels, H, W).

    Two convolutions with a residual connection; the time scales and shifts the channels between them.
    """

    def __init__(self, in_channels: int, out_channels: int, time_size: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.time = nn.Linear(time_size, 2 * out_channels)
        self.norm = nn.GroupNorm(8, out_channels)
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.zeros_(self.second[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        return self.shortcut(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)


class Attention(nn.Module):
    """(N, channels, H, W) -> the same shape: self-attention between all positions (Vaswani et al., 2017,
    equation 1)."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        each = 3, self.heads, x.shape[1] // self.heads, x.shape[2] * x.shape[3]
        q, k, v = self.qkv(self.norm(x)).reshape(-1, *each).unbind(1)  # (N, heads, channels of a head, positions)
        weights = (q.mT @ k / q.shape[2] ** 0.5).softmax(dim=3)  # of each position, for the values of all
        values = (v @ weights.mT).reshape(x.shape)
        return x + self.out(values)


def DDPM_loss_function(outputs: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
    """The mean squared error of v; ``outputs`` are those of ``Diffusion.forward``."""
    predicted, true = outputs
    return mse_loss(predicted, true)
