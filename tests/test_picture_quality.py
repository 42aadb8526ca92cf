import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from conftest import expect_orthogonal, shapes_along
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from data_processor import FlowerDataset, read_flowers
from lab.picture_quality import (
    FEATURES,
    Features,
    area_under_curve,
    bootstrap_distance,
    coverage,
    kernel_distance,
    nearest,
    random_network,
    train_classifier,
    two_sample_test,
    validate_pictures,
)


@contextlib.contextmanager
def same_random_numbers():
    """Fails if a random number of PyTorch's is taken, or its seed set."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def test_kernel_distance_by_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)), rng.normal(0.5, 1, (7, 4))

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(points, 2)]) for points in (x, y)]
    across = sum(kernel(a, b) for a in x for b in y) / 35
    assert kernel_distance(torch.tensor(x), torch.tensor(y)).item() == pytest.approx(sum(within) - 2 * across)


def test_two_halves_of_one_set_are_at_distance_0_in_expectation():
    torch.manual_seed(0)
    points = torch.randn(400, 16, dtype=torch.float64)
    distances = []
    for _ in range(400):
        some = points[torch.randperm(400)[:100]]
        distances.append(kernel_distance(some[:50], some[50:]).item())
    error = np.std(distances) / len(distances) ** 0.5
    assert abs(np.mean(distances)) < 4 * error
    assert (np.array(distances) < 0).mean() == pytest.approx(0.55, abs=0.2)
    assert 10 * error < kernel_distance(points[:200], points[200:] + 0.5).item()  # or the above would prove little


def test_bootstrap_by_its_definition():
    """In the mean over pairs of a resample, only pairs of different samples count."""
    torch.manual_seed(0)
    sets = [torch.randn(n, 4, dtype=torch.float64) for n in (6, 5)]
    generator = torch.Generator().manual_seed(3)
    resamples = [torch.randint(len(points), (20, len(points)), generator=generator).tolist() for points in sets]

    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    distances = []
    for rows in zip(*resamples, strict=True):
        distance = 0
        for points, row in zip(sets, rows, strict=True):
            pairs = [kernel(points[i], points[j]) for i, j in itertools.product(row, row) if i != j]
            distance += np.mean(pairs)
        x, y = (points[row] for points, row in zip(sets, rows, strict=True))
        distances.append(distance - 2 * np.mean([kernel(a, b) for a in x for b in y]))
    figures = bootstrap_distance(*sets, resamples=20, seed=3)
    assert figures == pytest.approx((kernel_distance(*sets).item(), np.std(distances, ddof=1)))
    assert all(type(figure) is float for figure in figures)


@pytest.mark.parametrize(("shift", "low", "high"), [(0.7, 0.8, 1.25), (0, 1, 2.2)])
def test_bootstrap_gives_the_spread_over_independent_samples(shift, low, high):
    """Of two normal distributions; too large a spread, by theory sqrt(3) times, if they are the same."""
    torch.manual_seed(0)
    figures = [
        bootstrap_distance(torch.randn(80, 8), torch.randn(60, 8) + shift, resamples=50, seed=seed)
        for seed in range(150)
    ]
    distances, spreads = zip(*figures, strict=True)
    assert low < np.mean(spreads) / np.std(distances) < high


def test_bootstrap_of_few_samples_and_its_seed():
    torch.manual_seed(0)
    x, y = torch.randn(2, 4), torch.randn(30, 4)
    with same_random_numbers():
        distance, spread = bootstrap_distance(x, y)  # every other resample of x has no pair
    assert distance == kernel_distance(x, y).item() and 0 < spread < math.inf
    assert bootstrap_distance(x, y, seed=0) == (distance, spread) != bootstrap_distance(x, y, seed=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_distance_grows_with_noise(seed):
    torch.manual_seed(seed)
    photos = torch.rand(300, 3, 1, 1) * torch.linspace(0, 1, 16).expand(300, 3, 16, 16)
    view = Features(random_network(seed), photos[:150])
    means = []
    for noise in 0, 0.05, 0.1, 0.2, 0.4:
        images = (photos[150:] + noise * torch.randn(150, 3, 16, 16)).clamp(0, 1)
        means.append(kernel_distance(view(photos[:150]), view(images)))
    assert means == sorted(means) and means[0] < 0.1 * means[1]


def test_features_are_measured_in_their_spread_over_the_photos():
    torch.manual_seed(0)
    photos = torch.rand(300, 3, 8, 8)
    features = Features(random_network(), photos)(photos)
    assert features.shape == (300, FEATURES) and not features.requires_grad
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(FEATURES), atol=1e-4, rtol=0)
    stds = features.std(dim=0)
    assert stds.max() < 1.001 and (stds > 0.999).float().mean() > 0.5


def test_features_that_hardly_vary_and_photos_in_any_number():
    """With a network whose features are the pixels: measured in standard deviations, at least 0.01 of the largest."""
    torch.manual_seed(0)
    photos = torch.randn(300, 3, 1, 1, dtype=torch.float64) * torch.tensor([2, 0.5, 1e-6]).view(3, 1, 1) + 7
    images = torch.randn(700, 3, 1, 1, dtype=torch.float64)
    weights = nn.Parameter(torch.eye(3, dtype=torch.float64))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    network[1].weight = weights
    mean, std = photos.mean(dim=0).flatten(), photos.std(dim=0).flatten()
    std[2] = 0.01 * std[0]
    features = Features(network, photos)(images)
    torch.testing.assert_close(features, (images.flatten(1) - mean) / std)
    assert not features.requires_grad


def test_random_networks_are_small_convolutional_networks():
    network = random_network()
    inputs = []
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            expect_orthogonal(layer.weight)
            layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    torch.manual_seed(0)
    shapes = [(3, 12, 8), (32, 12, 8), (32, 6, 4), (64, 6, 4), (64, 3, 2), (128, 3, 2), (128, 1, 1), (128,)]
    images = torch.rand(5, 3, 12, 8)
    assert shapes_along(network, images) == shapes
    assert all((given >= 0).all() and (given == 0).any() for given in inputs[1:])  # each convolution follows a ReLU
    assert (network(images) > 0).any() and (network(images) >= 0).all()


def test_networks_depend_on_their_seed_alone():
    with same_random_numbers():
        first, again, other = (random_network(seed) for seed in (0, 0, 1))
    assert torch.equal(first[0].weight, random_network()[0].weight)
    assert torch.equal(first[0].weight, again[0].weight) and not torch.equal(first[0].weight, other[0].weight)


def parts_of(photos, number):
    """The parts of a FlowerDataset of so many of these photos, again from the first one after the last one."""
    rows = torch.arange(number) % len(photos)
    names = [photos.names[row] for row in rows]
    return photos.pixels, photos.labels[rows], names, photos.classes, photos.rows[rows], photos.root


@pytest.fixture
def two_kinds(few_photos):
    """The photos, those of one kind without green and blue: a classifier's easiest case."""
    photos = read_flowers(few_photos, 8, 8)
    photos.pixels[photos.rows[photos.labels == 1], 1:] = 0
    return photos


