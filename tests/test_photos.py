"""Which photos a script uses: those of its flags or of a checkpoint, or the drawn stand-in set."""

import argparse
import threading

import pytest
import torch
from conftest import on_terminal
from filelock import FileLock

from data_processor import FlowerDataset, create_flower_dataloaders, read_flowers
from lab import command_line
from lab.errors import UserError
from lab.photos import (
    class_counts,
    fingerprint,
    load_photos,
    photos_of_training,
    photos_or_drawn,
    read_photos,
    say_which_photos,
)


@pytest.fixture
def flags(few_photos, tmp_path):
    """The flags of a training that concern its photos."""
    folders = {"model_dir": tmp_path / "models", "log_dir": tmp_path / "log"}
    places = {"data_root": str(few_photos), "drawn_root": str(tmp_path / "drawn"), **folders}
    numbers = {"image_size": (8, 6), "batch_size": 5, "seed": 0, "split_seed": 0, "strict": False}
    return lambda **others: argparse.Namespace(**(places | numbers | others))


def test_the_flags_of_a_training_reach_its_photos(flags, few_photos, monkeypatch):
    loaders = load_photos(flags(seed=3, split_seed=4))
    expected = create_flower_dataloaders(5, few_photos, 8, 6, seed=3, split_seed=4)
    for found, wanted in zip(loaders, expected, strict=True):
        assert found.dataset.root == str(few_photos) and found.dataset.names == wanted.dataset.names
        for batch, wanted_batch in zip(found, wanted, strict=True):
            assert all(map(torch.equal, batch, wanted_batch))
    monkeypatch.setattr("lab.photos.say_which_photos", lambda *_: None)  # which needs numbers
    for loader in load_photos(flags(), "meta"):
        assert loader.dataset.pixels.device.type == loader.dataset.labels.device.type == "meta"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data_root": "none"}, "^found no folder .*none, expected .*give --data-root"),
        ({"data_root": "none", "model_dir": "file"}, "^file: expected a folder to write in"),
        ({"data_root": "none", "log_dir": "file"}, "^file: expected a folder to write in"),
    ],
)
def test_what_is_wrong_is_the_users_error(changed, message, flags, few_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (few_photos / "rose" / "empty.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        load_photos(flags(**changed))
    assert not (tmp_path / "drawn").exists()  # nothing is drawn in place of a folder that was given


def test_where_flowers_cannot_be_drawn_both_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    drawn = tmp_path / "file" / "drawn"
    with pytest.raises(UserError, match=f"^no photos at .*, and flowers cannot be drawn into {drawn} .*--drawn-root"):
        photos_or_drawn("photos", str(drawn), "photos")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_progress_bar_unless_quiet(quiet, flags, few_photos, monkeypatch):
    for read in lambda: load_photos(flags()), lambda: read_photos(str(few_photos), (8, 6)):
        terminal = on_terminal(monkeypatch)
        monkeypatch.setattr(command_line, "quiet", quiet)
        read()
        assert ("Reading photos" in terminal.getvalue()) != quiet


def test_which_photos_they_are_is_said(flags, few_photos, capsys, monkeypatch):
    monkeypatch.chdir(few_photos.parent)
    (few_photos / "rose" / "1.jpg").unlink()
    training, validation = load_photos(flags(data_root=few_photos.name))
    assert capsys.readouterr() == ("", f"Photos in {few_photos}: 2 classes: rose 9, tulip 10.\n")
    for part in training.dataset, validation.dataset:
        expected = {name: sum(name in path for path in part.names) for name in ("rose", "tulip")}
        assert class_counts(part) == expected
    (few_photos / "tulip").rename(few_photos / ".tulip")
    load_photos(flags())
    err = capsys.readouterr().err
    assert err.startswith(f"Photos in {few_photos}: 1 class: rose 9.\n") and "Only one class: expected a" in err


def test_of_many_classes_twenty_are_said(capsys):
    classes = ["a\nb" + 50 * "x", *map(str, range(1, 21))]
    pixels, texts = torch.zeros(21, 3, 1, 1, dtype=torch.uint8), 21 * [""]
    say_which_photos(FlowerDataset(pixels, torch.arange(21), texts, classes, texts, "/flowers"))
    shown = ", ".join(f"{name} 1" for name in ["a b" + 37 * "x", *classes[1:20]])
    assert capsys.readouterr().err.endswith(f": 21 classes: {shown}.\n")


def test_the_fingerprint_is_of_both_sides(few_photos):
    training, validation = read_flowers(few_photos, 8, 6).split(0)
    assert fingerprint(training, validation) == training.fingerprint() + validation.fingerprint()


def test_the_photos_of_a_training_and_a_notice_if_they_are_others(few_photos, tmp_path, capsys):
    recorded = fingerprint(*read_flowers(few_photos, 8, 6).split(3))
    data = {"root": str(few_photos), "fingerprint": recorded}
    checkpoint = {"image_size": [8, 6], "settings": {"split_seed": 3}, "data": data}
    flags = argparse.Namespace(drawn_root="drawn")
    parts = photos_of_training(checkpoint, flags)
    assert fingerprint(*parts) == recorded and parts[0].pixels.shape == (16, 3, 6, 8)
    assert capsys.readouterr().err == f"Photos in {few_photos}: 2 classes: rose 10, tulip 10.\n"
    checkpoint["settings"]["split_seed"] = 4
    photos_of_training(checkpoint, flags)
    assert "These are not the photos that the model was trained on.\n" in capsys.readouterr().err
    moved = few_photos.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="found no folder"):
        photos_of_training(checkpoint, flags)
    flags.data_root = str(moved)
    assert [part.root for part in photos_of_training(checkpoint, flags)] == 2 * [str(moved)]


def test_photos_come_first_and_drawn_ones_are_drawn_once(tmp_path, flags, capsys, few_drawn, monkeypatch):
    photos, drawn = str(tmp_path / "photos"), str(tmp_path / "new" / "folder" / "drawn")

    def drawings():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jpg")}

    assert photos_or_drawn(photos, drawn, photos) == drawn
    assert capsys.readouterr() == ("", f"No photos at {photos}: drawing flowers into {drawn} instead.\n")
    before = drawings()
    assert photos_or_drawn(photos, drawn, photos) == drawn
    assert capsys.readouterr() == ("", f"No photos at {photos}: using the drawn flowers in {drawn} instead.\n")
    assert drawings() == before and len(before) == 7
    monkeypatch.chdir(tmp_path)
    loaders = load_photos(flags(data_root="./flowers", drawn_root=drawn))
    assert {loader.dataset.root for loader in loaders} == {drawn} and capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    assert photos_or_drawn(photos, drawn, photos) == photos_or_drawn(photos, str(tmp_path / "none")) == photos
    assert capsys.readouterr() == ("", "") and not (tmp_path / "none").exists()


def test_what_another_script_is_drawing_is_waited_for(tmp_path, capsys):
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
    assert capsys.readouterr().err == f"No photos at {photos}: using the drawn flowers in {drawn} instead.\n"
