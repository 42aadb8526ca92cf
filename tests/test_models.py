import math

import pytest
import torch
from conftest import expect_orthogonal, shapes_along
from torch import nn

from Autoencoder import AE_ENCODING_DIM, Autoencoder
from generative.Diffusion import Diffusion
from generative.GAN import GAN
from VarAutoencoder import VAE_ENCODING_DIM, KL_divergence, VAE_loss_function, VarAutoencoder, squared_error


@pytest.mark.parametrize("size", [(24, 24), (32, 20), (4, 8)])
@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder])
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


def test_names_and_defaults():
    assert AE_ENCODING_DIM == VAE_ENCODING_DIM == 64
    for build, name in (Autoencoder, "AE"), (VarAutoencoder, "VAE"):
        model = build()
        assert model.name == name and model.encoding_dim == 64
        assert model.sample(3).shape == (3, 3, 24, 24)


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder])
def test_layers_are_those_the_handout_asks_for(build):
    layers = {type(layer) for layer in [*build().encoder, *build().decoder]}
    assert {nn.Conv2d, nn.MaxPool2d, nn.Linear, nn.ReLU, nn.Sigmoid} <= layers
    assert layers & {nn.LeakyReLU, nn.GELU, nn.Tanh, nn.AvgPool2d} == set()


def test_transposed_convolutions_paint_every_pixel_as_often():
    for layer in Autoencoder().decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
            painted = layer(torch.ones(1, layer.in_channels, 5, 5))
            assert painted.shape[2:] == (10, 10) and painted[:, :, 1:-1, 1:-1].unique().numel() == 1


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder, GAN, Diffusion])
@pytest.mark.parametrize("size", [(25, 24), (22, 24), (24, 25), (24, 22), (0, 24), (24, 0), (-4, 24)])
def test_image_sizes_that_are_no_multiple_of_4(build, size):
    with pytest.raises(ValueError, match=r"found an image size of {} x {}, expected multiples of 4".format(*size)):
        build(10, size)


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder])
def test_images_of_another_size_are_named(build):
    model = build(10, (12, 8))
    for use in model, model.reconstruct:
        with pytest.raises(ValueError, match=r"found images of shape \(2, 3, 8, 8\), expected \(N, 3, 8, 12\)"):
            use(torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder])
def test_initial_weights_are_orthogonal_with_the_gain_for_relu(build):
    model = build()
    layers = [layer for layer in [*model.encoder, *model.decoder] if list(layer.parameters())]
    assert len(layers) == 8
    for layer in layers:
        expect_orthogonal(layer.weight)
        assert not layer.bias.any()


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder])
def test_outputs_are_pictures(build):
    torch.manual_seed(0)
    model = build(10, (8, 8))
    images = torch.rand(5, 3, 8, 8)
    outputs = model(images) if build is Autoencoder else model(images)[0]
    reconstructed, sampled = model.reconstruct(images), model.sample(5)
    for pictures in outputs, reconstructed, sampled:
        assert pictures.shape == (5, 3, 8, 8)
        assert pictures.min() >= 0 and pictures.max() <= 1
    assert outputs.requires_grad and not reconstructed.requires_grad and not sampled.requires_grad
    if build is Autoencoder:
        assert torch.equal(outputs, reconstructed)


@pytest.mark.parametrize("build", [Autoencoder, VarAutoencoder, GAN, Diffusion])
def test_random_numbers_are_made_where_the_weights_are(build):
    """On the CPU here, while new tensors belong to another device unless told otherwise."""
    model = build(image_size=(8, 8)).eval()
    images, labels = torch.rand(2, 3, 8, 8), torch.zeros(2).long()
    with torch.device("meta"):
        if build is GAN:
            made = [model.sample(2, labels), model.score(images, labels)]
        elif build is Diffusion:
            made = [model.sample(2, labels), *model(images, labels)]
        else:
            made = [model.sample(2), *model(images)]
    assert all(tensor.device.type == "cpu" for tensor in made)


def test_samples_are_decoded_normal_numbers():
    model = VarAutoencoder(10, (8, 8))
    torch.manual_seed(1)
    samples = model.sample(4)
    torch.manual_seed(1)
    assert torch.equal(samples, model.decoder(torch.randn(4, 10)))
    assert not samples.requires_grad


# The VAE


def test_forward_gives_images_mu_and_log_var():
    model = VarAutoencoder(10, (8, 8)).eval()  # draws in validation, too
    images = torch.rand(5, 3, 8, 8)
    x, mu, log_var = model(images)
    assert x.shape == images.shape and mu.shape == log_var.shape == (5, 10)
    assert not torch.equal(model(images)[0], x)  # another draw
    assert torch.equal(model.reconstruct(images), model.decoder(mu))  # no draw


