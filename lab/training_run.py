"""What a training needs around its loop over the epochs: the log, files, resuming, and the lock on them.

After each epoch, models/LastEpoch_X.pth holds what the next one needs: parameters, optimizer, random states, history.
With ``--resume`` the training continues from there, and ends with the same bytes as one that was never interrupted.
"""

import csv
import io
import math
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lab.checkpoint import CheckpointError, checkpoint_in, checkpoint_path, save_checkpoint, save_values, values_in
from lab.command_line import folder_flags, log, progress, say_what_is_next
from lab.defaults import BY_CLASS, REQUIRED_LOSSES, required_losses
from lab.errors import UserError, in_lines
from lab.files import atomic_write, keep_previous, prepare_folder, previous_path, remove_unfinished
from lab.generation import draw_samples, generate, labels_in_proportion
from lab.grids import save_picture
from lab.photos import class_counts, fingerprint

# Settings of where files are and what is shown, which a resumed training may change.
LOCATIONS = {"data_root", "drawn_root", "model_dir", "log_dir", "vis_dir", "strict", "tensorboard", "samples_every"}


class TrainingRun:
    """One run of a training script, around its loop over the epochs: ``with TrainingRun(...) as run``.

    Entering it locks the files of this model, and restores the state for ``--resume``; leaving it logs the summary.

    Args:
        args: the flags of the training; ``settings`` of the checkpoint.
        name: of the model.
        training, validation: loaders of the photos.
        parts: all that is needed to resume, each with ``state_dict`` and ``load_state_dict``; the first is the model.

    Attributes:
        best_loss, best_epoch: of the best model so far; infinite and 0 before the first epoch.
    """

    def __init__(self, args: Any, name: str, training: Any, validation: Any, parts: Sequence[Any]) -> None:
        self.args, self.name, self.loader, self.parts = args, name, training, parts
        photos = training.dataset
        self.data: dict[str, Any] = {
            "root": str(photos.root),
            "fingerprint": fingerprint(photos, validation.dataset),
            "classes": class_counts(photos),
        }
        self.settings = {key: value for key, value in vars(args).items() if key != "resume"}
        self.fixed_settings = {key: value for key, value in self.settings.items() if key not in LOCATIONS}
        self.fixed_settings["photos"] = self.data["fingerprint"]
        self.model_path = checkpoint_path(args.model_dir, name)
        self.state_path = Path(args.model_dir, f"LastEpoch_{name}.pth")
        self.history_path = Path(args.log_dir, f"history_{name}.csv")
        self.log_path = Path(args.log_dir, f"log_{name}.txt")
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}  # parts of the checkpoint that is saved
        self.best_loss, self.best_epoch = math.inf, 0
        self.finished = False  # no epoch is left, or early stopping
        self._saved_epochs = 0
        self._validation = validation.dataset
        errors = "errors in the nodes (python check_gradients.py)" if name == "MLPAE" else "errors in the loss"
        self._advice = f"look for {errors}, or lower --lr, now {args.lr:g}"  # where a loss is no number
        model, others = "autoencoder" if name == "MLPAE" else "model", "epoch, train_loss, valid_loss"
        self._calls = {"log": f"run.log({others})", "save_best": f"run.save_best({model}, {others})"}

    def __enter__(self) -> "TrainingRun":
        with ExitStack() as stack:
            self._lock(stack)
            if "samples_every" in self.args:
                prepare_folder(self.args.vis_dir)
            self._board = self._open_tensorboard(stack)
            resumed = self.args.resume and self._resume()
            mode = "a" if self.args.resume else "w"
            self._file = stack.enter_context(self.log_path.open(mode, encoding="utf-8", errors="backslashreplace"))
            self._log_settings()
            if hasattr(self.parts[0], "reconstruct"):
                self._look_at_outputs(self.parts[0])
            self._bar = stack.enter_context(progress(None, f"Training {self.name}", self.args.epochs, "epoch"))
            if resumed:
                none_left = ": no epoch is left" if self.finished else ""
                self._log(f"Resumed after epoch {len(self.history)}{none_left}")
                self._bar.update(len(self.history))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
        with self._stack:
            if error_type is None:
                if not self.best:
                    raise UserError("no model was saved: call run.save_best when an epoch is the best so far")
                self.finished = True
                self._save_epoch()
                for line in self._summary():
                    self._log(line)
        if error_type is KeyboardInterrupt:
            advice = "To resume, give the same command with --resume, and with >> in place of > for the log."
            raise KeyboardInterrupt(f"Interrupted. {advice}") from None
        if error_type is TypeError and (wrong := re.match(r"TrainingRun\.(log|save_best)\(\) (.*)", str(error))):
            raise UserError(f"{self._calls[wrong[1]]}: {wrong[2]}") from None
        if error_type is None:
            if not sys.stdout.isatty():  # the log is in a file
                print(*self._summary(), sep="\n", file=sys.stderr)
            flags = folder_flags(self.args, "model_dir", "log_dir", "vis_dir")
            written = [self.model_path, self.history_path, self.log_path]
            say_what_is_next(written, "visualization.py", f"--model {self.name}{flags}")

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, from 1; after each, saves what is needed to resume."""
        part: Any = getattr(self.loader.sampler, "sampler", None)  # that of the batch sampler
        while not self.finished and len(self.history) < self.args.epochs:
            epoch = len(self.history) + 1
            if hasattr(part, "set_epoch"):  # a DistributedSampler, which shuffles by the epoch
                part.set_epoch(epoch)
            yield epoch
            if len(self.history) < epoch:
                raise UserError(f"epoch {epoch} was not logged: call run.log in each epoch")
            self._save_epoch()

    def log(self, epoch: int, train_loss: float, valid_loss: float, terms: dict[str, float] | None = None) -> None:
        """Prints the line of an epoch; ``terms`` are further figures of the validation, by name.

        UserError if an argument is wrong, or a loss is not a finite number; the best model so far is kept.
        """
        train_loss, valid_loss = self._checked("log", epoch, [len(self.history) + 1], train_loss, valid_loss)
        valid_terms = {f"Valid {name}": value for name, value in (terms or {}).items()}
        self.log_losses(epoch, {"Train Loss": train_loss, "Valid Loss": valid_loss} | valid_terms)

    def log_losses(self, epoch: int, losses: dict[str, float]) -> None:
        """``log`` for losses of any names."""
        self._log(f"Epoch: {epoch}, {self._in_words(losses)}")
        if not all(map(math.isfinite, losses.values())):
            raise UserError(f"Stopped: loss no longer a number in epoch {epoch}; {self._advice}")
        self._bar.set_postfix_str(self._in_words(losses), refresh=False)
        self.history.append({"Epoch": epoch, **losses})

    def show_samples(self, model: Any, epoch: int) -> None:
        """Saves ten pictures of the model as vis/samples_X_epoch_0010.png, if ``--samples-every`` asks for this epoch:
        each time of the same latent vectors, or noise. The training's random numbers stay what they are."""
        if "samples_every" in self.args and epoch % self.args.samples_every == 0:
            labels = labels_in_proportion(self.data["classes"], 10) if self.name in BY_CLASS else None
            with torch.random.fork_rng():
                images = generate(model, 10, self.args.seed, labels)
            picture = draw_samples(f"{self.name}, epoch {epoch}", images, labels, list(self.data["classes"]))
            save_picture(picture, Path(self.args.vis_dir, f"samples_{self.name}_epoch_{epoch:04}.png"))

    def save_best(self, model: Any, epoch: int, train_loss: float, valid_loss: float) -> None:
        """Saves the checkpoint of the best model so far, atomically. UserError if an argument is wrong."""
        if not isinstance(model, type(self.parts[0])):
            found = f"found a {type(model).__name__}, expected the {type(self.parts[0]).__name__}"
            raise UserError(f"{self._calls['save_best']}: {found}")
        epochs = [len(self.history) or 1, len(self.history) + 1]  # after run.log, or before it
        train_loss, self.best_loss = self._checked("save_best", epoch, epochs, train_loss, valid_loss)
        self.save(model, epoch, {"Train Loss": train_loss, "Valid Loss": self.best_loss})

    def save(self, model: Any, epoch: int, losses: dict[str, float]) -> None:
        """``save_best`` for losses of any names, and a model that is not chosen by one."""
        first = not self.best  # in this training, and not a resumed one
        if first:
            # Without a state, the model may be of this run, which was interrupted in its first epoch.
            if self.state_path.exists() or not previous_path(self.model_path).exists():
                keep_previous(self.model_path)
            keep_previous(self.state_path)
            self.state_path.unlink(missing_ok=True)
        parts = {name.lower().replace(" ", "_"): loss for name, loss in losses.items()}
        self.best = {"epoch": epoch, **parts, "settings": self.settings}
        self.best_epoch = epoch
        checkpoint = {
            "name": self.name,
            "model": model,
            "encoding_dim": model.encoding_dim,
            "image_size": list(self.args.image_size),
            "data": self.data,
        }
        save_checkpoint(checkpoint | self.best, self.model_path)
        if first and self.name in REQUIRED_LOSSES:
            self._look_at_saved(model)

    def _checked(self, method: str, epoch: int, epochs: list[int], *losses: Any) -> list[float]:
        """The losses as plain numbers, whatever the loop computes with; UserError if these or the epoch are wrong."""
        if epoch not in epochs:
            raise UserError(f"{self._calls[method]}: found {epoch!s:.40} as epoch, expected {epochs[0]}")
        numbers = []
        for function, loss in zip(("train_one_epoch", "validate"), losses, strict=True):
            try:
                numbers.append(float(loss))
            except (TypeError, ValueError):
                found = f"{function} returned {'nothing' if loss is None else loss!s:.40}"
                raise UserError(f"{self._calls[method]}: {found}, expected the mean loss over the images") from None
        return numbers

    def _look_at_outputs(self, model: Any) -> None:
        """Says on stderr if outputs of the model leave [0, 1]. The training's random numbers stay what they are."""
        # An error here is one of the loop as well, in which it says more.
        with suppress(Exception), torch.no_grad(), torch.random.fork_rng():
            outputs = model.eval().reconstruct(self._validation[:4][0])
            if outputs.min() < 0 or outputs.max() > 1:
                self._advice = "is there a Sigmoid at its end?"
                found = f"found {outputs.min():.2f} to {outputs.max():.2f}, expected 0 to 1"
                print(f"Outputs of the model: {found}; {self._advice}", file=sys.stderr)
        model.train()

    def _look_at_saved(self, model: Any) -> None:
        """Says on stderr if the validation loss is far below what the model computes. UserError if Part 2's file does
        not hold the model: better after the first epoch than after the last."""
        images, _ = self._validation[:]
        mode = model.training
        outputs = model.eval().reconstruct(images)
        model.train(mode)
        error = float(torch.mean((outputs - images) ** 2))
        of = "it is"
        if self.name == "VAE":  # the sum for 16 images, to which the KL divergence is added
            error, of = error * 16 * images[0].numel(), "for 16 images, the squared errors alone are"
        if self.best_loss < error / 2:
            found = f"validate returned {self.best_loss:.4g} as the mean loss over the images"
            right = f"by the model that was saved, {of} {error:.4g}"
            print(in_lines(f"{found}; {right}. Does it weight each batch by its size?"), file=sys.stderr)
        if self.name == "MLPAE" and math.isfinite(error):
            try:
                again = checkpoint_in(self.model_path.read_bytes(), self.name)["model"].reconstruct(images)
                wrong = "" if torch.allclose(again, outputs, atol=1e-3) else "it gives other outputs"
            except Exception as reason:  # of a student's node
                wrong = textwrap.shorten(str(reason), 300)
            if wrong:
                needs = "a node is a class in autograd/Nodes.py, made with no arguments but sizes, and uses its params"
                raise UserError(f"{self.model_path}: the model cannot be loaded from it ({wrong}); {needs}")

    def _lock(self, stack: ExitStack) -> None:
        """Keeps other trainings of this model out of its folders; the system frees the locks when the process ends."""
        places = {"--model-dir": (self.args.model_dir, "BestModel"), "--log-dir": (self.args.log_dir, "history")}
        for flag, (folder, file) in places.items():
            try:
                stack.enter_context(FileLock(Path(folder, f".{file}_{self.name}.lock"), timeout=0))
            except Timeout:
                found = f"{folder}: found another training of {self.name} at work in this folder"
                raise UserError(f"{found}; wait for its end, or give another {flag}") from None
            remove_unfinished(folder, self.name)

    def _log(self, line: str) -> None:
        """Prints a line of the log. It is also in a file of this run's own: `>` empties the redirected log before a
        second training can be refused."""
        log(line)
        print(line, file=self._file, flush=True)

    def _log_settings(self) -> None:
        shown = self.settings | {"image_size": "{}x{}".format(*self.args.image_size)}
        # Wrap between settings only.
        settings = "Settings: " + ", ".join(f"{key} {value}".replace(" ", "\xa0") for key, value in shown.items())
        self._log(in_lines(settings).replace("\xa0", " "))
        photos, others = len(self.loader.dataset), len(self._validation)
        self._log(f"Data: {self.data['root']}, {photos} training and {others} validation photos")

    def _summary(self) -> list[str]:
        lines, waited = [], len(self.history) - self.best_epoch
        if len(self.history) < self.args.epochs:
            too_few = f"; --patience is {self.args.patience}" if waited < self.args.patience else ""
            lines.append(f"Stopped early: no better model in {waited} epoch{'s' * (waited != 1)}{too_few}")
        losses = {key.replace("_", " ").title(): value for key, value in self.best.items() if key.endswith("loss")}
        lines.append(f"{'Last' if self.name == 'GAN' else 'Best'} epoch: {self.best_epoch}, {self._in_words(losses)}")
        limits, most = required_losses(self.name, self.settings.get("optimizer"), self.args.image_size)
        if limits:
            words = ", ".join(f"{which} loss below {limit:g}" for which, limit in limits.items())
            met = [all(0 < row[f"{which.title()} Loss"] < limits[which] for which in limits) for row in self.history]
            verdict = f"not met in {most} epochs" if any(met) else "not met"
            if any(met := met[:most]):
                saved = met[self.best_epoch - 1 : self.best_epoch] == [True]
                verdict = "met" if saved else f"met in epoch {met.index(True) + 1}"
            lines.append(f"Asked by the handout: {words}: {verdict}")
        return lines

    def _in_words(self, losses: dict[str, float]) -> str:
        digits = 2 if self.name.startswith("VAE") else 4
        return ", ".join(f"{name}: {value:.{digits}f}" for name, value in losses.items())

    def _open_tensorboard(self, stack: ExitStack) -> Any:
        """A writer for TensorBoard, if the flag is given."""
        if "tensorboard" not in self.args:
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
        """Saves the history and the state after the latest epoch, unless that is done."""
        if len(self.history) == self._saved_epochs:
            return
        with atomic_write(self.history_path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            writer = csv.DictWriter(text, self.history[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)
            text.detach()
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        state = {
            "fixed_settings": self.fixed_settings,
            "history": self.history,
            "best": self.best,
            "finished": self.finished,
            "parts": [part.state_dict() for part in self.parts],
            "order": self.loader.generator.get_state(),
            "random": (torch.get_rng_state(), cuda),
        }
        save_values(state, self.state_path)
        self._saved_epochs = len(self.history)
        self._show_in_tensorboard(self.history[-1])
        self._bar.update()

    def _resume(self) -> bool:
        """Restores the state of an interrupted training, if there is one; CheckpointError if it does not fit."""
        if not self.state_path.exists():
            print(f"Found no {self.state_path} to resume: starting from the beginning.", file=sys.stderr)
            return False
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
            words = ", ".join(f"{key} {self.fixed_settings[key]} now, {then[key]!r:.40} then" for key in changed)
            found = f"{self.state_path}: begun with other settings ({words})"
            raise CheckpointError(f"{found}; give those, or train without --resume")
        for row in self.history:
            self._show_in_tensorboard(row)
        return True

    def _restore(self, state: dict[str, Any]) -> None:
        best, history = state["best"], state["history"]
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.loader.generator.set_state(state["order"])
        cpu, cuda = state["random"]
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        self.best, self.best_loss, self.best_epoch = best, best.get("valid_loss", math.inf), best["epoch"]
        self.history, self.finished = history, state["finished"] or len(history) >= self.args.epochs
        self._saved_epochs = len(history) if self.history_path.exists() else 0
