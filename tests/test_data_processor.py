import functools
import hashlib
import io
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata
import warnings
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from conftest import ROOT, on_terminal, unix
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

import data_processor
from data_processor import (
    FlowerDataset,
    create_flower_dataloaders,
    random_horizontal_flip,
    read_flowers,
    show_groups,
    show_images,
    show_recover_results,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS
    from torchvision.transforms.functional import pil_to_tensor, resize

ORANGE = (250, 130, 20)


def everything(loader):
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_batches(few_photos):
    training, validation = create_flower_dataloaders(6, few_photos, 8, 12)
    batches = list(training)
    assert [len(images) for images, _ in batches] == [6, 6, 4] and len(training) == 3
    images, labels = everything(training)
    assert images.shape == (16, 3, 12, 8) and images.dtype == torch.float32
    assert images.min() >= 0 and 0.5 < images.max() <= 1
    assert labels.shape == (16,) and labels.dtype == torch.int64 and set(labels.tolist()) == {0, 1}
    assert everything(validation)[0].shape == (4, 3, 12, 8)
    assert training.batch_size == 6 and training.dataset.classes == ["rose", "tulip"]
    # Each epoch has each training photo once, with its own label; validation photos always come in one order.
    whole = read_flowers(few_photos, 8, 12)
    labels_of = {image.numpy().tobytes(): label for image, label in zip(*whole[:], strict=True)}
    found = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert len(labels_of) == 20 and len(found) == 16 and all(labels_of[image] == found[image] for image in found)
    for _ in range(2):
        assert all(map(torch.equal, everything(validation), validation.dataset[:]))


def test_workers_give_the_same_batches(few_photos):
    alone = create_flower_dataloaders(6, few_photos, 8, 8)
    helped = create_flower_dataloaders(6, few_photos, 8, 8, num_worker=1)
    assert [loader.num_workers for loader in alone + helped] == [0, 0, 1, 1]
    assert torch.equal(everything(alone[0])[0], everything(helped[0])[0])


def test_order_of_the_training_photos(few_photos):
    def epochs(**seed):
        training, _ = create_flower_dataloaders(4, few_photos, 8, 8, **seed)
        return everything(training)[0], everything(training)[0]

    first, second = epochs(seed=1)
    assert not torch.equal(first, second)
    assert all(map(torch.equal, epochs(seed=1), (first, second)))
    assert not torch.equal(first, epochs(seed=2)[0])
    assert all(map(torch.equal, epochs(), epochs(seed=0)))


def test_photos_are_copied_to_the_device(few_photos):
    for loader in create_flower_dataloaders(4, few_photos, 8, 8, device="meta"):
        assert loader.dataset.pixels.device.type == loader.dataset.labels.device.type == "meta"


def test_pixels_are_scaled_to_0_to_1():
    values = torch.arange(256, dtype=torch.uint8)
    photos = FlowerDataset(values.expand(2, 3, 1, 256), torch.tensor([4, 5]), ["a", "b"], ["rose"], torch.arange(2), "")
    images, labels = photos[:]
    assert images.dtype == torch.float32 and labels.tolist() == [4, 5]
    assert torch.allclose(images, (torch.arange(256.0) / 255).expand(2, 3, 1, 256), rtol=1e-6, atol=0)
    for index in 1, -1:
        image, label = photos[index]
        assert image.shape == (3, 1, 256) and label.shape == () and label == 5
    for index in [1, 0], torch.tensor([1, 0]), slice(None, None):
        assert photos[index][0].shape == (2, 3, 1, 256) and sorted(photos[index][1].tolist()) == [4, 5]


def test_same_classes_and_photos_as_imagefolder(few_photos):
    (few_photos / "notes.txt").write_text("no class")
    (few_photos / "rose" / "notes.txt").write_text("no photo")
    Image.new("RGB", (9, 9)).save(few_photos / "tulip" / "CAPITALS.JPEG")
    for i, ending in enumerate(IMG_EXTENSIONS):
        Image.new("RGB", (9, 9)).save(few_photos / "rose" / f"a{i}{ending}", format="PNG")
        Image.new("RGB", (9, 9)).save(few_photos / "rose" / f"a{i}{ending}.old", format="PNG")
    expected = ImageFolder(few_photos)
    found = read_flowers(few_photos, 8, 8)
    assert found.classes == expected.classes
    assert [str(few_photos / name) for name in found.names] == [path for path, _ in expected.samples]
    assert found.labels.tolist() == expected.targets


@pytest.mark.parametrize("size", [(32, 24), (24, 32), (11, 9)])
def test_pixels_are_those_of_torchvision_but_for_rounding(size, tmp_path):
    """JPEGs are decoded at a part of their size, but at twice the size asked for at least: finer detail is kept."""
    width, height = size
    (tmp_path / "rose").mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4 * width, 4 * height, 3)).astype(np.uint8))
    whole = noise.resize((8 * height, 8 * width), Image.Resampling.BICUBIC)  # a wide photo for a tall picture
    whole.save(tmp_path / "rose" / "0.jpg", quality=95, subsampling=0)
    whole.save(tmp_path / "rose" / "1.png")
    found = read_flowers(tmp_path, width, height).pixels.float()
    expected = resize(pil_to_tensor(whole), [height, width]).float()
    assert found.shape == (2, 3, height, width)
    assert (found[0] - expected).abs().max() <= 5 and (found[1] - expected).abs().max() <= 1


def too_large(width, height, folder):
    """Whether a picture is refused for its size; the file has a header and no pixels, so it is not read either way."""
    (folder / "rose").mkdir(exist_ok=True)
    (folder / "rose" / "0.png").write_bytes(png(width, height, b""))
    with pytest.raises(OSError, match="--strict") as raised:
        read_flowers(folder, 32, 32, strict=True)
    limits = "25,000,000 in all and 65,535 of a side"
    return f"({width} x {height} pixels, more than the {limits} that are taken)" in str(raised.value)


