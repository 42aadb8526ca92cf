"""Students' models: what they compute in the process of a ``Student``, and what that shows.

Each check yields what the handout asks for, what was found, and a mark, as ``teaching.checks.Check``.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from teaching.fence import Student, StudentError

SIZE = 24  # pixels of a side
MLP_WIDTHS = [256, 128, 64, 128, 256]  # between 3HW and 3HW
SHAPES = [(32, 12, 12), (64, 6, 6), (128, 6, 6), (64,), (128, 6, 6), (64, 6, 6), (32, 12, 12), (3, 24, 24)]
OPERATIONS = {"max pooling": "max_pool|amax", "ReLU": "relu|clamp|maximum"}
BATCH = 500  # images sent at a time
# Mean squared error of uniform noise: 1/12 if it is taken for its mean. 64 numbers cannot keep much more than that.
LEAST_NOISE_ERROR = 0.04
# Mean squared error of photos: the best linear method with 64 numbers has 0.0069.
LEAST_ERROR = 0.003
Found = tuple[str, str, str]


def images_like(found: Any, images: np.ndarray) -> np.ndarray:
    """An output as images; StudentError if it is not of their number and size."""
    if not isinstance(found, np.ndarray) or found.size != images.size:
        raise StudentError(f"found an output of shape {np.shape(found)}, expected {images.shape}")
    return found.reshape(images.shape).astype(np.float64)


class MLP:
    """The model of Part 2."""

    part, name = "Part 2", "MLPAE"

    def __init__(self, student: Student) -> None:
        self.student = student
        self.noise = np.random.default_rng().random((61, 3, SIZE, SIZE), np.float32)

    def load(self, model: str, script: str | None, module: str | None) -> None:
        """Loads its file, with the classes of the script that trained it."""
        self.student.call("pickled", "load", model, script)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Images (N, 3, H, W) -> their reconstructions."""
        return images_like(self.student.call("pickled", "forward", images.reshape(len(images), -1)), images)

    def loss(self, images: np.ndarray) -> float:
        """The mean squared error."""
        batches = np.array_split(images, -(-len(images) // BATCH))
        return sum(float(np.sum((self.outputs(some) - some) ** 2)) for some in batches) / images.size

    def checks(self) -> Iterator[Found]:
        """What can be seen of noise."""
        yield from self.shapes()
        found = self.outputs(self.noise)
        inside = -1e-6 <= found.min() <= found.max() <= 1 + 1e-6
        yield "output in [0, 1]", f"{found.min():.3g} to {found.max():.3g}", "ok" if inside else "NO"
        error = np.mean((found - self.noise) ** 2)
        asked = "all passes the latent vector"
        if error > LEAST_NOISE_ERROR:
            yield asked, f"noise is not reconstructed: {error:.3f}", "ok"
        else:
            yield asked, f"noise is reconstructed: {error:.3f}, so that it goes another way", "NO"

    def shapes(self) -> Iterator[Found]:
        flat = self.noise.reshape(len(self.noise), -1)
        _, widths, relus = self.student.call("pickled", "steps", flat)
        mark = "ok" if widths == [flat.shape[1], *MLP_WIDTHS, flat.shape[1]] and relus else "NO"
        if mark == "NO" and (len(widths) < 4 or not relus or widths[-1] != widths[0]):
            mark = "?"  # a model in one piece, or a part of one, or something like ReLU
        yield "-".join(["3HW", *map(str, MLP_WIDTHS), "3HW"]), f"{'-'.join(map(str, widths))}; {relus} times ReLU", mark


class Network(MLP):
    """The model of Part 3."""

    part, name = "Part 3", "AE"

    def load(self, model: str, script: str | None, module: str | None) -> None:
        """Loads its file: its weights into the class in ``module``."""
        self.student.call("network", "load", model, script, module)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        return images_like(self.student.call("network", "forward", images)[0], images)

    def checks(self) -> Iterator[Found]:
        yield from super().checks()
        yield from self.samples()

    def steps(self) -> list[tuple[str, tuple[int, ...]]]:
        """The operations on the way, each with the shape of its result for one image."""
        return [(name, tuple(shape)) for name, shape in self.student.call("network", "steps", self.noise)]

    def shapes(self) -> Iterator[Found]:
        steps = self.steps()
        rest = iter([shape for _, shape in steps])
        missing = ["x".join(map(str, asked)) for asked in SHAPES if not any(_fits(shape, asked) for shape in rest)]
        names = " ".join(name for name, _ in steps)
        unsure = [words for words, part in OPERATIONS.items() if not re.search(part, names)]
        found = f"not found: {', '.join(missing + unsure)}" if missing or unsure else "all of them"
        yield "sizes on the way, max pooling, ReLU", found, "?" if unsure else "NO" if missing else "ok"

    def samples(self) -> Iterator[Found]:
        """Pictures from N(0, 1): by ``sample`` of random_generation.py, or without one by the decoder."""
        asked, found, n = "pictures from N(0, 1)", "by random_generation.py", len(self.noise)
        dim = min(shape[0] for _, shape in self.steps() if len(shape) == 1)
        try:
            z, images = self.student.call("network", "sample", n)
        except StudentError:
            z, found = np.random.default_rng().standard_normal((n, dim), np.float32), "by its decoder"
            images = next(self.decoded(z), None)
        images = images_like(images, self.noise)
        z = np.asarray(z, float)
        if z.shape != (n, dim) or abs(z.mean()) > 0.1 or abs(z.std() - 1) > 0.1 or abs(z).max() < 2:
            yield asked, f"{found}, of numbers that are not from N(0, 1)", "?"
        elif images.std(axis=0).max() < 1e-3 or images.min() < 0 or images.max() > 1:
            # A decoder alone may lack what forward adds.
            yield asked, f"{found}: all the same, or not in [0, 1]", "NO" if found == "by random_generation.py" else "?"
        else:
            yield asked, found, "ok"

    def decoded(self, z: np.ndarray) -> Iterator[Any]:
        """What its decoders make of latent vectors, by the names they have in models."""
        for name in "decode", "decoder":
            with contextlib.suppress(StudentError):
                if (found := self.student.call("network", "decode", name, z)) is not None:
                    yield found


def _fits(shape: tuple[int, ...], asked: tuple[int, ...]) -> bool:
    """Whether a shape is as asked, for the latent vector of any size: the handout gives none."""
    return shape == asked or (len(shape) == len(asked) == 1 and shape[0] <= 512)


class VarNetwork(Network):
    """The model of Part 4."""

    part, name = "Part 4", "VAE"

    def shapes(self) -> Iterator[Found]:
        yield from ()  # the handout asks for none

    def loss(self, images: np.ndarray) -> float:
        """Squared errors plus KL divergence, for 16 images.

        Latent vectors are sampled here, if it has a decoder, from the mu and log_var that give the KL divergence.
        """
        total, rng = 0.0, np.random.default_rng(0)
        for some in np.array_split(images, -(-len(images) // BATCH)):
            found = self.student.call("network", "forward", some)
            if len(found) != 3 or np.shape(found[1]) != np.shape(found[2]) or np.ndim(found[1]) != 2:
                shapes = ", ".join(str(np.shape(part)) for part in found)
                raise StudentError(f"found outputs of shapes {shapes}, expected images, mu and log_var")
            mu, log_var = (np.asarray(part, np.float64) for part in found[1:])
            z = mu + np.exp(log_var / 2) * rng.standard_normal(mu.shape)
            decoded = list(self.decoded(z.astype(np.float32))) or [found[0]]
            error = min(np.sum((images_like(outputs, some) - some) ** 2) for outputs in decoded)
            total += float(error + 0.5 * np.sum(np.exp(log_var) + mu**2 - 1 - log_var))
        return 16 * total / len(images)
