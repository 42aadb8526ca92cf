"""Part 4, step 4: trains the diffusion model.

    python -m generative.train_DDPM > log/train_DDPM.txt

The log goes to stdout, one line per epoch, and the best model to models/BestModel_DDPM.pth. What is saved is an
exponential moving average of the network's weights, and an early version of this average, for the guidance; both in
half precision.

In the first half of the epochs, photos of 48 x 48 pixels or more are halved in size, which takes a third of the time:
the network is convolutional, and what it learns of shapes is of use at full size. The early version is then that at the
end of this half, otherwise that after an eighth of the epochs.
"""

import copy
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch.nn.functional import avg_pool2d
from torch.optim.lr_scheduler import OneCycleLR

from data_processor import FlowerLoader, random_horizontal_flip
from generative.Diffusion import HALVED, DDPM_loss_function, Diffusion
from generative.Muon import Muon
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import load_photos
from lab.processes import distribute, join_processes, mean_over_processes
from lab.training_run import TrainingRun, autocast

# Defaults of the flags of these names.
SETTINGS: dict[str, Any] = {
    "image_size": (24, 24),  # width and height in pixels
    "batch_size": 16,
    "epochs": 100,  # all of them: the validation loss falls until the end
    "lr": 2e-3,  # the highest rate of the cycle, of AdamW
}
MUON_LR = 3  # times lr: the rate of Muon, for the weights between hidden layers
BETAS, WEIGHT_DECAY = (0.9, 0.98), 0.01  # of AdamW, for the other weights
DECAY = 0.999  # of the moving average of the weights, which is what is saved
EARLY = 1 / 8  # of the epochs, after which the early version is taken, for the guidance


@torch.no_grad()
def validate(model: Any, loader: FlowerLoader) -> float:
    """The mean loss over the images; random numbers are the same in each call."""
    model.eval()
    total: Any = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, labels in loader:
            total += len(images) * DDPM_loss_function(model(images, labels), images)
    return float(total) / len(loader.dataset)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = Parser("Trains the diffusion model on photos of flowers.").parse_training(argv, {"DDPM": SETTINGS})
    device = join_processes(args)
    training, validation = load_photos(args, device)
    torch.manual_seed(args.seed)
    model: Any = Diffusion(None, args.image_size, len(training.dataset.classes))
    model = model.to(device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).requires_grad_(False)  # its network is the moving average
    args.encoding_dim = model.encoding_dim
    trained, training = distribute(model, training, args)

    # Muon is for the weights between hidden layers: those of all convolutions but the first and the last.
    hidden = [layer.weight for layer in model.network.modules() if isinstance(layer, torch.nn.Conv2d)][1:-1]
    others = [param for param in model.network.parameters() if not any(param is weight for weight in hidden)]
    adamw = torch.optim.AdamW(others, args.lr, BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    muon = Muon(hidden, MUON_LR * args.lr)
    steps = args.epochs * len(training)
    adamw_scheduler = OneCycleLR(adamw, args.lr, steps, cycle_momentum=False)
    muon_scheduler = OneCycleLR(muon, MUON_LR * args.lr, steps, cycle_momentum=False)
    large = min(args.image_size) >= HALVED and not any(side % 8 for side in args.image_size)
    half_size_epochs = args.epochs // 2 if large else 0
    early_epochs = half_size_epochs or max(1, int(EARLY * args.epochs))
    stateful = [model, averaged, adamw, adamw_scheduler, muon, muon_scheduler]

    with TrainingRun(args, training, validation, stateful) as run:
        for epoch in run.epochs():
            model.train()
            total: Any = 0
            count = 0
            for images, labels in training:
                images = random_horizontal_flip(images)
                if epoch <= half_size_epochs:
                    images = avg_pool2d(images, 2)
                with autocast():
                    outputs = trained(images, labels)
                    loss = DDPM_loss_function(outputs, images)
                model.zero_grad()
                loss.backward()
                adamw.step()
                adamw_scheduler.step()
                muon.step()
                muon_scheduler.step()

                # The moving average, of less decay in the first steps: initial weights are soon forgotten.
                share = max(1 - DECAY, 9 / (9 + adamw_scheduler.last_epoch))
                weights = zip(averaged.network.parameters(), model.network.parameters(), strict=True)
                for average, weight in weights:
                    average.lerp_(weight.detach(), share)
                total += len(images) * loss.detach()
                count += len(images)
            train_loss = mean_over_processes(float(total) / count)
            if epoch <= early_epochs:
                averaged.early = copy.deepcopy(averaged.network)
            valid_loss = validate(averaged, validation)
            run.log(epoch, train_loss, valid_loss)
            run.show_samples(averaged, epoch)

            if valid_loss < run.best_loss:
                run.save_best(averaged, epoch, train_loss, valid_loss)


if __name__ == "__main__":
    main()