def test_pictures_of_up_to_25_million_pixels_are_read(tmp_path):
    assert not too_large(5_000, 5_000, tmp_path)
    assert too_large(5_000, 5_001, tmp_path)
    assert not too_large(1, 65_535, tmp_path) and not too_large(65_535, 1, tmp_path)
    assert too_large(1, 65_536, tmp_path) and too_large(65_536, 1, tmp_path)


def test_jpegs_are_counted_at_the_size_at_which_they_are_decoded(tmp_path, monkeypatch):
    (tmp_path / "rose").mkdir()
    for i in range(2):
        Image.new("RGB", (256, 256)).save(tmp_path / "rose" / f"{i}.jpg")
    monkeypatch.setattr(data_processor, "MAX_PIXELS", 64 * 64)  # a quarter of the width is twice the 32 asked for
    assert len(read_flowers(tmp_path, 32, 32, strict=True)) == 2
    with pytest.raises(OSError, match="128 x 128 pixels, more than the 4,096 in all"):
        read_flowers(tmp_path, 33, 32, strict=True)
    for i in range(2):
        Image.new("RGB", (256, 256)).save(tmp_path / "rose" / f"{i}.jpg", progressive=True)
    with pytest.raises(OSError, match="256 x 256 pixels, more than the 4,096 in all"):
        read_flowers(tmp_path, 32, 32, strict=True)


# Split


def split_names(names, seed):
    n = len(names)
    pixels, labels = torch.zeros(n, 3, 1, 1, dtype=torch.uint8), torch.zeros(n).long()
    dataset = FlowerDataset(pixels, labels, names, ["rose"], torch.arange(n), "flowers")
    training, validation = dataset.split(seed)
    return training.names, validation.names


def test_split_is_four_fifths_and_one_fifth():
    for n, fifth in (2588, 517), (10, 2), (9, 1), (2, 1):
        names = [f"rose/{i}.jpg" for i in range(n)]
        training, validation = split_names(names, 0)
        assert len(validation) == fifth and sorted(training + validation) == sorted(names)


def test_split_depends_on_names_and_seed_alone():
    names = [f"rose/{i}.jpg" for i in range(50)]
    assert split_names(names, 0) == split_names(names[::-1], 0)
    assert split_names(names, 0) != split_names(names, 1)
    # The same on every machine and in every version, or a model trained elsewhere would be shown its training photos.
    assert split_names(names[:10], 0)[1] == ["rose/1.jpg", "rose/9.jpg"]


def test_each_part_has_its_own_pixels_and_labels():
    n = 50
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2)
    rows = torch.arange(n).flip(0)
    whole = FlowerDataset(pixels, rows % 3, [f"rose/{row}.jpg" for row in rows], ["a", "b", "c"], rows, "flowers")
    training, validation = whole.split(1)
    for part in (training, validation, *training.split(2)):
        numbers = torch.tensor([int(Path(name).stem) for name in part.names])
        images, labels = part[:]
        assert torch.equal((255 * images[:, 0, 0, 0]).round().long(), numbers) and torch.equal(labels, numbers % 3)
        assert part.classes == ["a", "b", "c"] and part.root == "flowers"
        assert part.pixels.data_ptr() == pixels.data_ptr()  # no copy


def test_fingerprint_is_a_hash_of_names_and_files(few_photos):
    whole = read_flowers(few_photos, 8, 8)
    # As given by: find rose tulip -name '*.jpg' | LC_ALL=C sort | head -c -1 | sha256sum
    assert whole.fingerprint(of_names_alone=True) == "734d53a7e947d018"
    # As given by: find rose tulip -name '*.jpg' | xargs sha256sum | tr -s ' ' | sort | head -c -1 | sha256sum
    lines = [f"{hashlib.sha256((few_photos / name).read_bytes()).hexdigest()} {name}" for name in whole.names]
    expected = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
    assert whole.fingerprint() == expected == read_flowers(few_photos, 16, 4).fingerprint()
    for parts in whole.names, whole.digests:
        parts.reverse()
    assert whole.fingerprint() == expected
    assert whole.fingerprint(of_names_alone=True) == "734d53a7e947d018"
    with Image.open(few_photos / "rose" / "0.jpg") as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(few_photos / "rose" / "0.jpg")
    assert read_flowers(few_photos, 8, 8).fingerprint() != expected


def test_split_is_by_the_seed_that_is_given(few_photos):
    whole = read_flowers(few_photos, 8, 8)
    for options, seed in ({}, 0), ({"split_seed": 3, "seed": 1}, 3):
        found = [loader.dataset.names for loader in create_flower_dataloaders(4, few_photos, 8, 8, **options)]
        assert found == [part.names for part in whole.split(seed)]
    assert whole.split()[1].names == whole.split(0)[1].names != whole.split(3)[1].names


def test_split_is_the_same_at_another_size_seed_and_root(few_photos, tmp_path):
    elsewhere = few_photos.rename(tmp_path / "elsewhere")
    one = create_flower_dataloaders(4, elsewhere, 8, 8, seed=1)
    two = create_flower_dataloaders(7, elsewhere.rename(tmp_path / "again"), 16, 12, seed=2)
    for a, b in zip(one, two, strict=True):
        assert a.dataset.names == b.dataset.names
        assert a.dataset.fingerprint() == b.dataset.fingerprint()
    assert one[0].dataset.fingerprint() != one[1].dataset.fingerprint()


# Whatever a photo is


