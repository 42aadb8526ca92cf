"""Which files of a folder are photos, and how they are decoded."""

import hashlib
import os
import warnings

import numpy as np
import pytest
from conftest import unix
from PIL import Image

from data_processor import read_flowers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS
    from torchvision.transforms.functional import resize

ORANGE = (250, 130, 20)
SIX = [f"rose/{i}.jpg" for i in range(3)] + [f"tulip/more/{i}.jpg" for i in range(3)]


def read(root, width=8, height=8, **options):
    return read_flowers(root, width, height, **options)


def pixels_in(root, *size):
    """(N, H, W, 3), as whole numbers that can be subtracted."""
    return read(root, *size).pixels.permute(0, 2, 3, 1).numpy().astype(int)


def save(path, picture=ORANGE, **options):
    """Saves a picture, or one of a single colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.new("RGB", (9, 9), picture) if isinstance(picture, tuple) else picture).save(path, **options)


@pytest.fixture
def six(tmp_path):
    """A data root with six photos of two classes."""
    for i, name in enumerate(SIX):
        save(tmp_path / "six" / name, (40 * i, 0, 0))
    return tmp_path / "six"


def test_same_classes_and_photos_as_imagefolder(six):
    (six / "notes.txt").write_text("no class")
    (six / "rose" / "notes.txt").write_text("no photo")
    save(six / "tulip" / "CAPITALS.JPEG")
    for i, ending in enumerate(IMG_EXTENSIONS):
        save(six / "rose" / f"a{i}{ending}", (i, 0, 0), format="PNG")
        save(six / "rose" / f"a{i}{ending}.old", format="PNG")
    found, expected = read(six), ImageFolder(six)
    assert found.classes == expected.classes and found.labels.tolist() == expected.targets
    assert [str(six / name) for name in found.names] == [path for path, _ in expected.samples]
    assert found.digests == [hashlib.sha256((six / name).read_bytes()).hexdigest() for name in found.names]


def test_hidden_files_and_folders_and_those_of_systems_are_skipped(six, capsys):
    systems = "@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "#recycle", "lost+found", ".Trash-1000"
    for folder in six, six / "rose", six / "tulip" / "more":
        for name in "._0.png", *(f"{system}/0.png" for system in systems):
            save(folder / name)
        for name in "Thumbs.db", "desktop.ini", ".DS_Store":
            (folder / name).write_bytes(b"x")
    (six / "sage").mkdir()
    found = read(str(six), strict=True)
    assert found.names == SIX and found.classes == ["rose", "tulip"] and capsys.readouterr().err == ""


@unix
def test_linked_folders_and_files_are_read(six):
    for name in "0.png", "more/1.png":
        save(six.parent / "elsewhere" / name)
    (six / "lily").symlink_to(six.parent / "elsewhere")
    (six / "rose" / "more").symlink_to(six.parent / "elsewhere" / "more")
    (six / "tulip" / "9.png").symlink_to(six.parent / "elsewhere" / "0.png")
    found = read(six, strict=True)
    assert found.names == sorted([*SIX, "lily/0.png", "lily/more/1.png", "rose/more/1.png", "tulip/9.png"])
    assert found.classes == ["lily", "rose", "tulip"]


def test_a_data_root_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    save(tmp_path / "outside" / "1.png")  # in no class folder
    save(tmp_path / "outside" / "rose" / "1.png")  # and one alone, which cannot be split
    for name in "none", "file", "outside":
        with pytest.raises(OSError, match=f"^{tmp_path / name}: .*expected"):
            read(tmp_path / name)


def test_what_is_left_out_is_named(six, capsys, monkeypatch):
    expected = read(six)
    assert capsys.readouterr().err == ""
    contents = {"rose/0.png": b"", "rose/1.png": b"<html>404</html>", "rose/3.heic7": b"x", "tulip/README": b"x"}
    for name, content in contents.items():
        (six / name).write_bytes(content)
    pictures = {"rose/2 \u202e\x1b.jpg": Image.effect_noise((40, 40), 50), "outside.jpg": ORANGE}
    pictures["tulip/32 bits.tif"] = Image.fromarray(np.full((9, 9), 10**6, np.int32))
    pictures["tulip/float.tif"] = Image.fromarray(np.full((9, 9), 0.5, np.float32))
    pictures["rose/bomb.png"] = Image.new("RGB", (50, 50))  # of more pixels than Pillow takes
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for name, picture in pictures.items():
        save(six / name, picture)
    truncated = six / next(iter(pictures))
    truncated.write_bytes(truncated.read_bytes()[:-200])
    (six / "closed").mkdir()

    def not_closed(folder, scandir=os.scandir):
        if os.path.basename(folder) == "closed":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", not_closed)
    found = read(six)
    err = capsys.readouterr().err
    names = [*contents, *pictures, "closed"]
    for name in names:
        assert str(six / name).replace("\u202e\x1b", "??") in err  # what writes from right to left, and moves a cursor
    assert f"{len(names)} files" in err
    # Whatever comes before and after keeps its own name, pixels and label.
    assert found.names == expected.names and found.digests == expected.digests
    assert found.pixels.equal(expected.pixels) and found.labels.equal(expected.labels)
    with pytest.raises(OSError, match="--strict"):
        read(six, strict=True)


@unix
def test_postscript_starts_no_program(six, monkeypatch, capsys):
    """Pillow hands it to Ghostscript, if that is installed, whatever the file is called."""
    program = six.parent / "gs"
    program.write_text(f"#!/bin/sh\ntouch {six.parent / 'mark'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{six.parent}{os.pathsep}{os.environ['PATH']}")
    for name in "a.jpg", "b.png", "c.eps":
        (six / "rose" / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    assert read(six).names == SIX and not (six.parent / "mark").exists()
    assert "c.eps" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(32, 24), (24, 32), (11, 9)])
def test_pixels_are_those_of_torchvision_but_for_rounding(size, tmp_path):
    """JPEGs are decoded at a part of their size, but at twice the size asked for at least: finer detail is kept."""
    width, height = size
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4 * width, 4 * height, 3)).astype(np.uint8))
    whole = noise.resize((8 * height, 8 * width), Image.Resampling.BICUBIC)  # a wide photo for a tall picture
    save(tmp_path / "rose" / "0.jpg", whole, quality=95, subsampling=0)
    save(tmp_path / "rose" / "1.png", whole)
    found = pixels_in(tmp_path, width, height)
    difference = np.abs(found - np.asarray(resize(whole, [height, width])))
    assert found.shape == (2, height, width, 3)
    assert difference[0].max() <= 5 and difference[1].max() <= 1


def gray(number, dtype="<u2"):
    return Image.fromarray(np.full((40, 40), number, dtype))


def orange(mode, alpha=255):
    return Image.new("RGBA", (40, 40), (*ORANGE, alpha)).convert(mode)


@pytest.mark.parametrize(
    ("picture", "ending", "expected", "tolerance"),
    [
        *[(orange("RGB"), ending, ORANGE, 3) for ending in ("JPEG", "jfif", "webp", "jp2", "avif", "png", "ppm")],
        *[(orange(mode), "tif", ORANGE, 6) for mode in ("RGB", "CMYK", "LAB")],
        *[(orange("CMYK"), "jpg", ORANGE, 3), (orange("P"), "png", ORANGE, 26), (orange("RGB"), "gif", ORANGE, 26)],
        *[(orange("L"), "jpg", 153, 1), (orange("LA"), "png", 153, 1), (orange("1"), "png", 153, 26)],
        *[(gray(200 * 256 + 255), ending, 200, 0) for ending in ("png", "tif", "jp2", "pgm")],
        *[(gray(200 * 256 + 255, ">u2"), "tif", 200, 0), (gray(2**12), "png", 16, 0)],
        *[(orange("RGBA", 0), ending, 255, 0) for ending in ("png", "gif")],  # the latter with a palette
        (orange("RGBA", 128), "png", (252, 192, 137), 1),
    ],
)
def test_a_picture_of_any_kind_arrives_as_rgb(picture, ending, expected, tolerance, tmp_path):
    for i in range(2):
        save(tmp_path / "rose" / f"{i}.{ending}", picture)
    assert np.abs(pixels_in(tmp_path)[0].mean(axis=(0, 1)) - expected).max() <= tolerance


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    photo = Image.new("RGB", (40, 20), ORANGE)
    photo.paste((0, 0, 250), (0, 0, 20, 20))
    for i in range(2):
        save(tmp_path / "rose" / f"{i}.jpg", photo, exif=exif)
    found = pixels_in(tmp_path)[0]
    assert np.abs(found[:3] - (0, 0, 250)).max() < 30 and np.abs(found[-3:] - ORANGE).max() < 30
