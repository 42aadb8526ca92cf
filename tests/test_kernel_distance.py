import itertools
import math

import numpy as np
import pytest
import torch
from conftest import expect_orthogonal, shapes_along
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

import lab.kernel_distance
from data_processor import FlowerDataset, read_flowers
from lab.errors import UserError
from lab.kernel_distance import (
    FEATURES,
    Features,
    distance_of_subsets,
    kernel_distance,
    random_network,
    train_classifier,
    validate_pictures,
)
from sample_quality import nearest


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


def test_subsets_are_200_random_rows_of_each_set_a_hundred_times(monkeypatch):
    seen = []
    distance = lab.kernel_distance.kernel_distance
    monkeypatch.setattr(lab.kernel_distance, "kernel_distance", lambda x, y: seen.append((x, y)) or distance(x, y))
    torch.manual_seed(0)
    sets = torch.randn(300, 4), torch.randn(250, 4) + 1
    mean, spread = distance_of_subsets(*sets)
    distances = [distance(x, y).item() for x, y in seen]
    assert len(seen) == 100 and len(set(distances)) == 100
    assert (mean, spread) == pytest.approx((np.mean(distances), np.std(distances, ddof=1)), rel=1e-4)
    for points, subsets in zip(sets, zip(*seen, strict=True), strict=True):
        times = torch.zeros(len(points))
        for subset in subsets:
            rows = (subset[:, None] == points).all(dim=2).int().argmax(dim=1)  # where they are in the set
            assert torch.equal(points[rows], subset) and len(rows.unique()) == 200
            times[rows] += 1
        expected = 100 * 200 / len(points)
        assert abs(times - expected).max() < 0.4 * expected  # each about as often
    assert type(mean) is type(spread) is float
    assert distance_of_subsets(*sets, seed=0) == (mean, spread) != distance_of_subsets(*sets, seed=1)
    assert distance_of_subsets(*sets, subsets=3, size=9)[1] > spread and [len(x) for x, _ in seen[-3:]] == [9, 9, 9]


@pytest.mark.parametrize("seed", [0, 1])
def test_distance_grows_with_noise(seed):
    torch.manual_seed(seed)
    photos = torch.rand(300, 3, 1, 1) * torch.linspace(0, 1, 16).expand(300, 3, 16, 16)
    view = Features(random_network(seed), photos[:150])
    means = []
    for noise in 0, 0.05, 0.1, 0.2, 0.4:
        images = (photos[150:] + noise * torch.randn(150, 3, 16, 16)).clamp(0, 1)
        mean, spread = distance_of_subsets(view(photos[:150]), view(images), subsets=20, size=100)
        means.append(mean)
        assert spread > 0
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
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again, other = (random_network(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)  # no random number of anybody else's was taken
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
    classifier = train_classifier(two_kinds, epochs=40)
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
        train_classifier(photos, seed=1)
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
    shown = shown_on_terminal(train_classifier, two_kinds, epochs=7)
    assert "Training a classifier" in shown and "6/7 [" in shown and "step/s" in shown


def test_the_classifier_depends_on_its_seed_alone(two_kinds):
    def weights(*arguments, **options):
        return torch.cat(
            [weight.flatten() for weight in train_classifier(two_kinds, *arguments, **options).parameters()]
        )

    torch.manual_seed(5)
    first = weights()
    torch.manual_seed(6)
    assert torch.equal(first, weights(0, epochs=10))
    assert not torch.equal(first, weights(1))


def test_validation_of_pictures_is_a_kernel_distance_in_the_features_of_another_network(few_photos):
    """With a generator that gives back its random numbers, as pictures, after a batch norm."""

    class Model(nn.Module):
        encoding_dim = 192

        def __init__(self):
            super().__init__()
            self.generator = nn.Sequential(nn.BatchNorm1d(192), nn.Unflatten(1, (3, 8, 8)), nn.Sigmoid())
            self.seen = []
            self.generator[0].register_forward_hook(lambda layer, inputs, _: self.seen.append(inputs[0]))

        @torch.no_grad()
        def sample(self, n):
            assert not self.training
            self.made = self.generator(torch.randn(n, 192))
            return self.made

    photos = read_flowers(few_photos, 8, 8)
    images, _ = photos[:]
    model = Model()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    distance, terms = validate_pictures(model, photos)
    assert torch.equal(torch.rand(3), expected)  # no random number of the training's was taken
    assert terms == {}
    *latent, last = model.seen
    assert [len(batch) for batch in latent] == 5 * [100] and len(last) == len(photos) == len(model.made)
    assert torch.cat(latent).std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(model.generator[0].running_mean, torch.cat(latent).mean(dim=0))
    network = random_network(1000)  # sample_quality.py's seed is 0
    photo_features, features = network(images), network(model.made)
    mean, std = photo_features.mean(dim=0), photo_features.std(dim=0)
    std = std.clamp(min=0.01 * std.max())
    x, y = (features - mean) / std, (photo_features - mean) / std
    assert distance == pytest.approx(kernel_distance(x, y).item(), rel=1e-4)
    first = model.made
    assert validate_pictures(model, photos) == (distance, {}) and torch.equal(model.made, first)

    assert math.isfinite(validate_pictures(model, FlowerDataset(*parts_of(photos, 2)))[0])
    with pytest.raises(
        UserError, match="found one validation photo, expected more to measure pictures by; give at least"
    ):
        validate_pictures(model, FlowerDataset(*parts_of(photos, 1)))


def test_nearest():
    photos = torch.zeros(3, 3, 4, 4)
    photos[1, :, :, 0] = 0.5  # bright on the left
    photos[2] = 1
    images = torch.stack([photos[1].flip(2), photos[2] - 0.2, photos[0] + 0.1])
    distances, positions = nearest(images, photos)
    assert positions.tolist() == [1, 2, 0]
    torch.testing.assert_close(distances, torch.tensor([0, 0.2, 0.1]), atol=1e-3, rtol=1e-3)
