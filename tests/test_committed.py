"""The results in the repository: what its models give is what is shown, on every machine."""

import numpy as np
import pytest
from conftest import ROOT, pixels_of

import random_generation
from lab.defaults import MODELS


@pytest.mark.parametrize("name", [name for name in MODELS if name != "MLPAE"])
def test_the_committed_models_sample_the_committed_pictures(name, tmp_path):
    """Any fault in a network, in sampling, in loading or in drawing shows here; rounding does not."""
    random_generation.main(["--model", name, "--model-dir", str(ROOT / "models"), "--vis-dir", str(tmp_path)])
    found, expected = (pixels_of(folder / f"random_images_{name}.png") for folder in (tmp_path, ROOT / "vis"))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2
