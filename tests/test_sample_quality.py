"""The measures of generative/sample_quality.py by their definitions, and the table that it prints."""

import math

import numpy as np
import pytest
import torch
from conftest import defaults_in_help, fails, pixels_of, saved_model
from torch import nn

from data_processor import read_flowers, show_recover_results
from generative import sample_quality
from generative.sample_quality import (
    Features,
    area_under_curve,
    coverage,
    nearest,
    shuffled,
    train_classifier,
    two_sample_test,
)
from lab.photos import class_counts
from lab.sampling import fitted_prior, labels_in_proportion, sample_in_batches

# The table


@pytest.fixture
def flags(few_photos, tmp_path):
    return ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--vis-dir", tmp_path / "vis"]


def test_the_table_by_its_description(flags, few_photos, tmp_path, capsys, monkeypatch):
    train = sample_quality.train
    monkeypatch.setattr(sample_quality, "train", lambda *arguments: train(*arguments[:3], 2, ""))  # for two epochs
    for path in sorted((few_photos / "tulip").glob("*.jpg"))[:4]:
        path.unlink()
    options = {"split_seed": 3, "image_size": (12, 8)}
    models = {name: saved_model(name, few_photos, tmp_path / "models", **options) for name in ("AE", "GAN")}
    saved_model("VAE", few_photos, tmp_path / "models", split_seed=3)  # of another size
    saved_model("VAE_calibrated", few_photos, tmp_path / "models", image_size=(12, 8))  # on photos of another split
    flags += ["--number", "18", "--image-size", "12x8", "--split-seed", "3", "--seed", "2"]
    sample_quality.main([str(flag) for flag in flags])
    out, err = capsys.readouterr()
    *lines, last = out.splitlines()
    table = {name: cells for name, *cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    assert err.count("left out") == 4  # two that are not there, and two that do not compare
    assert list(table) == ["", "---", "training photos", "validation photos", "AE", "AE, fitted", "GAN", "noise"]
    assert table[""] == ["told apart", "coverage", "nearest", "closest 5%"]

    training, validation = read_flowers(few_photos, 12, 8).split(3)
    (photos, labels), (unseen, unseen_labels) = training[:], validation[:]
    as_frequent = labels_in_proportion(class_counts(training), 18)
    images = {"AE": sample_in_batches(models["AE"], 18, 2), "GAN": sample_in_batches(models["GAN"], 18, 2, as_frequent)}
    torch.manual_seed(2)
    with torch.no_grad():
        fitted = models["AE"].decoder(fitted_prior(models["AE"], photos).sample((18,)).float())
    noise = torch.rand(18, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    classifier = train_classifier(photos, labels, 2, seed=2)
    features = Features(classifier[0], photos)
    mixed, half = shuffled(photos, 2), len(photos) // 2
    compared = {"training photos": mixed[:half], **images, "AE, fitted": fitted, "noise": noise}
    for row, pictures in compared.items():
        areas = []
        for seed in 2, 3, 4:
            first, second = shuffled(pictures, seed).tensor_split(2)
            others = mixed[half:] if row == "training photos" else photos
            areas.append(two_sample_test(first, others, second, unseen, seed))
        assert table[row][0] == f"{np.mean(areas):.2f} ± {np.std(areas, ddof=1):.2f}"
        covered = coverage(features(shuffled(pictures, 2)[: len(unseen)]), features(unseen))
        assert table[row][1] == f"{covered:.2f}"
    right = (classifier(unseen).argmax(dim=1) == unseen_labels).float().mean().item()
    assert f"{right:.0%} of the validation photos" in last

    for row, pictures in {"validation photos": unseen, **images, "AE, fitted": fitted}.items():
        distances, positions = nearest(pictures, photos)
        assert list(map(float, table[row][2:])) == pytest.approx(np.quantile(distances, [0.5, 0.05]), abs=0.0006)
        if row in images:
            closest = distances.argsort()[:16]
            expected = np.asarray(show_recover_results(pictures[closest], photos[positions[closest]]))
            found = pixels_of(tmp_path / "vis" / f"nearest_{row}.png")[:, -expected.shape[1] :]
            np.testing.assert_array_equal(found, expected)
    assert table["training photos"][2:] == table["noise"][2:] == ["", ""] == table["validation photos"][:2]


def test_help_shows_every_default_and_too_little_is_not_measured(flags, few_photos, capsys):
    defaults = "./flowers ./drawn_flowers ./models ./vis 24 0 1000 0"
    assert defaults_in_help(sample_quality, capsys) == defaults.split()
    assert "--number 1" in fails(sample_quality, [*flags, "--number", "1"], capsys)
    for path in sorted(few_photos.rglob("*.jpg"))[4:]:
        path.unlink()
    assert "found 1 validation photos" in fails(sample_quality, flags, capsys)


# Its measures


def test_features_are_in_standard_deviations_of_those_of_photos():
    """Of a network whose features are the pixels; what hardly varies, in a hundredth of the largest deviation."""
    torch.manual_seed(0)
    photos = torch.randn(300, 3, 1, 1, dtype=torch.float64) * torch.tensor([2, 0.5, 1e-6]).view(3, 1, 1) + 7
    images = torch.randn(700, 3, 1, 1, dtype=torch.float64)
    mean, std = photos.mean(dim=0).flatten(), photos.std(dim=0).flatten()
    std[2] = 0.01 * std[0]
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False, dtype=torch.float64))
    nn.init.eye_(network[1].weight)
    features = Features(network, photos)(images)
    torch.testing.assert_close(features, (images.flatten(1) - mean) / std)
    assert not features.requires_grad


