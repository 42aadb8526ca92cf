"""The results in the repository: what its models give is what is shown, on every machine."""

import functools
from argparse import Namespace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from conftest import ROOT, pixels_of, skip_if_trained_here
from matplotlib import ft2font
from PIL import Image

import random_generation
import visualization
from data_processor import read_flowers, show_recover_results
from lab.checkpoint import load_checkpoint
from lab.grids import name_rows, save_picture
from lab.models import AUTOENCODERS, MODELS

read_once = functools.cache(read_flowers)


def expect_like_committed(path, place, tolerance=2):
    """Fails if a picture differs from the committed one by more than rounding."""
    found, expected = (pixels_of(path).astype(int) for path in (path, ROOT / "vis" / place / path.name))
    assert found.shape == expected.shape
    text = np.maximum(np.ptp(found, axis=2), np.ptp(expected, axis=2)) == 0  # gray; fonts are drawn by other versions
    assert text.mean() < 0.7 and np.abs(found - expected)[~text].max() <= tolerance


SLOW = [("DDPM", "", "_calendula", ["--class", "calendula"])]
SLOW += [("DDPM", size, "", ["--number", "24"]) for size in ("48", "64")]
SAMPLES = [(name, "", "", []) for name in MODELS] + [pytest.param(*each, marks=pytest.mark.slow) for each in SLOW]


@pytest.mark.parametrize(("name", "place", "what", "flags"), SAMPLES)
def test_the_committed_models_sample_the_committed_pictures(name, place, what, flags, tmp_path):
    """Any fault in a network, in sampling, in loading or in drawing shows here; rounding does not."""
    skip_if_trained_here(name, f"models/{place}")
    where = ["--model-dir", str(ROOT / "models" / place), "--vis-dir", str(tmp_path)]
    random_generation.main(["--model", name, *where, *flags])
    expect_like_committed(tmp_path / f"random_images_{name}{what}.png", place)


@pytest.mark.photos
@pytest.mark.parametrize("name", ["AE", "VAE_calibrated", "all"])
def test_the_committed_pictures_that_need_the_photos(name, photos, tmp_path, monkeypatch):
    for each in MODELS:
        skip_if_trained_here(each)
    monkeypatch.setattr("lab.photos.read_flowers", read_once)
    where = ["--data-root", photos, "--model-dir", str(ROOT / "models"), "--vis-dir", str(tmp_path)]
    if name == "all":
        visualization.main(["--model", name, *where])
    else:
        random_generation.main(["--model", name, "--prior", "gaussian", *where])
    [picture] = tmp_path.iterdir()
    expect_like_committed(picture, "")


def originals(path):
    """The 16 images above their reconstructions in a picture, in two rows of 8: (16, 3, 24, 24) in [0, 1]."""
    size, gap = 96, 4
    pixels = pixels_of(path)
    pixels = pixels[:, pixels.shape[1] - 8 * (size + gap) :]  # without the names of the rows
    images = [
        pixels[top : top + size : 4, left : left + size : 4]
        for top in (gap, gap + 2 * (size + gap))
        for left in range(0, 8 * (size + gap), size + gap)
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("kind", ["train", "valid"])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_committed_autoencoders_reconstruct_the_committed_pictures(name, kind, tmp_path):
    """The photos in the pictures are whole, to the last bit."""
    skip_if_trained_here(name)
    path = tmp_path / f"{kind}_{name}.png"
    images = originals(ROOT / "vis" / path.name)
    model = load_checkpoint(ROOT / "models", name)["model"]
    save_picture(name_rows(show_recover_results(images, model.reconstruct(images)), ["original", name] * 2), path)
    expect_like_committed(path, "")


@pytest.mark.slow
def test_the_committed_model_denoises_as_committed(tmp_path):
    skip_if_trained_here("DDPM")
    visualization.draw_denoising(Namespace(vis_dir=tmp_path), load_checkpoint(ROOT / "models", "DDPM"))
    expect_like_committed(tmp_path / "denoising_DDPM.png", "")


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_histories_give_the_committed_plots(name, tmp_path):
    skip_if_trained_here(name)
    args = Namespace(model=name, log_dir=ROOT / "log", vis_dir=tmp_path)
    visualization.draw_losses(args, load_checkpoint(ROOT / "models", name))
    paths = tmp_path / f"loss_{name}.png", ROOT / "vis" / f"loss_{name}.png"
    found, expected = (pixels_of(path)[:, :, :3].astype(int) for path in paths)
    assert found.shape == expected.shape
    # Text and its width differ between versions of Matplotlib and of the font renderer, and move the axes a little.
    colourful = [np.ptp(picture, axis=2) > 60 for picture in (found, expected)]
    assert colourful[0].sum() == pytest.approx(colourful[1].sum(), rel=0.1)
    with Image.open(paths[1]) as picture:
        same_version = f"version{matplotlib.__version__}," in picture.text["Software"]
    if same_version and ft2font.__freetype_build_type__ == "local":
        assert (np.abs(found - expected).max(axis=2) > 20).mean() < 1e-4


@pytest.mark.photos
def test_no_photo_is_on_both_sides_of_the_default_split(photos):
    training, validation = read_once(photos, 24, 24).split()
    contents = [{Path(photos, name).read_bytes() for name in side.names} for side in (training, validation)]
    assert len(contents[0]) + len(contents[1]) == 2588 - 4  # four are there twice
    assert contents[0].isdisjoint(contents[1])
