"""Trainings that are cut off, and what is left of them. Each process here is a real one, and is really stopped."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, run_script, without_notices
from PIL import Image

import MLPAE_train_script
import train_script
from data_processor import read_flowers
from lab import training_run
from lab.checkpoint import checkpoint_path, load_checkpoint, load_values, save_values

SCRIPTS = {
    "MLPAE": ["MLPAE_train_script.py"],
    "AE": ["train_script.py", "--model", "AE"],
    "VAE": ["train_script.py", "--model", "VAE"],
    "GAN": ["train_script.py", "--model", "GAN"],
    "DDPM": ["train_script.py", "--model", "DDPM"],
}


@pytest.fixture
def flags(few_photos, tmp_path):
    places = {"--data-root": few_photos, "--model-dir": tmp_path / "models", "--log-dir": tmp_path / "log"}
    return ["--image-size", "8", *(str(part) for place in places.items() for part in place)]


def start(name, *arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)):
    """Starts a training, by default one that Ctrl-C can stop even if these tests run in the background of a shell."""
    command = [sys.executable, ROOT / SCRIPTS[name][0], *SCRIPTS[name][1:], *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=preexec_fn, **pipes)


def train(name, *arguments):
    main = MLPAE_train_script.main if name == "MLPAE" else train_script.main
    main([*SCRIPTS[name][1:], *map(str, arguments)])


def what_is_left(tmp_path, name):
    """The bytes of the best model and of the history, which must not depend on what happened on the way."""
    files = checkpoint_path(tmp_path / "models", name), tmp_path / "log" / f"history_{name}.csv"
    return [file.read_bytes() for file in files]


def epoch_lines(text):
    return [line for line in text.splitlines() if line.startswith("Epoch: ")]


@pytest.mark.slow
@pytest.mark.parametrize("name", os.environ.get("KILL", "MLPAE VAE").split())
def test_killed_and_resumed_it_ends_with_the_same_bytes(name, flags, tmp_path):
    kills = int(os.environ.get("KILLS", 12))
    flags += ["--epochs", 20 * kills, "--patience", 20 * kills]
    whole = run_script(*SCRIPTS[name], *flags)
    assert whole.returncode == 0
    expected = what_is_left(tmp_path, name)
    for folder in "models", "log":
        shutil.rmtree(tmp_path / folder)

    log, loaded = "", 0
    rng = random.Random(0)
    for kill in range(1, kills + 1):
        process = start(name, *flags, "--resume")
        lines = rng.randint(1, 6)
        while lines:
            log += (line := process.stdout.readline())
            lines -= not line.startswith("  ")  # the settings are on several lines
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        log += process.stdout.read()  # communicate() would pass by what readline() has in hand already
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it came to its end before kill {kill}"
        if checkpoint_path(tmp_path / "models", name).exists():  # as after every kill but an early first one
            load_checkpoint(tmp_path / "models", name)
            loaded += 1
    assert loaded >= kills - 1
    last = start(name, *flags, "--resume")
    output, errors = last.communicate()
    assert last.returncode == 0 and without_notices(errors) == ""
    assert what_is_left(tmp_path, name) == expected
    # No line of the log is lost; that of an epoch that was cut off after it was printed is there twice.
    assert list(dict.fromkeys(epoch_lines(log + output))) == epoch_lines(whole.stdout)
    assert (log + output).splitlines()[-2:] == whole.stdout.splitlines()[-2:]
    left = {file.name for folder in ("models", "log") for file in (tmp_path / folder).iterdir()}
    assert not any(name.endswith(".unfinished") for name in left)


@pytest.mark.parametrize("name", SCRIPTS)
def test_stopped_and_resumed_it_ends_with_the_same_bytes(name, flags, tmp_path, monkeypatch):
    flags += ["--epochs", 5]
    train(name, *flags)
    expected = what_is_left(tmp_path, name)
    for folder in "models", "log":
        shutil.rmtree(tmp_path / folder)

    def stop_in_epoch_4(values, path):
        if len(values["history"]) == 4:
            raise KeyboardInterrupt
        save_values(values, path)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(training_run, "save_values", stop_in_epoch_4)
        train(name, *flags)
    train(name, *flags, "--resume")
    assert what_is_left(tmp_path, name) == expected


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_resumed_training_goes_on_where_it_was(name, flags, tmp_path, capsys):
    train(name, *flags, "--epochs", 6, "--resume")
    out, err = capsys.readouterr()
    assert f"Found no {tmp_path / 'models' / f'LastEpoch_{name}.pth'} to resume" in err
    expected = what_is_left(tmp_path, name)
    train(name, *flags, "--epochs", 6, "--resume")  # there is nothing left to do
    again, _ = capsys.readouterr()
    summary = out.splitlines()[out.splitlines().index(epoch_lines(out)[-1]) + 1 :]
    assert after_the_settings(again) == ["Resumed after epoch 6", *summary]
    assert what_is_left(tmp_path, name) == expected


def after_the_settings(out):
    """The lines of a log after those of the settings and of the data."""
    lines = out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("Data: ")) + 1 :]


def test_a_training_is_resumed_in_another_place(flags, few_photos, tmp_path, capsys):
    """All folders may have moved, and how files are treated may change; nothing else."""
    train("AE", *flags, "--epochs", 3)
    expected = what_is_left(tmp_path, "AE")[1]
    for folder in "models", "log":
        shutil.rmtree(tmp_path / folder)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(train_script, "train_one_epoch", stop_in(2, train_script.train_one_epoch))
        train("AE", *flags, "--epochs", 3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in "models", "log", few_photos.name:
        (tmp_path / folder).rename(elsewhere / folder)
    folders = {"--data-root": few_photos.name, "--model-dir": "models", "--log-dir": "log", "--drawn-root": "drawn"}
    places = [part for flag, name in folders.items() for part in (flag, elsewhere / name)]
    capsys.readouterr()
    train("AE", "--image-size", 8, *places, "--epochs", 3, "--strict", "--resume")
    assert "Resumed after epoch 1\n" in capsys.readouterr().out
    assert what_is_left(elsewhere, "AE")[1] == expected
    assert load_checkpoint(elsewhere / "models", "AE")["data"]["root"] == str(elsewhere / few_photos.name)


def stop_in(epoch, function):
    """The function, until it is called for the epoch of this number: then Ctrl-C."""
    calls = iter(range(1, epoch))

    def until_then(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return until_then


def test_resuming_stops_early_as_if_it_had_never_stopped(flags, tmp_path, capsys):
    flags += ["--epochs", 200, "--patience", 3, "--lr", 30]
    train("MLPAE", *flags)
    out = capsys.readouterr().out
    assert "Stopped early" in out
    train("MLPAE", *flags, "--resume")
    assert after_the_settings(capsys.readouterr().out)[1:] == out.splitlines()[-3:]


def fails(name, arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        train(name, *arguments)
    out, err = capsys.readouterr()
    err = without_notices(err)
    assert exit.value.code == 2 and err.count("\n") == 1 and "Traceback" not in out + err
    return err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--lr", 2], "lr 2.0 now, 8.0 then"),
        (["--seed", 5], "seed 5 now, 0 then"),
        (["--image-size", 12], "image_size (12, 12) now, (8, 8) then"),
        (["--epochs", 9, "--batch-size", 3], "batch_size 3 now, 16 then, epochs 9 now, 2 then"),
        (["--split-seed", 1], "split_seed 1 now, 0 then, photos "),
    ],
)
def test_a_state_belongs_to_its_settings(other, message, flags, tmp_path, capsys):
    train("MLPAE", *flags, "--epochs", 2)
    expected = what_is_left(tmp_path, "MLPAE")
    capsys.readouterr()
    error = fails("MLPAE", [*flags, "--epochs", 2, *other, "--resume"], capsys)
    assert message in error and "train without --resume" in error
    assert what_is_left(tmp_path, "MLPAE") == expected


@pytest.mark.parametrize("name", ["MLPAE", "VAE"])
def test_a_damaged_state_is_refused(name, flags, tmp_path, capsys):
    train(name, *flags, "--epochs", 2)
    path = tmp_path / "models" / f"LastEpoch_{name}.pth"
    whole = path.read_bytes()
    expected = what_is_left(tmp_path, name)
    state = torch.load(path, weights_only=True)
    damaged = [whole[: len(whole) * i // 20] for i in range(20)] + [b"hello"]
    wrong = [("best", None), ("history", [1, 2]), ("parts", [1]), ("order", None), ("random", [None])]
    wrong += [("best", state["best"] | {"epoch": epoch}) for epoch in (0, 3)]
    wrong += [("history", [state["history"][0], {"Epoch": 2}]), ("parts", state["parts"] * 2)]
    for part, value in wrong:
        save_values(state | {part: value}, path)
        damaged.append(path.read_bytes())
    weights = state["parts"][0]
    first = next(iter(weights))
    weights[first] = weights[first].flatten()
    save_values(state, path)
    damaged.append(path.read_bytes())
    capsys.readouterr()
    for content in damaged:
        path.write_bytes(content)
        assert "found nothing to resume in it" in fails(name, [*flags, "--epochs", 2, "--resume"], capsys)
    assert what_is_left(tmp_path, name) == expected
    path.write_bytes(whole)
    train(name, *flags, "--epochs", 2, "--resume")


def test_unfinished_files_of_killed_trainings_are_removed(flags, tmp_path):
    for folder in "models", "log":
        (tmp_path / folder).mkdir()
    leftovers = ["models/.BestModel_MLPAE.pkl.1.unfinished", "log/.history_MLPAE.csv.2.unfinished"]
    others = ["models/.BestModel_AE.pth.3.unfinished", "log/.history_VAE.csv.4.unfinished"]
    for file in leftovers + others:
        (tmp_path / file).touch()
    train("MLPAE", *flags, "--epochs", 1)
    assert [(tmp_path / file).exists() for file in leftovers + others] == [False, False, True, True]


def test_a_new_training_leaves_the_state_of_the_last_aside(flags, tmp_path):
    train("MLPAE", *flags, "--epochs", 2)
    path = tmp_path / "models" / "LastEpoch_MLPAE.pth"
    before = path.read_bytes()
    train("MLPAE", *flags, "--epochs", 2, "--seed", 1)
    assert path.with_name("LastEpoch_MLPAE.previous.pth").read_bytes() == before != path.read_bytes()


@pytest.mark.parametrize("name", ["MLPAE", "VAE"])
@pytest.mark.parametrize("function", ["save_checkpoint", "save_values"])
def test_stopped_while_saving_epoch_1_the_earlier_run_is_kept(function, name, flags, tmp_path, monkeypatch):
    """After the best model is saved, and after the state that comes before it."""
    train(name, *flags, "--epochs", 3)
    expected = what_is_left(tmp_path, name)
    train(name, *flags, "--epochs", 3, "--seed", 1)
    earlier, _ = what_is_left(tmp_path, name)
    save = getattr(training_run, function)

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(training_run, function, save_and_stop)
        train(name, *flags, "--epochs", 3)
    train(name, *flags, "--epochs", 3, "--resume")
    assert what_is_left(tmp_path, name) == expected
    [previous] = (tmp_path / "models").glob(f"BestModel_{name}.previous.*")
    assert previous.read_bytes() == earlier


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_ctrl_c(name, flags, tmp_path):
    process = start(name, *flags, "--epochs", 5000, "--patience", 5000)
    while not process.stdout.readline().startswith("Epoch: 3"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    advice = "To resume, give the same command with --resume, and with >> in place of > for the log."
    assert without_notices(errors) == f"Interrupted. {advice}\n"
    assert process.returncode == 130
    assert load_checkpoint(tmp_path / "models", name)["epoch"] >= 1
    assert (tmp_path / "models" / f"LastEpoch_{name}.pth").exists()


def test_a_full_disk_leaves_the_old_model(flags, tmp_path, capsys):
    """As the limit on the size of a file makes it; a small file system gives the same error by another number."""
    train("MLPAE", *flags, "--epochs", 2)
    expected = what_is_left(tmp_path, "MLPAE")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    process = start("MLPAE", *flags, "--epochs", 2, "--seed", 1, preexec_fn=limit)
    _, errors = process.communicate()
    assert process.returncode == 2 and without_notices(errors).count("\n") == 1
    assert "could not be written (File too large); what was there before still is" in errors
    assert what_is_left(tmp_path, "MLPAE") == expected


def test_a_full_file_system_leaves_the_old_model(flags, tmp_path):
    small = tmp_path / "models"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        train("MLPAE", *flags, "--epochs", 1)
        expected = what_is_left(tmp_path, "MLPAE")
        (small / "fill").write_bytes(bytes(os.statvfs(small).f_bavail * os.statvfs(small).f_bsize - 50_000))
        process = start("MLPAE", *flags, "--epochs", 2, "--seed", 1)
        _, errors = process.communicate()
        assert process.returncode == 2 and "No space left on device" in errors.splitlines()[-1]
        assert what_is_left(tmp_path, "MLPAE") == expected
        load_checkpoint(small, "MLPAE")
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full, as Linux has it")
def test_a_log_that_cannot_be_written_ends_in_one_line(flags):
    with open("/dev/full", "w") as full:
        command = [sys.executable, ROOT / "MLPAE_train_script.py", *flags, "--epochs", "2"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    message = "stdout: the log could not be written (No space left on device); redirect it elsewhere"
    assert without_notices(process.stderr) == f"MLPAE_train_script.py: error: {message}\n"


def test_two_trainings_of_one_model_in_one_folder(flags, tmp_path, capsys):
    long = [*flags, "--epochs", 5000, "--patience", 5000]
    first = start("MLPAE", *long)
    while not first.stdout.readline().startswith("Epoch: 2"):
        pass
    error = fails("MLPAE", [*flags, "--epochs", 2, "--seed", 1], capsys)
    assert "found another training of MLPAE at work in this folder; wait for its end" in error
    train("AE", *flags, "--epochs", 1)  # another model's files are others
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert load_checkpoint(tmp_path / "models", "MLPAE")["settings"]["seed"] == 0
    train("MLPAE", *flags, "--epochs", 2, "--seed", 1)  # the lock ended with its holder
    assert load_checkpoint(tmp_path / "models", "MLPAE")["settings"]["seed"] == 1


def test_two_trainings_of_one_model_with_one_history(flags, tmp_path, capsys):
    first = start("MLPAE", *flags, "--epochs", 5000, "--patience", 5000)
    while not first.stdout.readline().startswith("Epoch: 2"):
        pass
    error = fails("MLPAE", [*flags, "--epochs", 2, "--model-dir", tmp_path / "others"], capsys)
    log = f"{tmp_path / 'log'}: found another training of MLPAE at work in this folder"
    assert f"{log}; wait for its end, or give another --log-dir" in error
    assert first.poll() is None
    first.kill()
    first.communicate()


@pytest.mark.parametrize("side", [0, 1])
def test_photos_that_were_overwritten_are_not_resumed_with(side, flags, few_photos, capsys):
    train("MLPAE", *flags, "--epochs", 1)
    path = few_photos / read_flowers(few_photos, 8, 8).split(0)[side].names[0]
    before = path.read_bytes()
    with Image.open(path) as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(path)
    error = fails("MLPAE", [*flags, "--epochs", 1, "--resume"], capsys)
    assert "begun with other settings (photos " in error
    path.write_bytes(before)
    train("MLPAE", *flags, "--epochs", 1, "--resume")


def test_states_of_earlier_versions_are_resumed(flags, few_photos, tmp_path, capsys):
    """They record the names of the training photos alone."""
    train("MLPAE", *flags, "--epochs", 2)
    path = tmp_path / "models" / "LastEpoch_MLPAE.pth"
    state = load_values(path)
    training, _ = read_flowers(few_photos, 8, 8).split(0)
    state["begun_with"]["photos"] = training.fingerprint(of_names_alone=True)
    save_values(state, path)
    capsys.readouterr()
    train("MLPAE", *flags, "--epochs", 2, "--resume")
    out, err = capsys.readouterr()
    assert "Resumed after epoch 2" in out and "Only the names of its training photos are recorded" in err
    (few_photos / training.names[0]).unlink()
    assert "photos " in fails("MLPAE", [*flags, "--epochs", 2, "--resume"], capsys)


def test_two_processes_draw_the_stand_in_set_once(tmp_path):
    code = f"""
