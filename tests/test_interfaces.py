"""Data set, models and pictures behave as users of PyTorch expect."""

import pytest
import torch
from conftest import ROOT
from torch.utils.data import DataLoader, Subset, random_split

from Autoencoder import Autoencoder
from data_processor import create_flower_dataloaders, read_flowers, show_images, show_recover_results
from Diffusion import Diffusion, ddim
from GAN import GAN, GAN_loss_function, GAN_loss_terms
from lab.checkpoint import load_checkpoint
from lab.defaults import MODELS
from lab.generation import generate
from VarAutoencoder import VAE_loss_function, VAE_loss_terms, VarAutoencoder, calibrated_VAE_loss_function

# The data set


def test_any_loader_of_pytorch_takes_the_data_set(few_photos):
    photos = read_flowers(few_photos, 8, 12)
    for dataset in photos, Subset(photos, range(5, 15)), *random_split(photos, [13, 7]):
        images, labels = zip(*DataLoader(dataset, 4), strict=True)
        expected = [dataset[i] for i in range(len(dataset))]
        assert torch.equal(torch.cat(images), torch.stack([image for image, _ in expected]))
        assert torch.equal(torch.cat(labels), torch.stack([label for _, label in expected]))


def test_getitems_is_a_list_of_samples(few_photos):
    photos = read_flowers(few_photos, 8, 12)
    samples = photos.__getitems__([3, 15, 3])
    assert type(samples[0]) is tuple and isinstance(samples, list) and len(samples) == 3
    for (image, label), row in zip(samples, [3, 15, 3], strict=True):
        assert torch.equal(image, photos[row][0]) and torch.equal(label, photos[row][1])


def test_batches_keep_the_memory_format_in_which_convolutions_are_fast(few_photos):
    for loader in create_flower_dataloaders(6, few_photos, 8, 12):
        for images, _ in loader:
            assert images.is_contiguous(memory_format=torch.channels_last)


# Models


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_is_in_evaluation_mode(name):
    model = load_checkpoint(ROOT / "models", name)["model"]
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
    outputs = model(samples, torch.zeros(2).long()) if build in (GAN, Diffusion) else model(samples)
    for output in [outputs] if build is Autoencoder else outputs:
        assert output.dtype == dtype and output.isfinite().all()


def test_sampling_in_double_precision_is_as_in_single_precision():
    model = load_checkpoint(ROOT / "models", "DDPM")["model"]
    noise = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))

    def predict_v(x, t):
        return model.network(x, t, torch.tensor([0, 2]))

    with torch.no_grad():
        *_, single = ddim(predict_v, noise, 10)
        model.double()
        *_, double = ddim(predict_v, noise.double(), 10)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=0)


def test_a_discriminator_that_is_frozen_stays_frozen():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8))
    images = torch.rand(4, 3, 8, 8)
    frozen, trained = model.discriminator[0].weight, model.discriminator[2].weight
    frozen.requires_grad_(False)
    kinds = torch.zeros(4).long()
    GAN_loss_function(model(images, kinds), images).backward()
    assert not frozen.requires_grad and frozen.grad is None
    assert trained.requires_grad and trained.grad.any()

    model.discriminator.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    GAN_loss_terms(model(images, kinds))[1].backward()
    assert not any(param.requires_grad or param.grad is not None for param in model.discriminator.parameters())
    assert all(param.grad is not None for param in model.generator.parameters())


@pytest.mark.parametrize("loss", [VAE_loss_function, VAE_loss_terms, calibrated_VAE_loss_function])
def test_as_many_reconstructed_images_as_images(loss):
    images, codes = torch.rand(2, 3, 8, 8), torch.zeros(2, 5)
    message = (
        r"expected reconstructed images of the shape of the images, found \({}, 3, 8, 8\) for images of shape \(2,"
    )
    for number in 1, 4:
        with pytest.raises(ValueError, match=message.format(number)):
            loss((torch.rand(number, 3, 8, 8), codes, codes), images)
    assert loss((torch.rand(2, 2, 3, 8, 8), codes, codes), images)  # two samples of z for each image


# Pictures


def test_pictures_of_whatever_a_model_gives():
    torch.manual_seed(0)
    model = Autoencoder(5, (8, 8))
    images = torch.rand(2, 3, 8, 8)
    outputs = model(images)
    expected = show_images(outputs.detach().numpy())
    assert outputs.requires_grad and show_images(outputs) == expected
    assert show_recover_results(images, outputs) == show_recover_results(images.numpy(), outputs.detach().numpy())
    show_images(model.bfloat16()(images.bfloat16()))
    assert show_images(images.double()) == show_images(images)