def save_as(mode, path):
    picture = Image.new("RGB", (40, 40), ORANGE)
    if mode == "rotated":
        picture = Image.new("RGB", (40, 20), ORANGE)
        picture.paste((0, 0, 250), (0, 0, 20, 20))  # blue on the left, and by its EXIF tag to be turned clockwise
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    elif mode == "transparent":
        picture.putalpha(0)
        picture.save(path)
    elif mode == "transparent palette":
        picture.quantize(2).save(path, transparency=picture.quantize(2).getpixel((0, 0)))
    elif mode == "half transparent":
        picture.putalpha(128)
        picture.save(path)
    elif mode == "I;16":
        Image.fromarray(np.full((40, 40), 200 * 256 + 255, np.uint16)).save(path)
    elif mode == "I":
        values = np.full((40, 40), -1000, np.int32)
        values[:, 10:20], values[:, 20:] = 10**6, 2 * 10**6 + 1000
        Image.fromarray(values).save(path)
    elif mode == "F":
        Image.fromarray(np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)).save(path)
    elif mode == "I;12":
        Image.fromarray(np.linspace(0, 2**12 - 1, 1600).astype(np.uint16).reshape(40, 40)).save(path)
    else:
        picture.convert(mode).save(path)


@pytest.mark.parametrize(
    ("mode", "ending", "expected"),
    [
        ("RGB", "jpg", ORANGE),
        ("RGB", "webp", ORANGE),
        ("L", "jpg", (153, 153, 153)),
        ("1", "png", (153, 153, 153)),
        ("LA", "png", (153, 153, 153)),
        ("P", "png", ORANGE),
        ("RGBA", "png", ORANGE),
        ("CMYK", "jpg", ORANGE),
        ("I;16", "png", (200, 200, 200)),
        ("I;16", "tif", (200, 200, 200)),
        ("I", "tif", (159.375, 159.375, 159.375)),  # a quarter each of 0 and 127.5, and a half of 255
        ("F", "tif", (127.5, 127.5, 127.5)),  # from 0 to 1
        ("I;12", "tif", (127.5, 127.5, 127.5)),
        ("I;12", "png", (127.5, 127.5, 127.5)),
        ("LAB", "tif", ORANGE),
        ("YCbCr", "tif", ORANGE),
        ("CMYK", "tif", ORANGE),
        ("RGB", "gif", ORANGE),
        ("RGB", "avif", ORANGE),
        ("RGB", "jfif", ORANGE),
        ("RGB", "jpe", ORANGE),
        ("RGB", "jp2", ORANGE),
        ("RGB", "JPEG", ORANGE),
        ("RGB", "qoi", ORANGE),
        ("transparent", "png", (255, 255, 255)),
        ("half transparent", "png", (252, 192, 137)),
        ("transparent palette", "png", (255, 255, 255)),
    ],
)
def test_every_photo_arrives_as_rgb(mode, ending, expected, tmp_path):
    (tmp_path / "rose").mkdir()
    for i in range(2):
        save_as(mode, tmp_path / "rose" / f"{i}.{ending}")
    images = read_flowers(tmp_path, 8, 8).pixels
    assert images.shape == (2, 3, 8, 8)
    mean = images[0].float().mean(dim=(1, 2))
    # A web palette has steps of 51; black and white are dithered.
    tolerance = {"P": 26, "1": 26, "I": 0.6, "I;16": 0, "half transparent": 1}.get(mode, 26 if ending == "gif" else 6)
    assert (mean - torch.tensor(expected)).abs().max() <= tolerance


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    (tmp_path / "rose").mkdir()
    for i in range(2):
        save_as("rotated", tmp_path / "rose" / f"{i}.jpg")
    image = read_flowers(tmp_path, 8, 8).pixels[0].float()
    top, bottom = image[:, :3].mean(dim=(1, 2)), image[:, -3:].mean(dim=(1, 2))
    assert top[2] > 200 and bottom[0] > 200 and top[0] < 50 and bottom[2] < 50


