"""Students' models: what they compute, and what that shows. A check is what is asked, what was found, and a mark."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from checking.messages import Unclear
from checking.student_process import StudentProcess

SIZE = 24  # pixels of a side
MLP_WIDTHS = [256, 128, 64, 128, 256]  # between 3HW and 3HW
ENCODER, DECODER = ["32x12x12", "64x6x6", "128x6x6"], ["128x6x6", "64x6x6", "32x12x12", "3x24x24"]
BATCH = 100  # images sent at a time: few enough for the processor's cache
LEAST, LEAST_OF_VAE = 0.003, 500  # losses: the best linear method with 64 numbers has 0.0069, and 723 as a VAE
# Of the variance of noise in squares of 1 and of 2 pixels, more than a latent vector holds: about 0 and 0.1.
MOST_OF_NOISE = {1: 0.25, 2: 0.5}


class MLP:
    """The model of Part 2, from a file in the folder of the process, with the classes in the script ``source``."""

    kind, least = "StudentMLP", LEAST

    def __init__(self, student: StudentProcess, file: str, source: str) -> None:
        self.model = student.new(self.kind, file, source)
        self.noise = noise(1)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Images (N, 3, H, W) -> their reconstructions."""
        return images_like(images, self.model.forward(images.reshape(len(images), -1)))

    def sum_of_losses(self, images: np.ndarray) -> float:
        """The loss times the number of images."""
        return float(np.sum((self.outputs(images) - images) ** 2)) / images[0].size

    def loss(self, images: np.ndarray) -> float:
        """The loss by the model's own forward, a mean over the images."""
        return sum(map(self.sum_of_losses, np.array_split(images, -(-len(images) // BATCH)))) / len(images)

    def checks(self, photos: np.ndarray | None) -> Iterator[tuple[str, str, str]]:
        """What can be seen of noise, and of some photos."""
        yield from self.shapes()
        seen = self.noise if photos is None else np.concatenate([self.noise, photos[:BATCH]])
        outputs = self.outputs(seen)
        inside = -1e-6 <= outputs.min() <= outputs.max() <= 1 + 1e-6
        yield "output in [0, 1]", f"{outputs.min():.3g} to {outputs.max():.3g}", "ok" if inside else "NO"
        shares = [1 - np.mean((self.outputs(some) - some) ** 2) / some.var() for some in map(noise, MOST_OF_NOISE)]
        around = any(share > most for share, most in zip(shares, MOST_OF_NOISE.values(), strict=True))
        words = "{:.0%} of its variance, {:.0%} if coarse".format(*(max(0, share) for share in shares))
        words += ": it goes around the latent vector" if around else ""
        yield "noise is not reconstructed", words, "NO" if around else "ok"

    def shapes(self) -> Iterator[tuple[str, str, str]]:
        flat = self.noise.reshape(len(self.noise), -1)
        _, widths, relus = self.model.steps(flat)
        mark = "ok" if widths == [flat.shape[1], *MLP_WIDTHS, flat.shape[1]] and relus else "NO"
        if mark == "NO" and (len(widths) < 4 or not relus or widths[-1] != widths[0]):
            mark = "?"  # a model in one piece, or a part of one, or something like ReLU
        yield "-".join(["3HW", *map(str, MLP_WIDTHS), "3HW"]), f"{'-'.join(map(str, widths))}; {relus} times ReLU", mark


class Network(MLP):
    """The model of Part 3."""

    kind = "StudentNetwork"

    def outputs(self, images: np.ndarray) -> np.ndarray:
        return images_like(images, self.model.forward(images)[0])

    def shapes(self) -> Iterator[tuple[str, str, str]]:
        steps = [(name, [n for n in shape if n > 1]) for name, shape in self.model.steps(self.noise)]
        names, sizes = " ".join(name for name, _ in steps), ["x".join(map(str, shape)) for _, shape in steps]
        latent = min((shape[0] for _, shape in steps if len(shape) == 1), default=10**9)
        middle = sizes.index(str(latent)) if latent <= 512 else len(sizes)  # the handout gives no size
        missing = [f"{size} of the encoder" for size in ENCODER if size not in sizes[:middle]]
        missing += [f"{size} of the decoder" for size in DECODER if size not in sizes[middle:]]
        missing += ["a latent vector"] if middle == len(sizes) else []
        unsure = ["max pooling"] if not any(word in names for word in ("max_pool", "amax")) else []
        unsure += ["ReLU"] if not any(word in names for word in ("relu", "clamp", "maximum")) else []
        found = f"not found: {', '.join(missing + unsure)}" if missing or unsure else f"all of them, latent {latent}"
        yield "sizes on the way, max pooling, ReLU", found, "?" if unsure else "NO" if missing else "ok"


class VarNetwork(Network):
    """The model of Part 4."""

    least = LEAST_OF_VAE

    def shapes(self) -> Iterator[tuple[str, str, str]]:
        yield from ()  # the handout asks for none

    def parts(self, images: np.ndarray) -> list[np.ndarray]:
        """Images -> images, mu and log_var."""
        found = self.model.forward(images)
        shapes = [np.shape(part) for part in found]
        if len(found) != 3 or shapes[1] != shapes[2] or len(shapes[1]) != 2:
            raise Unclear(f"found outputs of shapes {', '.join(map(str, shapes))}, expected images, mu and log_var")
        return [images_like(images, found[0]), *(np.asarray(part, np.float64) for part in found[1:])]

    def sum_of_losses(self, images: np.ndarray) -> float:
        """Squared errors plus KL divergence, for 16 images, times the number of images."""
        outputs, mu, log_var = self.parts(images)
        return 16 * float(np.sum((outputs - images) ** 2) + 0.5 * np.sum(np.exp(log_var) + mu**2 - 1 - log_var))

    def checks(self, photos: np.ndarray | None) -> Iterator[tuple[str, str, str]]:
        yield from super().checks(photos)
        if photos is None:
            return
        images = photos[:BATCH]
        outputs, mu, log_var = self.parts(images)
        z = mu + np.exp(log_var / 2) * np.random.default_rng(0).standard_normal(mu.shape)
        decoded = [images_like(images, some) for some in self.model.decode(z.astype(np.float32))]
        by_forward, *errors = (np.sum((some - images) ** 2) for some in [outputs, *decoded])
        if errors:
            words = f"errors {by_forward:.4g} by forward, {min(errors):.4g} by decoder"
            yield "z from N(mu, sigma^2)", words, "ok" if min(errors) < 1.1 * by_forward else "?"


def images_like(images: np.ndarray, found: Any) -> np.ndarray:
    """An output as images; Unclear if it is not of their number and size."""
    if not isinstance(found, np.ndarray) or found.size != images.size:
        raise Unclear(f"found an output of shape {np.shape(found)}, expected {images.shape}")
    return found.reshape(images.shape).astype(np.float64)


def noise(pixels: int) -> np.ndarray:
    """61 images of uniform noise in squares of so many pixels. No other size of a shape is 61."""
    small = np.random.default_rng().random((61, 3, SIZE // pixels, SIZE // pixels), np.float32)
    return small.repeat(pixels, axis=2).repeat(pixels, axis=3)
