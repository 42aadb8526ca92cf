import itertools

import numpy as np
import pytest
import torch

from data_processor import create_flower_dataloaders
from lab.kernel_distance import (
    FEATURES,
    Features,
    distance_of_subsets,
    kernel_distance,
    random_network,
    train_classifier,
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


def test_networks_depend_on_their_seed_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again, other = (random_network(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)  # no random number of anybody else's was taken
    assert torch.equal(first[0].weight, again[0].weight) and not torch.equal(first[0].weight, other[0].weight)


def test_the_classifier_tells_kinds_apart(few_photos):
    training, _ = create_flower_dataloaders(4, few_photos, 8, 8)
    dataset = training.dataset
    dataset.pixels[dataset.rows, 0] = torch.where(dataset.labels == 0, 255, 0).byte()[:, None, None]  # one kind is red
    images, labels = dataset[:]
    classifier = train_classifier(training.dataset, epochs=40)
    assert (classifier(images).argmax(dim=1) == labels).all()
    assert classifier[0](images).shape == (len(images), FEATURES)


def test_nearest():
    photos = torch.zeros(3, 3, 4, 4)
    photos[1, :, :, 0] = 0.5  # bright on the left
    photos[2] = 1
    images = torch.stack([photos[1].flip(2), photos[2] - 0.2, photos[0] + 0.1])
    distances, positions = nearest(images, photos)
    assert positions.tolist() == [1, 2, 0]
    torch.testing.assert_close(distances, torch.tensor([0, 0.2, 0.1]), atol=1e-3, rtol=1e-3)
