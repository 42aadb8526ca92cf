"""The measures of generative/sample_quality.py by their definitions, and the table that it prints."""

import contextlib
import shutil

import numpy as np
import pytest
import torch
from conftest import defaults_in_help, fails, pixels_of, saved_model, shapes_along
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from data_processor import read_flowers, show_recover_results
from generative import sample_quality
from generative.sample_quality import (
    FEATURES,
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


def test_coverage_in_the_table_does_not_depend_on_the_number_of_pictures(quality, few_photos, tmp_path, monkeypatch):
    saved_model("AE", few_photos, tmp_path / "models")
    seen = []
    monkeypatch.setattr(sample_quality, "coverage", lambda x, y: seen.append((len(x), len(y))) or coverage(x, y))
    quality("--number", "20")
    quality("--number", "3")
    assert seen == 3 * [(4, 4)] + 3 * [(3, 4)]


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
    assert defaults_in_help(sample_quality, capsys) == [
        "./flowers",
        "./drawn_flowers",
        "./models",
        "./vis",
        "24",
        "0",
        "1000",
        "0",
    ]


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


def test_too_little_to_measure(quality, few_photos, tmp_path, capsys):
    flags = ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--vis-dir", tmp_path, "--image-size", "8"]
    assert "--number: found 1, expected 2 or more" in fails(sample_quality, [*flags, "--number", "1"], capsys)
    shutil.rmtree(few_photos / "rose")
    saved_model("AE", few_photos, tmp_path / "models")
    assert "AE" in quality("--number", "2")[0]  # with two validation photos
    for number in range(4, 10):
        next(few_photos.rglob(f"{number}.jpg")).unlink()
    message = "found 3 training and 1 validation photos, expected 4 and 2 or more to measure by; give at least 10"
    assert message in fails(sample_quality, flags, capsys)


# Its measures


@contextlib.contextmanager
def same_random_numbers():
    """Fails if a random number of PyTorch's is taken, or its seed set."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


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


@pytest.fixture
def two_colours(few_photos):
    """Photos and labels; those of one class are without green and blue: a classifier's easiest case."""
    photos, labels = read_flowers(few_photos, 8, 8)[:]
    photos[labels == 1, 1:] = 0
    return photos, labels


def test_the_classifier_distinguishes_classes(two_colours):
    images, labels = two_colours
    with same_random_numbers():
        classifier = train_classifier(images, labels, 2, epochs=40)
    assert (classifier(images).argmax(dim=1) == labels).all()
    halved = [(3, 8, 8), (32, 8, 8), (32, 4, 4), (64, 4, 4), (64, 2, 2), (128, 2, 2), (128, 1, 1), (FEATURES,)]
    assert shapes_along(classifier[0], images) == halved
    assert torch.equal(classifier(images), train_classifier(images, labels, 2, 0, epochs=40)(images))
    assert not torch.equal(classifier(images), train_classifier(images, labels, 2, 1, epochs=40)(images))


def test_coverage_by_its_definition():
    # The nearest other photo of each is at 1, 1, 2, 7; the second at 3, 2, 3, 9.
    photos = torch.tensor([[0.0], [1], [3], [10]])
    for pictures, k, expected in (
        ([2.0], 1, 0.5),
        ([2.0], 2, 1),
        ([12.0, 18], 1, 0.25),
        ([18.0], 1, 0),
        ([13.0], 9, 0.25),
    ):
        assert coverage(torch.tensor(pictures)[:, None], photos, k) == expected
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
    # Differences that are small beside the features themselves are not lost in rounding.
    assert coverage(pictures + 3000, photos + 3000) == pytest.approx(coverage(pictures, photos), abs=0.01)


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
    # Nor can those that only look like pictures that were learned by heart.
    unseen = images_of_a_colour(400)
    area = two_sample_test(torch.rand(40, 3, 8, 8), images_of_a_colour(40), unseen[:200], unseen[200:])
    assert area == pytest.approx(0.5, abs=4 * (1 / 12 / 200 * 2) ** 0.5)


def test_what_differs_is_told_apart():
    torch.manual_seed(0)
    photos, pictures, noise = images_of_a_colour(160), images_of_a_colour(160), torch.rand(160, 3, 8, 8)
    pictures[:, :, ::2, ::2] += 0.2  # a checkerboard, as transposed convolutions may leave it
    for others in pictures, noise:
        assert two_sample_test(others[:80], photos[:80], others[80:], photos[80:]) > 0.95
    # With those not seen exchanged: what counts is which are pictures.
    assert two_sample_test(noise[:80], photos[:80], photos[80:], noise[80:]) < 0.05


def test_the_training_of_the_two_sample_test():
    """Pictures and photos in equal numbers, each once an epoch, mirrored or not, and never those to be told apart."""
    seen, logits, rates = [], [], []
    torch.manual_seed(0)
    sets = [torch.rand(number, 3, 9, 6) for number in (50, 30, 9, 7)]

    def watch(layer, inputs, output):
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            seen.append(inputs[0].flatten(1))
        elif isinstance(layer, nn.Linear):
            logits.append(output.detach())

    def positions(batch, side):
        """Which of the images are in a batch, as they are or mirrored: two (batch, image)."""
        return [(batch[:, None] == way.flatten(1)).all(dim=2) for way in (side, side.flip(3))]

    def check(optimizer, *_):
        """The gradient of the cross-entropy by the last bias is the mean of (probability - 1 for the right side)."""
        picture = sum(positions(seen[-1], sets[0])).any(dim=1).long()
        expected = (logits[-1].softmax(dim=1) - nn.functional.one_hot(picture, 2)).mean(dim=0)
        torch.testing.assert_close(optimizer.param_groups[0]["params"][-1].grad, expected, atol=1e-5, rtol=0)
        rates.append(optimizer.param_groups[0]["lr"])

    hooks = [register_module_forward_hook(watch), register_optimizer_step_pre_hook(check)]
    try:
        with same_random_numbers():
            area = two_sample_test(*sets)
    finally:
        for hook in hooks:
            hook.remove()
    assert two_sample_test(*sets, 0) == area != two_sample_test(*sets, 1)
    *steps, first, second = seen
    assert sorted([len(first), len(second)]) == [7, 9]
    assert [len(step) for step in steps] == 20 * [32, 28]
    chosen, orders, mirrored = set(), set(), 0
    for epoch in torch.cat(steps).split(60):
        for as_is, flipped in (positions(epoch, side) for side in sets[:2]):
            times = (as_is | flipped).sum(dim=0)
            assert (times.sum(), times.max()) == (30, 1)
            chosen.add(tuple(times.tolist()))
            orders.add(tuple((as_is | flipped).int().argmax(dim=1).tolist()))
            mirrored += flipped.sum().item() / 60 / 20
    assert len(chosen) == 2 and len(orders) == 40  # the same pictures and photos in every epoch, in another order
    assert mirrored == pytest.approx(0.5, abs=0.1)
    assert max(rates) == pytest.approx(3e-3, rel=0.05) and rates[0] < 2e-4 and rates[-1] < 1e-4


def test_nearest():
    photos = torch.zeros(3, 3, 4, 4)
    photos[1, :, :, 0] = 0.5  # bright on the left
    photos[2] = 1
    images = torch.stack([photos[1].flip(2), photos[2] - 0.2, photos[0] + 0.1])
    distances, positions = nearest(images, photos)
    assert positions.tolist() == [1, 2, 0]
    torch.testing.assert_close(distances, torch.tensor([0, 0.2, 0.1]), atol=1e-3, rtol=1e-3)
