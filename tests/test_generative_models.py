"""The models of Part 4, step 4: diffusion, GAN, and the VAE with a calibrated decoder."""

import math

import pytest
import torch
from torch.nn.functional import mse_loss

from data_processor import create_flower_dataloaders
from Diffusion import DDPM_loss_function, Diffusion, ddim, schedule, time_features
from GAN import GAN, GAN_loss_function, GAN_loss_terms, augment
from lab.kernel_distance import validate_pictures
from lab.pytorch_training import moving_average
from VarAutoencoder import VAE_loss_terms, VarAutoencoder, calibrated_VAE_loss_function

SIZES = [(24, 24), (32, 20), (4, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("build", [Diffusion, GAN, VarAutoencoder])
def test_samples_are_pictures(build, size):
    torch.manual_seed(0)
    samples = build(image_size=size).eval().sample(3)
    assert samples.shape == (3, 3, size[1], size[0]) and not samples.requires_grad
    assert samples.min() >= 0 and samples.max() <= 1 and samples.std(dim=0).max() > 0


def test_an_average_of_weights():
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averaged = moving_average(model, optimizer)
    weights, expected = [], None
    for step in range(30):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        weights.append(model.weight.item())
        decay = (1 + step) / (10 + step)
        expected = weights[0] if step == 0 else decay * expected + (1 - decay) * weights[-1]
    assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert weights[-1] < expected < weights[0]


def test_what_batch_norms_have_seen_is_of_the_weights_that_are_kept(few_photos):
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8))
    _, validation = create_flower_dataloaders(4, few_photos, 8, 8)
    latent = torch.randn(1000, model.encoding_dim)

    def difference():
        """Between pictures by what batch norms remember, and by what they see."""
        return (model.generator.eval()(latent) - model.generator.train()(latent)).abs().mean().item()

    before = difference()
    validate_pictures(model, validation.dataset)
    assert difference() < 0.1 * before


# Diffusion


def test_the_schedule_keeps_the_variance():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert (alpha.diff() < 0).all() and (sigma.diff() > 0).all()
    assert (alpha[0], sigma[0]) == (1, 0)
    assert (alpha[-1].item(), sigma[-1].item()) == pytest.approx((0, 1), abs=1e-15)


def test_v_tells_image_and_noise_apart():
    torch.manual_seed(0)
    x, epsilon = torch.randn(2, 7, 5, dtype=torch.float64)
    alpha, sigma = schedule(torch.rand(7, 1, dtype=torch.float64))
    mixed, v = alpha * x + sigma * epsilon, alpha * epsilon - sigma * x
    torch.testing.assert_close(alpha * mixed - sigma * v, x)
    torch.testing.assert_close(sigma * mixed + alpha * v, epsilon)


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_a_perfect_denoiser_recovers_the_data(steps):
    torch.manual_seed(0)
    images = 2 * torch.rand(4, 3, 8, 8, dtype=torch.float64) - 1

    def predict_v(x, t):
        alpha, sigma = schedule(t.double()[:, None, None, None])
        return alpha * (x - alpha * images) / sigma - sigma * images

    noise = torch.randn_like(images)
    torch.testing.assert_close(ddim(predict_v, noise, steps), images, atol=1e-6, rtol=0)


def test_ddim_with_the_best_model_of_a_gaussian_gives_its_mean_and_variance():
    """Images from N(0.2, 0.1^2): the best guess at x from x_t is known, and with it the best guess at v."""
    mean, std = 0.2, 0.1

    def predict_v(x, t):
        alpha, sigma = schedule(t.double()[:, None])
        guess = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
        return (alpha * x - guess) / sigma

    torch.manual_seed(0)
    noise = torch.randn(100_000, 1, dtype=torch.float64)
    for steps, tolerance in (50, 0.02), (1000, 0.001):  # what few steps get wrong of the variance, more get right
        x = ddim(predict_v, noise, steps)
        assert x.mean().item() == pytest.approx(mean, abs=0.002)
        assert x.std().item() == pytest.approx(noise.std().item() * std, rel=tolerance)


def test_images_and_noise_are_mixed_as_the_schedule_says(monkeypatch):
    model = Diffusion(image_size=(8, 8))
    seen = []
    monkeypatch.setattr(model, "predict_v", lambda x, t: seen.append((x, t)) or torch.zeros_like(x))
    torch.manual_seed(0)
    images = torch.rand(500, 3, 8, 8)
    _, v = model(images)
    [(x, t)] = seen
    alpha, sigma = schedule(t[:, None, None, None])
    torch.testing.assert_close(alpha * x - sigma * v, 2 * images - 1)
    epsilon = sigma * x + alpha * v
    assert epsilon.mean().item() == pytest.approx(0, abs=0.01) and epsilon.std().item() == pytest.approx(1, abs=0.01)
    assert ((500 * t).floor() == torch.arange(500)).all()  # a time in each five-hundredth of [0, 1]


