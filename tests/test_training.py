"""Each training against a plain loop, written here from the handout and the papers: same losses, same model."""

import contextlib
import copy
import math
import pickle
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import MLPAE_train_script
import train_script
from Autoencoder import Autoencoder
from data_processor import create_flower_dataloaders
from generative import train_DDPM, train_GAN
from generative.Diffusion import Diffusion
from generative.GAN import GAN
from lab.checkpoint import load_checkpoint, values_in
from lab.command_line import image_size
from lab.plots import read_history
from VarAutoencoder import VAE_loss_function, VarAutoencoder, calibrated_VAE_loss_function

EPOCHS, BATCH_SIZE = 3, 6  # of 16 training photos: batches of 6, 6 and 4
SEED, SPLIT_SEED = 1, 2


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """The diffusion model is narrow: the loop is the same for any width."""
    monkeypatch.setattr("generative.Diffusion.WIDTHS", (16, 24, 32))


def run(script, name, folders, *flags):
    """Trains, and gives the two losses of each epoch."""
    size = ["--image-size", "8", "--batch-size", str(BATCH_SIZE), "--epochs", str(EPOCHS)]
    script.main([*map(str, [*folders, *flags]), *size, "--seed", str(SEED), "--split-seed", str(SPLIT_SEED)])
    history = read_history(folders[folders.index("--log-dir") + 1] / f"history_{name}.csv")
    return [list(row.values())[1:3] for row in history]


def loaders(few_photos):
    return create_flower_dataloaders(BATCH_SIZE, few_photos, 8, 8, seed=SEED, split_seed=SPLIT_SEED)


# Part 2


def test_part_2_against_pytorch(folders, few_photos, tmp_path):
    """The same network in PyTorch: plain SGD, a rate that rises for a tenth of the epochs and then falls to 0."""
    found = run(MLPAE_train_script, "MLPAE", folders)

    rng = np.random.default_rng(SEED)
    graph = MLPAE_train_script.build_autoencoder(192, rng)
    layers = []
    for node in graph:
        if node.params:
            layer = nn.Linear(*node.params[0].shape)
            layer.weight.data, layer.bias.data = (torch.tensor(param.T) for param in node.params)
        else:
            layer = {"ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid}[type(node).__name__]()
        layers.append(layer)
    model = nn.Sequential(*layers)
    training, validation = loaders(few_photos)
    expected, models = [], []
    for rate in 8.0, 8.0 * 2 / 2.7, 8.0 * 1 / 2.7:
        total = 0
        for images, _ in training:
            x = images.flatten(1)
            loss = ((model(x) - x) ** 2).mean()
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for param in model.parameters():
                    param -= rate * param.grad
            total += len(x) * loss.item() / 16
        with torch.no_grad():
            x = torch.cat([images for images, _ in validation]).flatten(1)
            valid = ((model(x) - x) ** 2).mean().item()
        expected.append([total, valid])
        models.append(copy.deepcopy(model))
    assert found == [pytest.approx(row, rel=1e-4) for row in expected]
    checkpoint = load_checkpoint(tmp_path / "models", "MLPAE")
    best = np.argmin(expected, axis=0)[1]
    assert checkpoint["epoch"] == best + 1
    x = torch.rand(5, 192)
    found = checkpoint["model"].graph.forward(x.numpy())
    np.testing.assert_allclose(found, models[best](x).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("epoch", "epochs", "rate"),
    [(1, 100, 0.8), (5, 100, 4), (10, 100, 8), (11, 100, 8), (56, 100, 4), (100, 100, 8 / 90), (1, 1, 8 / 0.9 * 0.9)],
)
def test_learning_rate_of_part_2(epoch, epochs, rate):
    assert MLPAE_train_script.learning_rate(epoch, epochs, 8) == pytest.approx(rate)


def test_part_2_is_the_network_of_the_handout():
    graph = MLPAE_train_script.build_autoencoder(1728, np.random.default_rng(0))
    kinds = [repr(node).split("(")[0] for node in graph]
    assert kinds == 2 * ["Linear", "ReLU"] + ["Linear"] + 2 * ["Linear", "ReLU"] + ["Linear", "Sigmoid"]
    shapes = [node.params[0].shape for node in graph if node.params]
    assert shapes == [(1728, 256), (256, 128), (128, 64), (64, 128), (128, 256), (256, 1728)]
    size = len(pickle.dumps(graph))
    assert graph.forward(np.zeros((1, 1728), np.float32)).shape == (1, 1728)
    assert graph.backward(np.ones((1, 1728), np.float32)) is None  # no gradient of the photos is computed
    assert len(pickle.dumps(graph)) == size  # the last batch is not in it
    narrow = MLPAE_train_script.build_autoencoder(12, np.random.default_rng(0), encoding_dim=3)
    assert [node.params[0].shape for node in narrow if node.params][2:4] == [(128, 3), (3, 128)]


# Parts 3 and 4


def mean_squared_error(outputs, images):
    return ((outputs - images) ** 2).mean()


def VAE_terms(outputs, images):
    reconstructed, mu, log_var = outputs
    squared_error = ((reconstructed - images) ** 2).sum() / 2  # the mean of two reconstructions
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mu, (log_var / 2).exp()), normal(0.0, 1.0)).sum()
    return squared_error, kl


