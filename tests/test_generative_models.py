"""The models of Part 4, step 4: diffusion, GAN, and the VAE with a calibrated decoder."""

import math

import numpy as np
import pytest
import torch
from conftest import shapes_along
from torch import nn
from torch.nn.functional import mse_loss

from generative.Diffusion import (
    TIME_FEATURES,
    Attention,
    DDPM_loss_function,
    Diffusion,
    ResidualBlock,
    UNet,
    ddim,
    sampling_times,
    schedule,
    stratified_times,
    time_features,
)
from generative.GAN import GAN, GAN_ENCODING_DIM, augment, discriminator_loss, generator_loss, gradient_penalty
from generative.Muon import Muon, orthogonalized
from VarAutoencoder import KL_divergence, VarAutoencoder, calibrated_VAE_loss_function, squared_error

SIZES = [(24, 24), (32, 20), (4, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("build", [Diffusion, GAN, VarAutoencoder])
def test_samples_are_pictures(build, size):
    torch.manual_seed(0)
    samples = build(image_size=size).eval().sample(3)
    assert samples.shape == (3, 3, size[1], size[0]) and not samples.requires_grad
    assert samples.min() >= 0 and samples.max() <= 1 and samples.std(dim=0).max() > 0


def test_names_and_defaults():
    for model, name, encoding_dim in (GAN(), "GAN", 64), (Diffusion(), "DDPM", 3 * 24 * 24):
        assert model.name == name and model.encoding_dim == encoding_dim
        assert model.eval().sample(1).shape == (1, 3, 24, 24)
    assert GAN_ENCODING_DIM == 64


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


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_a_perfect_denoiser_recovers_the_data(steps):
    torch.manual_seed(0)
    images = 2 * torch.rand(4, 3, 8, 8, dtype=torch.float64) - 1

    def predict_v(x, t):
        alpha, sigma = schedule(t.double()[:, None, None, None])
        return alpha * (x - alpha * images) / sigma - sigma * images

    noise = torch.randn_like(images)
    *on_the_way, last = ddim(predict_v, noise, steps)
    torch.testing.assert_close(last, images, atol=1e-6, rtol=0)
    # Each x_t is image and noise in the shares of the schedule.
    for x, t in zip(on_the_way, sampling_times(steps).double(), strict=False):
        alpha, sigma = schedule(t)
        torch.testing.assert_close(x, alpha * images + sigma * noise, atol=1e-6, rtol=0)


def test_ddim_with_the_best_model_of_a_gaussian_gives_its_mean_and_variance():
    """Images from N(0.2, 0.1^2): the best guess at x from x_t is known, and with it the best guess at v."""
    mean, std = 0.2, 0.1

    def predict_v(x, t):
        alpha, sigma = schedule(t.double()[:, None])
        guess = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
        return (alpha * x - guess) / sigma

    torch.manual_seed(0)
    noise = torch.randn(20_000, 1, dtype=torch.float64)
    for steps, tolerance in (25, 0.02), (1000, 0.001):  # what few steps get wrong of the variance, more get right
        *_, x = ddim(predict_v, noise, steps)
        assert x.mean().item() == pytest.approx(mean, abs=0.002)
        assert x.std().item() == pytest.approx(noise.std().item() * std, rel=tolerance)


def test_images_and_noise_are_mixed_as_the_schedule_says(monkeypatch):
    model = Diffusion(image_size=(8, 8), classes=3)
    seen = []
    monkeypatch.setattr(model.network, "forward", lambda *inputs: seen.append(inputs) or torch.zeros_like(inputs[0]))
    torch.manual_seed(0)
    images, labels = torch.rand(500, 3, 8, 8), torch.randint(3, (500,))
    _, v = model(images, labels)
    [(x, t, labels_seen)] = seen
    assert torch.equal(labels_seen, labels)
    alpha, sigma = schedule(t[:, None, None, None])
    torch.testing.assert_close(alpha * x - sigma * v, 2 * images - 1)
    epsilon = sigma * x + alpha * v
    assert epsilon.mean().item() == pytest.approx(0, abs=0.01) and epsilon.std().item() == pytest.approx(1, abs=0.01)
    places = 500 * t - torch.arange(500)  # a time in each five-hundredth of [0, 1], anywhere in it
    assert places.min() >= 0 and places.max() < 1
    assert places.mean().item() == pytest.approx(0.5, abs=0.05) and places.std().item() == pytest.approx(
        12**-0.5, abs=0.02
    )


@pytest.mark.parametrize("steps", [None, 4])
def test_steps_of_sampling_go_from_noise_to_image(steps, monkeypatch):
    model = Diffusion(image_size=(8, 12), classes=3)
    seen = []
    monkeypatch.setattr(model.network, "forward", lambda *inputs: seen.append(inputs) or torch.zeros_like(inputs[0]))
    monkeypatch.setattr(model.early, "forward", lambda *inputs: torch.zeros_like(inputs[0]))
    torch.manual_seed(0)
    labels = torch.arange(200) % 3
    pictures = model.sample(200, labels) if steps is None else model.sample(200, labels, steps=steps)
    times = torch.stack([t for _, t, _ in seen])
    steps = steps or 25
    torch.testing.assert_close(times, sampling_times(steps)[:-1, None].expand(steps, 200))
    assert all(torch.equal(each, labels) for _, _, each in seen)
    noise = seen[0][0]
    assert noise.shape == (200, 3, 12, 8)
    torch.manual_seed(0)
    first, *_, last = model.denoise(200, labels, steps=steps)
    torch.testing.assert_close(first, (noise + 1) / 2)
    assert torch.equal(last, pictures)
    assert noise.mean().item() == pytest.approx(0, abs=0.02) and noise.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_sampling_times_are_equal_steps_in_log_snr(steps):
    times = sampling_times(steps)
    assert len(times) == steps + 1 and times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    alpha, sigma = schedule(times[1:-1].double())
    expected = np.linspace(-4, 6, steps)[1:]
    np.testing.assert_allclose((alpha / sigma).log(), expected, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 5])
def test_sampling_clips_estimates_to_pictures(steps):
    torch.manual_seed(0)
    *_, wild = ddim(lambda x, t: 100 * torch.randn_like(x), torch.randn(2, 3, 8, 8), steps)
    assert wild.max() == 1 and wild.min() == -1


@pytest.mark.parametrize("size", SIZES)
def test_the_u_net_gives_what_it_was_given_and_uses_all_its_weights(size):
    torch.manual_seed(0)
    model = Diffusion(image_size=size, classes=3)
    images, labels = torch.rand(3, 3, size[1], size[0]), torch.arange(3)
    shapes = []
    for block in [*model.network.down, *model.network.middle, *model.network.up]:
        block.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[2:])))
    predicted, v = model(images, labels)
    assert predicted.shape == v.shape == images.shape
    full, half, quarter = ((size[1] // n, size[0] // n) for n in (1, 2, 4))
    assert shapes == [full, half, quarter, quarter, quarter, quarter, quarter, half, full]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # layers that begin at 0 let the gradients through to those before them one step at a time
        optimizer.zero_grad()
        DDPM_loss_function(model(images, labels), images).backward()
        optimizer.step()
    assert [name for name, param in model.network.named_parameters() if not param.grad.any()] == []
    assert all(param.grad is None for param in model.early.parameters())


def test_the_u_net_begins_as_a_network_without_its_residual_branches():
    """The last layer of each is 0 at first, and that of the whole U-Net (Ho, Jain and Abbeel's implementation)."""
    torch.manual_seed(0)
    x, time = torch.randn(2, 16, 4, 4), torch.randn(2, 10)

    def differs_by_position(values):
        return (values - values[:1, :, :1, :1]).abs().max() > 1e-5

    assert not differs_by_position(ResidualBlock(16, 16, 10)(x, time) - x)
    wider = ResidualBlock(16, 24, 10)
    assert not differs_by_position(wider(x, time) - wider.shortcut(x)) and differs_by_position(wider(x, time))
    assert not differs_by_position(Attention(16)(x) - x)
    assert not differs_by_position(UNet(1)(torch.randn(2, 3, 8, 8), torch.rand(2), torch.zeros(2).long()))


def test_time_features_are_cosines_and_sines_of_frequencies_from_1_to_1000():
    t = torch.linspace(0, 1, 50)
    features = time_features(t)
    assert features.shape == (50, TIME_FEATURES)
    cosines, sines = features.double().chunk(2, dim=1)
    frequencies = torch.tensor([1000 ** (i / 31) for i in range(32)], dtype=torch.float64)
    torch.testing.assert_close(cosines, torch.cos(t.double()[:, None] * frequencies), atol=1e-3, rtol=0)
    torch.testing.assert_close(sines, torch.sin(t.double()[:, None] * frequencies), atol=1e-3, rtol=0)


def test_the_u_net_knows_the_time_and_the_label():
    torch.manual_seed(0)
    network = UNet(classes=2)
    for param in network.parameters():
        nn.init.normal_(param, std=0.1)
    x = torch.randn(1, 3, 8, 8).expand(3, -1, -1, -1)
    first, later, other = network(x, torch.tensor([0.2, 0.8, 0.2]), torch.tensor([0, 0, 1]))
    for different in later, other:
        assert not torch.allclose(first, different, atol=1e-3)
    features = time_features(torch.linspace(0, 1, 1000))
    assert torch.cdist(features, features).fill_diagonal_(math.inf).min() > 0.1


def test_times_are_one_in_each_interval():
    torch.manual_seed(0)
    times = torch.stack([stratified_times(4) for _ in range(2000)])
    places = 4 * times - torch.arange(4)
    assert places.min() >= 0 and places.max() < 1
    for column in places.T:
        expect_uniform(column, 0, 1)
    torch.testing.assert_close(places.T.corrcoef(), torch.eye(4), atol=0.1, rtol=0)


@pytest.mark.parametrize("guidance", [None, 0, 0.5, 2])
def test_guidance_exaggerates_what_changed_since_the_early_version(guidance, monkeypatch):
    """Both predict a constant: v = 0.1 now, and 0.2 early."""
    model = Diffusion(image_size=(4, 4))
    called = []
    for network, v in (model.network, 0.1), (model.early, 0.2):
        monkeypatch.setattr(network, "forward", lambda x, t, labels, v=v: called.append(v) or torch.full_like(x, v))
    torch.manual_seed(0)
    *_, found = model.denoise(3, steps=5) if guidance is None else model.denoise(3, guidance=guidance, steps=5)
    torch.manual_seed(0)
    v = 0.1 - (0.4 if guidance is None else guidance) * 0.1
    *_, expected = ddim(lambda x, t: torch.full_like(x, v), torch.randn(3, 3, 4, 4), 5)
    torch.testing.assert_close(found, (expected + 1) / 2)
    assert called.count(0.1) == 5 and called.count(0.2) == (0 if guidance == 0 else 5)


def test_the_early_version_is_a_copy_that_is_not_trained():
    """DistributedDataParallel waits for the gradients of all parameters that can have one."""
    model = Diffusion(image_size=(4, 4))
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    nn.init.ones_(model.network.enter.weight)
    assert all(torch.equal(weight, before[name]) for name, weight in model.early.state_dict().items())
    assert not any(param.requires_grad for param in model.early.parameters())
    assert all(param.requires_grad for param in model.network.parameters())


@pytest.mark.parametrize("build", [Diffusion, GAN])
def test_labels_are_random_unless_given(build, monkeypatch):
    torch.manual_seed(0)
    model = build(image_size=(4, 4), classes=3).eval()
    chosen = []
    if build is GAN:
        forward = model.generator.forward
        monkeypatch.setattr(model.generator, "forward", lambda z: chosen.append(z[:, 64:].argmax(1)) or forward(z))
        options = {}
    else:
        monkeypatch.setattr(model.network, "forward", lambda x, t, k: chosen.append(k) or torch.zeros_like(x))
        options = {"steps": 1}
    model.sample(3000, **options)
    torch.testing.assert_close(chosen[-1].bincount() / 3000, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    labels = torch.arange(7) % 3
    model.sample(7, labels, **options)
    assert torch.equal(chosen[-1], labels)


def test_ddpm_loss():
    outputs = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert DDPM_loss_function(outputs, None).item() == 2.5 == mse_loss(*outputs).item()


@pytest.mark.parametrize("shape", [(5, 30), (30, 5), (8, 8), (1, 9), (9, 1), (1, 1)])
def test_muon_makes_singular_values_equal(shape):
    torch.manual_seed(0)
    size = min(shape)
    u, v = (torch.linalg.qr(torch.randn(side, size).double())[0] for side in shape)
    values = torch.logspace(0, -2, size)
    found = orthogonalized(1e-3 * u * values @ v.T)
    torch.testing.assert_close(found, u * (u.T @ found @ v).diag() @ v.T)
    assert 0.65 < torch.linalg.svdvals(found).min() <= torch.linalg.svdvals(found).max() < 1.25
    assert not orthogonalized(torch.zeros(shape)).any()


def test_muon_by_hand():
    """Two steps for gradients of one singular value: their directions by momentum, their lengths by the rate."""
    weight = torch.zeros(6, 2, 1, 1, requires_grad=True)
    optimizer = Muon([weight], lr=0.5)
    gradients = torch.tensor([[100.0, 0], [0, 100]])  # of one of six output channels
    expected = torch.zeros(6, 2)
    average = torch.zeros(2)
    for gradient in gradients:
        weight.grad = torch.zeros(6, 2, 1, 1)
        weight.grad[3, :, 0, 0] = gradient
        average = 0.95 * average + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * average
        length = torch.linalg.svdvals(orthogonalized(direction[None]))[0]
        expected[3] -= 0.5 * 3**0.5 * length * direction / direction.norm()  # 6 x 2: the root of 6 / 2
        optimizer.step()
        torch.testing.assert_close(weight[:, :, 0, 0], expected)


def test_an_encoding_dim_that_is_not_the_noises():
    assert Diffusion(192, (8, 8)).encoding_dim == 192
    with pytest.raises(ValueError, match="found an encoding_dim of 64, expected 192"):
        Diffusion(64, (8, 8))


# GAN


def test_each_loss_reaches_all_weights_of_its_network():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8), classes=2)
    images, labels = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1])
    pictures = model.generate(labels)
    loss_of_discriminator = discriminator_loss(model.score(images, labels), model.score(pictures.detach(), labels))
    loss_of_generator = generator_loss(model.score(pictures, labels))
    for loss, network in (loss_of_discriminator, model.discriminator), (loss_of_generator, model.generator):
        # of the weights: at first, photos and pictures pull the last bias equally hard in opposite directions
        weights = [param for param in network.parameters() if param.ndim > 1]
        assert all(grad.any() for grad in torch.autograd.grad(loss, weights))


