import numpy as np
import pytest
import torch
from PIL import Image

from data_processor import read_flowers
from lab.drawn_flowers import COUNTS, draw_flower, draw_flowers
from lab.photos import photos_or_drawn


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "flowers"
    draw_flowers(root, counts={kind: 60 for kind in COUNTS})
    return root


def test_layout(drawn):
    assert COUNTS == {"astilbe": 737, "bellflower": 873, "calendula": 978}  # as many as there are photos
    assert sorted(folder.name for folder in drawn.iterdir()) == list(COUNTS)
    assert sorted(file.name for file in (drawn / "astilbe").iterdir())[::59] == ["0001.jpg", "0060.jpg"]
    assert [folder.name for folder in drawn.parent.iterdir()] == ["flowers"]
    with Image.open(drawn / "calendula" / "0001.jpg") as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (256, 256))


def test_brightness_and_variance_are_near_those_of_the_photos(drawn):
    images, _ = read_flowers(drawn, 24, 24)[:]
    # The photos at 24 x 24: means 0.43, 0.40, 0.27; variance of a pixel over the set 0.054, within an image 0.035.
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.43, 0.40, 0.27], abs=0.06)
    assert images.var(dim=0).mean().item() == pytest.approx(0.054, rel=0.2)
    assert images.var(dim=(2, 3)).mean().item() == pytest.approx(0.035, rel=0.25)


def test_kinds_differ_in_colour(drawn):
    dataset = read_flowers(drawn, 24, 24)
    red, _, blue = dataset.pixels[:, :, 6:18, 6:18].float().mean(dim=(2, 3)).T
    warmth = [(red - blue)[dataset.labels == label].mean() for label in range(3)]
    assert warmth[2] > warmth[0] + 20 and warmth[0] > warmth[1] + 20  # calendula, astilbe, bellflower


def test_the_same_seed_draws_the_same_set(tmp_path):
    for name, seed in ("one", 1), ("again", 1), ("other", 2):
        draw_flowers(tmp_path / name, seed, {"calendula": 2})
    one, again, other = ((tmp_path / name / "calendula/0001.jpg").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other
    assert one != (tmp_path / "one" / "calendula/0002.jpg").read_bytes()


@pytest.mark.parametrize("kind", COUNTS)
def test_any_generator_draws(kind):
    for seed in range(40):
        pixels = np.asarray(draw_flower(kind, np.random.default_rng(seed)))
        assert pixels.shape == (256, 256, 3) and pixels.std() > 5


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_flowers(tmp_path / "set", counts={"astilbe": 3})
    assert list(tmp_path.iterdir()) == []


def test_photos_come_first_and_drawn_ones_are_drawn_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(draw_flowers, "__defaults__", (0, {"astilbe": 2}))
    photos, drawn = tmp_path / "photos", tmp_path / "drawn"
    assert photos_or_drawn(photos, drawn) == drawn
    assert "drawing flowers into" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*.jpg")}
    assert len(before) == 2
    assert photos_or_drawn(photos, drawn) == drawn
    assert "using the drawn flowers in" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*.jpg")} == before
    photos.mkdir()
    assert photos_or_drawn(photos, drawn) == photos
    assert capsys.readouterr().err == ""


def test_drawn_flowers_are_batches_like_any_other(drawn):
    dataset = read_flowers(drawn, 16, 16)
    images, labels = dataset[:4]
    assert images.shape == (4, 3, 16, 16) and images.dtype == torch.float32 and labels.tolist() == [0] * 4
