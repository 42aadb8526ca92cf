"""From photos to batches, and from batches to pictures."""

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_processor import (
    FlowerDataset,
    create_flower_dataloaders,
    random_horizontal_flip,
    read_flowers,
    show_images,
    show_recover_results,
)


def everything(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def without_photos(names, digests=None):
    """A FlowerDataset of these names, whose pixels are all black."""
    pixels, labels = torch.zeros(len(names), 3, 1, 1, dtype=torch.uint8), torch.zeros(len(names)).long()
    return FlowerDataset(pixels, labels, names, ["rose"], digests or names, "flowers")


def test_batches(few_photos):
    training, validation = create_flower_dataloaders(6, few_photos, 8, 12)
    assert [len(images) for images, _ in training] == [6, 6, 4] and len(training) == 3
    images, labels = everything(training)
    assert images.shape == (16, 3, 12, 8) and images.dtype == torch.float32
    assert images.min() >= 0 and 0.5 < images.max() <= 1
    assert labels.shape == (16,) and labels.dtype == torch.int64 and set(labels.tolist()) == {0, 1}
    assert everything(validation)[0].shape == (4, 3, 12, 8)
    # Each epoch has each training photo once, with its own label; validation photos always come in one order.
    whole = read_flowers(str(few_photos), 8, 12)
    labels_of = {image.numpy().tobytes(): label for image, label in zip(*whole[:], strict=True)}
    found = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert len(labels_of) == 20 and len(found) == 16 and all(labels_of[image] == found[image] for image in found)
    for _ in range(2):
        assert all(map(torch.equal, everything(validation), validation.dataset[:]))
    for options, seed in ({}, 0), ({"split_seed": 3, "seed": 1}, 3):
        found = create_flower_dataloaders(6, few_photos, 8, 12, **options)
        assert [part.dataset.names for part in found] == [part.names for part in whole.split(seed)]


def test_order_of_the_training_photos(few_photos):
    def epochs(**options):
        training, _ = create_flower_dataloaders(4, few_photos, 8, 8, **options)
        return everything(training)[0], everything(training)[0]

    first, second = epochs(seed=1)
    assert not torch.equal(first, second)
    assert all(map(torch.equal, epochs(seed=1, num_worker=1), (first, second)))
    assert not torch.equal(first, epochs(seed=2)[0])


def test_pixels_are_scaled_to_0_to_1():
    values = torch.arange(256, dtype=torch.uint8)
    photos = FlowerDataset(values.expand(2, 3, 1, 256), torch.tensor([4, 5]), ["a", "b"], ["rose"], ["0", "1"], "")
    images, labels = photos[:]
    assert images.dtype == torch.float32 and labels.tolist() == [4, 5] and len(photos) == 2
    assert torch.allclose(images, (torch.arange(256.0) / 255).expand(2, 3, 1, 256), rtol=1e-6, atol=0)
    image, label = photos[-1]
    assert image.shape == (3, 1, 256) and label.shape == () and label == 5
    for index in [1, 0], torch.tensor([1, 0]):
        assert photos[index][0].shape == (2, 3, 1, 256) and photos[index][1].tolist() == [5, 4]


def split_names(names, seed):
    training, validation = without_photos(names).split(seed)
    return training.names, validation.names


def test_split_is_by_names_and_seed_alone():
    """It is the same in every version, or a model trained elsewhere would be shown its training photos."""
    names = [f"rose/{i}.jpg" for i in range(10)]
    for seed, expected in (0, [1, 9]), (7, [7, 4]):
        training, validation = split_names(names, seed)
        assert validation == [f"rose/{i}.jpg" for i in expected] and sorted(training + validation) == names
        assert split_names(names[::-1], seed) == (training, validation)
    for n, fifth in (2588, 517), (9, 1), (2, 1):
        assert list(map(len, split_names([f"rose/{i}.jpg" for i in range(n)], 0))) == [n - fifth, fifth]


def test_each_part_has_its_own_pixels_and_labels():
    rows = torch.arange(50).flip(0)
    pixels = rows.byte().view(50, 1, 1, 1).expand(50, 3, 2, 2)
    digests = [str(row.item()) for row in rows]
    whole = FlowerDataset(pixels, rows % 3, [f"rose/{row}.jpg" for row in rows], ["a", "b", "c"], digests, "flowers")
    training, validation = whole.split(1)
    for part in (training, validation, *training.split(2)):
        numbers = torch.tensor([int(Path(name).stem) for name in part.names])
        images, labels = part[:]
        assert torch.equal((255 * images[:, 0, 0, 0]).round().long(), numbers) and torch.equal(labels, numbers % 3)
        assert part.digests == [str(number.item()) for number in numbers]
        assert part.classes == ["a", "b", "c"] and part.root == "flowers"


@pytest.mark.parametrize("files", [[*range(20), *range(9)], [0] * 29 + [1], [0] * 10 + [1] * 10 + [2], [0, 1]], ids=str)
def test_equal_files_are_on_one_side(files):
    """Also where nearly all are copies."""
    names, digests = [f"rose/{i}.jpg" for i in range(len(files))], list(map(str, files))
    for seed in range(20):
        training, validation = without_photos(names, digests).split(seed)
        assert sorted(training.names + validation.names) == sorted(names) and training.names and validation.names
        assert not set(training.digests) & set(validation.digests)
        # Of what is for validation by its name, only what has a copy for training is taken away.
        by_name = split_names(names, seed)[1]
        copied = {file for name, file in zip(names, digests, strict=True) if name not in by_name}
        expected = [name for name in by_name if digests[names.index(name)] not in copied]
        assert validation.names == (expected or validation.names)
    assert len(without_photos(names, ["0"] * len(names)).split()[1]) == max(1, len(names) // 5)  # one, many times


def test_fingerprint_is_a_hash_of_names_and_files(few_photos):
    whole = read_flowers(few_photos, 8, 8)
    # As given by: find rose tulip -name '*.jpg' | xargs sha256sum | tr -s ' ' | sort | head -c -1 | sha256sum
    lines = [f"{hashlib.sha256((few_photos / name).read_bytes()).hexdigest()} {name}" for name in whole.names]
    expected = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    assert whole.fingerprint() == expected
    for values in whole.names, whole.digests:
        values.reverse()
    assert whole.fingerprint() == expected
    with Image.open(few_photos / "rose" / "0.jpg") as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(few_photos / "rose" / "0.jpg")
    assert read_flowers(few_photos, 8, 8).fingerprint() != expected


def test_names_in_any_form_of_unicode(few_photos):
    """macOS and Linux write an accent in two ways: the split, the fingerprint and the classes are the same."""
    found, folder = [], few_photos / "rose"
    for form in "NFC", "NFD":
        folder = folder.rename(few_photos / unicodedata.normalize(form, "h\u00e9riss\u00e9e"))
        found.append(read_flowers(few_photos, 8, 8))
    composed, decomposed = found
    assert composed.names != decomposed.names and composed.classes == decomposed.classes
    for a, b in zip(composed.split(), decomposed.split(), strict=True):
        assert all(map(torch.equal, a[:], b[:])) and a.fingerprint() == b.fingerprint()


def test_random_horizontal_flip():
    torch.manual_seed(0)
    images = torch.rand(4000, 3, 2, 3)
    before, mirrored = images.clone(), []
    for _ in range(2):
        found = random_horizontal_flip(images)
        same, flipped = ((found == expected).flatten(1).all(1) for expected in (images, images[:, :, :, [2, 1, 0]]))
        assert (same ^ flipped).all() and 1900 < flipped.sum() < 2100
        mirrored.append(flipped)
    assert not torch.equal(*mirrored) and torch.equal(images, before)


def some_images(*shape, seed=0):
    """Mostly in [0, 1], and some numbers below and above."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.2, 1.2, shape).astype(np.float32))


def pasted(size, images, zoom, places):
    """A white picture of this size (height, width) with an image (3, H, W) in [0, 1], enlarged, at each (top, left)."""
    picture = np.full((*size, 3), 255, np.uint8)
    for image, (top, left) in zip(images, places, strict=True):
        pixels = np.floor(image.numpy().clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        enlarged = np.kron(pixels, np.ones((zoom, zoom, 1), np.uint8))
        picture[top : top + len(enlarged), left : left + enlarged.shape[1]] = enlarged
    return picture


def expect_picture(found, path, expected):
    np.testing.assert_array_equal(np.asarray(found), expected)
    with Image.open(path) as saved:
        assert saved.format == "PNG" and np.array_equal(np.asarray(saved), expected)


@pytest.mark.parametrize(("width", "zoom"), [(24, 4), (33, 3), (96, 1), (200, 1)])
def test_small_pictures_are_enlarged(width, zoom):
    images = some_images(1, 3, 5, width)
    expected = pasted((5 * zoom, width * zoom), images, zoom, [(0, 0)])  # one alone has no margin
    np.testing.assert_array_equal(np.asarray(show_images(images)), expected)


def test_show_images(tmp_path):
    images = some_images(5, 3, 24, 48)
    places = [(4, 4), (4, 104), (4, 204), (56, 4), (56, 104)]  # of pictures of 48 x 96 pixels, and gaps of 4
    expected = pasted((108, 304), images, 2, places)
    expect_picture(show_images(images, str(tmp_path / "grid.png"), columns=3), tmp_path / "grid.png", expected)


def test_originals_stand_above_reconstructions(tmp_path):
    images, others = some_images(3, 3, 48, 48), some_images(3, 3, 48, 48, seed=1)
    places = [(4, 4), (4, 104), (204, 4), (104, 4), (104, 104), (304, 4)]
    expected = pasted((404, 204), [*images, *others], 2, places)
    found = show_recover_results(images, others.requires_grad_(), tmp_path / "grid.png", columns=2)  # as from a model
    expect_picture(found, tmp_path / "grid.png", expected)
