import argparse
import threading

import pytest
import torch
from conftest import on_terminal
from filelock import FileLock
from PIL import Image
from torch.utils.data import DataLoader

from data_processor import create_flower_dataloaders, read_flowers, whole_batch
from lab import command_line
from lab.drawn_flowers import COUNTS
from lab.errors import UserError
from lab.photos import (
    fingerprint,
    hold_out,
    load_photos,
    number_by_kind,
    photos_or_drawn,
    read_photos,
    say_which_photos,
    trained_on,
)


def flags(data_root, **others):
    """The flags of a training that concern its photos."""
    names = {"data_root": str(data_root), "drawn_root": f"{data_root} drawn", "image_size": (8, 6), "batch_size": 5}
    numbers = {"seed": 0, "split_seed": 0, "strict": False, "log_dir": None}
    return argparse.Namespace(**names | numbers | others)


def test_the_flags_of_a_training_reach_its_photos(few_photos, monkeypatch):
    loaders = load_photos(flags(few_photos, seed=3, split_seed=4))
    expected = create_flower_dataloaders(5, few_photos, 8, 6, seed=3, split_seed=4)
    for found, wanted in zip(loaders, expected, strict=True):
        assert found.dataset.root == str(few_photos) and found.dataset.names == wanted.dataset.names
        assert found.dataset.pixels.device.type == "cpu"
        for batch, wanted_batch in zip(found, wanted, strict=True):
            assert all(map(torch.equal, batch, wanted_batch))
    monkeypatch.setattr("lab.photos.say_which_photos", lambda *_: None)  # which needs numbers
    for loader in load_photos(flags(few_photos), "meta"):
        assert loader.dataset.pixels.device.type == loader.dataset.labels.device.type == "meta"


def test_photos_that_cannot_be_read(few_photos, tmp_path, capsys, monkeypatch):
    for i in range(11):
        (few_photos / "rose" / f"empty {i}.jpg").write_bytes(b"")
    log = tmp_path / "unusable_photos.txt"
    training, validation = load_photos(flags(few_photos, log_dir=tmp_path))
    assert len(training.dataset) + len(validation.dataset) == 20
    assert capsys.readouterr().err.startswith("Left out 11 of 31 files") and log.read_text().count("\n") == 11
    with pytest.raises(UserError, match=r"^--strict: found 11 of 31 files"):
        load_photos(flags(few_photos, strict=True))
    # In a training in several processes, the first one alone names them.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    load_photos(flags(few_photos))
    assert capsys.readouterr() == ("", "")


def test_every_tenth_training_photo_is_held_out(few_photos):
    training, _ = create_flower_dataloaders(5, few_photos, 8, 6, seed=3)
    loader, (images, kinds) = hold_out(training)
    photos = training.dataset
    for found, expected in zip((images, kinds), photos[[0, 10]], strict=True):
        assert torch.equal(found, expected)
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert [len(batch) for batch, _ in batches] == [5, 5, 4]
        epochs.append(torch.cat([batch for batch, _ in batches]))
    kept, _ = photos[[i for i in range(16) if i not in (0, 10)]]
    for epoch in epochs:  # each photo once, in another order
        assert torch.equal(epoch.flatten(1).unique(dim=0), kept.flatten(1).unique(dim=0))
    assert not torch.equal(*epochs)
    again, _ = hold_out(create_flower_dataloaders(5, few_photos, 8, 6, seed=3)[0])
    assert torch.equal(torch.cat([batch for batch, _ in again]), epochs[0])


def test_too_few_photos_to_hold_some_out(few_photos):
    photos = read_flowers(few_photos, 8, 6)

    def first(number):
        order = torch.Generator()
        return DataLoader(photos._subset(list(range(number))), 5, True, generator=order, collate_fn=whole_batch)

    assert len(hold_out(first(11))[1][0]) == 2
    message = "found 10 training photos, expected 11 or more, of which every tenth chooses the epoch; give more photos"
    with pytest.raises(UserError, match=message):
        hold_out(first(10))


def test_the_number_of_photos_of_each_kind(few_photos):
    photos = read_flowers(few_photos, 8, 6)
    assert number_by_kind(photos) == {"rose": 10, "tulip": 10}
    training, validation = photos.split()
    for part in training, validation:
        assert number_by_kind(part) == {kind: sum(kind in name for name in part.names) for kind in ("rose", "tulip")}


def test_photos_that_are_looked_at_after_a_training(few_photos):
    found, expected = read_photos(str(few_photos), (8, 6)), read_flowers(few_photos, 8, 6)
    assert found.root == str(few_photos) and found.names == expected.names
    assert torch.equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("read", [lambda root: load_photos(flags(root)), lambda root: read_photos(str(root), (8, 6))])
def test_photos_that_do_not_fit_in_the_memory(read, few_photos, monkeypatch):
    monkeypatch.setattr("data_processor.memory_of_the_machine", lambda: 20 * 8 * 6 * 3 - 1)
    with pytest.raises(UserError, match=r"^20 photos of 8 x 6 pixels take 0\.0 GB of memory, found"):
        read(few_photos)


@pytest.mark.parametrize("read", [lambda root: load_photos(flags(root)), lambda root: read_photos(str(root), (8, 6))])
def test_a_folder_without_photos(read, tmp_path):
    with pytest.raises(UserError, match=r"^.*: 0 usable photos in 0 class folders; expected a folder of class folders"):
        read(tmp_path)


