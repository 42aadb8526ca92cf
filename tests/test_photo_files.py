"""Which files of a folder are photos, and how they are decoded."""

import io
import os
import re
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from conftest import unix
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lab import photo_files
from lab.photo_files import read_photo_files

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS
    from torchvision.transforms.functional import resize

ORANGE = (250, 130, 20)
RAMP = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)


def read(root, width=8, height=8, **options):
    return read_photo_files(root, width, height, **options)


def save(path, picture=ORANGE, **options):
    """Saves a picture, or one of a single colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.new("RGB", (9, 9), picture) if isinstance(picture, tuple) else picture).save(path, **options)


# Which files


def test_same_classes_and_photos_as_imagefolder(few_photos):
    (few_photos / "notes.txt").write_text("no class")
    (few_photos / "rose" / "notes.txt").write_text("no photo")
    save(few_photos / "tulip" / "CAPITALS.JPEG")
    for i, ending in enumerate(IMG_EXTENSIONS):
        save(few_photos / "rose" / f"a{i}{ending}", (i, 0, 0), format="PNG")
        save(few_photos / "rose" / f"a{i}{ending}.old", format="PNG")
    found, expected = read(few_photos), ImageFolder(few_photos)
    assert found.classes == expected.classes and found.labels.tolist() == expected.targets
    assert [str(few_photos / name) for name in found.names] == [path for path, _ in expected.samples]


def test_classes_are_folders_with_photos_but_those_of_systems(few_photos, capfd):
    systems = "@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "#recycle", "lost+found", ".Trash-1000"
    for name in systems:
        for folder in few_photos, few_photos / "rose", few_photos / "rose" / "more":
            save(folder / name / "0.png")
    save(few_photos / "rose" / "._0.png")
    (few_photos / "sage").mkdir()
    found = read(str(few_photos), strict=True)
    assert found.classes == ["rose", "tulip"] and found.labels.tolist() == 10 * [0] + 10 * [1]
    assert capfd.readouterr().err == ""


@unix
def test_links_are_followed_and_in_a_circle_they_end(tmp_path):
    root = tmp_path / "root"
    for i, name in enumerate(["rose/0.jpg", "tulip/1.jpg", "../elsewhere/2.jpg"]):
        save(root / name, (60 * i, 0, 0))
    (root / "lily").symlink_to(tmp_path / "elsewhere")
    (root / "rose" / "again").symlink_to(root / "rose")
    (root / "rose" / "up").symlink_to(root)
    assert read(root).names == ["lily/2.jpg", "rose/0.jpg", "tulip/1.jpg"]


def test_a_data_root_that_is_none(tmp_path):
    root = tmp_path / "root"

    def expect(found):
        with pytest.raises(OSError, match=f"^{root}: {found}"):
            read(root)

    expect("no such folder")
    root.write_text("")
    expect("not a folder")
    root.unlink()
    save(root / "1.png")  # in no class folder
    save(root / "rose" / "1.png")
    expect("found 1 photos")


# What is left out, and said


def test_a_file_that_is_no_photo_is_named_and_left_out(few_photos, capfd):
    expected = read(few_photos)
    assert capfd.readouterr().err == ""
    folder = few_photos / "rose"
    whole = (folder / "0.jpg").read_bytes()
    contents = {"0.png": b"", "1.png": b"<html>404</html>", "2 \u202e.jpg": whole[: len(whole) // 2], "3.webp": b"RIFF"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.fromarray(0 * RAMP).save(folder / "4 flat.tif")  # gray without a range
    names = [*contents, "4 flat.tif"]
    if os.name != "nt":
        os.mkfifo(folder / "5 pipe.jpg")
        names.append("5 pipe.jpg")
    found = read(few_photos)
    head, *lines = capfd.readouterr().err.splitlines()
    assert head.startswith(f"Left out {len(names)} files")
    named = [Path(re.fullmatch(r"  (.+?) \(.+\)", line)[1]).name for line in lines]
    assert sorted(named) == [name.replace("\u202e", "?") for name in names]  # what writes from right to left
    # Whatever comes before and after keeps its own name, pixels and label.
    assert found.names == expected.names and found.digests == expected.digests
    assert np.array_equal(found.pixels, expected.pixels) and np.array_equal(found.labels, expected.labels)
    with pytest.raises(OSError, match=f"^--strict: Left out {len(names)} files"):
        read(few_photos, strict=True)


def test_formats_that_are_not_read_are_counted_by_their_ending(few_photos, capfd):
    for name in "rose/0.HEIC", "rose/1.heic", "rose/2.heic", "tulip/more/0.cr2", "rose/notes.txt":
        (few_photos / name).write_bytes(b"x")
    assert len(read(few_photos).names) == 20
    message = "Left out 4 photos in formats that are not read (3 .heic, 1 .cr2)"
    assert capfd.readouterr().err.startswith(message)
    with pytest.raises(OSError, match=f"^--strict: {re.escape(message)}"):
        read(few_photos, strict=True)


def test_photos_outside_the_class_folders_are_counted(few_photos, capfd):
    for name in "a.jpg", "b.jpg":
        save(few_photos / name)
    assert len(read(few_photos).names) == 20
    message = f"Left out 2 photos in {few_photos} itself"
    assert capfd.readouterr().err.startswith(message)
    with pytest.raises(OSError, match=f"^--strict: {re.escape(message)}"):
        read(few_photos, strict=True)


# Decoding


@pytest.mark.parametrize("size", [(32, 24), (24, 32), (11, 9)])
def test_pixels_are_those_of_torchvision_but_for_rounding(size, tmp_path):
    """JPEGs are decoded at a part of their size, but at twice the size asked for at least: finer detail is kept."""
    width, height = size
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4 * width, 4 * height, 3)).astype(np.uint8))
    whole = noise.resize((8 * height, 8 * width), Image.Resampling.BICUBIC)  # a wide photo for a tall picture
    save(tmp_path / "rose" / "0.jpg", whole, quality=95, subsampling=0)
    save(tmp_path / "rose" / "1.png", whole)
    found = read(tmp_path, width, height).pixels
    difference = np.abs(found.astype(int) - np.asarray(resize(whole, [height, width])))
    assert found.shape == (2, height, width, 3) and found.dtype == np.uint8
    assert difference[0].max() <= 5 and difference[1].max() <= 1


RANGES = ["12 bits", "32 bits", "float", "float, one pixel defective", "12 bits, one pixel defective"]


def picture(mode):
    """A picture of this mode, orange, or gray from the lowest to the highest number."""
    orange = Image.new("RGB", (40, 40), ORANGE)
    if "transparent" in mode:
        orange.putalpha(128 if mode == "half transparent" else 0)
        return orange
    if mode == "palette":
        palette = orange.quantize(2)
        palette.info["transparency"] = palette.getpixel((0, 0))
        return palette
    gray = {"float": RAMP, "12 bits": (RAMP * (2**12 - 1)).astype(np.uint16)}
    if "defective" in mode:  # one pixel
        gray[mode] = gray[mode.split(",")[0]].copy()
        gray[mode][5, 5] = {"float": 1e30, "12 bits": 2**16 - 1}[mode.split(",")[0]]
    gray["32 bits"] = (RAMP * 3 * 10**6).astype(np.int32) - 10**6
    gray["13 bits"], gray["16 bits"] = np.full((2, 40, 40), [[[2**12]], [[200 * 256 + 255]]], np.uint16)
    return Image.fromarray(gray[mode]) if mode in gray else orange.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending", "expected", "tolerance"),
    [
        *[("RGB", ending, ORANGE, 3) for ending in ("jpg", "JPEG", "jfif", "webp", "jp2", "png", "bmp", "ppm")],
        *[(mode, "tif", ORANGE, 6) for mode in ("RGB", "CMYK", "LAB", "YCbCr")],
        *[("CMYK", "jpg", ORANGE, 3), ("P", "png", ORANGE, 26), ("RGB", "gif", ORANGE, 26)],
        *[("L", "jpg", (153, 153, 153), 1), ("LA", "png", (153, 153, 153), 1), ("1", "png", (153, 153, 153), 26)],
        *[("16 bits", ending, (200, 200, 200), 0) for ending in ("png", "tif")],
        ("13 bits", "png", (127.5, 127.5, 127.5), 1),
        *[(mode, "tif", (127.5, 127.5, 127.5), 1) for mode in RANGES],
        *[("transparent", "png", (255, 255, 255), 0), ("palette", "png", (255, 255, 255), 0)],
        ("half transparent", "png", (252, 192, 137), 1),
    ],
)
def test_a_picture_of_any_kind_arrives_as_rgb(mode, ending, expected, tolerance, tmp_path):
    for i in range(2):
        save(tmp_path / "rose" / f"{i}.{ending}", picture(mode))
    pixels = read(tmp_path).pixels
    assert np.abs(pixels[0].mean(axis=(0, 1)) - expected).max() <= tolerance
    if mode in RANGES:
        assert pixels.min() < 25 and pixels.max() > 230


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    photo = Image.new("RGB", (40, 20), ORANGE)
    photo.paste((0, 0, 250), (0, 0, 20, 20))
    for i in range(2):
        save(tmp_path / "rose" / f"{i}.jpg", photo, exif=exif)
    found = read(tmp_path).pixels[0].astype(int)
    assert np.abs(found[:3] - (0, 0, 250)).max() < 30 and np.abs(found[-3:] - ORANGE).max() < 30


@pytest.mark.parametrize(
    ("width", "height", "taken"),
    [(5_000, 5_000, True), (5_000, 5_001, False), (65_536, 1, False)],
)
def test_pictures_up_to_25_million_pixels_are_decoded(width, height, taken, tmp_path):
    (tmp_path / "rose").mkdir()
    (tmp_path / "rose" / "0.ppm").write_bytes(f"P5 {width} {height} 255\n".encode())  # not read either way: no pixels
    with pytest.raises(OSError, match="--strict") as raised:
        read(tmp_path, strict=True)
    assert (f"found {width} x {height} pixels, expected 25,000,000" in str(raised.value)) != taken


@pytest.mark.parametrize(("side", "progressive", "taken"), [(32, False, True), (33, False, False), (32, True, False)])
def test_jpegs_may_have_more_pixels_unless_progressive(side, progressive, taken, tmp_path, monkeypatch):
    for i in range(2):
        save(tmp_path / "rose" / f"{i}.jpg", Image.new("RGB", (256, 256)), progressive=progressive)
    monkeypatch.setattr(photo_files, "MAX_PIXELS", 64 * 64)  # a quarter of the width is twice 32
    with nullcontext() if taken else pytest.raises(OSError, match="pixels, expected 4,096"):
        read(tmp_path, side, 32, strict=True)


def test_files_of_many_bytes_are_left_out(few_photos, monkeypatch):
    sizes = sorted(path.stat().st_size for path in few_photos.rglob("*.jpg"))
    monkeypatch.setattr(photo_files, "MAX_BYTES", sizes[9])
    assert len(read(few_photos).names) == sum(size <= sizes[9] for size in sizes) < 20


@unix
def test_postscript_starts_no_program(tmp_path, few_photos, monkeypatch, capfd):
    """Pillow hands it to Ghostscript, if that is installed, whatever the file is called."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'mark'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in "0.jpg", "1.png", "2.tif":
        (few_photos / "rose" / f"a{name}").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    assert len(read(few_photos).names) == 20
    assert "Left out 3 files" in capfd.readouterr().err and not (tmp_path / "mark").exists()


