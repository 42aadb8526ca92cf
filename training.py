"""All the epochs of a training, whatever the model: the best one kept, an end in time, and a way back after a break.

After each epoch, models/LastEpoch_X.pth holds what the next one needs: weights, optimizer, random state, history. With
``--resume`` the training goes on from there, and ends with the very bytes of one that never stopped.
"""

import argparse
import csv
import io
import math
import reprlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import parallel
from autograd import BaseGraph
from checkpoint import CheckpointError, checkpoint_path, load_values, save_checkpoint, save_values
from command_line import log, log_settings
from data_processor import FlowerDataset, create_flower_dataloaders
from drawn_flowers import photos_or_drawn
from files import alone, keep_previous, prepare_folder, remove_unfinished, write_whole
from handout import asked_losses
from progress import progress

# Settings that change where things are, not what comes out.
PLACES = {"data_root", "drawn_root", "model_dir", "log_dir", "strict", "tensorboard", "resume"}


def prepare(args: argparse.Namespace, device: str = "cpu") -> tuple[DataLoader, DataLoader, dict[str, str]]:
    """What every training needs first: folders to write in, photos or drawn flowers, and the settings in the log.

    Returns:
        The loaders of the training and the validation photos, and the "data" part of a checkpoint.
    """
    prepare_folder(args.model_dir)
    prepare_folder(args.log_dir)
    with parallel.notices_of_the_first():
        data_root = photos_or_drawn(args.data_root, args.drawn_root)
        size: tuple[int, int] = args.image_size
        training, validation = create_flower_dataloaders(
            args.batch_size,
            data_root,
            *size,
            seed=args.seed,
            split_seed=args.split_seed,
            device=device,
            strict=args.strict,
            log_dir=args.log_dir,
        )
    assert isinstance(training.dataset, FlowerDataset)
    smallest = len(training.dataset) % args.batch_size or args.batch_size
    if smallest < parallel.count():
        found = f"found a batch of {smallest} photos, expected one or more for each of {parallel.count()} processes"
        raise OSError(f"{found}; give another --batch-size")
    log_settings(args, data_root, training, validation)
    return training, validation, {"root": str(data_root), "fingerprint": training.dataset.fingerprint()}


def train(
    args: argparse.Namespace,
    checkpoint: dict[str, Any],
    loader: DataLoader,
    train_one_epoch: Callable[[int], float],
    validate: Callable[[], dict[str, float]],
    parts: Sequence[Any] = (),
    digits: int = 4,
) -> None:
    """Trains until ``args.epochs`` are done, or ``args.patience`` of them have passed without a better model.

    Args:
        checkpoint: the parts of a checkpoint that are known beforehand: name, model, encoding_dim, image_size, data.
        loader: of the training photos, whose generator puts them in order.
        train_one_epoch: the number of an epoch, from 1 -> its training loss.
        validate: () -> the validation loss as "Loss", and whatever else is to be logged beside it, by name.
        parts: what changes in training besides the model, each with a ``state_dict``.
        digits: of a loss in the log.

    Raises:
        OSError: a file cannot be written; the same model is in training in the same folder; or what there is to resume
            was begun in another way.
        SystemExit: a loss is no longer a number; the best model before that is kept.
        KeyboardInterrupt: with a word on how to go on.
    """
    name, model = checkpoint["name"], checkpoint["model"]
    model_path = checkpoint_path(args.model_dir, name)
    state_path = Path(args.model_dir, f"LastEpoch_{name}.pth")
    history_path = Path(args.log_dir, f"history_{name}.csv")
    settings = {key: value for key, value in vars(args).items() if key != "resume"}
    begun_with = {key: value for key, value in settings.items() if key not in PLACES}
    begun_with["photos"] = checkpoint["data"]["fingerprint"]
    best: Any = None
    history: list[dict[str, float]] = []
    with (
        _undisturbed(args, name),
        _tensorboard(args, name) as show,
        progress(None, f"Training {name}", args.epochs, "epoch") as bar,
    ):
        if args.resume and state_path.exists():
            best, history = _restore(state_path, begun_with, model, loader, parts)
            log(f"Resumed after epoch {len(history)}")
            bar.update(len(history))
            for row in history:
                show(row)
        elif args.resume:
            with parallel.notices_of_the_first():
                print(f"Found no {state_path} to resume: starting from the beginning.", file=sys.stderr)

        while len(history) < args.epochs and (best is None or len(history) - best["epoch"] < args.patience):
            epoch = len(history) + 1
            train_loss = train_one_epoch(epoch)
            validated = parallel.as_the_first_has_it(validate())
            losses = {"Train Loss": train_loss} | {f"Valid {part}": value for part, value in validated.items()}
            valid_loss = losses["Valid Loss"]
            log(f"Epoch: {epoch}, {_in_words(losses, digits)}")
            if not math.isfinite(train_loss + valid_loss):
                raise SystemExit(f"Stopped: loss no longer a number in epoch {epoch}; lower --lr, now {args.lr:g}")

            history.append({"Epoch": epoch, **losses})
            better = best is None or valid_loss < best["valid_loss"]
            if better:
                best = {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss, "settings": settings}
            if parallel.is_first():
                if epoch == 1:
                    keep_previous(model_path)
                    keep_previous(state_path)
                    state_path.unlink(missing_ok=True)  # from here on, it would no longer fit the best model
                if better:
                    save_checkpoint(checkpoint | best, model_path)
                _save_history(history, history_path)
                state = {"begun_with": begun_with, "best": best, "history": history}
                save_values(state | _state(model, loader, parts), state_path)
            show(history[-1])
            bar.update()

    if len(history) < args.epochs:
        log(f"Stopped early: no better model in {args.patience} epochs")
    losses = {"Train Loss": best["train_loss"], "Valid Loss": best["valid_loss"]}
    log(f"Best epoch: {best['epoch']}, {_in_words(losses, digits)}")
    if asked := asked_losses(name, settings.get("optimizer")):
        limits = ", ".join(f"{which} loss below {limit:g}" for which, limit in asked.items())
        met = all(best[f"{which}_loss"] < limit for which, limit in asked.items())
        log(f"Asked by the handout: {limits}: {'met' if met else 'not met'}")


