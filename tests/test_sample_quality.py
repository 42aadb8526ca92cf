import shutil

import numpy as np
import pytest
import torch
from conftest import defaults_in_help, fails, pixels_of, saved_model, without_row_names

import sample_quality
import train_script
from Autoencoder import Autoencoder
from data_processor import create_flower_dataloaders, read_flowers, show_recover_results
from lab.generation import generate
from lab.picture_quality import (
    Features,
    bootstrap_distance,
    coverage,
    random_network,
    train_classifier,
    two_sample_test,
)


@pytest.fixture
def quality(folders, tmp_path, capsys):
    """Runs sample_quality.py on what is in the model folder; gives the rows of its table by name, and stderr."""

    def run(*flags):
        capsys.readouterr()
        places = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis", "--image-size", "8"]
        sample_quality.main([str(flag) for flag in [*places, *flags]])
        out, err = capsys.readouterr()
        *lines, run.last_line = out.splitlines()
        assert {len(line) for line in lines} == {101}
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {name: cells for name, *cells in rows}, err

    return run


def test_sample_quality(quality, folders, tmp_path):
    for name in "AE", "VAE":
        train_script.main(["--model", name, *map(str, folders), "--epochs", "1", "--image-size", "8"])
    table, err = quality("--number", "20")
    assert list(table) == ["", "---", "training photos", "validation photos", "AE", "VAE", "noise"]
    assert table[""] == ["told apart", "coverage", "classifier", "random net", "nearest", "closest 5%"]
    assert all(len(cells) == 6 for cells in table.values())
    assert err.count("no such checkpoint, left out.\n") == err.count("\n") == 4
    for column in 2, 3:
        floor, ceiling = (float(table[row][column].split()[0]) for row in ("training photos", "noise"))
        assert floor < ceiling
    assert table["noise"][0] == "1.00 ± 0.00"
    median, closest = map(float, table["validation photos"][4:])
    assert 0 < closest < median < 1
    assert without_row_names(tmp_path / "vis" / "nearest_AE.png").shape == (2 * 196 + 20, 8 * 100 - 4, 3)
    assert quality("--number", "20")[0] == table
    assert quality("--number", "20", "--seed", "1")[0] != table


