"""Each training against a plain loop, written here from the handout and the papers: same losses, same model."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler

import MLPAE_train_script
import train_script
from Autoencoder import Autoencoder
from data_processor import create_flower_dataloaders, whole_batch
from Diffusion import Diffusion
from GAN import GAN
from lab.checkpoint import load_checkpoint
from lab.plots import read_history
from lab.pytorch_training import CRITERIA, moving_average, validate
from VarAutoencoder import VarAutoencoder

EPOCHS, BATCH_SIZE = 3, 6  # of 16 training photos: batches of 6, 6 and 4
SEED, SPLIT_SEED = 1, 2


def run(script, name, folders, *flags):
    """Trains, and gives the losses of each epoch: rows of (train loss, validation loss)."""
    size = ["--image-size", "8", "--batch-size", str(BATCH_SIZE), "--epochs", str(EPOCHS)]
    script.main([*map(str, [*folders, *flags]), *size, "--seed", str(SEED), "--split-seed", str(SPLIT_SEED)])
    history = read_history(folders[folders.index("--log-dir") + 1] / f"history_{name}.csv")
    return [[row["Train Loss"], row["Valid Loss"]] for row in history]


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
    assert graph.forward(np.zeros((1, 1728), np.float32)).shape == (1, 1728)
    assert graph.backward(np.ones((1, 1728), np.float32)) is None  # no gradient of the photos is computed
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


def GAN_loss(outputs, images):
    photo, picture, fooled = outputs
    return (1 - photo).clamp(min=0).mean() + (1 + picture).clamp(min=0).mean() - fooled.mean()


def DDPM_loss(outputs, images):
    predicted, v = outputs
    return ((predicted - v) ** 2).mean()


ADAM = torch.optim.AdamW
BETAS = (0.9, 0.98)
TRAININGS = {  # model, its loss, sampled twice, optimizer, its settings, and whether an average of the weights is kept
    ("AE", "AdamW"): (Autoencoder, mean_squared_error, ADAM, dict(lr=3e-3, betas=BETAS, weight_decay=0.3), False),
    ("AE", "SGD"): (Autoencoder, mean_squared_error, torch.optim.SGD, dict(lr=5.0), False),
    ("VAE", "AdamW"): (VarAutoencoder, VAE_loss, ADAM, dict(lr=3e-3, betas=BETAS, weight_decay=0.3), False),
    ("VAE", "SGD"): (VarAutoencoder, VAE_loss, torch.optim.SGD, dict(lr=1e-4), False),
    ("VAE_calibrated", "AdamW"): (
        VarAutoencoder,
        calibrated_VAE_loss,
        ADAM,
        dict(lr=2e-3, betas=BETAS, weight_decay=0.3),
        False,
    ),
    ("GAN", "AdamW"): (GAN, GAN_loss, ADAM, dict(lr=1e-3, betas=(0.5, 0.99), weight_decay=0), True),
    ("DDPM", "AdamW"): (Diffusion, DDPM_loss, ADAM, dict(lr=2e-3, betas=BETAS, weight_decay=0.01), True),
}


@pytest.mark.parametrize(("name", "optimizer"), TRAININGS)
def test_parts_3_and_4_against_a_plain_loop(name, optimizer, folders, few_photos, tmp_path):
    """Photos mirrored left to right at random, one cycle of the rate, and for some models an average of the weights."""
    found = run(train_script, name, folders, "--model", name, "--optimizer", optimizer)

    build, loss_function, optimizer_class, settings, averaged = TRAININGS[name, optimizer]
    options = {"antithetic": True} if build is VarAutoencoder else {}
    torch.manual_seed(SEED)
    by_kind = build in (GAN, Diffusion)
    model = build(image_size=(8, 8), kinds=2) if by_kind else build(image_size=(8, 8))
    training, validation = loaders(few_photos)
    if name == "GAN":  # every tenth photo is held out, and the rest is shuffled
        order = torch.Generator().manual_seed(SEED)
        sampler = SubsetRandomSampler([i for i in range(16) if i not in (0, 10)], order)
        options = {"sampler": sampler, "generator": order, "collate_fn": whole_batch}
        training = DataLoader(training.dataset, BATCH_SIZE, **options)
    step_of = optimizer_class(model.parameters(), **settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(step_of, settings["lr"], EPOCHS * 3, cycle_momentum=False)
    kept, steps, expected, models = copy.deepcopy(model), 0, [], []
    for _ in range(EPOCHS):
        model.train()
        total = 0
        for images, kinds in training:
            mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
            loss = loss_function(model(images, kinds) if by_kind else model(images, **options), images)
            model.zero_grad()
            # The sum over a batch of the VAE's loss is what is minimized; per 16 images it is logged.
            (loss * len(images) / 16 if build is VarAutoencoder else loss).backward()
            step_of.step()
            schedule.step()
            decay = min(0.999, (1 + steps) / (10 + steps)) if averaged and steps else 0
            for average, weight in zip(kept.parameters(), model.parameters(), strict=True):
                average.data = decay * average + (1 - decay) * weight.detach()
            steps += 1
            total += len(images) * loss.item() / (14 if name == "GAN" else 16)
        kept.eval()
        random_state = torch.get_rng_state()
        torch.manual_seed(0)
        with torch.no_grad():
            images, kinds = next(iter(validation))  # 4: one batch
            valid = loss_function(kept(images, kinds) if by_kind else kept(images, **options), images).item()
        torch.set_rng_state(random_state)
        if name == "GAN":  # whose validation is a distance, tested in test_picture_quality.py
            valid = found[len(expected)][1]
        expected.append([total, valid])
        models.append(copy.deepcopy(kept))

    assert found == [pytest.approx(row, rel=1e-3) for row in expected]
    checkpoint = load_checkpoint(tmp_path / "models", name)
    best = np.argmin(expected, axis=0)[1]
    assert checkpoint["epoch"] == best + 1
    weights = (
        torch.cat([param.flatten() for param in each.parameters()]) for each in (checkpoint["model"], models[best])
    )
    difference = torch.sub(*weights).abs().mean()  # the mean: Adam turns the rounding of a gradient near 0 into a step
    # Without a weight decay of 0.01, that of DDPM is 1.3e-6. In a GAN, differences grow fastest.
    assert difference < (1e-5 if name == "GAN" else 2e-7)


def test_in_the_long_run_an_average_moves_by_a_thousandth():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    averaged = moving_average(model, optimizer)
    averaged.n_averaged += 10**6
    averaged.module.bias.data.fill_(0)
    model.bias.data.fill_(3)
    model.bias.grad = torch.ones(1)
    optimizer.step()  # to 2
    assert averaged.module.bias.item() == pytest.approx(0.002, rel=1e-3)


def test_validation_of_a_VAE_names_its_terms(few_photos):
    """All latent vectors from N(0, 1), so that the KL divergence is 0; and all images gray."""
    model = VarAutoencoder(5, (8, 8))
    for layer in model.encoder[-1], model.decoder[-2]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    _, validation = loaders(few_photos)
    images, _ = next(iter(validation))
    loss, terms = validate(model, validation, CRITERIA["VAE"])
    expected = ((images - 0.5) ** 2).sum().item() * 16 / 4  # four images, for a batch of 16
    assert terms == {"Squared Error": pytest.approx(expected), "KL Divergence": pytest.approx(0, abs=1e-6)}
    assert loss == pytest.approx(expected)
    nn.init.ones_(model.encoder[-1].bias)  # mu = 1, log_var = 1
    _, terms = validate(model, validation, CRITERIA["VAE_calibrated"])
    assert terms["KL Divergence"] == pytest.approx(16 * 5 * 0.5 * (math.e + 1 - 1 - 1))
    assert terms["Squared Error"] == pytest.approx(expected)
    assert terms["VAE Loss"] == pytest.approx(terms["Squared Error"] + terms["KL Divergence"])


# Both scripts


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_of_equal_losses_the_first_is_the_best(name, folders, monkeypatch, capsys, tmp_path):
    if name == "MLPAE":
        script, flags = MLPAE_train_script, []
        monkeypatch.setattr(MLPAE_train_script, "validate", lambda *_: 0.5)
    else:
        script, flags = train_script, ["--model", name]
        monkeypatch.setattr("lab.pytorch_training.validate", lambda *_: (0.5, {}))
    flags = [*folders, *flags, "--image-size", 8, "--epochs", 9, "--patience", 4]
    script.main([str(flag) for flag in flags])
    out = capsys.readouterr().out
    assert out.count("Epoch: ") == 5 and "Stopped early: no better model in 4 epochs\nBest epoch: 1, " in out
    assert load_checkpoint(tmp_path / "models", name)["epoch"] == 1
    script.main([str(flag) for flag in [*flags, "--epochs", 5]])
    assert "Stopped early" not in capsys.readouterr().out  # there was no epoch left