def test_the_classifier_tells_kinds_apart(two_kinds):
    images, labels = two_kinds[:]
    classifier = train_classifier(images, labels, 2, epochs=40)
    assert (classifier(images).argmax(dim=1) == labels).all()
    network, _ = classifier
    assert network(images).shape == (len(images), FEATURES)


def test_the_training_of_the_classifier(two_kinds):
    """Each photo once an epoch, in a new order, mirrored or not; the gradients of a step are those of its batch."""
    photos = FlowerDataset(*parts_of(two_kinds, 40))
    batches, logits, rates, starts = [], [], [], []

    def watch(layer, inputs, output):
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            batches.append(inputs[0])
            starts.append(layer.weight.detach().clone())
        if isinstance(layer, nn.Linear):
            logits.append(output.detach())

    def check(optimizer, *_):
        """The gradient of the cross-entropy by the last bias is the mean of (probability - 1 for the right kind)."""
        bias = optimizer.param_groups[0]["params"][-1]
        labels = (batches[-1][:, 1].sum(dim=(1, 2)) == 0).long()
        right = nn.functional.one_hot(labels, 2)
        torch.testing.assert_close(bias.grad, (logits[-1].softmax(dim=1) - right).mean(dim=0), atol=1e-5, rtol=0)
        rates.append(optimizer.param_groups[0]["lr"])

    hooks = [register_module_forward_hook(watch), register_optimizer_step_pre_hook(check)]
    try:
        train_classifier(*photos[:], 2, seed=1)
    finally:
        for hook in hooks:
            hook.remove()
    assert [len(batch) for batch in batches] == 10 * [32, 8]
    assert torch.equal(starts[0], random_network(1)[0].weight)
    assert max(rates) == pytest.approx(3e-3, rel=0.05)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 2e-4 and rates[-1] < 1e-4

    images, _ = photos[:]
    ways = torch.stack([images[:20], images[:20].flip(3)])
    orders, mirrored = [], []
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        same = (torch.cat([first, second]) == ways[:, :, None]).all(dim=(3, 4, 5))  # (way, photo, place)
        assert same.sum(dim=(0, 1)).eq(1).all() and same.sum(dim=(0, 2)).eq(2).all()  # each photo is there twice
        orders.append(tuple(same.any(dim=0).int().argmax(dim=0).tolist()))
        mirrored.append(same[1].sum().item() / 40)
    assert len(set(orders)) == 10 and np.mean(mirrored) == pytest.approx(0.5, abs=0.1)