@pytest.mark.parametrize("read", [lambda root: load_photos(flags(root)), lambda root: read_photos(str(root), (8, 6))])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_progress_bar_unless_quiet(read, quiet, few_photos, monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(command_line, "quiet", quiet)
    read(few_photos)
    assert ("Reading photos" in terminal.getvalue()) != quiet


def test_the_fingerprint_of_both_sides(few_photos, capsys):
    split = read_flowers(few_photos, 8, 8).split(0)
    recorded = fingerprint(*split)
    assert recorded == split[0].fingerprint() + split[1].fingerprint() and len(recorded) == 32
    assert trained_on(recorded, *split)
    assert not trained_on(recorded, *read_flowers(few_photos, 8, 8).split(1))
    for side in 0, 1:  # a photo of either side is overwritten in place
        path = few_photos / split[side].names[0]
        before = path.read_bytes()
        with Image.open(path) as photo:
            photo.transpose(Image.Transpose.ROTATE_180).save(path)
        assert not trained_on(recorded, *read_flowers(few_photos, 8, 8).split(0))
        path.write_bytes(before)
    assert trained_on(recorded, *read_flowers(few_photos, 8, 8).split(0)) and capsys.readouterr().err == ""


def test_one_more_validation_photo_changes_the_fingerprint(few_photos):
    for i in range(4):  # a fifth of 24 photos is 4, and of 25 it is 5
        Image.linear_gradient("L").rotate(90 * i).save(few_photos / "rose" / f"{i}.png")
    training, validation = read_flowers(few_photos, 8, 8).split(0)
    for i in range(200):
        path = few_photos / "rose" / f"more {i}.jpg"
        Image.radial_gradient("L").save(path)
        more = read_flowers(few_photos, 8, 8).split(0)
        if more[0].names == training.names:
            break
        path.unlink()
    assert len(more[1]) == len(validation) + 1 and more[0].fingerprint() == training.fingerprint()
    assert not trained_on(fingerprint(training, validation), *more)


def test_fingerprints_of_earlier_versions(few_photos, capsys):
    """They are of the names of the training photos alone."""
    split = read_flowers(few_photos, 8, 8).split(0)
    assert trained_on(split[0].fingerprint(of_names_alone=True), *split)
    message = (
        "Only the names of its training photos are recorded with this model, and these are the same; "
        "train it again to record their content.\n"
    )
    assert capsys.readouterr().err == message
    for other in split[0].fingerprint(), split[1].fingerprint(of_names_alone=True), "", "0" * 16:
        assert not trained_on(other, *split)
    assert capsys.readouterr().err == ""


def test_photos_come_first_and_drawn_ones_are_drawn_once(tmp_path, capsys, few_drawn, monkeypatch):
    photos, drawn = str(tmp_path / "photos"), str(tmp_path / "new" / "folder" / "drawn")
    assert photos_or_drawn(photos, drawn, photos) == drawn
    assert capsys.readouterr() == ("", f"No photos at {photos}: drawing flowers into {drawn} instead.\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jpg")}
    assert len(before) == sum(COUNTS.values()) == 7
    assert photos_or_drawn(photos, drawn, photos) == drawn
    assert capsys.readouterr() == ("", f"No photos at {photos}: using the drawn flowers in {drawn} instead.\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jpg")} == before
    monkeypatch.chdir(tmp_path)
    loaders = load_photos(flags("./flowers", drawn_root=drawn))
    assert {loader.dataset.root for loader in loaders} == {drawn} and capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    assert photos_or_drawn(photos, drawn, photos) == photos
    assert photos_or_drawn(photos, str(tmp_path / "none")) == photos
    assert capsys.readouterr() == ("", "") and not (tmp_path / "none").exists()


def test_what_another_script_is_drawing_is_waited_for(tmp_path, capsys, few_drawn):
    photos, drawn = str(tmp_path / "photos"), tmp_path / "drawn"
    results = []
    waiting = threading.Thread(target=lambda: results.append(photos_or_drawn(photos, str(drawn), photos)))
    with FileLock(f"{drawn}.lock"):
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not drawn.exists()
        (drawn / "astilbe").mkdir(parents=True)
    waiting.join()
    assert results == [str(drawn)] and list(drawn.rglob("*")) == [drawn / "astilbe"]
    assert capsys.readouterr().err == f"No photos at {photos}: using the drawn flowers in {drawn} instead.\n"


def test_flowers_that_cannot_be_drawn(tmp_path, few_drawn):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        photos_or_drawn("photos", str(tmp_path / "file" / "drawn"), "photos")


def test_a_folder_that_was_given_and_is_not_there(tmp_path, monkeypatch):
    """Nothing is drawn in its place: that is for the default folder alone."""
    monkeypatch.chdir(tmp_path)
    message = f"^--data-root: found no folder {tmp_path / 'photos'}, expected one of class folders with photos$"
    with pytest.raises(UserError, match=message):
        photos_or_drawn("photos", "drawn")
    assert list(tmp_path.iterdir()) == []


def test_which_photos_they_are(few_photos, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    load_photos(flags("few photos"))
    assert capsys.readouterr() == ("", f"Photos in {few_photos}: 2 kinds: rose 10, tulip 10.\n")
    (few_photos / "rose" / "1.jpg").unlink()
    (few_photos / "tulip").rename(few_photos / ".tulip")
    say_which_photos(read_flowers("few photos", 8, 8))
    shown = f"Photos in {few_photos}: 1 kind: rose 9.\n"
    assert (
        capsys.readouterr().err == f"{shown}Only one kind of flower: expected a folder of folders, one for each kind.\n"
    )
