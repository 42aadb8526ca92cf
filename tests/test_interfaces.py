"""The models behave as users of PyTorch expect."""

import pytest
import torch
from conftest import saved_model

from Autoencoder import Autoencoder
from generative.Diffusion import Diffusion
from generative.GAN import GAN
from lab.checkpoint import load_checkpoint
from lab.defaults import MODELS
from lab.generation import generate
from VarAutoencoder import VarAutoencoder


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_is_in_evaluation_mode(name, few_photos, tmp_path):
    saved_model(name, few_photos, tmp_path / "models")
    model = load_checkpoint(tmp_path / "models", name)["model"]
    assert not any(module.training for module in model.modules())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sample = generate(model, 2, seed=0)
    torch.manual_seed(0)
    assert torch.equal(model.sample(2), sample)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder, GAN, Diffusion])
def test_models_in_another_precision(build, dtype):
    torch.manual_seed(0)
    model = build(image_size=(8, 12)).to(dtype).eval()
    samples = model.sample(2)
    assert samples.dtype == dtype and samples.shape == (2, 3, 12, 8)
    assert samples.min() >= 0 and samples.max() <= 1 and samples.isfinite().all()
    labels = torch.zeros(2).long()
    outputs = {GAN: lambda: model.score(samples, labels), Diffusion: lambda: model(samples, labels)}
    outputs = outputs.get(build, lambda: model(samples))()
    for output in outputs if isinstance(outputs, tuple) else [outputs]:
        assert output.dtype == dtype and output.isfinite().all()