def test_sampling_clips_estimates_to_pictures():
    wild = ddim(lambda x, t: 100 * torch.randn_like(x), torch.randn(2, 3, 8, 8), 5)
    assert wild.abs().max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_the_u_net_gives_what_it_was_given_and_uses_all_its_weights(size):
    torch.manual_seed(0)
    model = Diffusion(image_size=size)
    images = torch.rand(3, 3, size[1], size[0])
    shapes = []
    for block in [*model.down, *model.middle, *model.up]:
        block.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[2:])))
    predicted, v = model(images)
    assert predicted.shape == v.shape == images.shape
    full, half, quarter = ((size[1] // n, size[0] // n) for n in (1, 2, 4))
    assert shapes == [full, half, quarter, quarter, quarter, quarter, quarter, half, full]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # layers that begin at 0 let the gradients through to those before them one step at a time
        optimizer.zero_grad()
        DDPM_loss_function(model(images), images).backward()
        optimizer.step()
    assert [name for name, param in model.named_parameters() if not param.grad.any()] == []


def test_the_u_net_knows_the_time():
    torch.manual_seed(0)
    model = Diffusion(image_size=(8, 8)).eval()
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.1)
    x = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
    early, late = model.predict_v(x, torch.tensor([0.2, 0.8]))
    assert not torch.allclose(early, late, atol=1e-3)
    features = time_features(torch.linspace(0, 1, 1000))
    assert torch.cdist(features, features).fill_diagonal_(math.inf).min() > 0.1


def test_ddpm_loss():
    outputs = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert DDPM_loss_function(outputs, None).item() == 2.5 == mse_loss(*outputs).item()


def test_an_encoding_dim_that_is_not_the_noises():
    assert Diffusion(192, (8, 8)).encoding_dim == 192
    with pytest.raises(ValueError, match="found an encoding_dim of 64, expected 192"):
        Diffusion(64, (8, 8))


# GAN


def test_gan_losses_change_only_the_network_they_should():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8))
    for which, other in ("discriminator", "generator"), ("generator", "discriminator"):
        model.zero_grad(set_to_none=True)
        losses = dict(zip(["discriminator", "generator"], GAN_loss_terms(model(torch.rand(5, 3, 8, 8))), strict=True))
        losses[which].backward()
        # of the weights: at first, photos and pictures pull the last bias equally hard in opposite directions
        assert all(param.grad.any() for param in getattr(model, which).parameters() if param.ndim > 1)
        assert all(param.grad is None for param in getattr(model, other).parameters())


def test_gan_loss_by_hand():
    photo_scores, picture_scores, fooled_scores = torch.tensor([[[3.0], [0.5]], [[-2.0], [0.0]], [[1.0], [2.0]]])
    outputs = photo_scores, picture_scores, fooled_scores
    # max(0, 1 - 3), max(0, 1 - 0.5); max(0, 1 - 2), max(0, 1 + 0)
    for_discriminator, for_generator = GAN_loss_terms(outputs)
    assert for_discriminator.item() == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert for_generator.item() == pytest.approx(-1.5)
    assert GAN_loss_function(outputs, None).item() == pytest.approx(0.75 - 1.5)


def test_the_discriminator_learns_to_tell_and_the_generator_to_fool():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8))
    images = torch.rand(1, 3, 1, 1).expand(16, 3, 8, 8)

    def losses():
        return [loss.item() for loss in GAN_loss_terms(model(images))]

    for which, network in enumerate([model.discriminator, model.generator]):
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        before = losses()[which]
        for _ in range(40):
            optimizer.zero_grad()
            GAN_loss_function(model(images), images).backward()
            optimizer.step()
        assert losses()[which] < before - 0.2


def test_augment_keeps_shapes_and_changes_each_image_in_its_own_way():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 16, 24).expand(500, 3, 16, 24)
    changed = augment(images)
    assert changed.shape == images.shape and len(torch.unique(changed, dim=0)) == 500
    empty = (changed == 0).all(dim=1).float().mean(dim=(1, 2))
    assert empty.min() == 0 and empty.max() == pytest.approx(1 - (14 / 16) * (21 / 24))  # an eighth off both sides


def test_augment_lets_gradients_through():
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    augment(images).sum().backward()
    assert images.grad.any()


# The VAE with a calibrated decoder


def test_calibrated_loss_by_hand():
    images, reconstructed = torch.zeros(2, 1, 1, 2), torch.tensor([0.1, 0.1, 0.3, 0.1]).view(2, 1, 1, 2)
    mu, log_var = torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1)
    expected = 4 / 2 * math.log((0.01 + 0.01 + 0.09 + 0.01) / 4) + 0.5
    loss = calibrated_VAE_loss_function((reconstructed, mu, log_var), images)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_calibrated_variance_is_the_likeliest():
    """For any other variance s, the negative log likelihood is larger: 1/(2s) squared errors + D/2 log s."""
    torch.manual_seed(0)
    model = VarAutoencoder(4, (8, 8))
    images = torch.rand(6, 3, 8, 8)
    outputs = model(images)
    squared_error, kl_divergence = VAE_loss_terms(outputs, images)
    size = images.numel()
    variances = torch.linspace(0.001, 1, 1000)
    likelihoods = squared_error / (2 * variances) + size / 2 * variances.log() + kl_divergence - size / 2
    assert calibrated_VAE_loss_function(outputs, images).item() <= likelihoods.min().item() + 1e-3
    assert likelihoods.min().item() == pytest.approx(calibrated_VAE_loss_function(outputs, images).item(), rel=1e-3)
