"""The models of Part 4, step 4: diffusion and GAN."""

import math

import numpy as np
import pytest
import torch
from conftest import shapes_along
from torch import nn

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
    time_features,
)
from generative.GAN import GAN, augment, discriminator_loss, generator_loss, gradient_penalty
from generative.Muon import Muon, orthogonalized

# Diffusion


def test_the_schedule_is_a_quarter_of_a_circle():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    torch.testing.assert_close(alpha**2 - sigma**2, torch.cos(math.pi * t))
    assert alpha.min() > -1e-9 and sigma.min() > -1e-9


def test_ddim_with_the_best_model_of_a_gaussian():
    """Images from N(0.2, 0.1^2): the best guess at x from x_t is known, and with it the best guess at v. On the way,
    image and noise have the shares of the schedule."""

    def predict_v(x, t):
        alpha, sigma = schedule(t.double())
        guess = 0.2 + alpha * 0.1**2 / (alpha**2 * 0.1**2 + sigma**2) * (x - alpha * 0.2)
        return (alpha * x - guess) / sigma

    noise = torch.linspace(-3, 3, 101, dtype=torch.float64)
    for steps, tolerance in (25, 0.015), (1000, 0.0005):  # what few steps get wrong of the variance, more get right
        for x, t in zip(ddim(predict_v, noise, steps), sampling_times(steps).double(), strict=True):
            alpha, sigma = schedule(t)
            whitened = (x - alpha * 0.2) / (alpha**2 * 0.1**2 + sigma**2).sqrt()
            torch.testing.assert_close(whitened, noise, atol=1e-5, rtol=tolerance)


def test_images_and_noise_are_mixed_as_the_schedule_says(monkeypatch):
    model = Diffusion(image_size=(8, 8), classes=3)
    seen = []
    monkeypatch.setattr(model.network, "forward", lambda *inputs: seen.append(inputs) or torch.zeros_like(inputs[0]))
    torch.manual_seed(0)
    images, labels = torch.rand(500, 3, 8, 8), torch.randint(3, (500,))
    outputs = _, v = model(images, labels)
    assert DDPM_loss_function(outputs, images).item() == pytest.approx(v.square().mean().item())
    [(x, t, labels_seen)] = seen
    assert torch.equal(labels_seen, labels)
    alpha, sigma = schedule(t[:, None, None, None])
    torch.testing.assert_close(alpha * x - sigma * v, 2 * images - 1)
    epsilon = sigma * x + alpha * v
    assert epsilon.mean().item() == pytest.approx(0, abs=0.01) and epsilon.std().item() == pytest.approx(1, abs=0.01)
    places = 500 * t - torch.arange(500)  # a time in each five-hundredth of [0, 1], anywhere in it
    assert places.min() >= 0 and places.max() < 1 and places.mean().item() == pytest.approx(0.5, abs=0.05)
    assert places.std().item() == pytest.approx(12**-0.5, abs=0.02)


def expect_labels_of_three_classes(labels):
    torch.testing.assert_close(labels.bincount() / len(labels), torch.full((3,), 1 / 3), atol=0.03, rtol=0)


@pytest.mark.parametrize(("steps", "options"), [(25, {}), (4, {"steps": 4})])
def test_steps_of_sampling_go_from_noise_to_image(steps, options, monkeypatch):
    model = Diffusion(image_size=(8, 12), classes=3)
    seen = []
    monkeypatch.setattr(model.network, "forward", lambda *inputs: seen.append(inputs) or torch.zeros_like(inputs[0]))
    monkeypatch.setattr(model.early, "forward", lambda *inputs: torch.zeros_like(inputs[0]))
    torch.manual_seed(0)
    labels = torch.arange(200) % 3
    pictures = model.sample(200, labels, **options)
    times = torch.stack([t for _, t, _ in seen])
    torch.testing.assert_close(times, sampling_times(steps)[:-1, None].expand(steps, 200))
    assert all(torch.equal(each, labels) for _, _, each in seen)
    noise = seen[0][0]
    assert noise.shape == (200, 3, 12, 8)
    assert noise.mean().item() == pytest.approx(0, abs=0.02) and noise.std().item() == pytest.approx(1, abs=0.02)
    torch.manual_seed(0)
    first, *_, last = model.denoise(200, labels, **options)
    torch.testing.assert_close(first, (noise + 1) / 2)
    assert torch.equal(last, pictures)
    model.sample(3000, steps=1)
    expect_labels_of_three_classes(seen[-1][2])


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_sampling_times_are_equal_steps_in_log_snr(steps):
    times = sampling_times(steps)
    assert len(times) == steps + 1 and times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    alpha, sigma = schedule(times[1:-1].double())
    np.testing.assert_allclose((alpha / sigma).log(), np.linspace(-4, 6, steps)[1:], atol=1e-4)


