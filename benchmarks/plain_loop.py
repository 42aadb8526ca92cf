"""Trains the AE or the VAE as a tutorial's script would, for comparison: same model, loss and optimizer, plain loops.

    python -m benchmarks.plain_loop AE|VAE folder|memory DATA_ROOT EPOCHS

"folder" reads the photos by torchvision's ImageFolder in each epoch, "memory" keeps them in a TensorDataset.
"""

import copy
import sys
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from data_processor import FlowerDataset, read_flowers
from lab.checkpoint import new_model
from lab.pytorch_training import CRITERIA

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without libjpeg, torchvision warns at every import
    from torchvision import transforms
    from torchvision.datasets import ImageFolder


def part_of_folder(root: str, photos: FlowerDataset, *augmentation: torch.nn.Module) -> Subset:
    """The same photos, as an ImageFolder decodes them whenever they are used."""
    folder = ImageFolder(root, transforms.Compose([transforms.Resize((24, 24)), *augmentation, transforms.ToTensor()]))
    names = set(photos.names)
    kept = [i for i, (path, _) in enumerate(folder.samples) if Path(path).relative_to(root).as_posix() in names]
    return Subset(folder, kept)


def main(name: str, source: str, root: str, number: str) -> None:
    splits = read_flowers(root, 24, 24, quiet=True).split()
    training, validation = splits
    sets: list[Dataset] = [TensorDataset(*photos[:]) for photos in splits]
    if source == "folder":
        sets = [part_of_folder(root, training, transforms.RandomHorizontalFlip()), part_of_folder(root, validation)]
    train_loader, valid_loader = (DataLoader(photos, 16, shuffle=photos is sets[0]) for photos in sets)

    model, criterion = new_model(name, 64, (24, 24), len(training.classes)), CRITERIA[name]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    best_loss, best_model = float("inf"), None
    for epoch in range(1, int(number) + 1):
        model.train()
        train_loss = 0.0
        for images, kinds in train_loader:
            loss = criterion.loss_function(criterion.outputs(model, images, kinds), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
        model.eval()
        valid_loss = 0.0
        with torch.no_grad():
            for images, kinds in valid_loader:
                valid_loss += criterion.loss_function(criterion.outputs(model, images, kinds), images).item()
        if valid_loss < best_loss:
            best_loss, best_model = valid_loss, copy.deepcopy(model.state_dict())
        train_loss, valid_loss = train_loss / len(train_loader), valid_loss / len(valid_loader)
        print(f"Epoch: {epoch}, Train Loss: {train_loss:.4f}, Valid Loss: {valid_loss:.4f}", flush=True)
    assert best_model is not None


if __name__ == "__main__":
    main(*sys.argv[1:])