@contextmanager
def _undisturbed(args: argparse.Namespace, name: str) -> Iterator[None]:
    """Keeps other trainings of the same model out of the folders, and answers Ctrl-C with a way to go on."""
    try:
        with alone(Path(args.model_dir, f".BestModel_{name}.lock")) if parallel.is_first() else nullcontext():
            if parallel.is_first():
                remove_unfinished(args.model_dir, name)
                remove_unfinished(args.log_dir, name)
            yield
    except BlockingIOError:
        found = f"{args.model_dir}: found another training of {name} at work in this folder"
        raise BlockingIOError(f"{found}; wait for its end, or give another --model-dir") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted. To go on, give the same command with --resume.") from None


@contextmanager
def _tensorboard(args: argparse.Namespace, name: str) -> Iterator[Callable[[dict[str, float]], None]]:
    """Gives a function that shows an epoch of the history in TensorBoard, if that is asked for.

    Raises:
        OSError: it is asked for, and not installed.
    """
    if "tensorboard" not in args or not parallel.is_first():
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise OSError("--tensorboard: found no TensorBoard; pip install tensorboard, or leave the flag out") from None
    # The history begins at 1, also for a training that goes on; what another training left there is hidden.
    with SummaryWriter(Path(args.tensorboard, name), purge_step=1) as writer:

        def show(row: dict[str, float]) -> None:
            for key, value in row.items():
                if key != "Epoch":
                    which, what = key.split(maxsplit=1)  # as in "Valid Squared Error"
                    writer.add_scalar(f"{what}/{which}".replace(" ", "_"), value, row["Epoch"])
            writer.flush()

        yield show


def _state(model: Any, loader: DataLoader, parts: Sequence[Any]) -> dict[str, Any]:
    """What the next epoch needs and ``_restore`` brings back, in plain values and tensors."""
    return {
        "weights": [torch.as_tensor(weight) for weight in _weights(model)],
        "parts": [part.state_dict() for part in parts],
        "order": loader.generator.get_state(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore(
    path: Path, begun_with: dict[str, Any], model: Any, loader: DataLoader, parts: Sequence[Any]
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Brings back the state in ``path``; returns the best checkpoint, but for the model in it, and the history.

    Raises:
        CheckpointError: the state is of a training with other settings, or damaged.
    """
    try:
        state = load_values(path)
        before = state["begun_with"]
        changed = [key for key, value in begun_with.items() if before[key] != value]
        if not changed:
            best, history = state["best"], state["history"]
            if not (1 <= best["epoch"] <= len(history) and all(row.keys() == history[0].keys() for row in history)):
                raise ValueError("its history and its best epoch do not fit each other")
            for weight, saved in zip(_weights(model), state["weights"], strict=True):
                if weight.shape != tuple(saved.shape):
                    raise ValueError(f"it has weights of shape {tuple(saved.shape)}, expected {tuple(weight.shape)}")
                torch.as_tensor(weight).copy_(saved)
            for part, saved in zip(parts, state["parts"], strict=True):
                part.load_state_dict(saved)
            loader.generator.set_state(state["order"])
            torch.set_rng_state(state["random"])
            if state["random_cuda"] is not None:
                torch.cuda.set_rng_state(state["random_cuda"])
    except Exception as error:  # a damaged file can raise anything at all
        reason = textwrap.shorten(str(error), 300)
        raise CheckpointError(f"{path}: found nothing to resume in it ({reason}); train without --resume") from None
    if changed:
        found = ", ".join(f"{key} {begun_with[key]} now, {reprlib.repr(before[key])} then" for key in changed)
        raise CheckpointError(f"{path}: begun with other settings ({found}); give those, or train without --resume")
    return best, history


def _weights(model: Any) -> list[Any]:
    """The arrays or tensors that training changes, in their order."""
    if isinstance(model, BaseGraph):
        return [param for node in model for param in node.params]
    return list(model.state_dict().values())


def _in_words(losses: dict[str, float], digits: int) -> str:
    return ", ".join(f"{name}: {value:.{digits}f}" for name, value in losses.items())


def _save_history(history: list[dict[str, float]], path: Path) -> None:
    """Writes the losses of all epochs so far as CSV, a line an epoch."""
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(path, content.getvalue().encode())
