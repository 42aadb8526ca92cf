"""Which photos a script uses: those of its flags or of a checkpoint, or the drawn stand-in set."""

import argparse
import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from data_processor import create_flower_dataloaders, read_flowers
from lab.errors import UserError
from lab.photos import class_counts, fingerprint, load_photos, photos_of_training, photos_or_drawn


@pytest.fixture
def flags(few_photos, tmp_path):
    """The flags of a training that concern its photos."""
    places = {"data_root": str(few_photos), "drawn_root": str(tmp_path / "drawn")}
    numbers = {"image_size": (8, 6), "batch_size": 5, "seed": 0, "split_seed": 0, "strict": False}
    return lambda **others: argparse.Namespace(**(places | numbers | others))


def test_the_flags_of_a_training_reach_its_photos(flags, few_photos):
    loaders = load_photos(flags(seed=3, split_seed=4))
    expected = create_flower_dataloaders(5, few_photos, 8, 6, seed=3, split_seed=4)
    for found, wanted in zip(loaders, expected, strict=True):
        assert found.dataset.root == str(few_photos) and found.dataset.names == wanted.dataset.names
        for batch, wanted_batch in zip(found, wanted, strict=True):
            assert all(map(torch.equal, batch, wanted_batch))
    for loader in load_photos(flags(), "meta"):
        assert loader.dataset.pixels.device.type == loader.dataset.labels.device.type == "meta"
    (few_photos / "rose" / "empty.jpg").write_bytes(b"")
    load_photos(flags())
    with pytest.raises(OSError, match=r"empty\.jpg"):
        load_photos(flags(strict=True))
    with pytest.raises(UserError, match=r"none.+--data-root"):
        load_photos(flags(data_root="none"))
    assert not (few_photos.parent / "drawn").exists()  # in place of a folder that was given


def test_the_photos_of_each_class_are_counted(few_photos):
    (few_photos / "tulip" / "more" / "9.jpg").unlink()
    for i in range(1, 9):
        (few_photos / "tulip" / f"{i}.jpg").unlink()
    whole = read_flowers(few_photos, 8, 6)
    assert class_counts(whole) == {"rose": 10, "tulip": 1} and list(class_counts(whole)) == whole.classes
    for part in whole.split(0):
        expected = {name: sum(path.startswith(name) for path in part.names) for name in ("rose", "tulip")}
        assert class_counts(part) == expected  # of none, 0


def test_the_photos_of_a_training_and_a_notice_if_they_are_others(few_photos, tmp_path, capsys):
    whole = read_flowers(few_photos, 8, 6)
    training, validation = whole.split(3)
    recorded = fingerprint(training, validation)
    assert recorded == training.fingerprint() + validation.fingerprint()
    data = {"root": str(few_photos), "fingerprint": recorded}
    checkpoint = {"image_size": [8, 6], "settings": {"split_seed": 3}, "data": data}
    flags = argparse.Namespace(data_root=None, drawn_root="drawn")
    parts = photos_of_training(checkpoint, flags)
    assert [part.names for part in parts] == [training.names, validation.names]
    assert parts[0].pixels.equal(training.pixels) and capsys.readouterr().err == ""
    checkpoint["settings"]["split_seed"] = 4
    assert photos_of_training(checkpoint, flags)[1].names == whole.split(4)[1].names
    assert capsys.readouterr().err.count("\n") == 1
    moved = few_photos.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="few photos"):
        photos_of_training(checkpoint, flags)
    flags.data_root = str(moved)
    assert [part.root for part in photos_of_training(checkpoint, flags)] == 2 * [str(moved)]


def test_photos_come_first_and_drawn_ones_are_drawn_once(tmp_path, flags, capsys, few_drawn, monkeypatch):
    photos, drawn = tmp_path / "flowers", str(tmp_path / "new" / "folder" / "drawn")
    assert photos_or_drawn(str(photos), drawn, str(photos)) == drawn
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(photos) in err and drawn in err
    drawings = list(Path(drawn).rglob("*.jpg"))
    assert len(drawings) == 7
    drawings[0].unlink()
    monkeypatch.chdir(tmp_path)
    training, validation = load_photos(flags(data_root="./flowers", drawn_root=drawn))  # as by default
    assert training.dataset.root == drawn and len(training.dataset) + len(validation.dataset) == 6
    assert drawn in capsys.readouterr().err
    photos.mkdir()
    assert photos_or_drawn(str(photos), drawn, str(photos)) == photos_or_drawn(str(photos), "none") == str(photos)
    assert capsys.readouterr() == ("", "") and not (tmp_path / "none").exists()


def test_what_another_script_is_drawing_is_waited_for(tmp_path):
    photos, drawn = str(tmp_path / "photos"), tmp_path / "drawn"
    results = []
    waiting = threading.Thread(target=lambda: results.append(photos_or_drawn(photos, str(drawn), photos)))
    with FileLock(f"{drawn}.lock"):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not drawn.exists()
        drawn.mkdir()
    waiting.join()
    assert results == [str(drawn)] and list(drawn.iterdir()) == []