def test_progress_of_the_classifier(two_kinds, shown_on_terminal):
    shown = shown_on_terminal(train_classifier, *two_kinds[:], 2, epochs=7)
    assert "Training a classifier" in shown and "6/7 [" in shown and "step/s" in shown


def test_the_classifier_depends_on_its_seed_alone(two_kinds):
    def weights(*arguments, **options):
        with same_random_numbers():
            classifier = train_classifier(*two_kinds[:], 2, *arguments, **options)
        return torch.cat([weight.flatten() for weight in classifier.parameters()])

    torch.manual_seed(5)
    first = weights()
    torch.manual_seed(6)
    assert torch.equal(first, weights(0, epochs=10))
    assert not torch.equal(first, weights(1))


def test_coverage_by_its_definition():
    photos = torch.tensor(
        [[0.0], [1], [3], [10]]
    )  # the nearest other photo of each at 1, 1, 2, 7; the second at 3, 2, 3, 9
    assert coverage(torch.tensor([[2.0]]), photos, k=1) == 0.5
    assert coverage(torch.tensor([[2.0]]), photos, k=2) == 1
    assert coverage(torch.tensor([[12.0], [18]]), photos, k=1) == 0.25
    assert coverage(torch.tensor([[18.0]]), photos, k=1) == 0
    assert coverage(torch.tensor([[13.0]]), photos, k=3) == coverage(torch.tensor([[13.0]]), photos, k=9) == 0.25
    torch.manual_seed(0)
    pictures, photos = torch.randn(40, 3, dtype=torch.float64) + 1, torch.randn(50, 3, dtype=torch.float64)
    within = [sorted((photo - other).norm() for other in photos)[5] for photo in photos]
    near = [min((photo - picture).norm() for picture in pictures) for photo in photos]
    share = np.mean([distance <= radius for distance, radius in zip(near, within, strict=True)])
    assert coverage(pictures, photos) == pytest.approx(share) and 0.1 < share < 0.9


