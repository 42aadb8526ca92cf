"""What a training needs around its loop over the epochs: the log, files, resuming, and the lock on them.

After each epoch, models/LastEpoch_X.pth holds what the next one needs: parameters, optimizer, random states, history.
With ``--resume`` the training continues from there, and ends with the same bytes as one that was never interrupted.
"""

import csv
import io
import math
import reprlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch
from filelock import FileLock, Timeout

from lab.checkpoint import CheckpointError, checkpoint_in, checkpoint_path, load_values, save_checkpoint, save_values
from lab.command_line import folder_flags, log, progress, say_what_is_next
from lab.defaults import BY_KIND
from lab.errors import UserError, in_lines
from lab.files import atomic_write, keep_previous, prepare_folder, previous_path, remove_unfinished
from lab.generation import draw_samples, generate, kinds_in_proportion
from lab.handout import asked_losses
from lab.photos import fingerprint, number_by_kind, trained_on
from lab.processes import gather, rank

# Settings of where files are and what is shown, which a resumed training may change.
LOCATIONS = {"data_root", "drawn_root", "model_dir", "log_dir", "vis_dir", "strict", "tensorboard", "resume"}
LOCATIONS |= {"samples_every"}


class TrainingRun:
    """One run of a training script, around its loop over the epochs: ``with TrainingRun(...) as run``.

    Entering it locks the files of this model, and restores the state for ``--resume``; leaving it logs the summary.

    Args:
        args: the flags of the training; ``settings`` of the checkpoint.
        name: of the model.
        training, validation: loaders of the photos.
        parts: all that is needed to resume, each with ``state_dict`` and ``load_state_dict``.
        digits: decimals of a loss in the log.

    Attributes:
        best_loss, best_epoch: of the best model so far; infinite and 0 before the first epoch.
    """

    def __init__(
        self, args: Any, name: str, training: Any, validation: Any, parts: Sequence[Any], digits: int = 4
    ) -> None:
        self.args, self.name, self.loader, self.parts, self.digits = args, name, training, parts, digits
        photos = training.dataset
        self.data: dict[str, Any] = {
            "root": str(photos.root),
            "fingerprint": fingerprint(photos, validation.dataset),
            "kinds": number_by_kind(photos),
        }
        self.settings = {key: value for key, value in vars(args).items() if key != "resume"}
        self.begun_with = {key: value for key, value in self.settings.items() if key not in LOCATIONS}
        self.begun_with["photos"] = self.data["fingerprint"]
        self.photos = photos, validation.dataset
        self.model_path = checkpoint_path(args.model_dir, name)
        self.state_path = Path(args.model_dir, f"LastEpoch_{name}.pth")
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.best_loss, self.best_epoch = math.inf, 0
        self.finished = False  # no epoch is left, or early stopping
        self._earlier_run_kept = False
        self._saved_epochs = 0
        self.log_path = Path(args.log_dir, f"log_{name}.txt")
        self._lines: list[str] = []  # logged before the file is open
        self._file: IO[str] | None = None
        if "samples_every" in args:
            prepare_folder(args.vis_dir)
        shown = self.settings | {"image_size": "{}x{}".format(*args.image_size)}
        # No line ends between a setting and its value.
        settings = "Settings: " + ", ".join(f"{key} {value}".replace(" ", "\xa0") for key, value in shown.items())
        self._log(in_lines(settings).replace("\xa0", " "))
        self._log(f"Data: {photos.root}, {len(photos)} training and {len(validation.dataset)} validation photos")

    def __enter__(self) -> "TrainingRun":
        with ExitStack() as stack:
            if rank() == 0:
                self._lock(stack)
            self._show_in_tensorboard = self._open_tensorboard(stack)
            if rank() == 0:
                self._open_log(stack)
            self._bar = stack.enter_context(progress(None, f"Training {self.name}", self.args.epochs, "epoch"))
            if self.args.resume:
                self._resume()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        with self._stack:
            if error_type is None:
                if not self.best:
                    raise RuntimeError("no model was saved: call run.save_best when an epoch is the best so far")
                self.finished = True
                self._save_epoch()
                self._log_summary()
        if error_type is KeyboardInterrupt:
            advice = "To resume, give the same command with --resume, and with >> in place of > for the log."
            raise KeyboardInterrupt(f"Interrupted. {advice}") from None
        if error_type is None and rank() == 0:
            written = [self.model_path, Path(self.args.log_dir, f"history_{self.name}.csv"), self.log_path]
            flags = folder_flags(self.args, "model_dir", "log_dir", "vis_dir")
            say_what_is_next(written, f"visualization.py --model {self.name}{flags}")

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, from 1; after each, saves what is needed to resume."""
        while not self.finished and len(self.history) < self.args.epochs:
            epoch = len(self.history) + 1
            if hasattr(self.loader.sampler, "set_epoch"):  # a DistributedSampler, which shuffles by the epoch
                self.loader.sampler.set_epoch(epoch)
            yield epoch
            if len(self.history) < epoch:
                raise RuntimeError(f"epoch {epoch} was not logged: call run.log in each epoch")
            self._save_epoch()

    def log(self, epoch: int, train_loss: float, valid_loss: float, terms: dict[str, float] | None = None) -> None:
        """Prints the line of an epoch; ``terms`` are further figures of the validation, by name.

        Stops the training with a SystemExit if a loss is not a finite number; the best model so far is kept.
        """
        losses = {"Train Loss": train_loss, "Valid Loss": valid_loss}
        losses |= {f"Valid {name}": value for name, value in (terms or {}).items()}
        self._log(f"Epoch: {epoch}, {self._in_words(losses)}")
        if not math.isfinite(train_loss + valid_loss):
            raise SystemExit(f"Stopped: loss no longer a number in epoch {epoch}; lower --lr, now {self.args.lr:g}")
        self.history.append({"Epoch": epoch, **losses})

    def show_samples(self, model: Any, epoch: int) -> None:
        """Saves ten pictures of the model as vis/samples_X_epoch_0010.png, if ``--samples-every`` asks for this epoch:
        each time of the same latent vectors, or noise. The training's random numbers stay what they are."""
        if "samples_every" in self.args and epoch % self.args.samples_every == 0 and rank() == 0:
            kinds = kinds_in_proportion(self.data["kinds"], 10) if self.name in BY_KIND else None
            with torch.random.fork_rng():
                images = generate(model, 10, self.args.seed, kinds)
            path = Path(self.args.vis_dir, f"samples_{self.name}_epoch_{epoch:04}.png")
            with atomic_write(path) as file:
                draw_samples(f"{self.name}, epoch {epoch}", images, kinds, list(self.data["kinds"]), file)

    def save_best(self, model: Any, epoch: int, train_loss: float, valid_loss: float) -> None:
        """Saves the checkpoint of the best model so far, atomically."""
        self.best = {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss, "settings": self.settings}
        self.best_loss, self.best_epoch = valid_loss, epoch
        if rank() == 0:
            if not self._earlier_run_kept:
                self._keep_earlier_run()
            parts = {
                "name": self.name,
                "model": model,
                "encoding_dim": self.args.encoding_dim,
                "image_size": list(self.args.image_size),
                "data": self.data,
            }
            save_checkpoint(parts | self.best, self.model_path)

    def _lock(self, stack: ExitStack) -> None:
        """Keeps other trainings of this model out of its folders; the system frees the locks when the process ends."""
        places = {"--model-dir": (self.args.model_dir, "BestModel"), "--log-dir": (self.args.log_dir, "history")}
        for flag, (folder, file) in places.items():
            try:
                stack.enter_context(FileLock(Path(folder, f".{file}_{self.name}.lock"), timeout=0))
            except Timeout:
                found = f"{folder}: found another training of {self.name} at work in this folder"
                raise UserError(f"{found}; wait for its end, or give another {flag}") from None
        remove_unfinished(self.args.model_dir, self.name)
        remove_unfinished(self.args.log_dir, self.name)

    def _open_log(self, stack: ExitStack) -> None:
        """The log is also in a file of this run's own: one that the shell writes to is emptied by a second training."""
        try:
            self._file = stack.enter_context(self.log_path.open("a" if self.args.resume else "w", encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{self.log_path}: could not be written ({error.strerror}); give another folder") from None
        for line in self._lines:
            self._write(line)

    def _log(self, line: str) -> None:
        log(line)
        if self._file:
            self._write(line)
        else:
            self._lines.append(line)

    def _write(self, line: str) -> None:
        try:
            print(line, file=self._file, flush=True)
        except OSError as error:
            raise UserError(f"{self.log_path}: could not be written ({error.strerror})") from None

    def _keep_earlier_run(self) -> None:
        """Copies the files of an earlier run before they are overwritten, unless those copied before it are of a model
        that was trained longer."""
        epochs = [self._epochs_of(path) for path in (self.model_path, previous_path(self.model_path))]
        if epochs[0] >= epochs[1]:
            keep_previous(self.model_path)
            keep_previous(self.state_path)
        else:
            print(f"Left {previous_path(self.model_path)} as it is: it was trained longer.", file=sys.stderr)
        # Tells a run that resumes before its first epoch is saved that this is done, and must not be done again.
        save_values({"begun_with": self.begun_with, "history": []}, self.state_path)
        self._earlier_run_kept = True

    def _epochs_of(self, path: Path) -> int:
        """The epochs that a model was trained for, 0 if there is none."""
        try:
            return checkpoint_in(path.read_bytes(), self.name)["epoch"]
        except Exception:  # a damaged file can raise any exception
            return 0

    def _open_tensorboard(self, stack: ExitStack) -> Callable[[dict[str, float]], None]:
        """A function that writes an epoch of the history for TensorBoard, if the flag is given."""
        if "tensorboard" not in self.args or rank() > 0:
            return lambda row: None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            message = "--tensorboard: found no TensorBoard; pip install tensorboard, or leave the flag out"
            raise UserError(message) from None
        folder = Path(self.args.tensorboard, self.name)
        prepare_folder(folder)
        # purge_step: a resumed training writes its whole history again, in place of what is there.
        writer = stack.enter_context(SummaryWriter(folder, purge_step=1))

        def show(row: dict[str, float]) -> None:
            for key, value in row.items():
                if key != "Epoch":
                    which, what = key.split(maxsplit=1)  # as in "Valid Squared Error"
                    writer.add_scalar(f"{what}/{which}".replace(" ", "_"), value, row["Epoch"])
            writer.flush()

        return show

    def _save_epoch(self) -> None:
        """Saves the history and the state after the latest epoch, unless that is done."""
        if len(self.history) > self._saved_epochs:
            cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
            random_states = gather((torch.get_rng_state(), cuda))
            if rank() == 0:
                self._save_history()
                state = {
                    "begun_with": self.begun_with,
                    "history": self.history,
                    "best": self.best,
                    "finished": self.finished,
                    "parts": [part.state_dict() for part in self.parts],
                    "order": self.loader.generator.get_state(),
                    "random": random_states,
                }
                save_values(state, self.state_path)
            self._saved_epochs = len(self.history)
            self._show_in_tensorboard(self.history[-1])
            self._bar.update()

    def _save_history(self) -> None:
        """Writes the losses of all epochs so far as CSV, an epoch per line."""
        with atomic_write(Path(self.args.log_dir, f"history_{self.name}.csv")) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.DictWriter(text, self.history[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)
            text.detach()

    def _resume(self) -> None:
        """Restores the state of an interrupted training, if there is one; CheckpointError if it does not fit."""
        if not self.state_path.exists():
            if rank() == 0:
                print(f"Found no {self.state_path} to resume: starting from the beginning.", file=sys.stderr)
            return
        try:
            state = load_values(self.state_path)
            before = state["begun_with"]
            changed = [key for key, value in self.begun_with.items() if before[key] != value]
            if "photos" in changed and trained_on(before["photos"], *self.photos):
                changed.remove("photos")  # an earlier version recorded less of them
            if not changed and state["history"]:
                self._restore(state)
        except Exception as error:  # a damaged file can raise any exception
            found = f"{self.state_path}: found nothing to resume in it ({textwrap.shorten(str(error), 300)})"
            raise CheckpointError(f"{found}; train without --resume") from None
        if changed:
            found = ", ".join(f"{key} {self.begun_with[key]} now, {reprlib.repr(before[key])} then" for key in changed)
            found = f"{self.state_path}: begun with other settings ({found})"
            raise CheckpointError(f"{found}; give those, or train without --resume")
        self._earlier_run_kept = True
        self._log(f"Resumed after epoch {len(self.history)}")
        self._bar.update(len(self.history))
        for row in self.history:
            self._show_in_tensorboard(row)

    def _restore(self, state: dict[str, Any]) -> None:
        best, history = state["best"], state["history"]
        if not (1 <= best["epoch"] <= len(history) and all(row.keys() == history[0].keys() for row in history)):
            raise ValueError("its history and its best epoch do not fit each other")
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.loader.generator.set_state(state["order"])
        for cpu, cuda in state["random"][rank() : rank() + 1]:  # none, if there are more processes than before
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda)
        self.best, self.best_loss, self.best_epoch = best, best["valid_loss"], best["epoch"]
        self.history, self.finished, self._saved_epochs = history, state["finished"], len(history)

    def _log_summary(self) -> None:
        if len(self.history) < self.args.epochs:
            self._log(f"Stopped early: no better model in {self.args.patience} epochs")
        losses = {"Train Loss": self.best["train_loss"], "Valid Loss": self.best["valid_loss"]}
        self._log(f"Best epoch: {self.best_epoch}, {self._in_words(losses)}")
        if asked := asked_losses(self.name, self.settings.get("optimizer")):
            limits = ", ".join(f"{which} loss below {limit:g}" for which, limit in asked.items())
            met = all(0 < self.best[f"{which}_loss"] < limit for which, limit in asked.items())
            self._log(f"Asked by the handout: {limits}: {'met' if met else 'not met'}")

    def _in_words(self, losses: dict[str, float]) -> str:
        return ", ".join(f"{name}: {value:.{self.digits}f}" for name, value in losses.items())
