"""What a training needs around its loop over the epochs: the log, files, resuming, and the lock on them.

After each epoch, models/LastEpoch_X.pth holds what the next one needs: parameters, optimizer, random states, history.
With ``--resume`` the training continues from there, and ends with the same bytes as one that was never interrupted.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.utils.data import DistributedSampler
from tqdm import tqdm

from data_processor import FlowerLoader
from lab.checkpoint import CheckpointError, checkpoint_path, save_checkpoint, save_values, values_in
from lab.command_line import log, shown
from lab.errors import UserError, one_line
from lab.files import atomic_write, keep_previous, previous_path, say_written
from lab.grids import sample_grid, save_picture
from lab.models import BY_CLASS, required_losses
from lab.photos import class_counts, fingerprint
from lab.sampling import labels_in_proportion, sample_in_batches

# Settings of where files are and what is shown, which a resumed training may change.
LOCATIONS = {"data_root", "drawn_root", "model_dir", "log_dir", "vis_dir", "strict", "tensorboard", "samples_every"}

WHERE_CAUSES_ARE = 'see "When a loss is not as asked" in the tasks'


class TrainingRun:
    """One run of a training script, around its loop over the epochs: ``with TrainingRun(...) as run``.

    Entering it locks the files of this model, and restores the state for ``--resume``; leaving it logs the summary.

    Args:
        args: the flags of the training; ``settings`` of the checkpoint.
        training, validation: loaders of the photos.
        stateful: all that is needed to resume, each with ``state_dict`` and ``load_state_dict``.

    Attributes:
        best_loss, best_epoch: of the best model so far; infinite and 0 before the first epoch.
    """

    def __init__(
        self, args: argparse.Namespace, training: FlowerLoader, validation: FlowerLoader, stateful: Sequence[Any]
    ) -> None:
        self.args, self.name, self.loader, self.stateful = args, args.model, training, stateful
        photos, others = training.dataset, validation.dataset
        self.classes, digits = class_counts(photos), fingerprint(photos, others)
        self.data = {"root": str(photos.root), "fingerprint": digits, "classes": self.classes}
        self.numbers = f"{len(photos)} training and {len(others)} validation photos"
        self.settings = {key: value for key, value in vars(args).items() if key != "resume" and value is not None}
        self.fixed_settings = {key: value for key, value in self.settings.items() if key not in LOCATIONS}
        self.fixed_settings["photos"] = digits
        self.model_path = checkpoint_path(args.model_dir, self.name)
        self.state_path = Path(args.model_dir, f"LastEpoch_{self.name}.pth")
        self.history_path = Path(args.log_dir, f"history_{self.name}.csv")
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}  # what the checkpoint says of its epoch
        self.best_loss, self.best_epoch = math.inf, 0
        self.finished = False  # by early stopping, or since no epoch is left

    def __enter__(self) -> "TrainingRun":
        with ExitStack() as stack:
            self._lock(stack)
            self._board = self._open_tensorboard(stack)
            if self.args.resume:
                self._resume()
            log(one_line("Settings: " + ", ".join(f"{key} {shown(value)}" for key, value in self.settings.items())))
            log(one_line(f"Data: {self.data['root']}, {self.numbers}"))
            bar = tqdm(None, f"Training {self.name}", self.args.epochs, unit="epoch", leave=False, disable=None)
            self._bar = stack.enter_context(bar)
            self._bar.update(len(self.history))
            if self.history:
                log(f"Resumed after epoch {len(self.history)}{': no epoch is left' if self.finished else ''}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        with self._stack:
            if error_type is None:
                self.finished = True
                self._save_epoch()
                for line in self._summary():
                    log(line)
        if error_type is KeyboardInterrupt:
            advice = "To resume, give the same command with --resume, and with >> in place of > for the log."
            raise KeyboardInterrupt(f"Interrupted. {advice}") from None
        if error_type is None:
            if not sys.stdout.isatty():  # the log is in a file
                print(*self._summary(), sep="\n", file=sys.stderr)
            if self.best:
                say_written(self.model_path)
            say_written(self.history_path)

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, from 1; after each, saves what is needed to resume."""
        sampler = getattr(self.loader.sampler, "sampler", None)  # that of the batch sampler
        for epoch in range(len(self.history) + 1, 1 if self.finished else self.args.epochs + 1):
            if isinstance(sampler, DistributedSampler):
                sampler.set_epoch(epoch)
            yield epoch
            self._save_epoch()

    def log(self, epoch: int, train_loss: float, valid_loss: float, terms: dict[str, float] | None = None) -> None:
        """Prints the line of an epoch; ``terms`` are further figures of the validation, by name.

        UserError if one of them is not a finite number; the best model so far is kept.
        """
        losses = {"Train Loss": train_loss, "Valid Loss": valid_loss}
        self.log_losses(epoch, losses | {f"Valid {name}": value for name, value in (terms or {}).items()})

    def log_losses(self, epoch: int, losses: dict[str, float]) -> None:
        """``log`` for losses of any names."""
        losses = {name: float(loss) for name, loss in losses.items()}  # they may be NumPy's
        log(f"Epoch: {epoch}, {self._shown(losses)}")
        if not all(map(math.isfinite, losses.values())):
            advice = f"lower --lr, now {self.args.lr:g}, or {WHERE_CAUSES_ARE}"
            raise UserError(f"Stopped: a loss in epoch {epoch} is not a finite number; {advice}")
        self.history.append({"Epoch": epoch, **losses})
        self._bar.set_postfix_str(self._shown(losses), refresh=False)
        self._bar.update()
        self._show_in_tensorboard(self.history[-1])

    def show_samples(self, model: Any, epoch: int) -> None:
        """Saves ten pictures of the model as vis/samples_X_epoch_0010.png, if ``--samples-every`` asks for this epoch:
        each time of the same latent vectors, or noise. The training's random numbers stay what they are."""
        if self.args.samples_every and epoch % self.args.samples_every == 0:
            labels = labels_in_proportion(self.classes, 10) if self.name in BY_CLASS else None
            with torch.random.fork_rng():
                images = sample_in_batches(model, 10, self.args.seed, labels)
            picture = sample_grid(f"{self.name}, epoch {epoch}", images, labels, list(self.classes))
            save_picture(picture, Path(self.args.vis_dir, f"samples_{self.name}_epoch_{epoch:04}.png"))

    def save_best(self, model: Any, epoch: int, train_loss: float, valid_loss: float) -> None:
        """Saves the checkpoint of the best model so far, atomically."""
        self.best_loss = float(valid_loss)
        self.save(model, epoch, {"Train Loss": train_loss, "Valid Loss": valid_loss})

    def save(self, model: Any, epoch: int, losses: dict[str, float]) -> None:
        """``save_best`` for losses of any names, and a model that is not chosen by one."""
        if not self.best:  # the first of this training
            # Without a state, the model may be of this run, which was interrupted in its first epoch.
            if self.state_path.exists() or not previous_path(self.model_path).exists():
                keep_previous(self.model_path)
            keep_previous(self.state_path)
            self.state_path.unlink(missing_ok=True)
        fields = {name.lower().replace(" ", "_"): float(loss) for name, loss in losses.items()}
        self.best, self.best_epoch = {"epoch": epoch, **fields, "settings": self.settings}, epoch
        checkpoint = {
            "name": self.name,
            "model": model,
            "encoding_dim": model.encoding_dim,
            "image_size": list(self.args.image_size),
            "data": self.data,
        }
        save_checkpoint(checkpoint | self.best, self.model_path)

    def _lock(self, stack: ExitStack) -> None:
        """Keeps other trainings of this model out of its folders; the system frees the locks when the process ends."""
        for flag, path in ("--model-dir", self.model_path), ("--log-dir", self.history_path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(path.with_name(f".{path.stem}.lock"), timeout=0))
            except Timeout:
                found = f"{path.parent}: found another training of {self.name} at work in this folder"
                raise UserError(f"{found}; wait for its end, or give another {flag}") from None

    def _summary(self) -> list[str]:
        lines, waited = [], len(self.history) - self.best_epoch
        if len(self.history) < self.args.epochs:
            lines.append(f"Stopped early: no better model in {waited} epochs")
        losses = {key.replace("_", " ").title(): value for key, value in self.best.items() if key.endswith("loss")}
        lines.append(f"{'Last' if self.name == 'GAN' else 'Best'} epoch: {self.best_epoch}, {self._shown(losses)}")
        limits, most = required_losses(self.name, self.settings.get("optimizer"), self.args.image_size)
        if limits:
            asked = ", ".join(f"{which} loss below {limit:g}" for which, limit in limits.items())
            met = []  # the epochs
            for row in self.history[:most]:
                if all(0 < row[f"{which.title()} Loss"] < limit for which, limit in limits.items()):
                    met.append(row["Epoch"])
            not_saved = f"met in epoch {met[0]}" if met else f"not met; {WHERE_CAUSES_ARE}"
            lines.append(f"Asked by the handout: {asked}: {'met' if self.best_epoch in met else not_saved}")
        return lines

    def _shown(self, losses: dict[str, float]) -> str:
        digits = 2 if self.name.startswith("VAE") else 4
        return ", ".join(f"{name}: {value:.{digits}f}" for name, value in losses.items())

    def _open_tensorboard(self, stack: ExitStack) -> Any:
        """A writer for TensorBoard, if the flag is given."""
        if not self.args.tensorboard:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            message = "--tensorboard: found no TensorBoard; pip install tensorboard, or leave the flag out"
            raise UserError(message) from None
        # purge_step: a resumed training writes its whole history again, in place of what is there.
        return stack.enter_context(SummaryWriter(Path(self.args.tensorboard, self.name), purge_step=1))

    def _show_in_tensorboard(self, row: dict[str, float]) -> None:
        for key in row.keys() - {"Epoch"} if self._board else ():
            which, what = key.split(maxsplit=1)  # as in "Valid Squared Error"
            self._board.add_scalar(f"{what}/{which}".replace(" ", "_"), row[key], row["Epoch"])
            self._board.flush()

    def _save_epoch(self) -> None:
        """Saves the history and the state after the latest epoch."""
        rows = [self.history[0], *(row.values() for row in self.history)]
        with atomic_write(self.history_path) as file:
            file.write("".join(",".join(map(str, row)) + "\n" for row in rows).encode())
        state = {
            "fixed_settings": self.fixed_settings,
            "history": self.history,
            "best": self.best,
            "finished": self.finished,
            "stateful": [each.state_dict() for each in self.stateful],
            "order": self.loader.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        save_values(state, self.state_path)

    def _resume(self) -> None:
        """Restores the state of an interrupted training, if there is one; CheckpointError if it does not fit."""
        if not self.state_path.exists():
            print(f"Found no {self.state_path} to resume: starting from the beginning.", file=sys.stderr)
            return
        if not self.model_path.exists():
            raise CheckpointError(f"{self.model_path}: no such model; give its folder, or train without --resume")
        try:
            state = values_in(self.state_path.read_bytes())
            then = state["fixed_settings"]
            changed = [key for key, now in self.fixed_settings.items() if then[key] != now]
            if not changed:
                self._restore(state)
        except Exception as error:  # a damaged file can raise any exception
            found = f"{self.state_path}: found nothing to resume in it ({textwrap.shorten(str(error), 300)})"
            raise CheckpointError(f"{found}; train without --resume") from None
        if changed:
            settings = ", ".join(f"{key} {self.fixed_settings[key]} now, {then[key]} then" for key in changed)
            found = f"{self.state_path}: begun with other settings ({settings})"
            raise CheckpointError(f"{found}; give those, or train without --resume")
        for row in self.history:
            self._show_in_tensorboard(row)

    def _restore(self, state: dict[str, Any]) -> None:
        for each, saved in zip(self.stateful, state["stateful"], strict=True):
            each.load_state_dict(saved)
        self.loader.generator.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
        self.best, self.history = state["best"], state["history"]
        self.best_loss, self.best_epoch = self.best.get("valid_loss", math.inf), self.best["epoch"]
        self.finished = state["finished"] or len(self.history) >= self.args.epochs


def autocast() -> torch.autocast:
    """For convolutions and matrix products in bfloat16, in two thirds of the time, on processors that have it
    (avx512_bf16); on others, nothing."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