def test_an_unusable_file_is_left_out_and_named(few_photos, capfd):
    expected = read_flowers(few_photos, 8, 8)
    assert capfd.readouterr().err == ""
    whole = (few_photos / "rose" / "0.jpg").read_bytes()
    unusable = {
        "rose/0 text.jpg": b"not a picture",
        "rose/nothing.png": b"",
        "tulip/5 half.jpg": whole[: len(whole) // 2],
    }
    for name, content in unusable.items():
        (few_photos / name).write_bytes(content)
    found = read_flowers(few_photos, 8, 8)
    # Whatever comes before and after a file that is left out keeps its own name, pixels and label.
    assert found.names == expected.names and all(map(torch.equal, found[:], expected[:]))
    head, *lines = capfd.readouterr().err.splitlines()
    assert head == "Left out 3 of 23 files, which cannot be read as pictures:"
    for line, name in zip(lines, unusable, strict=True):
        assert re.fullmatch(rf"  {re.escape(str(few_photos / name))} \(.+\)", line)


def test_an_error_without_a_message_has_its_name(few_photos, capfd, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="0 usable photos in 2 class folders"):
        read_flowers(few_photos, 8, 8)
    assert f"  {few_photos / 'rose' / '0.jpg'} (MemoryError)\n" in capfd.readouterr().err


@pytest.mark.parametrize("number", [10, 11])
@pytest.mark.parametrize("log_dir", [None, "log"])
def test_ten_unusable_files_are_named_and_more_are_counted(number, log_dir, few_photos, tmp_path, capfd):
    (tmp_path / "log").mkdir()
    odd = "rose/\udcff.jpg" if sys.platform == "linux" else "rose/\u00ff.jpg"  # no name in any known letters
    names = [*(f"rose/a{i:02}.jpg" for i in range(number - 1)), odd]
    for name in names:
        Path(few_photos, name).write_bytes(b"")
    create_flower_dataloaders(4, few_photos, 8, 8, log_dir=log_dir and str(tmp_path / log_dir))
    head, *lines = capfd.readouterr().err.splitlines()
    assert head == f"Left out {number} of {number + 20} files, which cannot be read as pictures:"
    assert all(line.startswith(f"  {few_photos / name} (") for line, name in zip(lines[:9], names, strict=False))
    log = tmp_path / "log" / "unusable_photos.txt"
    assert log.exists() == (number > 10 and log_dir is not None)
    if log.exists():
        assert lines[10:] == [f"  and 1 more; {log} names them all"]
        listed = log.read_bytes().decode().splitlines()
        assert [line.split(" (")[0].encode() for line in listed] == [
            str(few_photos / name).encode(errors="backslashreplace") for name in names
        ]
    else:
        assert lines[10:] == ["  and 1 more"] * (number > 10)


def png(width, height, rows):
    """A grey picture of this size in a file with these bytes for its rows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@functools.cache
def png_bomb(side):
    """A grey picture of side x side pixels, in a file of a few kB to some hundred: nothing but zeros, well packed."""
    packer = zlib.compressobj(9)
    return png(side, side, b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush())


def spoil(folder):
    """Puts into ``folder`` whatever people's folders hold that is no photo, and returns the names of those files."""
    whole = (folder / "0.jpg").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    for i in range(1, 4):
        (folder / f"half {i}.jpg").write_bytes(whole[: len(whole) * i // 4])
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "text.png").write_text("")
    (folder / "bomb.png").write_bytes(png_bomb(30_000))
    (folder / "smaller bomb.png").write_bytes(png_bomb(8_000))
    (folder / "nowhere.jpg").symlink_to(folder / "nowhere")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for name, header in (
        ("a.tif", b"II*\x00\xff\xff\xff\xff"),
        ("a.webp", b"RIFF\xff\xff\xff\xffWEBPVP8 "),
        ("a.bmp", b"BM"),
    ):
        (folder / name).write_bytes(header)
    unusable = {file.name for file in folder.iterdir()} - {file.name for file in folder.glob("[0-9].jpg")} - {"more"}
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    (folder / "._0.jpg").write_bytes(b"\x00\x05\x16\x07")
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "round and round").symlink_to(folder)
    (folder / "up").symlink_to(folder.parent)
    return unusable


@pytest.fixture
def spoilt(few_photos):
    (few_photos / "nothing in it").mkdir()
    (few_photos / ".hidden").mkdir()
    (few_photos / ".hidden" / "1.jpg").write_bytes((few_photos / "rose" / "0.jpg").read_bytes())
    return few_photos


@unix
def test_what_is_no_photo_is_left_out_and_named(spoilt, tmp_path, capfd):
    expected = read_flowers(spoilt, 8, 8)
    unusable = spoil(spoilt / "rose")
    assert len(unusable) >= 14
    found = read_flowers(spoilt, 8, 8, log_dir=tmp_path)
    # What the link "up" leads to is there a second time, but for the folder that it came from.
    assert found.classes == ["rose", "tulip"]
    kept = [i for i, name in enumerate(found.names) if "/up/" not in name]
    assert [found.names[i] for i in kept] == expected.names
    assert all(map(torch.equal, found[kept], expected[:]))
    message = capfd.readouterr().err
    assert f"Left out {len(unusable)} of {len(unusable) + len(found)} files" in message
    assert f"and {len(unusable) - 10} more; {tmp_path / 'unusable_photos.txt'} names them all" in message
    named = (tmp_path / "unusable_photos.txt").read_text().splitlines()
    reasons = {Path(re.match(r"(.*?) \(", line)[1]).name: line.rpartition(" (")[2] for line in named}
    assert set(reasons) == unusable
    assert {name for name, reason in reasons.items() if reason == "no file)"} == {
        "nowhere.jpg",
        "itself.jpg",
        "pipe.jpg",
    }


@unix
def test_links_are_followed_but_never_in_a_cycle(tmp_path):
    for name in "rose/0.jpg", "tulip/1.jpg", "tulip/folder.jpg/2.jpg", "elsewhere/3.jpg":
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "root" / name)
    (tmp_path / "root" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "root" / "lily").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "rose" / "4.jpg").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    (tmp_path / "root" / "rose" / "again").symlink_to(tmp_path / "root" / "rose")
    (tmp_path / "root" / "rose" / "up").symlink_to(tmp_path / "root")
    found = read_flowers(tmp_path / "root", 8, 8).names
    assert [name for name in found if "/up/" not in name] == [
        *("lily/3.jpg", "rose/0.jpg", "rose/4.jpg", "tulip/1.jpg", "tulip/folder.jpg/2.jpg"),
    ]
    assert [name for name in found if "/up/" in name] == [
        *("rose/up/lily/3.jpg", "rose/up/tulip/1.jpg", "rose/up/tulip/folder.jpg/2.jpg"),
    ]


def test_a_folder_that_cannot_be_read_is_named(few_photos, monkeypatch, capfd):
    entries = Path.iterdir

    def iterdir(folder):
        if folder.name == "more":
            raise PermissionError(13, "Permission denied")
        yield from entries(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)  # a superuser, as in a container, may read any folder
    assert len(read_flowers(few_photos, 8, 8)) == 18
    folders = [few_photos / kind / "more" for kind in ("rose", "tulip")]
    expected = "".join(f"\n  {folder} (a folder that cannot be read)" for folder in folders)
    assert capfd.readouterr().err == f"Left out 2 of 20 files, which cannot be read as pictures:{expected}\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_a_terminal_unless_quiet(quiet, few_photos, monkeypatch):
    terminal = on_terminal(monkeypatch)
    create_flower_dataloaders(4, few_photos, 8, 8, quiet=quiet)
    shown = terminal.getvalue()
    assert shown == "" if quiet else re.match(r"\rReading photos: +0%.* 0/20 .*photo/s", shown) and "\n" not in shown