@pytest.mark.parametrize("steps", [1, 5])
def test_sampling_clips_estimates_to_pictures(steps):
    torch.manual_seed(0)
    *_, wild = ddim(lambda x, t: 100 * torch.randn_like(x), torch.randn(2, 3, 8, 8), steps)
    assert wild.max() == 1 and wild.min() == -1


def test_the_u_net_gives_what_it_was_given_and_uses_all_its_weights():
    torch.manual_seed(0)
    model = Diffusion(image_size=(4, 8), classes=3)
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    images, labels = torch.rand(3, 3, 8, 4), torch.arange(3)
    shapes = []
    for block in [*model.network.down, *model.network.middle, *model.network.up]:
        block.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape[2:])))
    predicted, v = model(images, labels)
    assert predicted.shape == v.shape == images.shape
    assert shapes == [(8, 4), (4, 2), *5 * [(2, 1)], (4, 2), (8, 4)]

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # layers that begin at 0 let the gradients through to those before them one step at a time
        optimizer.zero_grad()
        DDPM_loss_function(model(images, labels), images).backward()
        optimizer.step()
    for name, param in model.network.named_parameters():
        assert param.grad.any() and (param.ndim == 1 or param.grad.flatten(1).any(dim=1).all()), name
    # The early version is a copy, and DistributedDataParallel would wait for its gradients.
    assert all(torch.equal(weight, before[name]) for name, weight in model.early.state_dict().items())
    assert not any(param.requires_grad for param in model.early.parameters())


def test_the_u_net_begins_as_a_network_without_its_residual_branches():
    """The last layer of each is 0 at first, and that of the whole U-Net (Ho, Jain and Abbeel's implementation)."""
    torch.manual_seed(0)
    network, block, x, time = UNet(1), ResidualBlock(16, 24, 10), torch.randn(2, 16, 4, 4), torch.randn(2, 10)
    outputs = network(torch.randn(2, 3, 8, 8), torch.rand(2), torch.zeros(2).long())
    for branch in block(x, time) - block.shortcut(x), Attention(16)(x) - x, outputs:
        assert (branch - branch[:1, :, :1, :1]).abs().max() < 1e-5  # a bias at most


def test_time_features_are_cosines_and_sines_of_frequencies_from_1_to_1000():
    t = torch.linspace(0, 1, 50)
    features = time_features(t)
    assert features.shape == (50, TIME_FEATURES)
    cosines, sines = features.double().chunk(2, dim=1)
    frequencies = torch.tensor([1000 ** (i / 31) for i in range(32)], dtype=torch.float64)
    torch.testing.assert_close(cosines, torch.cos(t.double()[:, None] * frequencies), atol=1e-3, rtol=0)
    torch.testing.assert_close(sines, torch.sin(t.double()[:, None] * frequencies), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("size", "guidance", "expected"), [(4, None, 0.5), (48, None, 1), (4, 0, 0), (4, 2, 2)])
def test_guidance_exaggerates_what_changed_since_the_early_version(size, guidance, expected, monkeypatch):
    """Both predict a constant: v = 0.1 now, and 0.2 early. Where t is above 1/2, pictures are not guided."""
    model = Diffusion(image_size=(size, size))
    for network, v in (model.network, 0.1), (model.early, 0.2):
        monkeypatch.setattr(network, "forward", lambda x, t, labels, v=v: torch.full_like(x, v))
    torch.manual_seed(0)
    found = model.sample(3, guidance=guidance, steps=5)
    torch.manual_seed(0)
    noise = torch.randn(3, 3, size, size)
    *_, pictures = ddim(lambda x, t: torch.full_like(x, 0.1 - 0.1 * expected * (t[0] < 0.5)), noise, 5)
    torch.testing.assert_close(found, (pictures + 1) / 2)