def test_coverage_of_the_photos_themselves_of_their_distribution_and_of_a_part_of_it():
    torch.manual_seed(0)
    photos, pictures = torch.randn(2, 500, 4)
    assert coverage(photos, photos, k=1) == 1
    assert coverage(photos.repeat(2, 1)[:700] + 100, photos) == 0
    for k in 1, 3:
        assert coverage(pictures, photos, k) == pytest.approx(1 - 0.5**k, abs=0.06)
    assert coverage(pictures[pictures[:, 0] < 0], photos) < 0.75 * coverage(pictures, photos)
    # Differences that are small beside the features themselves are not lost in rounding.
    assert coverage(pictures + 3000, photos + 3000) == pytest.approx(coverage(pictures, photos), abs=0.01)


def test_area_under_curve_by_its_definition():
    positives, negatives = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0.4, 0.0, 0.5])
    pairs = [(p > n) + (p == n) / 2 for p in positives.tolist() for n in negatives.tolist()]
    assert area_under_curve(positives, negatives) == pytest.approx(sum(pairs) / 12)
    assert area_under_curve(negatives, positives) == pytest.approx(1 - sum(pairs) / 12)
    assert area_under_curve(positives + 1, negatives) == 1
    assert area_under_curve(torch.ones(3), torch.ones(5)) == 0.5
    for sides in ([1.0], []), ([], [1.0]):
        with pytest.raises(ValueError, match="expected at least one of each"):
            area_under_curve(*map(torch.tensor, sides))


def images_of_a_colour(number):
    """Images (number, 3, 8, 8): a random colour each, and a little noise."""
    return 0.7 * torch.rand(number, 3, 1, 1) + 0.3 * torch.rand(number, 3, 8, 8)


def test_two_samples_of_one_distribution_cannot_be_told_apart():
    torch.manual_seed(0)
    areas = []
    for seed in range(8):
        parts = images_of_a_colour(240).split(60)
        areas.append(two_sample_test(*parts, seed))
    error = np.std(areas) / len(areas) ** 0.5
    # 0.05 is the standard deviation of the area under the curve of two times 60 scores of one distribution.
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * max(error, 0.05 / len(areas) ** 0.5))
    assert len(set(areas)) == 8


def test_what_differs_is_told_apart():
    torch.manual_seed(0)
    photos, pictures = images_of_a_colour(160), images_of_a_colour(160)
    checked = pictures.clone()
    checked[:, :, ::2, ::2] += 0.2  # as transposed convolutions may do
    noise = torch.rand(160, 3, 8, 8)
    sides = photos[:80], photos[80:]
    for others in checked, noise:
        assert two_sample_test(others[:80], sides[0], others[80:], sides[1]) > 0.95
    # The other way round, and with those not seen exchanged: what counts is which are pictures.
    assert two_sample_test(sides[0], noise[:80], sides[1], noise[80:]) > 0.95
    assert two_sample_test(noise[:80], sides[0], sides[1], noise[80:]) < 0.05


def test_pictures_that_were_learned_by_heart_are_not_what_counts():
    """The unseen pictures and photos are of one distribution, and those of the training are not."""
    torch.manual_seed(0)
    unseen = images_of_a_colour(400)
    area = two_sample_test(torch.rand(40, 3, 8, 8), images_of_a_colour(40), unseen[:200], unseen[200:])
    assert area == pytest.approx(0.5, abs=4 * (1 / 12 / 200 * 2) ** 0.5)


def test_the_training_of_the_two_sample_test():
    """Pictures and photos in equal numbers, each once an epoch, mirrored or not, and never those to be told apart."""
    seen = []

    def watch(layer, inputs, _):
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            seen.append(inputs[0].flatten(1))

    torch.manual_seed(0)
    sets = torch.rand(50, 3, 8, 8), torch.rand(30, 3, 8, 8), torch.rand(9, 3, 8, 8), torch.rand(7, 3, 8, 8)
    hook = register_module_forward_hook(watch)
    try:
        two_sample_test(*sets)
    finally:
        hook.remove()
    *steps, first, second = seen
    assert sorted([len(first), len(second)]) == [7, 9]
    epochs = torch.cat(steps).split(60)
    assert len(epochs) == 20 and all(len(step) == (32, 28)[i % 2] for i, step in enumerate(steps))
    chosen = set()
    for epoch in epochs:
        ways = [[(epoch[:, None] == way.flatten(1)).all(dim=2) for way in (side, side.flip(3))] for side in sets[:2]]
        times = [(as_is | mirrored).sum(dim=0) for as_is, mirrored in ways]
        assert [(time.sum(), time.max()) for time in times] == [(30, 1), (30, 1)]
        assert 12 < sum(mirrored.sum() for _, mirrored in ways) < 48
        chosen.add(tuple(times[0].tolist()))
    assert len(chosen) == 1  # the same pictures in every epoch