def test_ctrl_c_stops_the_reading(few_photos, monkeypatch):
    opened = []

    def slow(path, formats):
        opened.append(path)
        time.sleep(0.2)
        raise OSError

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one photo per core at a time
    monkeypatch.setattr(Image, "open", slow)
    monkeypatch.setattr(on_terminal(monkeypatch), "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_flowers(few_photos, 8, 8)
    assert len(opened) <= 4


def test_strict(spoilt, few_photos):
    assert len(read_flowers(spoilt, 8, 8, strict=True)) == 20
    for name in "text.jpg", "a.jpg":
        (few_photos / "rose" / name).write_text("")
        message = rf"^--strict: found \d of 2\d files that are no pictures: {few_photos}/rose/{name} \([^\n]+\)$"
        for read in read_flowers, functools.partial(create_flower_dataloaders, 4):
            with pytest.raises(OSError, match=message):
                read(spoilt, 8, 8, strict=True)


@unix
def test_a_folder_that_is_all_spoilt(tmp_path, few_photos):
    (tmp_path / "root" / "rose").mkdir(parents=True)
    shutil.copy(few_photos / "rose" / "0.jpg", tmp_path / "root" / "rose")
    spoil(tmp_path / "root" / "rose")
    with pytest.raises(OSError, match="1 usable photos in 1 class folders"):
        read_flowers(tmp_path / "root", 8, 8)


def test_a_bomb_takes_no_memory(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak of the memory as Linux gives it")
    (tmp_path / "rose").mkdir()
    for i in range(2):
        Image.new("RGB", (9, 9)).save(tmp_path / "rose" / f"{i}.png")
    (tmp_path / "rose" / "bomb.png").write_bytes(png_bomb(30_000))
    (tmp_path / "rose" / "smaller bomb.png").write_bytes(png_bomb(8_000))
    code = f"""
import re
from pathlib import Path
from data_processor import read_flowers

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
read_flowers({str(tmp_path)!r}, 8, 8)
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Left out 2 of 4 files" in found.stderr and int(found.stdout) < 60_000


def test_names_in_other_scripts_and_pictures_that_move(tmp_path):
    folder = tmp_path / "花 与 草" / "玫瑰 rose"
    folder.mkdir(parents=True)
    frames = [Image.new("P", (30, 30), i) for i in range(5)]
    frames[0].save(folder / "动画.gif.png", format="GIF", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), ORANGE).save(folder / "一.png")
    Image.new("RGB", (3000, 1), ORANGE).save(folder / "线 line.jpg")
    if sys.platform == "linux":
        Image.new("RGB", (9, 9), ORANGE).save(os.fsencode(folder) + b"/\xff.png", format="PNG")
    training, validation = create_flower_dataloaders(2, tmp_path / "花 与 草", 8, 8)
    assert len(training.dataset) + len(validation.dataset) == 3 + (sys.platform == "linux")
    assert training.dataset.classes == ["玫瑰 rose"]
    training.dataset.fingerprint()


@given(st.data())
@hypothesis.settings(max_examples=60)
def test_damaged_pictures_end_nothing(data):
    """Any bytes of a picture of any kind may be wrong: it is read as some picture, or left out."""
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"]))
    picture = io.BytesIO()
    Image.radial_gradient("L").resize((20, 20)).convert("RGB").save(picture, kind)
    content = bytearray(picture.getvalue())
    for place in data.draw(st.sets(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, on what it finds
        root = Path(folder, "root", "rose")
        root.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (9, 9), ORANGE).save(root / f"{i}.png")
        (root / "2.png").write_bytes(content[: data.draw(st.integers(0, len(content)))])
        found = read_flowers(root.parent, 8, 8)
    assert found.names[:2] == ["rose/0.png", "rose/1.png"] and len(found) in (2, 3)
    assert torch.equal(found[0][0], found[1][0])


def test_data_roots_that_are_none(tmp_path):
    layout = (
        f"expected a folder of class folders with photos in them, such as {tmp_path / 'root' / 'astilbe' / '1.jpg'}"
    )

    def message(root):
        with pytest.raises(OSError) as raised:
            read_flowers(root, 8, 8)
        return str(raised.value)

    root = tmp_path / "root"
    assert message(str(root)) == f"{root}: no such folder; {layout}"
    root.write_text("")
    assert message(root) == f"{root}: not a folder; {layout}"
    root.unlink()
    root.mkdir()
    assert message(root) == f"{root}: 0 usable photos in 0 class folders; {layout}"
    (root / "rose").mkdir()
    for name in "1.png", "rose/1.png":  # a photo in no class folder is none
        Image.new("RGB", (9, 9)).save(root / name)
    assert message(root) == f"{root}: 1 usable photos in 1 class folders; {layout}"
    Image.new("RGB", (9, 9)).save(root / "rose" / "2.png")
    found = read_flowers(str(root), 8, 8)
    assert found.names == ["rose/1.png", "rose/2.png"] and found.root == str(root)


# What is left out is said


def test_pictures_deeper_than_8_bits_without_a_range_are_left_out_and_named(few_photos, capfd):
    one, odd = np.full((9, 9), 0.5, np.float32), np.linspace(0, 1, 81, dtype=np.float32).reshape(9, 9)
    odd[3, 3] = np.nan
    files = {"a.tif": one, "b.tif": odd, "c.tif": np.full((9, 9), 7, np.int32), "d.png": np.full((9, 9), 7, np.uint16)}
    for name, values in files.items():
        Image.fromarray(values).save(few_photos / "rose" / name)
    assert len(read_flowers(few_photos, 8, 8)) == 20
    head, *lines = capfd.readouterr().err.splitlines()
    assert head.startswith("Left out 4 of 24 files")
    for line, name in zip(lines, files, strict=True):
        assert name in line and "expected a range of finite numbers" in line


def test_photos_in_formats_that_are_not_read_are_counted_by_their_ending(few_photos, capfd):
    for i in range(3):
        (few_photos / "rose" / f"{i}.HEIC").write_bytes(b"x")
    (few_photos / "tulip" / "more" / "0.cr2").write_bytes(b"x")
    (few_photos / "0.svg").write_bytes(b"x")
    (few_photos / "rose" / "notes.txt").write_bytes(b"x")
    assert len(read_flowers(few_photos, 8, 8)) == 20
    message = "Left out 5 photos in formats that are not read (3 .heic, 1 .cr2, 1 .svg); convert them to JPEG or PNG."
    assert capfd.readouterr().err == f"{message}\n"
    with pytest.raises(OSError) as raised:
        read_flowers(few_photos, 8, 8, strict=True)
    assert str(raised.value) == f"--strict: {message}"


def test_photos_outside_the_class_folders(few_photos, capfd):
    for i in range(2):
        shutil.copy(few_photos / "rose" / "0.jpg", few_photos / f"{i}.jpg")
    assert len(read_flowers(few_photos, 8, 8)) == 20
    layout = f"expected a folder of class folders with photos in them, such as {few_photos}/astilbe/1.jpg"
    message = f"Left out 2 photos in {few_photos} itself, such as 0.jpg: {layout}."
    assert capfd.readouterr().err == f"{message}\n"
    with pytest.raises(OSError, match="--strict: Left out 2 photos in"):
        read_flowers(few_photos, 8, 8, strict=True)


def test_class_folders_that_are_one_too_deep(few_photos, tmp_path, capfd):
    (tmp_path / "root").mkdir()
    few_photos.rename(tmp_path / "root" / "flowers")
    found = read_flowers(tmp_path / "root", 8, 8, strict=True)
    assert found.classes == ["flowers"] and len(found) == 20
    layout = f"expected a folder of class folders with photos in them, such as {tmp_path}/root/astilbe/1.jpg"
    inside = f"{tmp_path / 'root' / 'flowers'}, but in folders in it (rose, tulip), taken as one class"
    assert capfd.readouterr().err == f"Found no photos in {inside}: {layout}.\n"


@pytest.mark.parametrize("names", [("train", "valid"), ("Training", "Test"), ("val", "lily")])
def test_a_split_that_is_there_already(names, few_photos, capfd):
    for old, new in zip(("rose", "tulip"), names, strict=True):
        (few_photos / old).rename(few_photos / new)
    assert read_flowers(few_photos, 8, 8).classes == sorted(names)
    shown = " and ".join(name for name in sorted(names) if name != "lily")
    start = f"Took {shown} for kinds of flower, and split all photos again: expected a folder of class folders"
    assert capfd.readouterr().err.startswith(start)


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "#recycle", "lost+found", ".Trash-1000"]
)
def test_folders_that_systems_make_are_passed_by(name, few_photos, capfd):
    for folder in few_photos, few_photos / "rose", few_photos / "rose" / "more":
        (folder / name).mkdir()
        shutil.copy(few_photos / "rose" / "0.jpg", folder / name)
    found = read_flowers(few_photos, 8, 8, strict=True)
    assert found.classes == ["rose", "tulip"] and len(found) == 20 and capfd.readouterr().err == ""


def test_a_folder_that_is_far_too_large(few_photos, monkeypatch):
    """Such as the whole file system, which an untrusted checkpoint may name."""
    monkeypatch.setattr(data_processor, "MAX_ENTRIES", 24)  # 20 photos in 4 folders
    assert len(read_flowers(few_photos, 8, 8)) == 20
    (few_photos / "tulip" / "notes.txt").write_text("")
    with pytest.raises(OSError, match="found more than 24 files up to here, so this is no folder of photos"):
        read_flowers(few_photos, 8, 8)
    monkeypatch.setattr(data_processor, "MAX_ENTRIES", 1000)
    deep = few_photos / "rose"
    for _ in range(20):
        deep = deep / "x"
    deep.mkdir(parents=True)
    with pytest.raises(OSError, match="more than 20 folders in each other"):
        read_flowers(few_photos, 8, 8)


@unix
def test_names_cannot_write_on_the_terminal(few_photos, capfd):
    (few_photos / "rose" / "\x1b[2J\n.jpg").write_bytes(b"")
    shutil.copy(few_photos / "rose" / "0.jpg", few_photos / "\x1b]0;title\x07.jpg")
    read_flowers(few_photos, 8, 8)
    err = capfd.readouterr().err
    assert "?[2J?.jpg" in err and "?]0;title?.jpg" in err and "\x1b" not in err and "\x07" not in err


@unix
def test_postscript_is_not_opened(tmp_path, few_photos, monkeypatch, capfd):
    """Pillow hands it to Ghostscript, if that is installed, whatever the file is called."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in "0.jpg", "1.png", "2.tif":
        (few_photos / "rose" / f"a{name}").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    assert len(read_flowers(few_photos, 8, 8)) == 20
    assert "Left out 3 of 23 files" in capfd.readouterr().err and not (tmp_path / "mark").exists()


# The same photo more than once


def copies(root, number, form):
    """Copies of photos in the class of roses, under other names: as they are, with other EXIF tags, as TIFF."""
    for i in range(number):
        path = root / "rose" / f"{i}.jpg"
        with Image.open(path) as photo:
            if form == "file":
                shutil.copy(path, root / "rose" / f"{i} (1).jpg")
            elif form == "tags":
                content = path.read_bytes()
                comment = b"\xff\xfe\x00\x07hello"
                (root / "rose" / f"{i} (1).jpg").write_bytes(content[:2] + comment + content[2:])
            else:
                photo.save(root / "tulip" / f"copy of {i}.{form}")


@pytest.mark.parametrize("form", ["file", "tags", "tif", "png"])
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (16, 24)])
def test_photos_with_the_same_pixels_are_on_one_side(form, size, few_photos, capfd):
    before = [part.names for part in read_flowers(few_photos, *size).split(0)]
    capfd.readouterr()
    copies(few_photos, 9, form)
    whole = read_flowers(few_photos, *size)
    words = "9 photos have the same pixels as another one: copies are kept on one side of the split.\n"
    assert capfd.readouterr().err == words and len(whole) == 29
    full = read_flowers(few_photos, 40, 30)
    for seed in range(10):
        training, validation = whole.split(seed)
        assert sorted(training.names + validation.names) == sorted(whole.names) and 1 <= len(validation) <= 5
        assert [part.names for part in full.split(seed)] == [training.names, validation.names]
        sides = [
            {full[full.names.index(name)][0].numpy().tobytes() for name in part.names}
            for part in (training, validation)
        ]
        assert not sides[0] & sides[1]
    assert before == [part.names for part in read_flowers(few_photos, *size).split(0)] or len(whole) > 20