def test_loss_by_hand():
    images = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(2, 1, 1, 2)
    reconstructed = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).view(2, 1, 1, 2)
    mu = torch.tensor([[1.0], [0.0]])
    log_var = torch.tensor([[0.0], [math.log(4)]])
    # errors 0.25 + 0.25; KL 1/2 (1 + 1 - 1 - 0) and 1/2 (4 + 0 - 1 - log 4)
    expected = 0.5 + 0.5 + 0.5 * (3 - math.log(4))
    assert VAE_loss_function((reconstructed, mu, log_var), images).item() == pytest.approx(expected, rel=1e-6)
    assert squared_error((reconstructed, mu, log_var), images).item() == pytest.approx(0.5)
    assert KL_divergence((reconstructed, mu, log_var), images).item() == pytest.approx(expected - 0.5, rel=1e-6)


def test_reconstructions_of_another_shape_are_refused():
    """PyTorch alone would broadcast them."""
    latent = torch.zeros(2, 2, 4)
    for shape in (1, 3, 8, 8), (2, 1, 8, 8), (3, 8, 8):
        with pytest.raises(ValueError, match=r"for images of shape \(2, 3, 8, 8\)"):
            VAE_loss_function((torch.zeros(shape), *latent), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="expected one image or more"):
        VAE_loss_function((torch.zeros(0, 3, 8, 8), *latent), torch.zeros(0, 3, 8, 8))


def test_antithetic_samples():
    """Twice as many: z = mu + sigma epsilon for all images, then mu - sigma epsilon, with epsilon from N(0, 1)."""
    torch.manual_seed(0)
    model = VarAutoencoder(10, (8, 8))
    model.decoder, model.antithetic = nn.Identity(), True
    z, mu, log_var = model(torch.rand(500, 3, 8, 8))
    assert z.shape == (2, 500, 10)
    torch.testing.assert_close(z.mean(dim=0), mu)
    epsilon = ((z[0] - mu) / torch.exp(0.5 * log_var)).detach()
    torch.testing.assert_close(epsilon.T.cov(), torch.eye(10), atol=0.2, rtol=0)
    assert epsilon.mean().item() == pytest.approx(0, abs=0.05) and epsilon.std().item() == pytest.approx(1, abs=0.05)


def test_loss_of_several_reconstructions_is_the_mean_of_their_losses():
    model = VarAutoencoder(10, (8, 8))
    images = torch.rand(5, 3, 8, 8)
    model.antithetic = True
    x, mu, log_var = model(images)
    halves = [VAE_loss_function((half, mu, log_var), images).item() for half in x]
    assert VAE_loss_function((x, mu, log_var), images).item() == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_loss_is_a_sum_over_the_batch():
    model = VarAutoencoder(4, (8, 8))
    images = torch.rand(6, 3, 8, 8)
    outputs = model(images)
    halves = [VAE_loss_function([part[i : i + 3] for part in outputs], images[i : i + 3]) for i in (0, 3)]
    assert VAE_loss_function(outputs, images).item() == pytest.approx(sum(halves).item(), rel=1e-5)


def test_kl_divergence_against_monte_carlo():
    torch.manual_seed(0)
    mu, log_var = torch.randn(1, 3, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    q = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
    p = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    z = q.sample((400_000,))
    differences = (q.log_prob(z) - p.log_prob(z)).sum(dim=(1, 2))
    error = differences.std() / math.sqrt(len(differences))
    nothing = torch.zeros(1, 3, 2, 2)
    kl_divergence = KL_divergence((nothing, mu, log_var), nothing)
    assert abs(kl_divergence - differences.mean()) < 5 * error
    assert 10 * error < kl_divergence  # or the line above would prove little


def test_reparameterize():
    torch.manual_seed(0)
    model = VarAutoencoder(2, (8, 8))
    mu = torch.tensor([1.0, -2.0]).expand(200_000, 2).clone().requires_grad_()
    log_var = torch.tensor([0.5, -1.0]).expand(200_000, 2).clone().requires_grad_()
    z = model.reparameterize(mu, log_var)
    torch.testing.assert_close(z.mean(dim=0), torch.tensor([1.0, -2.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(dim=0), torch.exp(torch.tensor([0.5, -1.0])), atol=0.03, rtol=0)
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones_like(mu))  # dz/dmu = 1
    torch.testing.assert_close(log_var.grad, ((z - mu) / 2).detach())  # dz/dlog_var = (z - mu) / 2