def test_the_two_sample_test_depends_on_its_seed_alone():
    torch.manual_seed(5)
    parts = images_of_a_colour(80).split(20)
    with same_random_numbers():
        first = two_sample_test(*parts, 0)
    torch.manual_seed(6)
    assert two_sample_test(*parts) == first
    assert len({two_sample_test(*parts, seed) for seed in range(3)}) > 1


@pytest.mark.parametrize("size", [(4, 4), (9, 6)])
def test_two_sample_test_of_few_images_of_any_size(size):
    torch.manual_seed(0)
    assert 0 <= two_sample_test(*torch.rand(4, 1, 3, *size)) <= 1


def test_validation_of_pictures_is_a_kernel_distance_in_the_features_of_another_network(few_photos):
    """With a generator that gives back its random numbers, as pictures, after a batch norm."""

    class Model(nn.Module):
        encoding_dim = 192

        def __init__(self):
            super().__init__()
            self.generator = nn.Sequential(nn.BatchNorm1d(192), nn.Unflatten(1, (3, 8, 8)), nn.Sigmoid())
            self.seen, self.kinds = [], []
            self.generator[0].register_forward_hook(lambda layer, inputs, _: self.seen.append(inputs[0]))

        def random_inputs(self, n, kinds):
            self.kinds.append(kinds)
            return torch.randn(n, 192)

        @torch.no_grad()
        def sample(self, n, kinds):
            assert not self.training
            self.made = self.generator(self.random_inputs(n, kinds))
            return self.made

    photos = read_flowers(few_photos, 8, 8)
    images, kinds = photos[[*range(13), 19]]  # ten of one kind, four of the other
    model = Model()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    distance, terms = validate_pictures(model, images, kinds)
    assert torch.equal(torch.rand(3), expected)  # no random number of the training's was taken
    assert terms == {}
    *latent, last = model.seen
    assert [len(batch) for batch in latent] == 5 * [100] and len(last) == len(images) == len(model.made)
    *of_batches, of_pictures = model.kinds
    assert torch.equal(of_pictures, kinds)
    assert torch.cat(of_batches).float().mean().item() == pytest.approx(4 / 14, abs=0.06)  # as frequent as those
    assert torch.cat(latent).std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(model.generator[0].running_mean, torch.cat(latent).mean(dim=0))
    network = random_network(1000)  # sample_quality.py's seed is 0
    photo_features, features = network(images), network(model.made)
    mean, std = photo_features.mean(dim=0), photo_features.std(dim=0)
    std = std.clamp(min=0.01 * std.max())
    x, y = (features - mean) / std, (photo_features - mean) / std
    assert distance == pytest.approx(kernel_distance(x, y).item(), rel=1e-4)
    first = model.made
    assert validate_pictures(model, images, kinds) == (distance, {}) and torch.equal(model.made, first)
    assert math.isfinite(validate_pictures(model, images[:2], kinds[:2])[0])


def test_nearest():
    photos = torch.zeros(3, 3, 4, 4)
    photos[1, :, :, 0] = 0.5  # bright on the left
    photos[2] = 1
    images = torch.stack([photos[1].flip(2), photos[2] - 0.2, photos[0] + 0.1])
    distances, positions = nearest(images, photos)
    assert positions.tolist() == [1, 2, 0]
    torch.testing.assert_close(distances, torch.tensor([0, 0.2, 0.1]), atol=1e-3, rtol=1e-3)