def test_the_table_by_its_description(quality, few_photos, tmp_path):
    model = saved_model("AE", few_photos, tmp_path / "models", image_size=(12, 8), split_seed=3)
    table, _ = quality("--number", "30", "--image-size", "12x8", "--split-seed", "3", "--seed", "2")

    training, validation = read_flowers(few_photos, 12, 8).split(3)
    (photos, photo_kinds), (unseen, kinds) = training[:], validation[:]

    def shuffled(images, seed):
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]

    def area(pictures, photos, seed):
        mixed = shuffled(pictures, seed)
        half = (len(pictures) + 1) // 2
        return two_sample_test(mixed[:half], photos, mixed[half:], unseen, seed)

    images = generate(model, 30, seed=2)
    noise = torch.rand(30, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    classifier = train_classifier(photos, photo_kinds, 2, seed=2)
    views = [Features(network, photos) for network in (classifier[0], random_network(2))]
    mixed = shuffled(photos, 2)
    rows = ("training photos", mixed[:8], mixed[8:]), ("AE", images, photos), ("noise", noise, photos)
    for row, pictures, told_from in rows:
        areas = [area(pictures, told_from, seed) for seed in (2, 3, 4)]
        assert table[row][0] == f"{np.mean(areas):.2f} ± {np.std(areas, ddof=1):.2f}"
        features = [view(shuffled(pictures, 2)) for view in views]
        assert table[row][1] == f"{coverage(features[0][:4], views[0](unseen)):.2f}"
        for column, view in enumerate(views):
            figures = bootstrap_distance(features[column], view(unseen), seed=2)
            assert table[row][2 + column] == "{:.2f} ± {:.2f}".format(*figures)
    right = (classifier(unseen).argmax(dim=1) == kinds).float().mean().item()
    assert quality.last_line == f"The classifier names the kind of {right:.0%} of the validation photos."

    for row, pictures in ("validation photos", unseen), ("AE", images):
        both_ways = torch.stack([photos, photos.flip(3)])
        differences = (pictures[:, None, None] - both_ways).square().mean(dim=(3, 4, 5)).sqrt().numpy()
        near, positions = differences.min(axis=(1, 2)), differences.min(axis=1).argmin(axis=1)
        assert list(map(float, table[row][4:])) == pytest.approx(np.quantile(near, [0.5, 0.05]), abs=0.0006)
    closest = near.argsort()[:16]
    show_recover_results(
        images[closest], photos[positions[closest]], tmp_path / "expected.png", row_names=["AE", "photo"]
    )
    np.testing.assert_array_equal(pixels_of(tmp_path / "vis" / "nearest_AE.png"), pixels_of(tmp_path / "expected.png"))
    assert table["training photos"][4:] == table["noise"][4:] == ["", ""]
    assert table["validation photos"][:4] == 4 * [""]


def test_coverage_is_by_as_many_pictures_as_photos(quality, few_photos, tmp_path, monkeypatch):
    saved_model("AE", few_photos, tmp_path / "models")
    seen = []
    monkeypatch.setattr("lab.picture_quality.coverage", lambda x, y: seen.append((len(x), len(y))) or coverage(x, y))
    quality("--number", "20")
    quality("--number", "3")
    assert seen == 3 * [(4, 4)] + 3 * [(3, 4)]


def test_defaults(few_photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few_photos.rename("drawn_flowers")
    saved_model("AE", "drawn_flowers", tmp_path / "models", image_size=(24, 24))
    outs = []
    for flags in [], ["--number", "1000", "--seed", "0", "--split-seed", "0", "--image-size", "24"]:
        sample_quality.main(flags)
        out, err = capsys.readouterr()
        outs.append(out)
    assert outs[0] == outs[1] and "| AE " in out
    assert f"No photos at {tmp_path / 'flowers'}: using the drawn flowers in ./drawn_flowers instead.\n" in err
    assert "models/BestModel_VAE.pth: no such checkpoint, left out.\n" in err
    assert (tmp_path / "vis" / "nearest_AE.png").exists()
    (tmp_path / "drawn_flowers").rename("flowers")
    sample_quality.main(["--number", "2"])
    assert "No photos" not in capsys.readouterr().err


def test_help_shows_every_default(capsys):
    places = ["./flowers", "./drawn_flowers", "./models", "./vis"]
    assert defaults_in_help(sample_quality, capsys) == [*places, "24", "0", "1000", "0"]


def test_training_photos_are_found_to_be_near_themselves(quality, folders, few_photos, monkeypatch):
    train_script.main(["--model", "AE", *map(str, folders), "--epochs", "1", "--image-size", "8"])
    training, _ = create_flower_dataloaders(4, few_photos, 8, 8)
    memory, _ = training.dataset[:]
    monkeypatch.setattr(Autoencoder, "sample", lambda self, n: memory[torch.arange(n) % len(memory)])
    table, _ = quality("--number", "32")
    assert table["AE"][4:] == ["0.000", "0.000"]
    for column in 2, 3:
        distance, spread = map(float, table["AE"][column].split(" ± "))
        floor, _ = map(float, table["training photos"][column].split(" ± "))
        assert abs(distance - floor) < 3 * spread + 0.5


def test_models_that_do_not_compare_are_left_out(quality, folders, few_photos, tmp_path, capsys):
    train_script.main(["--model", "AE", *map(str, folders), "--epochs", "1", "--image-size", "12"])
    train_script.main(["--model", "VAE", *map(str, folders), "--epochs", "1", "--image-size", "8", "--split-seed", "9"])
    flags = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis"]
    capsys.readouterr()
    assert "found no model to measure" in fails(sample_quality, [*flags, "--image-size", "8"], capsys, lines=7)
    train_script.main(["--model", "GAN", *map(str, folders), "--epochs", "1", "--image-size", "8"])
    table, err = quality("--number", "4")
    assert list(table)[4:] == ["GAN", "noise"]
    assert "BestModel_AE.pth: found a model of 12 x 12 pixels, expected 8 x 8, left out." in err
    assert "BestModel_VAE.pth: was trained on other photos, left out." in err
    saved_model("AE", few_photos, tmp_path / "models", image_size=(8, 12))
    _, err = quality("--number", "4")
    assert "BestModel_AE.pth: found a model of 8 x 12 pixels, expected 8 x 8, left out." in err
    saved_model("GAN", few_photos, tmp_path / "models", image_size=(8, 12))
    table, err = quality("--number", "4", "--image-size", "8x12")
    assert list(table)[4:] == ["AE", "GAN", "noise"]


def test_too_little_to_measure(quality, folders, few_photos, tmp_path, capsys):
    flags = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis", "--image-size", "8"]
    assert "--number: found 1, expected 2 or more" in fails(sample_quality, [*flags, "--number", "1"], capsys)
    shutil.rmtree(few_photos / "rose")
    saved_model("AE", few_photos, tmp_path / "models")
    assert "AE" in quality("--number", "2")[0]  # with two validation photos
    for number in range(4, 10):
        next(few_photos.rglob(f"{number}.jpg")).unlink()
    message = "found 3 training and 1 validation photos, expected 4 and 2 or more to measure by; give at least 10"
    assert message in fails(sample_quality, flags, capsys)
    with pytest.raises(SystemExit, match="2"):
        train_script.main(["--model", "GAN", *map(str, folders), "--epochs", "1", "--image-size", "8"])
    message = "found 3 training photos, expected 11 or more, of which every tenth chooses the epoch; give more photos"
    assert message in capsys.readouterr().err


def test_many_copies_of_a_photo_leave_few_to_train_on(folders, few_photos, tmp_path, capsys):
    first, *others = sorted((few_photos / "rose").glob("*.jpg"))
    shutil.rmtree(few_photos / "tulip")
    for path in others[:6]:
        shutil.copyfile(first, path)
    photos = read_flowers(few_photos, 8, 8)
    seed = next(seed for seed in range(99) if len(photos.split(seed)[0]) == 3)
    capsys.readouterr()
    flags = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis", "--image-size", "8", "--split-seed", seed]
    message = "found 3 training and 7 validation photos, expected 4 and 2 or more to measure by"
    assert message in fails(sample_quality, flags, capsys, lines=2)