def test_gan_losses_by_hand():
    photo_scores, picture_scores = torch.tensor([3.0, 0.5]), torch.tensor([-2.0, 0.0])
    expected = [-math.log(1 / (1 + math.exp(-logit))) for logit in (3, 0.5, 2, 0)]  # right with these logits
    assert discriminator_loss(photo_scores, picture_scores).item() == pytest.approx(sum(expected) / 2, rel=1e-6)
    assert generator_loss(-picture_scores).item() == pytest.approx(sum(expected[2:]) / 2, rel=1e-6)


def test_gradient_penalty_by_hand(monkeypatch):
    """Of the score w x, half the square of w: of each photo, also where its gradient is switched off."""
    model, weight = GAN(image_size=(8, 8)), torch.tensor(3.0, requires_grad=True)
    monkeypatch.setattr(model, "score", lambda images, labels: (weight * images[:, 0, 0, :2]).sum(1))
    penalty = gradient_penalty(model, torch.rand(4, 3, 8, 8), torch.zeros(4).long())
    penalty.backward()
    assert penalty.item() == 9 and weight.grad.item() == 6


def test_the_discriminator_learns_to_tell_and_the_generator_to_fool():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8))
    images, labels = torch.rand(1, 3, 1, 1).expand(16, 3, 8, 8), torch.zeros(16).long()

    def loss_of_discriminator():
        return discriminator_loss(model.score(images, labels), model.score(model.sample(16, labels), labels))

    def loss_of_generator():
        return generator_loss(model.score(model.generate(labels), labels))

    for network, loss in (model.discriminator, loss_of_discriminator), (model.generator, loss_of_generator):
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        before = loss().item()
        for _ in range(40):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert loss().item() < before - 0.2