def VAE_loss(outputs, images):
    return sum(VAE_terms(outputs, images)) * 16 / len(images)


def calibrated_VAE_loss(outputs, images):
    squared_error, kl = VAE_terms(outputs, images)
    size = images.numel()
    return (size / 2 * torch.log(squared_error / size) + kl) * 16 / len(images)


ADAM = torch.optim.AdamW
BETAS = (0.9, 0.98)
REGULARIZED = {"betas": BETAS, "weight_decay": 0.3}
TRAININGS = {  # model, its loss, optimizer and its settings
    ("AE", "AdamW"): (Autoencoder, mean_squared_error, ADAM, {"lr": 3e-3} | REGULARIZED),
    ("AE", "SGD"): (Autoencoder, mean_squared_error, torch.optim.SGD, {"lr": 5.0}),
    ("VAE", "AdamW"): (VarAutoencoder, VAE_loss, ADAM, {"lr": 3e-3} | REGULARIZED),
    ("VAE_calibrated", "AdamW"): (VarAutoencoder, calibrated_VAE_loss, ADAM, {"lr": 2e-3} | REGULARIZED),
}


def mirrored(images):
    """Each image mirrored left to right with probability 1/2."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)


def valid_loss(model, validation, loss_function):
    """The loss of all validation photos, with the same random numbers each time."""
    random_state = torch.get_rng_state()
    torch.manual_seed(0)
    model.eval()
    images, labels = next(iter(validation))  # 4: one batch
    with torch.no_grad():
        loss = loss_function(model(images, labels) if isinstance(model, Diffusion) else model(images), images).item()
    torch.set_rng_state(random_state)
    return loss


def expect_same_weights(found, expected, tolerance):
    """In the mean: Adam turns the rounding of a gradient near 0 into a step."""
    both = (torch.cat([param.flatten() for param in each.parameters()]) for each in (found, expected))
    assert torch.sub(*both).abs().mean() < tolerance


@pytest.mark.parametrize(("name", "optimizer"), TRAININGS)
def test_parts_3_and_4_against_a_plain_loop(name, optimizer, folders, few_photos, tmp_path):
    """Photos mirrored left to right at random, and one cycle of the rate."""
    found = run(train_script, name, folders, "--model", name, "--optimizer", optimizer)

    build, loss_function, optimizer_class, settings = TRAININGS[name, optimizer]
    torch.manual_seed(SEED)
    model = build(image_size=(8, 8))
    model.antithetic = True  # of the VAE
    training, validation = loaders(few_photos)
    step_of = optimizer_class(model.parameters(), **settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(step_of, settings["lr"], EPOCHS * 3, cycle_momentum=False)
    expected, models = [], []
    for _ in range(EPOCHS):
        model.train()
        total = 0
        for images, _ in training:
            images = mirrored(images)
            loss = loss_function(model(images), images)
            model.zero_grad()
            # The sum over a batch of the VAE's loss is what is minimized; per 16 images it is logged.
            (loss * len(images) / 16 if build is VarAutoencoder else loss).backward()
            step_of.step()
            schedule.step()
            total += len(images) * loss.item() / 16
        if name == "VAE_calibrated":
            model.standardize_latent(training.dataset[:][0])
        expected.append([total, valid_loss(model, validation, loss_function)])
        models.append(copy.deepcopy(model))

    assert found == [pytest.approx(row, rel=1e-3) for row in expected]
    checkpoint = load_checkpoint(tmp_path / "models", name)
    best = np.argmin(expected, axis=0)[1]
    assert checkpoint["epoch"] == best + 1
    expect_same_weights(checkpoint["model"], models[best], 2e-7)


def test_validation_is_in_evaluation_mode(few_photos):
    """Students' models may have dropout or batch norm."""
    _, validation = loaders(few_photos)
    assert train_script.validate(nn.Dropout().train(), validation, {"Loss": mse_loss}) == {"Loss": 0}
    model = nn.Dropout().train()
    model.forward = lambda images, _, forward=model.forward: (forward(images), images)
    assert train_DDPM.validate(model, validation) == 0