def test_the_classifier_distinguishes_classes(few_photos):
    images, labels = read_flowers(few_photos, 8, 8)[:]
    images[labels == 1, 1:] = 0  # without green and blue
    assert (train_classifier(images, labels, 2, epochs=40)(images).argmax(dim=1) == labels).all()
    first, again, other = (train_classifier(images, labels, 2, seed, epochs=2)(images) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("k", [1, 5, 99])
def test_coverage_by_its_definition(k):
    torch.manual_seed(0)
    pictures, photos = torch.randn(40, 3, dtype=torch.float64) + 1, torch.randn(50, 3, dtype=torch.float64)
    within = [sorted((photo - other).norm() for other in photos)[min(k, 49)] for photo in photos]
    near = [min((photo - picture).norm() for picture in pictures) for photo in photos]
    share = np.mean([distance <= radius for distance, radius in zip(near, within, strict=True)])
    assert coverage(pictures, photos, k) == pytest.approx(share) and share > 0.1
    assert k != 5 or coverage(pictures, photos) == pytest.approx(share)


def test_area_under_curve_by_its_definition():
    positives, negatives = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0.4, 0.0, 0.5])
    pairs = [(p > n) + (p == n) / 2 for p in positives.tolist() for n in negatives.tolist()]
    assert area_under_curve(positives, negatives) == pytest.approx(sum(pairs) / 12)
    assert area_under_curve(positives + 1, negatives) == 1 and area_under_curve(torch.ones(3), torch.ones(5)) == 0.5
    assert math.isnan(area_under_curve(torch.tensor([1, math.nan]), negatives))


def images_of_a_colour(number):
    """Images (number, 3, 4, 4): a random colour each, and a little noise."""
    return 0.7 * torch.rand(number, 3, 1, 1) + 0.3 * torch.rand(number, 3, 4, 4)


def test_what_differs_is_told_apart_and_nothing_else():
    torch.manual_seed(0)
    photos, pictures, noise = images_of_a_colour(112), images_of_a_colour(112), torch.rand(112, 3, 4, 4)
    pictures[:, :, ::2, ::2] += 0.2  # a checkerboard, as transposed convolutions may leave it
    assert two_sample_test(pictures[:64], photos[:64], pictures[64:], photos[64:]) > 0.95
    # With those not seen exchanged: what counts is which are pictures.
    assert two_sample_test(noise[:64], photos[:64], photos[64:], noise[64:]) < 0.05
    areas = [two_sample_test(*images_of_a_colour(564).split([32, 32, 250, 250]), seed) for seed in range(4)]
    # 0.026 is the standard deviation of the area under the curve of two times 250 scores of one distribution.
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * 0.026 / 4**0.5)


def test_the_two_sample_test_learns_from_as_many_pictures_as_photos(monkeypatch):
    pictures, photos, unseen = torch.rand(50, 3, 8, 8), torch.rand(30, 3, 8, 8), torch.rand(16, 3, 8, 8)
    seen = []
    monkeypatch.setattr(sample_quality, "train", lambda network, images, labels, *_: seen.append((images, labels)))
    two_sample_test(pictures, photos, unseen[:9], unseen[9:])
    [(images, labels)] = seen
    for label, side in enumerate((photos, pictures)):
        times = (images[labels == label].flatten(1)[:, None] == side.flatten(1)).all(dim=2).sum(dim=0)
        assert (times.sum(), times.max()) == (30, 1)


def test_nearest():
    photos = torch.zeros(3, 3, 4, 4)
    photos[1, :, :, 0] = 0.5  # bright on the left
    photos[2] = 1
    images = torch.stack([photos[1].flip(2), photos[2] - 0.2, photos[0] + 0.1])
    distances, positions = nearest(images, photos)
    assert positions.tolist() == [1, 2, 0]
    torch.testing.assert_close(distances, torch.tensor([0, 0.2, 0.1]), atol=1e-3, rtol=1e-3)
