"""The measures of generative/sample_quality.py by their definitions, and the table that it prints."""

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
from lab.generation import generate

# The table


@pytest.fixture
def quality(few_photos, tmp_path, capsys):
    """Runs the script on what is in the model folder; gives the rows of its table, its last line and stderr."""

    def run(*flags):
        places = ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--vis-dir", tmp_path / "vis"]
        capsys.readouterr()
        sample_quality.main([str(flag) for flag in [*places, "--image-size", "8", *flags]])
        out, err = capsys.readouterr()
        *lines, last = out.splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {name: cells for name, *cells in rows}, last, err

    return run


def test_the_table_by_its_description(quality, few_photos, tmp_path):
    model = saved_model("AE", few_photos, tmp_path / "models", image_size=(12, 8), split_seed=3)
    flags = ["--number", "30", "--image-size", "12x8", "--split-seed", "3", "--seed", "2"]
    table, last, err = quality(*flags)
    assert err.count("no such checkpoint, left out.\n") == 5
    assert list(table) == ["", "---", "training photos", "validation photos", "AE", "noise"]
    assert table[""] == ["told apart", "coverage", "nearest", "closest 5%"]
    assert quality(*flags)[0] == table

    training, validation = read_flowers(few_photos, 12, 8).split(3)
    (photos, labels), (unseen, unseen_labels) = training[:], validation[:]
    images = generate(model, 30, seed=2)
    noise = torch.rand(30, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    classifier = train_classifier(photos, labels, 2, seed=2)
    features = Features(classifier[0], photos)
    mixed = shuffled(photos, 2)
    for row, pictures, others in (
        ("training photos", mixed[:8], mixed[8:]),
        ("AE", images, photos),
        ("noise", noise, photos),
    ):
        areas = []
        for seed in 2, 3, 4:
            first, second = shuffled(pictures, seed).chunk(2)
            areas.append(two_sample_test(first, others, second, unseen, seed))
        assert table[row][0] == f"{np.mean(areas):.2f} ± {np.std(areas, ddof=1):.2f}"
        assert table[row][1] == f"{coverage(features(shuffled(pictures, 2)[:4]), features(unseen)):.2f}"
    right = (classifier(unseen).argmax(dim=1) == unseen_labels).float().mean().item()
    assert last == f"The classifier is right on {right:.0%} of the validation photos."

    for row, pictures in ("validation photos", unseen), ("AE", images):
        distances, positions = nearest(pictures, photos)
        assert list(map(float, table[row][2:])) == pytest.approx(np.quantile(distances, [0.5, 0.05]), abs=0.0006)
    closest = distances.argsort()[:16]
    expected = np.asarray(show_recover_results(images[closest], photos[positions[closest]]))
    np.testing.assert_array_equal(pixels_of(tmp_path / "vis" / "nearest_AE.png")[:, -expected.shape[1] :], expected)
    assert table["training photos"][2:] == table["noise"][2:] == ["", ""] == table["validation photos"][:2]


def test_pictures_that_are_copies_are_at_distance_0(quality, few_photos, tmp_path, monkeypatch):
    saved_model("DDPM", few_photos, tmp_path / "models")
    training, _ = read_flowers(few_photos, 8, 8).split()
    photos, labels = training[:]

    def copies(model, n, seed, asked):
        assert asked.bincount().tolist() == (2 * labels.bincount()).tolist()  # in the proportion of the photos
        return photos[torch.arange(n) % len(photos)]

    monkeypatch.setattr(sample_quality, "generate", copies)
    assert quality("--number", "32")[0]["DDPM"][2:] == ["0.000", "0.000"]


def test_help_shows_every_default(capsys):
    defaults = "./flowers ./drawn_flowers ./models ./vis 24 0 1000 0"
    assert defaults_in_help(sample_quality, capsys) == defaults.split()


def test_models_that_do_not_compare_are_left_out(quality, few_photos, tmp_path, capsys):
    saved_model("AE", few_photos, tmp_path / "models", image_size=(8, 12))
    saved_model("VAE", few_photos, tmp_path / "models", split_seed=9)
    flags = ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--vis-dir", tmp_path, "--image-size", "8"]
    assert "found no model to measure" in fails(sample_quality, flags, capsys, lines=7)
    saved_model("GAN", few_photos, tmp_path / "models")
    table, _, err = quality("--number", "4")
    assert list(table)[4:] == ["GAN", "noise"]
    assert "BestModel_AE.pth: found a model of 8 x 12 pixels, expected 8 x 8, left out." in err
    assert "BestModel_VAE.pth: was trained on other photos, left out." in err


def test_too_little_to_measure(few_photos, tmp_path, capsys):
    flags = ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--vis-dir", tmp_path, "--image-size", "8"]
    assert "--number: found 1, expected 2 or more" in fails(sample_quality, [*flags, "--number", "1"], capsys)
    for path in sorted(few_photos.rglob("*.jpg"))[4:]:
        path.unlink()
    assert "found 3 training and 1 validation photos" in fails(sample_quality, flags, capsys)


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
    classifier = train_classifier(images, labels, 2, epochs=40)
    assert (classifier(images).argmax(dim=1) == labels).all()
    assert torch.equal(classifier(images), train_classifier(images, labels, 2, 0, epochs=40)(images))
    assert not torch.equal(classifier(images), train_classifier(images, labels, 2, 1, epochs=40)(images))


@pytest.mark.parametrize(
    ("pictures", "k", "expected"), [([2], 1, 0.5), ([2], 2, 1), ([12, 18], 1, 0.25), ([18], 1, 0), ([13], 9, 0.25)]
)
def test_coverage_by_its_definition(pictures, k, expected):
    # The nearest other photo of each is at 1, 1, 2, 7; the second at 3, 2, 3, 9.
    photos = torch.tensor([[0.0], [1], [3], [10]])
    assert coverage(torch.tensor(pictures).float()[:, None], photos, k) == expected


def test_coverage_takes_the_fifth_nearest_photo():
    torch.manual_seed(0)
    pictures, photos = torch.randn(40, 3, dtype=torch.float64) + 1, torch.randn(50, 3, dtype=torch.float64)
    within = [sorted((photo - other).norm() for other in photos)[5] for photo in photos]
    near = [min((photo - picture).norm() for picture in pictures) for photo in photos]
    share = np.mean([distance <= radius for distance, radius in zip(near, within, strict=True)])
    assert coverage(pictures, photos) == pytest.approx(share) and 0.1 < share < 0.9


def test_coverage_by_pictures_of_the_same_distribution_and_of_a_part_of_it():
    torch.manual_seed(0)
    photos, pictures = torch.randn(2, 500, 4)
    for k in 1, 3:
        assert coverage(pictures, photos, k) == pytest.approx(1 - 0.5**k, abs=0.06)
    assert coverage(pictures[pictures[:, 0] < 0], photos) < 0.75 * coverage(pictures, photos)


def test_area_under_curve_by_its_definition():
    positives, negatives = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([0.4, 0.0, 0.5])
    pairs = [(p > n) + (p == n) / 2 for p in positives.tolist() for n in negatives.tolist()]
    assert area_under_curve(positives, negatives) == pytest.approx(sum(pairs) / 12)
    assert area_under_curve(positives + 1, negatives) == 1 and area_under_curve(torch.ones(3), torch.ones(5)) == 0.5


def images_of_a_colour(number):
    """Images (number, 3, 8, 8): a random colour each, and a little noise."""
    return 0.7 * torch.rand(number, 3, 1, 1) + 0.3 * torch.rand(number, 3, 8, 8)


def test_two_samples_of_one_distribution_cannot_be_told_apart():
    torch.manual_seed(0)
    areas = [two_sample_test(*images_of_a_colour(240).split(60), seed) for seed in range(8)]
    # 0.05 is the standard deviation of the area under the curve of two times 60 scores of one distribution.
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * 0.05 / 8**0.5)


def test_what_differs_is_told_apart():
    torch.manual_seed(0)
    photos, pictures, noise = images_of_a_colour(160), images_of_a_colour(160), torch.rand(160, 3, 8, 8)
    pictures[:, :, ::2, ::2] += 0.2  # a checkerboard, as transposed convolutions may leave it
    for others in pictures, noise:
        assert two_sample_test(others[:80], photos[:80], others[80:], photos[80:]) > 0.95
    # With those not seen exchanged: what counts is which are pictures.
    assert two_sample_test(noise[:80], photos[:80], photos[80:], noise[80:]) < 0.05


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
