"""Part 4, step 4: trains the GAN.

    python -m generative.train_GAN > log/train_GAN.txt

The log goes to stdout, one line per epoch with the losses of both networks, and the model to models/BestModel_GAN.pth.
No loss tells how good the pictures are, so that no epoch is the best: the model that is saved has the latest
exponential moving average of the generator's weights.
"""

import copy
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch.optim.lr_scheduler import OneCycleLR

from data_processor import random_horizontal_flip
from generative.GAN import GAN, discriminator_loss, generator_loss, gradient_penalty
from lab.command_line import Parser
from lab.errors import one_line_errors
from lab.photos import load_photos
from lab.training_run import TrainingRun, autocast

# Defaults of the flags of these names.
SETTINGS: dict[str, Any] = {
    "image_size": (24, 24),  # width and height in pixels
    "encoding_dim": 64,  # size of the latent vector
    "batch_size": 32,
    "epochs": 220,  # all of them: no loss tells when to stop
    "lr": 1e-3,  # the highest rate of the cycle, of both networks
}
BETAS = 0.5, 0.99  # of AdamW: little momentum, since the other network changes all the time
PENALTY, PENALTY_EVERY = 0.1, 8  # weight of the gradient penalty; in every eighth step, eight times as much
DECAY = 0.999  # of the moving average of the weights, which is what is saved


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = Parser("Trains the GAN on photos of flowers.").parse_training(argv, {"GAN": SETTINGS})
    training, validation = load_photos(args, args.device)
    photos = training.dataset
    torch.manual_seed(args.seed)
    model: Any = GAN(args.encoding_dim, args.image_size, len(photos.classes))
    model = model.to(args.device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).requires_grad_(False).eval()  # its generator is the moving average

    def optimizer_of(network: torch.nn.Module) -> tuple[torch.optim.Optimizer, OneCycleLR]:
        optimizer = torch.optim.AdamW(network.parameters(), args.lr, BETAS, weight_decay=0, fused=True)
        return optimizer, OneCycleLR(optimizer, args.lr, args.epochs * len(training), cycle_momentum=False)

    d_optimizer, d_scheduler = optimizer_of(model.discriminator)
    g_optimizer, g_scheduler = optimizer_of(model.generator)
    stateful = [model, averaged, d_optimizer, d_scheduler, g_optimizer, g_scheduler]

    with TrainingRun(args, training, validation, stateful) as run:
        for epoch in run.epochs():
            totals: Any = 0
            for images, labels in training:
                images = random_horizontal_flip(images)

                # The discriminator's step: to tell the photos from the pictures.
                with autocast():
                    pictures = model(labels)
                    d_loss = discriminator_loss(model.score(images, labels), model.score(pictures.detach(), labels))
                penalized = d_loss
                if d_scheduler.last_epoch % PENALTY_EVERY == 0:
                    penalized = d_loss + PENALTY_EVERY * PENALTY * gradient_penalty(model, images, labels)
                d_optimizer.zero_grad()
                penalized.backward()
                d_optimizer.step()
                d_scheduler.step()

                # The generator's step: to have its pictures taken for photos.
                with autocast():
                    g_loss = generator_loss(model.score(pictures, labels))
                g_optimizer.zero_grad()
                g_loss.backward(inputs=list(model.generator.parameters()))
                g_optimizer.step()
                g_scheduler.step()

                # The moving average, of less decay in the first steps: initial weights are soon forgotten.
                share = max(1 - DECAY, 9 / (9 + g_scheduler.last_epoch))
                for average, value in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
                    average.lerp_(value, share) if average.is_floating_point() else average.copy_(value)

                totals += len(images) * torch.stack([d_loss, g_loss]).detach()
            losses = dict(zip(["Discriminator Loss", "Generator Loss"], (totals / len(photos)).tolist(), strict=True))
            run.log_losses(epoch, losses)
            run.show_samples(averaged, epoch)
            run.save(averaged, epoch, losses)


if __name__ == "__main__":
    main()