@pytest.mark.parametrize("shape", [(5, 30), (30, 5), (8, 8), (1, 9), (9, 1), (1, 1)])
def test_muon_makes_singular_values_equal(shape):
    torch.manual_seed(0)
    size = min(shape)
    u, v = (torch.linalg.qr(torch.randn(side, size).double())[0] for side in shape)
    values = torch.logspace(0, -2.6, size)
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
    with pytest.raises(ValueError, match="found an encoding_dim of 64, expected 192"):
        Diffusion(64, (8, 8))


# GAN


def test_each_loss_reaches_all_weights_of_its_network():
    torch.manual_seed(0)
    model = GAN(image_size=(8, 8), classes=2)
    images, labels = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1])
    pictures = model(labels)
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


def test_the_discriminator_has_strided_convolutions_and_leaky_relus():
    model = GAN(image_size=(32, 20), classes=3)
    shapes = shapes_along(model.discriminator, torch.rand(2, 3, 20, 32))
    assert shapes == [(3, 20, 32), (72, 10, 16), (144, 5, 8), (288, 5, 8), (288 * 5 * 8,), (1 + 3,)]
    slopes = [layer.negative_slope for layer in model.discriminator if isinstance(layer, nn.LeakyReLU)]
    assert slopes == 3 * [0.2]  # as in Radford, Metz and Chintala


def test_the_score_of_an_augmented_image_is_one_for_any_label_plus_one_for_its_own(monkeypatch):
    model, images = GAN(image_size=(4, 4), classes=3), torch.zeros(2, 3, 4, 4)
    images[:, 0, 0] = torch.tensor([[1, 10, 20, 30], [2, 40, 50, 60]])
    monkeypatch.setattr("generative.GAN.augment", lambda images: -images)
    monkeypatch.setattr(model.discriminator, "forward", lambda images: images[:, 0, 0])
    assert model.score(images, torch.tensor([2, 0])).tolist() == [-31, -42]


def test_inputs_of_the_generator_are_normal_numbers_and_the_label():
    torch.manual_seed(0)
    model = GAN(5, (8, 8), classes=3)
    model.generator = nn.Identity()
    inputs = model(torch.arange(2000) % 3)
    assert inputs.shape == (2000, 8)
    assert torch.equal(inputs[:4, 5:], torch.eye(3)[[0, 1, 2, 0]])
    assert inputs[:, :5].mean().item() == pytest.approx(0, abs=0.03)
    assert inputs[:, :5].std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(model.sample(4, torch.tensor([0, 1, 2, 0]))[:, 5:], inputs[:4, 5:])
    expect_labels_of_three_classes(model.sample(3000)[:, 5:].argmax(dim=1))


def expect_uniform(values, low, high):
    """Fails unless the values, sorted, are about those of a uniform distribution (Kolmogorov and Smirnov's test)."""
    expected = torch.linspace(low, high, len(values))
    torch.testing.assert_close(values.sort().values, expected, atol=0.03 * (high - low), rtol=0)
    assert values.min() >= low - 1e-4 and values.max() <= high + 1e-4


def test_augment_changes_brightness_saturation_and_contrast_of_each_image_independently():
    """Two halves of one colour each: their gray levels tell brightness and contrast, and their colours saturation."""
    torch.manual_seed(0)
    colours = torch.tensor([[0.9, 0.5, 0.4], [0.35, 0.1, 0.45]]).T
    image = colours.repeat_interleave(10, dim=1)[:, None, :].expand(3, 9, 20)
    found = augment(image.expand(5000, 3, 9, 20))[:, :, 4, [5, 14]]  # positions that translation leaves in their half
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


def test_augment_moves_each_image_by_4_pixels_or_not_and_fills_with_0():
    height, width = size = 10, 14
    torch.manual_seed(0)
    image = torch.full((3, *size), 0.7)
    image[:, 5, 8] = 1
    changed = augment(image.expand(5000, 3, *size))
    brightest = changed.sum(dim=1).flatten(1).argmax(dim=1)
    down, right = brightest // width - 5, brightest % width - 8
    for shift in down, right:
        values, counts = shift.unique(return_counts=True)
        assert values.tolist() == [-4, 0, 4]
        torch.testing.assert_close(counts / 5000, torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    assert abs(torch.stack([down, right]).float().corrcoef()[0, 1]) < 0.05
    rows, columns = torch.arange(height) - down[:, None], torch.arange(width) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    assert torch.equal((changed != 0).all(dim=1), inside)  # no colour of the image becomes 0: 0.7 is 0.4 in [-1, 1]