@pytest.mark.parametrize("size", SIZES)
def test_the_discriminator_has_strided_convolutions_and_leaky_relus(size):
    width, height = size
    model = GAN(image_size=size, classes=3)
    halved = [(3, height, width), (72, height // 2, width // 2), (144, height // 4, width // 4)]
    shapes = shapes_along(model.discriminator, torch.rand(2, 3, height, width))
    assert shapes == [*halved, (288, height // 4, width // 4), (18 * height * width,), (1 + 3,)]
    slopes = [layer.negative_slope for layer in model.discriminator if isinstance(layer, nn.LeakyReLU)]
    assert slopes == 3 * [0.2]  # as in Radford, Metz and Chintala


def test_scores_are_of_augmented_images():
    """By a discriminator that measures brightness, of gray images: each score is another, as are the changes."""
    torch.manual_seed(0)
    model = GAN(image_size=(24, 24))
    model.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(3 * 576, 2, bias=False))
    nn.init.constant_(model.discriminator[1].weight, 1 / (2 * 3 * 576))  # half for any label, half for this one
    images, labels = torch.full((300, 3, 24, 24), 0.9), torch.zeros(300).long()
    scores, others = (model.score(images, labels).detach() for _ in range(2))
    assert scores.shape == (300,) and scores.min() > 0.3  # 0.9 is 0.8 in [-1, 1], less at the margin
    assert scores.std() > 0.05 and abs(torch.stack([scores, others]).corrcoef()[0, 1]) < 0.2


def test_the_score_of_an_image_is_one_for_any_label_plus_one_for_its_own(monkeypatch):
    model = GAN(image_size=(8, 8), classes=3)
    outputs = torch.tensor([[1.0, 10, 20, 30], [2.0, 40, 50, 60]])
    monkeypatch.setattr(model.discriminator[-1], "forward", lambda features: outputs)
    assert model.score(torch.rand(2, 3, 8, 8), torch.tensor([2, 0])).tolist() == [31, 42]


def test_inputs_of_the_generator_are_normal_numbers_and_the_label():
    torch.manual_seed(0)
    model = GAN(5, (8, 8), classes=3)
    model.generator = nn.Identity()
    inputs = model.generate(torch.arange(2000) % 3)
    assert inputs.shape == (2000, 8)
    assert torch.equal(inputs[:4, 5:], torch.eye(3)[[0, 1, 2, 0]])
    assert inputs[:, :5].mean().item() == pytest.approx(0, abs=0.03)
    assert inputs[:, :5].std().item() == pytest.approx(1, abs=0.03)


def expect_uniform(values, low, high):
    """Fails unless the values, sorted, are about those of a uniform distribution (Kolmogorov and Smirnov's test)."""
    expected = torch.linspace(low, high, len(values))
    torch.testing.assert_close(values.sort().values, expected, atol=0.03 * (high - low), rtol=0)
    assert values.min() >= low - 1e-4 and values.max() <= high + 1e-4


def test_augment_changes_brightness_saturation_and_contrast_of_each_image_independently():
    """Two halves of one colour each: their gray levels tell brightness and contrast, and their colours saturation."""
    torch.manual_seed(0)
    colours = torch.tensor([[0.9, 0.5, 0.4], [0.35, 0.1, 0.45]]).T
    image = colours.repeat_interleave(12, dim=1)[:, None, :].expand(3, 16, 24)
    found = augment(image.expand(5000, 3, 16, 24))[:, :, 8, [6, 17]]  # positions that translation leaves in their half
    before = 2 * colours - 1
    gray, gray_before = found.mean(dim=1), before.mean(dim=0)
    brightness = gray.mean(dim=1) - gray_before.mean()
    contrast = gray.diff(dim=1)[:, 0] / gray_before.diff()
    saturation = (found - gray[:, None]) / (before - gray_before) / contrast[:, None, None]
    torch.testing.assert_close(saturation, saturation[:, :1, :1].expand_as(saturation), atol=1e-3, rtol=0)
    changes = brightness, saturation[:, 0, 0], contrast
    for change, (low, high) in zip(changes, [(-0.2, 0.2), (0.6, 1.4), (0.8, 1.2)], strict=True):
        expect_uniform(change, low, high)
    torch.testing.assert_close(torch.stack(changes).corrcoef(), torch.eye(3), atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(16, 24), (24, 16)])
def test_augment_moves_each_image_by_4_pixels_or_not_and_fills_with_0(size):
    height, width = size
    torch.manual_seed(0)
    image = torch.full((3, *size), 0.7)
    image[:, 8, 8] = 1
    changed = augment(image.expand(5000, 3, *size))
    assert changed.shape == (5000, 3, *size)
    brightest = changed.sum(dim=1).flatten(1).argmax(dim=1)
    down, right = brightest // width - 8, brightest % width - 8
    for shift in down, right:
        values, counts = shift.unique(return_counts=True)
        assert values.tolist() == [-4, 0, 4]
        torch.testing.assert_close(counts / 5000, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    assert abs(torch.stack([down, right]).float().corrcoef()[0, 1]) < 0.05
    rows, columns = torch.arange(height) - down[:, None], torch.arange(width) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    assert torch.equal((changed != 0).all(dim=1), inside)  # no colour of the image becomes 0: 0.7 is 0.4 in [-1, 1]


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


def test_the_calibrated_variance_is_not_below_that_of_bytes():
    """Black photos are soon reconstructed without an error, and log(0) has no gradient."""
    images, latent = torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 4)
    reconstructed = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = calibrated_VAE_loss_function((reconstructed, *latent), images)
    loss.backward()
    assert loss.item() == pytest.approx(192 * math.log(1 / 12 / 255**2)) and not reconstructed.grad.any()


def test_the_calibrated_variance_is_the_likeliest():
    """For any other variance s, the negative log likelihood is larger: 1/(2s) squared errors + D/2 log s."""
    torch.manual_seed(0)
    model = VarAutoencoder(4, (8, 8))
    images = torch.rand(6, 3, 8, 8)
    outputs = model(images)
    size = images.numel()
    variances = torch.linspace(0.001, 1, 1000)
    terms = squared_error(outputs, images), KL_divergence(outputs, images)
    likelihoods = terms[0] / (2 * variances) + size / 2 * variances.log() + terms[1] - size / 2
    assert calibrated_VAE_loss_function(outputs, images).item() <= likelihoods.min().item() + 1e-3
    assert likelihoods.min().item() == pytest.approx(calibrated_VAE_loss_function(outputs, images).item(), rel=1e-3)