@given(st.data())
@hypothesis.settings(max_examples=30)
def test_a_damaged_picture_is_read_or_left_out(data):
    file = io.BytesIO()
    picture("RGB").save(file, data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])))
    content = bytearray(file.getvalue())
    for place in data.draw(st.sets(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, on what it finds
        for i in range(2):
            save(Path(root, "rose", f"{i}.png"))
        Path(root, "rose", "2.png").write_bytes(content[: data.draw(st.integers(0, len(content)))])
        found = read(root)
    assert found.names[:2] == ["rose/0.png", "rose/1.png"] and len(found.names) in (2, 3)
    assert (found.pixels[:2] == ORANGE).all()


# The same photo more than once


@pytest.mark.parametrize("size", [(8, 8), (1, 1)])  # the smaller one by decoding JPEGs at an eighth of their size
@pytest.mark.parametrize("form", ["jpg", "png"])
def test_photos_with_the_same_pixels_have_one_digest(form, size, few_photos, capfd):
    for i in range(9):
        content = (few_photos / "rose" / f"{i}.jpg").read_bytes()
        copy = few_photos / "tulip" / f"copy {i}.{form}"
        if form == "png":
            save(copy, Image.open(io.BytesIO(content)))
        else:
            copy.write_bytes(content[:2] + b"\xff\xfe\x00\x07hello" + content[2:])  # a comment
    found = read(few_photos, *size)
    digests = dict(zip(found.names, found.digests, strict=True))
    assert [digests[name] for name in digests if "copy" in name] == [digests[f"rose/{i}.jpg"] for i in range(9)]
    assert len(digests) == 29 and len(set(found.digests)) == 20
    assert capfd.readouterr().err.startswith("Photos with the same pixels as another one: 9.")


def test_photos_that_are_equal_at_a_small_size_have_their_own_digests(tmp_path, capfd):
    """JPEGs are decoded once more to find out."""
    for i in range(10):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[i % 8 :: 8, i // 8 :: 8] = 255
        save(tmp_path / "rose" / f"{i}.{'jpg' if i % 2 else 'png'}", Image.fromarray(pixels))
    assert len(set(read(tmp_path, 1, 1).digests)) == 10 and capfd.readouterr().err == ""