# Part 4, step 4


def move(average, values, steps):
    """The moving average after so many steps."""
    decay = min(0.999, steps / (9 + steps))
    for kept, value in zip(average, values, strict=True):
        kept.data = decay * kept + (1 - decay) * value.detach()


def test_the_GAN_against_a_plain_loop(folders, few_photos, tmp_path, monkeypatch):
    """Two networks and two optimizers; of the generator, and of its batch norms, an average is kept."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # its rounding grows from step to step
    found = run(train_GAN, "GAN", folders)

    torch.manual_seed(SEED)
    model = GAN(image_size=(8, 8), classes=2)
    kept = copy.deepcopy(model.generator).eval()
    training, _ = loaders(few_photos)
    networks = model.discriminator, model.generator
    steps_of = [ADAM(each.parameters(), lr=1e-3, betas=(0.5, 0.99), weight_decay=0) for each in networks]
    schedules = [torch.optim.lr_scheduler.OneCycleLR(each, 1e-3, EPOCHS * 3, cycle_momentum=False) for each in steps_of]
    steps, expected = 0, []
    for _ in range(EPOCHS):
        totals = np.zeros(2)
        for images, labels in training:
            images = mirrored(images)
            pictures = model(labels)
            photo_scores, picture_scores = model.score(images, labels), model.score(pictures.detach(), labels)
            d_loss = (1 + (-photo_scores).exp()).log().mean() + (1 + picture_scores.exp()).log().mean()
            model.zero_grad()
            d_loss.backward()
            if steps % 8 == 0:
                photos = images.requires_grad_()
                [slope] = torch.autograd.grad(model.score(photos, labels).sum(), photos, create_graph=True)
                (8 * 0.1 / 2 * (slope**2).sum() / len(photos)).backward()
            steps_of[0].step()
            g_loss = (1 + (-model.score(pictures, labels)).exp()).log().mean()
            model.zero_grad()
            g_loss.backward()
            steps_of[1].step()
            for schedule in schedules:
                schedule.step()
            steps += 1
            move(kept.parameters(), model.generator.parameters(), steps)
            floats = ([each for each in network.buffers() if each.ndim] for network in (kept, model.generator))
            move(*floats, steps)
            totals += [len(images) * loss.item() / 16 for loss in (d_loss, g_loss)]
        expected.append(list(totals))

    assert found == [pytest.approx(row, rel=1e-3) for row in expected]
    checkpoint = load_checkpoint(tmp_path / "models", "GAN")
    assert checkpoint["epoch"] == EPOCHS  # the last one: no loss tells which is the best
    assert [checkpoint["discriminator_loss"], checkpoint["generator_loss"]] == found[-1]
    saved = checkpoint["model"].generator
    expect_same_weights(saved, kept, 1e-5)  # in a GAN, differences grow fastest
    for buffer, value in zip(saved.buffers(), kept.buffers(), strict=True):
        torch.testing.assert_close(buffer, value if value.ndim else torch.tensor(9), rtol=1e-3, atol=1e-4)


def newton_schulz(matrix):
    """As Jordan et al. (2024) give it."""
    x = matrix / (matrix.norm() + 1e-7)
    if len(x) > x.shape[1]:
        return newton_schulz(matrix.T).T
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_DDPM_against_a_plain_loop(bfloat16, folders, few_photos, tmp_path, monkeypatch):
    """Of the network, an average is kept, and the average after the first epoch guides it. Muon is for convolutions
    between hidden layers."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    found = run(train_DDPM, "DDPM", folders)

    torch.manual_seed(SEED)
    model = Diffusion(image_size=(8, 8), classes=2)
    kept = copy.deepcopy(model)
    training, validation = loaders(few_photos)
    blocks = nn.ModuleList([model.network.down, model.network.middle, model.network.up])
    averages = {weight: torch.zeros_like(weight) for weight in blocks.parameters() if weight.ndim == 4}
    others = [param for param in model.network.parameters() if param not in averages]
    step_of = ADAM(others, lr=2e-3, betas=BETAS, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(step_of, 2e-3, EPOCHS * 3, cycle_momentum=False)
    steps, expected, models = 0, [], []
    for epoch in range(EPOCHS):
        total = 0
        for images, labels in training:
            images = mirrored(images)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                predicted, true = model(images, labels)
            loss = mean_squared_error(predicted.float(), true)
            model.zero_grad()
            loss.backward()
            for weight, average in averages.items():
                average += 0.05 * (weight.grad - average)
                step = newton_schulz((0.05 * weight.grad + 0.95 * average).flatten(1))
                scale = max(1, len(step) / step.shape[1]) ** 0.5
                weight.data -= 3 * step_of.param_groups[0]["lr"] * scale * step.view(weight.shape)
            step_of.step()
            schedule.step()
            steps += 1
            move(kept.network.parameters(), model.network.parameters(), steps)
            total += len(images) * loss.item() / 16
        if epoch == 0:
            kept.early = copy.deepcopy(kept.network)
        expected.append([total, valid_loss(kept, validation, lambda outputs, _: mean_squared_error(*outputs))])
        models.append(copy.deepcopy(kept))

    assert found == [pytest.approx(row, rel=1e-3) for row in expected]
    checkpoint = load_checkpoint(tmp_path / "models", "DDPM")
    best = np.argmin(expected, axis=0)[1]
    assert checkpoint["epoch"] == best + 1
    # Without a weight decay of 0.01 it is 1e-6; bfloat16 has 8 bits.
    expect_same_weights(checkpoint["model"], models[best].half().float(), 1e-4 if bfloat16 else 2e-7)


@pytest.mark.parametrize(
    ("size", "epochs", "half", "early"),
    [("4", "16", None, 2), ("64x48", "4", (24, 32), 2), ("40", "2", None, 1), ("52x48", "2", None, 1)],
)
def test_large_photos_are_halved_at_first(size, epochs, half, early, folders, tmp_path, monkeypatch):
    """In half of the epochs. After these, or after an eighth of all, the average is taken as the early version."""
    seen, averages = [], []

    def loss(outputs, images):
        seen.append(images)
        return mean_squared_error(*outputs)

    def validate(model, loader):
        averages.append(copy.deepcopy(model.network.state_dict()))
        if len(averages) > 3:  # three are enough to see it
            raise KeyboardInterrupt
        return -float(len(averages))  # the last is the best

    monkeypatch.setattr("generative.Diffusion.WIDTHS", (8, 8, 8))
    monkeypatch.setattr(train_DDPM, "DDPM_loss_function", loss)
    monkeypatch.setattr(train_DDPM, "validate", validate)
    monkeypatch.setattr(train_DDPM, "random_horizontal_flip", lambda images: images)
    with contextlib.suppress(SystemExit):
        train_DDPM.main([*map(str, folders), "--image-size", size, "--epochs", epochs])  # each of one batch
    model = load_checkpoint(tmp_path / "models", "DDPM")["model"]
    for found, expected in (model.early, averages[early - 1]), (model.network, averages[:3][-1]):
        assert all(torch.equal(weight, expected[name].half().float()) for name, weight in found.state_dict().items())
    full = image_size(size)[::-1]
    assert [tuple(images.shape[2:]) for images in seen] == [half or full] * early + [full] * (len(averages) - early)
    if half:  # the mean of four pixels
        pooled = seen[2].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
        torch.testing.assert_close(seen[0].sum(0), pooled.sum(0))  # whatever the order of the photos


@pytest.mark.parametrize("name", ["GAN", "DDPM"])
def test_in_the_long_run_an_average_moves_by_a_thousandth(name, folders, tmp_path, monkeypatch):
    script = train_GAN if name == "GAN" else train_DDPM
    monkeypatch.setattr(script, "OneCycleLR", lambda *_, **__: Mock(last_epoch=10**6, state_dict=dict))
    script.main([*map(str, folders), "--image-size", "8", "--epochs", "1"])  # of one step
    state = tmp_path / "models" / f"LastEpoch_{name}.pth"
    weight = "generator.0.weight" if name == "GAN" else "network.leave.2.bias"  # of the first to have a gradient
    trained, averaged = (part[weight] for part in values_in(state.read_bytes())["stateful"][:2])
    torch.manual_seed(0)
    initial = (GAN if name == "GAN" else Diffusion)(image_size=(8, 8), classes=2).state_dict()[weight]
    assert (trained - initial).abs().mean() > 1e-4  # or the next line would prove little
    torch.testing.assert_close(averaged - initial, 0.001 * (trained - initial), rtol=0.02, atol=1e-8)
    saved = averaged.half().float() if name == "DDPM" else averaged
    assert torch.equal(load_checkpoint(tmp_path / "models", name)["model"].state_dict()[weight], saved)


# Validation


def test_validation_of_a_VAE_names_its_terms(few_photos):
    """All latent vectors from N(0, 1), so that the KL divergence is 0; all images gray; in batches of three and one."""
    model = VarAutoencoder(5, (8, 8))
    for layer in model.encoder[-1], model.decoder[-2]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    _, validation = create_flower_dataloaders(3, few_photos, 8, 8)
    losses = {"Loss": VAE_loss_function} | train_script.VAE_TERMS | {"Calibrated": calibrated_VAE_loss_function}
    errors = [((images - 0.5) ** 2).sum().item() for images, _ in validation]
    squared_error = sum(errors) * 16 / 4  # four images, for a batch of 16
    likelihood = sum(n * 192 / 2 * math.log(error / (n * 192)) for n, error in zip((3, 1), errors, strict=True)) * 4
    for bias, kl_divergence in (0, 0), (1, 16 * 5 * 0.5 * (math.e + 1 - 1 - 1)):  # mu = log_var = bias
        nn.init.constant_(model.encoder[-1].bias, bias)
        assert train_script.validate(model, validation, losses) == {
            "Loss": pytest.approx(squared_error + kl_divergence),
            "Squared Error": pytest.approx(squared_error),
            "KL Divergence": pytest.approx(kl_divergence, rel=1e-6, abs=1e-4),
            "Calibrated": pytest.approx(likelihood + kl_divergence),
        }


# Both scripts


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_early_stopping_and_the_first_of_equal_losses(name, folders, monkeypatch, capsys, tmp_path):
    script, model = (MLPAE_train_script, []) if name == "MLPAE" else (train_script, ["--model", name])
    losses = 2 * [0.5, 0.5, 0.25, 0.5, 0.25]
    found = iter(map(np.float32, losses) if name == "MLPAE" else [{"Loss": loss} for loss in losses])
    monkeypatch.setattr(script, "validate", lambda *_: next(found))  # a student's may be NumPy's number
    for epochs in 9, 5:
        flags = [*model, *folders, "--image-size", 4, "--epochs", epochs, "--patience", 2]
        script.main([str(flag) for flag in flags])
        out = capsys.readouterr().out
        assert out.count("Epoch: ") == 5 and "\nBest epoch: 3, " in out
        assert ("Stopped early" in out) is (epochs == 9)  # otherwise there was no epoch left
        checkpoint = load_checkpoint(tmp_path / "models", name)
        assert (checkpoint["epoch"], checkpoint["valid_loss"]) == (3, 0.25)
