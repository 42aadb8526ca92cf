"""Trains the AE or the VAE as a tutorial's script would, for comparison: same model, loss and optimizer, plain loops.

    python -m benchmarks.plain_loop AE|VAE EPOCHS DATA_ROOT folder|memory

"folder" reads the photos by torchvision's ImageFolder in each epoch, "memory" keeps them in a TensorDataset.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import lab.threads  # noqa: F401  (before PyTorch)

import torch
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from Autoencoder import Autoencoder
from data_processor import FlowerDataset, read_flowers
from VarAutoencoder import VAE_loss_function, VarAutoencoder


def in_folder(photos: FlowerDataset, *augmentation: Any) -> Dataset:
    """The same photos, as an ImageFolder decodes them whenever they are used."""
    transform = transforms.Compose([transforms.Resize((24, 24)), *augmentation, transforms.ToTensor()])
    paths = {Path(photos.root, name) for name in photos.names}
    return ImageFolder(photos.root, transform, is_valid_file=lambda path: Path(path) in paths, allow_empty=True)


def main(name: str, epochs: str, data_root: str, source: str) -> None:
    training, validation = read_flowers(data_root, 24, 24, quiet=True).split()
    train_set: Dataset = TensorDataset(*training[:])
    valid_set: Dataset = TensorDataset(*validation[:])
    if source == "folder":
        train_set = in_folder(training, transforms.RandomHorizontalFlip())
        valid_set = in_folder(validation)
    train_loader, valid_loader = DataLoader(train_set, 16, shuffle=True), DataLoader(valid_set, 16)

    model: Any = Autoencoder()
    loss_function: Any = mse_loss
    if name == "VAE":
        model, loss_function = VarAutoencoder(), VAE_loss_function
        model.antithetic = True
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    best_loss, best_model = float("inf"), {}
    for epoch in range(1, int(epochs) + 1):
        model.train()
        train_loss = 0.0
        for images, _ in train_loader:
            loss = loss_function(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
        model.eval()
        valid_loss = 0.0
        with torch.no_grad():
            for images, _ in valid_loader:
                valid_loss += loss_function(model(images), images).item()
        if valid_loss < best_loss:
            best_loss, best_model = valid_loss, copy.deepcopy(model.state_dict())
        train_loss, valid_loss = train_loss / len(train_loader), valid_loss / len(valid_loader)
        print(f"Epoch: {epoch}, Train Loss: {train_loss:.4f}, Valid Loss: {valid_loss:.4f}", flush=True)
    model.load_state_dict(best_model)


if __name__ == "__main__":
    main(*sys.argv[1:])
