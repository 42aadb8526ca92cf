"""One epoch of training, AE and VAE, batch 16, 24 x 24 pixels, against plain loops over the same photos."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.measure import show, time_in_turn
from data_processor import FlowerDataset, create_flower_dataloaders
from tasks import TASKS, make_optimizer, train_one_epoch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on machines without libjpeg, torchvision says so at every import
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

EPOCHS = 100  # far more than are timed: the schedule must not come to its end


def our_epoch(name: str, loader: DataLoader) -> Callable[[], float]:
    task = TASKS[name]
    model = task.model().to(memory_format=torch.channels_last)
    optimizer, schedule = make_optimizer("AdamW", model, task.recipes["AdamW"], 1e-3, EPOCHS * len(loader))
    return lambda: train_one_epoch(model, loader, task, optimizer, schedule)


def plain_epoch(name: str, dataset: TensorDataset | Subset) -> Callable[[], None]:
    """The loop of a tutorial, with the model, the losses and the optimizer of our own."""
    task = TASKS[name]
    model = task.model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, EPOCHS * len(dataset), cycle_momentum=False)
    loader = DataLoader(dataset, batch_size=16, shuffle=True)

    def epoch() -> None:
        model.train()
        total = 0
        for images, _ in loader:
            outputs = model(images, **task.options)
            loss = task.loss_function(outputs, images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(images)

    return epoch


def run(data_root: str) -> None:
    training, _ = create_flower_dataloaders(16, data_root, 24, 24)
    assert isinstance(training.dataset, FlowerDataset)
    as_tutorials_do = transforms.Compose(
        [transforms.Resize((24, 24)), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    folder = ImageFolder(data_root, as_tutorials_do)
    names = set(training.dataset.names)
    kept = [i for i, (path, _) in enumerate(folder.samples) if Path(path).relative_to(data_root).as_posix() in names]
    in_memory = TensorDataset(*training.dataset[:])
    for name in "AE", "VAE":
        contenders = {
            "train_one_epoch": our_epoch(name, training),
            "train_one_epoch again (control)": our_epoch(name, training),
            "plain loop, photos in memory": plain_epoch(name, in_memory),
            "plain loop over ImageFolder": plain_epoch(name, Subset(folder, kept)),
        }
        times = time_in_turn(contenders, rounds=7)
        title = f"{name}: one epoch of training on {len(training.dataset)} photos, 24 x 24 pixels, batch 16, AdamW"
        show(title, times, "s", against=["plain loop over ImageFolder", "plain loop, photos in memory"])
