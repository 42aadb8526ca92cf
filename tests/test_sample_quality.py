import shutil

import pytest
import torch
from conftest import fails, pixels_of

import sample_quality
import train_script
from Autoencoder import Autoencoder
from data_processor import create_flower_dataloaders


@pytest.fixture
def quality(folders, tmp_path, capsys):
    """Runs sample_quality.py on what is in the model folder; gives the rows of its table by name, and stderr."""

    def run(*flags):
        capsys.readouterr()
        places = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis", "--image-size", "8"]
        sample_quality.main([str(flag) for flag in [*places, *flags]])
        out, err = capsys.readouterr()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if "|" in line]
        return {name: cells for name, *cells in rows}, err

    return run


def test_sample_quality(quality, folders, tmp_path):
    for name in "AE", "VAE":
        train_script.main(["--model", name, *map(str, folders), "--epochs", "1", "--image-size", "8"])
    table, err = quality("--number", "20")
    assert list(table) == ["", "---", "training photos", "validation photos", "AE", "VAE", "noise"]
    assert all(len(cells) == 4 for cells in table.values())
    assert err.count("no such checkpoint, left out.\n") == err.count("\n") == 4
    for column in 0, 1:
        floor, ceiling = (float(table[row][column].split()[0]) for row in ("training photos", "noise"))
        assert floor < ceiling
    median, closest = map(float, table["validation photos"][2:])
    assert 0 < closest < median < 1
    assert pixels_of(tmp_path / "vis" / "nearest_AE.png").shape == (2 * 196 + 20, 8 * 100 - 4, 3)
    assert quality("--number", "20")[0] == table
    assert quality("--number", "20", "--seed", "1")[0] != table


def test_training_photos_are_found_to_be_near_themselves(quality, folders, few_photos, monkeypatch):
    train_script.main(["--model", "AE", *map(str, folders), "--epochs", "1", "--image-size", "8"])
    training, _ = create_flower_dataloaders(4, few_photos, 8, 8)
    memory, _ = training.dataset[:]
    monkeypatch.setattr(Autoencoder, "sample", lambda self, n: memory[torch.arange(n) % len(memory)])
    table, _ = quality("--number", "32")
    assert table["AE"][2:] == ["0.000", "0.000"]
    for column in 0, 1:
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


def test_too_little_to_measure(folders, few_photos, tmp_path, capsys):
    flags = [*folders[:2], *folders[6:], "--vis-dir", tmp_path / "vis", "--image-size", "8"]
    assert "--number: found 1, expected 2 or more" in fails(sample_quality, [*flags, "--number", "1"], capsys)
    shutil.rmtree(few_photos / "rose")
    for number in range(4, 10):
        next(few_photos.rglob(f"{number}.jpg")).unlink()
    message = "found one validation photo, expected more to measure"
    assert message in fails(sample_quality, flags, capsys)
    with pytest.raises(SystemExit, match="2"):
        train_script.main(["--model", "GAN", *map(str, folders), "--epochs", "1", "--image-size", "8"])
    assert message in capsys.readouterr().err