def test_one_copy(few_photos, capfd):
    copies(few_photos, 1, "file")
    read_flowers(few_photos, 8, 8)
    words = "1 photo has the same pixels as another one: both are kept on one side of the split.\n"
    assert capfd.readouterr().err == words


def test_different_photos_that_are_equal_at_a_small_size_stay_apart(tmp_path, capfd):
    (tmp_path / "rose").mkdir()
    for i in range(10):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[i % 8, i // 8] = 255
        Image.fromarray(pixels).save(tmp_path / "rose" / f"{i}.png")
    found = read_flowers(tmp_path, 1, 1)
    assert len(set(found.digests)) == 10 and capfd.readouterr().err == "" and len(found.split()[1]) == 2


def test_splits_of_many_copies():
    """Each photo is in one part; the validation set is never empty; one photo alone cannot be kept on one side."""
    n = 10
    for digests, sizes in ("abababababa"[:n], {(5, 5)}), ("aaaaaaaaab", {(9, 1), (1, 9)}), ("a" * n, {(8, 2)}):
        names = [f"rose/{i}.jpg" for i in range(n)]
        pixels, labels = torch.zeros(n, 3, 1, 1, dtype=torch.uint8), torch.zeros(n).long()
        photos = FlowerDataset(pixels, labels, names, ["rose"], torch.arange(n), "flowers", list(digests))
        for seed in range(20):
            training, validation = photos.split(seed)
            assert sorted(training.names + validation.names) == names
            assert (len(training), len(validation)) in sizes
            assert not set(training.digests) & set(validation.digests) or sizes == {(8, 2)}


@pytest.mark.skipif(sys.platform == "darwin", reason="one name there, in whatever form")
def test_two_folders_of_one_name_are_one_kind(few_photos):
    for kind, form in ("rose", "NFC"), ("tulip", "NFD"):
        (few_photos / kind).rename(few_photos / unicodedata.normalize(form, "\u00e9toile"))
    photos = read_flowers(few_photos, 8, 8)
    assert photos.classes == ["\u00e9toile"] and len(photos) == 20 and not photos.labels.any()


def test_names_in_composed_and_decomposed_letters(few_photos, tmp_path):
    """macOS and Linux write an accent in two ways: the split, the fingerprint and the classes are the same."""
    found = []
    for form in "NFC", "NFD":
        root = tmp_path / form
        shutil.copytree(few_photos, root)
        (root / "rose").rename(root / unicodedata.normalize(form, "pivoine h\u00e9rissée"))
        for path in sorted((root / "tulip").glob("*.jpg")):
            path.rename(path.with_name(unicodedata.normalize(form, f"\u00fc {path.name}")))
        found.append(read_flowers(root, 8, 8))
    composed, decomposed = found
    assert composed.names != decomposed.names and composed.classes == decomposed.classes
    assert torch.equal(composed[:][0], decomposed[:][0])
    for a, b in zip(composed.split(), decomposed.split(), strict=True):
        assert torch.equal(a[:][0], b[:][0]) and a.fingerprint() == b.fingerprint()


def test_photos_that_do_not_fit_in_the_memory(few_photos):
    there = data_processor.memory_of_the_machine()
    if there == float("inf"):
        pytest.skip("needs a system that tells the size of its memory")
    with pytest.raises(MemoryError) as raised:
        read_flowers(few_photos, 100_000, 50_000)
    assert str(raised.value) == (
        f"20 photos of 100000 x 50000 pixels take 300.0 GB of memory, found {there / 1e9:.1f} GB; take smaller ones"
    )


# Pictures


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
    assert random_horizontal_flip(torch.rand(4, 3, 2, 3, device="meta")).device.type == "meta"


def pasted(size, *pieces):
    """A white picture of this size (height, width) with an image (3, H, W) in [0, 1], enlarged, at each (top, left)."""
    picture = np.full((*size, 3), 255, np.uint8)
    for image, zoom, (top, left) in pieces:
        pixels = np.floor(image.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        for (y, x), color in zip(np.ndindex(pixels.shape[:2]), pixels.reshape(-1, 3), strict=True):
            picture[top + zoom * y :, left + zoom * x :][:zoom, :zoom] = color
    return picture


def some_images(*shape, seed=0):
    """Mostly in [0, 1], and some numbers below and above."""
    return np.random.default_rng(seed).uniform(-0.2, 1.2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "zoom"), [(1, 96), (24, 4), (32, 3), (33, 2), (48, 2), (49, 1), (96, 1), (97, 1), (200, 1)]
)
def test_small_pictures_are_enlarged(width, zoom):
    images = some_images(1, 3, 5, width)
    expected = pasted((5 * zoom, width * zoom), (images[0], zoom, (0, 0)))
    np.testing.assert_array_equal(np.asarray(show_images(images)), expected)


def test_show_images(tmp_path):
    images = some_images(5, 3, 24, 48)
    places = [(0, 0), (0, 100), (0, 200), (52, 0), (52, 100)]  # of pictures of 48 x 96 pixels, and gaps of 4
    expected = pasted((100, 296), *[(image, 2, place) for image, place in zip(images, places, strict=True)])
    with open(tmp_path / "file", "wb") as file:
        for path in tmp_path / "grid.png", str(tmp_path / "grid.jpg"), file:
            assert np.array_equal(np.asarray(show_images(torch.from_numpy(images), path, columns=3)), expected)
    for name in "grid.png", "grid.jpg", "file":
        with Image.open(tmp_path / name) as saved:
            assert saved.format == "PNG" and saved.mode == "RGB" and np.array_equal(np.asarray(saved), expected)
    assert show_images(some_images(9, 3, 2, 96)).size == (8 * 100 - 4, 2 + 4 + 2)


def test_groups_stand_below_their_names(tmp_path):
    images = some_images(4, 3, 48, 48)
    groups = {"rose": images[:3], "a\x1btulip": images[3:]}
    shown = np.asarray(show_groups(groups, tmp_path / "groups.png", columns=2))
    np.testing.assert_array_equal(shown, np.asarray(Image.open(tmp_path / "groups.png")))
    # A name of 26 pixels, two rows, a gap of 20, a name and a row.
    second = 26 + 2 * 96 + 4 + 20
    places = [(26, 0), (26, 100), (126, 0), (second + 26, 0)]
    expected = pasted((second + 26 + 96, 196), *zip(images, 4 * [2], places, strict=True))
    for top, name in (0, "rose"), (second, "a?tulip"):
        picture = Image.new("RGB", (196, 26), "white")
        ImageDraw.Draw(picture).text((0, 0), name, "black", ImageFont.load_default(18))
        assert np.asarray(picture).min() == 0
        expected[top : top + 26] = np.asarray(picture)
    np.testing.assert_array_equal(shown, expected)


def test_rows_stand_beside_their_names(tmp_path):
    images, others = some_images(3, 3, 48, 48), some_images(3, 3, 48, 48, seed=1)
    font = ImageFont.load_default(18)
    for row_names, default in (("photo", "reconstruction"), True), (("a\x1bb", "VAE"), False):
        options = {} if default else {"row_names": row_names}
        shown = np.asarray(show_recover_results(images, others, columns=2, **options))
        names = [name.replace("\x1b", "?") for name in row_names]
        margin = math.ceil(max(font.getlength(name) for name in names)) + 10
        plain = np.asarray(show_recover_results(images, others, columns=2, row_names=()))
        np.testing.assert_array_equal(shown[:, margin:], plain)  # the pixels of the images are untouched
        beside = Image.new("RGB", (margin, 412), "white")
        for top, name in zip((0, 100, 216, 316), names * 2, strict=True):
            ImageDraw.Draw(beside).text((0, top + 48), name, "black", font, anchor="lm")
        np.testing.assert_array_equal(shown[:, :margin], np.asarray(beside))
    grid = show_images(images, columns=1, row_names=["rose", "tulip", "iris"])
    assert grid.size == (math.ceil(font.getlength("tulip")) + 10 + 96, 296)
    narrow = show_groups({"a name that is wider than its picture": images[:1]})
    assert narrow.size[0] == math.ceil(font.getlength("a name that is wider than its picture"))


def test_names_that_pillows_own_font_has_no_letters_for(monkeypatch):
    """The first font that is installed; without any, something is drawn all the same."""
    tried = []
    own = ImageFont.load_default(18)

    def truetype(name, size):
        tried.append(name)
        if name != "PingFang.ttc":
            raise OSError("cannot open resource")
        return own

    monkeypatch.setattr("data_processor.ImageFont.truetype", truetype)
    show_groups({"\u73ab\u7470": some_images(1, 3, 8, 8)})
    assert tried == 2 * ["NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc"]  # to measure it, and to draw it
    monkeypatch.undo()
    monkeypatch.setattr("data_processor.FONTS", ("no font.ttf",))
    shown = np.asarray(show_groups({"\u73ab\u7470": some_images(1, 3, 8, 8)}))
    assert shown[:26].min() < 255


def test_originals_stand_above_reconstructions(tmp_path):
    images, others = some_images(3, 3, 48, 48), some_images(3, 3, 48, 48, seed=1)
    places = [(0, 0), (0, 100), (216, 0), (100, 0), (100, 100), (316, 0)]  # two rows, a gap of 20, and two rows
    expected = pasted((412, 196), *[(image, 2, place) for image, place in zip([*images, *others], places, strict=True)])
    pairs = torch.from_numpy(images), torch.from_numpy(others)
    shown = show_recover_results(*pairs, tmp_path / "pairs.png", columns=2, row_names=())
    np.testing.assert_array_equal(np.asarray(shown), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "pairs.png")), expected)
    pairs = some_images(9, 3, 2, 96), some_images(9, 3, 2, 96)
    assert show_recover_results(*pairs, row_names=()).size == (796, 8 + 20 + 8)
    with pytest.raises(ValueError) as raised:
        show_recover_results(images, others[:2])
    assert str(raised.value) == "expected two batches of one shape, found (3, 3, 48, 48) and (2, 3, 48, 48)"
