"""The models are those of the handout, and behave as users of PyTorch expect."""

import math

import pytest
import torch
from conftest import expect_orthogonal, shapes_along
from torch import nn

from Autoencoder import AE_ENCODING_DIM, Autoencoder
from generative.Diffusion import Diffusion
from generative.GAN import GAN, GAN_ENCODING_DIM
from VarAutoencoder import (
    VAE_ENCODING_DIM,
    KL_divergence,
    VAE_loss_function,
    VarAutoencoder,
    calibrated_VAE_loss_function,
    squared_error,
)

AUTOENCODERS = [Autoencoder, VarAutoencoder]
BUILDS = [*AUTOENCODERS, GAN, Diffusion]


def few_steps(model):
    """Options of a model's sampling, that it takes no longer than needed."""
    return {"steps": 2} if isinstance(model, Diffusion) else {}


def outputs_of(model, images):
    """What a model computes for images in a training, as a tuple."""
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    if isinstance(model, GAN):
        return model.score(images, labels), model(labels)
    outputs = model(images, labels) if isinstance(model, Diffusion) else model(images)
    return outputs if isinstance(outputs, tuple) else (outputs,)


# All models


@pytest.mark.parametrize(("build", "name"), [*zip(BUILDS, ["AE", "VAE", "GAN", "DDPM"], strict=True)])
def test_names_and_defaults(build, name):
    model = build().eval()
    assert model.name == name and model.encoding_dim == (3 * 24 * 24 if name == "DDPM" else 64)
    assert model.sample(1, **few_steps(model)).shape == (1, 3, 24, 24)
    assert AE_ENCODING_DIM == VAE_ENCODING_DIM == GAN_ENCODING_DIM == 64


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("size", [(25, 24), (24, 22), (0, 24), (24, -4)])
def test_image_sizes_that_are_no_multiple_of_4(build, size):
    with pytest.raises(ValueError, match=r"found an image size of {} x {}".format(*size)):
        build(10, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("build", BUILDS)
def test_samples_are_pictures_in_any_precision_and_on_any_device(build, dtype):
    """On the CPU here, while new tensors belong to another device unless told otherwise."""
    torch.manual_seed(0)
    model = build(image_size=(8, 12)).to(dtype).eval()
    labels = [torch.zeros(3).long()] if build in (GAN, Diffusion) else []
    with torch.device("meta"):
        samples = model.sample(3, *labels, **few_steps(model))
        outputs = outputs_of(model, samples)
    assert samples.shape == (3, 3, 12, 8) and not samples.requires_grad
    assert samples.min() >= 0 and samples.max() <= 1 and samples.std(dim=0).max() > 0
    for output in samples, *outputs:
        assert output.dtype == dtype and output.device.type == "cpu" and output.isfinite().all()


# The autoencoders


@pytest.mark.parametrize("size", [(24, 24), (32, 20), (4, 8)])
@pytest.mark.parametrize("build", AUTOENCODERS)
def test_sizes_along_the_way_are_the_handouts(build, size):
    width, height = size
    model = build(10, size)
    code = 10 if build is Autoencoder else 20  # mu and log_var
    down = [(3, height, width), (32, height, width), (32, height // 2, width // 2), (64, height // 2, width // 2)]
    down += [(64, height // 4, width // 4), (128, height // 4, width // 4), (8 * height * width,), (code,)]
    assert shapes_along(model.encoder, torch.rand(2, 3, height, width)) == down
    up = [(10,), (8 * height * width,), (128, height // 4, width // 4), (64, height // 4, width // 4)]
    up += [(32, height // 2, width // 2), (3, height, width)]
    assert shapes_along(model.decoder, torch.randn(2, 10)) == up


@pytest.mark.parametrize("build", AUTOENCODERS)
def test_layers_are_those_the_handout_asks_for(build):
    """Weights are orthogonal at first, with the gain for ReLU."""
    layers = [*build().encoder, *build().decoder]
    kinds = set(map(type, layers))
    assert {nn.Conv2d, nn.MaxPool2d, nn.Linear, nn.ReLU, nn.Sigmoid} <= kinds
    assert kinds & {nn.LeakyReLU, nn.GELU, nn.Tanh, nn.AvgPool2d} == set()
    with_weights = [layer for layer in layers if list(layer.parameters())]
    assert len(with_weights) == 8
    for layer in with_weights:
        expect_orthogonal(layer.weight)
        assert not layer.bias.any()


@pytest.mark.parametrize("build", AUTOENCODERS)
def test_outputs_are_pictures(build):
    torch.manual_seed(0)
    model = build(10, (8, 8)).eval()
    images = torch.rand(5, 3, 8, 8)
    outputs, *parts = outputs_of(model, images)
    reconstructed = model.reconstruct(images)
    for pictures in outputs, reconstructed:
        assert pictures.shape == (5, 3, 8, 8) and pictures.min() >= 0 and pictures.max() <= 1
    assert outputs.requires_grad and not reconstructed.requires_grad
    if build is Autoencoder:
        assert torch.equal(outputs, reconstructed)
    else:  # it draws in evaluation, too, but reconstructs without
        mu, log_var = parts
        assert mu.shape == log_var.shape == (5, 10) and not torch.equal(model(images)[0], outputs)
        assert torch.equal(reconstructed, model.decoder(mu))
    torch.manual_seed(1)
    samples = model.sample(4)
    torch.manual_seed(1)
    assert torch.equal(samples, model.decoder(torch.randn(4, 10)))


# The VAE


def test_losses_by_hand():
    images = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)
    reconstructed = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).view(2, 1, 1, 2)
    outputs = reconstructed, torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [math.log(4)]])
    errors = 0.25 + 0.25
    divergence = 1 / 2 * (1 + 1 - 1 - 0) + 1 / 2 * (4 + 0 - 1 - math.log(4))
    assert squared_error(outputs, images).item() == pytest.approx(errors)
    assert KL_divergence(outputs, images).item() == pytest.approx(divergence, rel=1e-6)
    assert VAE_loss_function(outputs, images).item() == pytest.approx(errors + divergence, rel=1e-6)
    calibrated = 4 / 2 * math.log(errors / 4) + divergence
    assert calibrated_VAE_loss_function(outputs, images).item() == pytest.approx(calibrated, rel=1e-5)


def test_the_calibrated_variance_is_not_below_that_of_bytes():
    """Black photos are soon reconstructed without an error, and log(0) has no gradient."""
    images, latent = torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 4)
    reconstructed = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = calibrated_VAE_loss_function((reconstructed, *latent), images)
    loss.backward()
    assert loss.item() == pytest.approx(192 * math.log(1 / 12 / 255**2)) and not reconstructed.grad.any()


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 1, 8, 8), (3, 8, 8), (0, 3, 8, 8)])
def test_reconstructions_of_another_shape_are_refused(shape):
    """PyTorch alone would broadcast them, or give a loss of no image."""
    images = torch.zeros(2 if shape[0] else 0, 3, 8, 8)
    with pytest.raises(ValueError, match="expected one image or more, and reconstructed images of their shape"):
        VAE_loss_function((torch.zeros(shape), *torch.zeros(2, 2, 4)), images)


def test_antithetic_samples():
    """Twice as many: z = mu + sigma epsilon for all images, then mu - sigma epsilon, with epsilon from N(0, 1). The
    loss is the mean of both."""
    torch.manual_seed(0)
    model, images = VarAutoencoder(10, (8, 8)), torch.rand(500, 3, 8, 8)
    model.antithetic = True
    x, mu, log_var = model(images)
    losses = [VAE_loss_function((half, mu, log_var), images).item() for half in x]
    assert VAE_loss_function((x, mu, log_var), images).item() == pytest.approx(sum(losses) / 2, rel=1e-5)
    model.decoder = nn.Identity()
    z, mu, log_var = model(images)
    assert z.shape == (2, 500, 10)
    torch.testing.assert_close(z.mean(dim=0), mu)
    epsilon = ((z[0] - mu) / torch.exp(0.5 * log_var)).detach()
    torch.testing.assert_close(epsilon.T.cov(), torch.eye(10), atol=0.2, rtol=0)
    assert epsilon.mean().item() == pytest.approx(0, abs=0.05)


@torch.no_grad()
def test_standardized_latent_numbers():
    """They have mean 0 and variance 1 over the images; what is decoded of the same epsilon stays, and no other scale
    has a lower KL divergence."""
    torch.manual_seed(0)
    model, images = VarAutoencoder(6, (8, 8)), torch.rand(700, 3, 8, 8)
    for bias in model.encoder[-1].bias, model.decoder[0].bias:
        bias += torch.randn_like(bias)

    def decoded_and_kl():
        torch.manual_seed(1)
        decoded, *distribution = model(images)
        return decoded, KL_divergence((None, *distribution), images).item()

    decoded, kl = decoded_and_kl()
    model.standardize_latent(images)
    mu, log_var = model.encode(images)
    torch.testing.assert_close(mu.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(mu.var(0, correction=0) + log_var.exp().mean(0), torch.ones(6))
    again, lowest = decoded_and_kl()
    torch.testing.assert_close(again, decoded, atol=1e-4, rtol=0)
    others = [KL_divergence((None, a * mu, log_var + 2 * math.log(a)), images).item() for a in (0.98, 1.02)]
    assert lowest < min(kl, *others)


def test_kl_divergence_against_monte_carlo():
    torch.manual_seed(0)
    mu, log_var = torch.randn(1, 3, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    q = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
    p = torch.distributions.Normal(0, 1)
    z = q.sample((400_000,))
    differences = (q.log_prob(z) - p.log_prob(z)).sum(dim=(1, 2))
    error = differences.std() / math.sqrt(len(differences))
    kl_divergence = KL_divergence((None, mu, log_var), None)
    assert abs(kl_divergence - differences.mean()) < 5 * error
    assert 10 * error < kl_divergence  # or the line above would prove little


def test_reparameterize():
    torch.manual_seed(0)
    mu, log_var = (torch.tensor(row).repeat(200_000, 1).requires_grad_() for row in ([1.0, -2.0], [0.5, -1.0]))
    z = VarAutoencoder(2, (8, 8)).reparameterize(mu, log_var)
    torch.testing.assert_close(z.mean(dim=0), mu[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(dim=0), torch.exp(log_var[0]), atol=0.03, rtol=0)
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones_like(mu))  # dz/dmu = 1
    torch.testing.assert_close(log_var.grad, ((z - mu) / 2).detach())  # dz/dlog_var = (z - mu) / 2
