import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from conftest import ROOT, unix
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_processor import FlowerDataset, create_flower_dataloaders, read_flowers, show_images, show_recover_results

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.datasets import ImageFolder
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


def test_workers_give_the_same_batches(few_photos):
    alone = create_flower_dataloaders(6, few_photos, 8, 8)[0]
    helped = create_flower_dataloaders(6, few_photos, 8, 8, num_worker=1)[0]
    assert torch.equal(everything(alone)[0], everything(helped)[0])


def test_order_of_the_training_photos(few_photos):
    first, again, other = (create_flower_dataloaders(4, few_photos, 8, 8, seed=seed)[0] for seed in (1, 1, 2))
    first_epoch, second_epoch = everything(first)[0], everything(first)[0]
    assert not torch.equal(first_epoch, second_epoch)
    assert torch.equal(first_epoch, everything(again)[0]) and torch.equal(second_epoch, everything(again)[0])
    assert not torch.equal(first_epoch, everything(other)[0])


def test_same_classes_and_photos_as_imagefolder(few_photos):
    (few_photos / "notes.txt").write_text("no class")
    (few_photos / "rose" / "notes.txt").write_text("no photo")
    Image.new("RGB", (9, 9)).save(few_photos / "tulip" / "CAPITALS.JPEG")
    expected = ImageFolder(few_photos)
    found = read_flowers(few_photos, 8, 8)
    assert found.classes == expected.classes
    assert [str(few_photos / name) for name in found.names] == [path for path, _ in expected.samples]
    assert found.labels.tolist() == expected.targets


def test_pixels_are_those_of_torchvision_but_for_rounding(tmp_path):
    (tmp_path / "rose").mkdir()
    across, down = np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 256))
    smooth = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    for i in range(2):
        Image.fromarray(smooth).save(tmp_path / "rose" / f"{i}.jpg", quality=95)
    found = read_flowers(tmp_path, 24, 24).pixels[0]
    expected = resize(pil_to_tensor(Image.open(tmp_path / "rose" / "0.jpg")), [24, 24])
    assert (found.float() - expected.float()).abs().max() <= 4


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
    elif mode == "I;16":
        Image.fromarray(np.full((40, 40), 200 * 256, np.uint16)).save(path)
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
        ("transparent", "png", (255, 255, 255)),
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
    tolerance = 26 if mode in ("P", "1") else 6  # a web palette has steps of 51; black and white are dithered
    assert (mean - torch.tensor(expected)).abs().max() <= tolerance


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    (tmp_path / "rose").mkdir()
    for i in range(2):
        save_as("rotated", tmp_path / "rose" / f"{i}.jpg")
    image = read_flowers(tmp_path, 8, 8).pixels[0].float()
    top, bottom = image[:, :3].mean(dim=(1, 2)), image[:, -3:].mean(dim=(1, 2))
    assert top[2] > 200 and bottom[0] > 200


def test_an_unusable_file_is_left_out_and_named(few_photos, capfd):
    expected = read_flowers(few_photos, 8, 8)
    assert capfd.readouterr().err == ""
    (few_photos / "rose" / "text.jpg").write_text("not a picture")
    (few_photos / "rose" / "nothing.png").write_bytes(b"")
    whole = (few_photos / "rose" / "0.jpg").read_bytes()
    (few_photos / "tulip" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    found = read_flowers(few_photos, 8, 8)
    assert found.names == expected.names and torch.equal(found[:][0], expected[:][0])
    message = capfd.readouterr().err
    assert "Left out 3 of 23 files" in message
    assert all(name in message for name in ("text.jpg", "nothing.png", "half.jpg"))


def png_bomb(side):
    """A grey picture of side x side pixels, in a file of a few kB to some hundred: nothing but zeros, well packed."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


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
    assert found.classes == ["nothing in it", "rose", "tulip"]
    kept = [i for i, name in enumerate(found.names) if "/up/" not in name]
    assert [found.names[i] for i in kept] == expected.names
    assert torch.equal(found[kept][0], expected[:][0])
    message = capfd.readouterr().err
    assert f"Left out {len(unusable)} of {len(unusable) + len(found)} files" in message
    assert f"and {len(unusable) - 10} more; {tmp_path / 'unusable_photos.txt'} names them all" in message
    named = (tmp_path / "unusable_photos.txt").read_text().splitlines()
    assert {Path(re.match(r"(.*?) \(", line)[1]).name for line in named} == unusable


def test_strict(spoilt, few_photos):
    assert len(read_flowers(spoilt, 8, 8, strict=True)) == 20
    (few_photos / "rose" / "text.jpg").write_text("")
    with pytest.raises(OSError, match=r"--strict: found 1 of 21 files that are no pictures: .*text\.jpg \("):
        read_flowers(spoilt, 8, 8, strict=True)


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
    with pytest.raises(OSError, match="no such folder; expected a folder of class folders"):
        read_flowers(tmp_path / "nowhere", 8, 8)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="not a folder; expected"):
        read_flowers(tmp_path / "file", 8, 8)
    (tmp_path / "file").unlink()
    with pytest.raises(OSError, match="0 usable photos in 0 class folders"):
        read_flowers(tmp_path, 8, 8)
    (tmp_path / "rose").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "rose" / "only.png")
    with pytest.raises(OSError, match="1 usable photos in 1 class folders"):
        read_flowers(tmp_path, 8, 8)


# Pictures


def test_show_images_keeps_every_pixel(tmp_path):
    images = torch.rand(5, 3, 24, 24)
    shown = show_images(images, tmp_path / "grid.png", columns=3)
    saved = Image.open(tmp_path / "grid.png")
    assert saved.size == shown.size == (3 * 96 + 2 * 4, 2 * 96 + 4)
    pixels = np.asarray(saved)
    expected = (images.numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    for i in range(5):
        top, left = (96 + 4) * (i // 3), (96 + 4) * (i % 3)
        np.testing.assert_array_equal(pixels[top + 1 : top + 96 : 4, left + 1 : left + 96 : 4], expected[i])


def test_show_images_clips_and_takes_arrays():
    wild = np.full((1, 3, 120, 120), 3.0, np.float32)
    assert np.asarray(show_images(wild)).tolist() == np.full((120, 120, 3), 255).tolist()


def test_originals_stand_above_reconstructions(tmp_path):
    black, grey = torch.zeros(11, 3, 24, 24), torch.full((11, 3, 24, 24), 0.5)
    picture = np.asarray(show_recover_results(black, grey, tmp_path / "pairs.png"))
    assert picture.shape == (2 * (96 + 4 + 96) + 20, 8 * 100 - 4, 3)
    second = 96 + 4 + 96 + 20
    assert (picture[0, 0] == 0).all() and (picture[100, 0] == 128).all()
    assert (picture[second, 200] == 0).all() and (picture[second + 100, 200] == 128).all()
    assert (picture[second, 300] == 255).all()  # a short last row leaves the paper white
    with pytest.raises(ValueError, match="two batches of one shape"):
        show_recover_results(black, grey[:3])