from lab import drawn_flowers, photos
drawn_flowers.COUNTS.clear()
drawn_flowers.COUNTS["astilbe"] = 40
print(photos.photos_or_drawn("{tmp_path}/none", "{tmp_path}/drawn", "{tmp_path}/none"))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted("drawing" in error for error in errors) == [False, False, True]
    assert len(list((tmp_path / "drawn" / "astilbe").iterdir())) == 40


def test_nothing_is_written_but_in_the_folders_that_are_given(few_photos, tmp_path):
    copy, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    shutil.copytree(
        ROOT, copy, ignore=lambda _, names: [n for n in names if not n.endswith((".py", "autograd", "lab"))]
    )
    elsewhere.mkdir()
    before = sorted(copy.rglob("*"))
    for file in before:
        file.chmod(0o555 if file.is_dir() else 0o444)
    copy.chmod(0o555)
    trained = ["--model-dir", tmp_path / "models"]
    logged = ["--log-dir", tmp_path / "log"]
    quick = [*logged, "--image-size", "8", "--epochs", "1"]
    photos = ["--data-root", few_photos, "--drawn-root", tmp_path / "drawn"]
    for script, *arguments in (
        ["MLPAE_train_script.py", *photos, *trained, *quick],
        ["visualization.py", "--model", "MLPAE", *photos, *trained, *logged, "--vis-dir", tmp_path / "vis"],
        ["random_generation.py", "--model", "MLPAE", *trained, "--vis-dir", tmp_path / "vis"],
    ):
        result = subprocess.run(
            [sys.executable, "-B", copy / script, *arguments], cwd=elsewhere, capture_output=True, text=True
        )
        assert (result.returncode, without_notices(result.stderr)) == (0, "")
    assert sorted(copy.rglob("*")) == before and list(elsewhere.iterdir()) == []
    assert len(list((tmp_path / "vis").iterdir())) == 4
