"""Submissions to be checked: made by this lab, incomplete, damaged, forged, foreign and hostile."""

import contextlib
import csv
import functools
import io
import itertools
import json
import pickle
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, fails, run_script, saved_model, unix
from PIL import Image

import MLPAE_train_script
import random_generation
import train_script
import visualization
from Autoencoder import Autoencoder
from autograd import BaseGraph, Linear, ReLU, Sigmoid
from lab.checkpoint import load_checkpoint, save_checkpoint
from lab.defaults import REQUIRED_LOSSES
from lab.mlp_autoencoder import MLPAutoencoder
from teaching import check_submission
from teaching.checks import CODE, PARTS, Check, Photos, checks_of, look_at_code
from teaching.process import checks_in_process

SAVED_MODELS = {"MLPAE": "models/BestModel_MLPAE.pkl", "AE": "models/BestModel_AE.pth"}


@pytest.fixture
def easy(monkeypatch):
    """A handout that requires so little that tiny trainings meet it."""
    for name, limit in ("MLPAE", 1), ("AE", 1), ("VAE", 1e6):
        monkeypatch.setitem(REQUIRED_LOSSES, name, {"train": limit, "valid": limit})


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A data root with twenty noisy photos of two classes."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("flowers")
    for name in "rose", "tulip":
        (root / name).mkdir()
        for i in range(10):
            pixels = rng.uniform(0, 180, 3) + rng.uniform(0, 75, (30, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(flowers, tmp_path_factory):
    """Makes the results of a model as this lab makes them, once: photos of 12 x 8 pixels, and not the usual split."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        places = {"--data-root": flowers, "--model-dir": folder / "models", "--log-dir": folder / "log"}
        *places, vis = [f"{flag}={place}" for flag, place in (places | {"--vis-dir": folder / "vis"}).items()]
        train, model = (MLPAE_train_script, []) if name == "MLPAE" else (train_script, ["--model", name])
        with contextlib.redirect_stdout(io.StringIO()) as log:
            train.main([*model, *places, "--image-size=12x8", "--epochs=3", "--split-seed=5"])
        (folder / "log" / f"train_{name}.txt").write_text(log.getvalue())
        visualization.main(["--model", name, *places, vis])
        if name != "MLPAE":
            random_generation.main([*model, places[1], vis])
        return folder

    return make


@pytest.fixture
def submission(trained, tmp_path):
    """A folder as a student hands it in, with the given models in it."""

    def make(*names):
        folder = tmp_path / "submission"
        for file in itertools.chain(*CODE.values()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        for name in names:
            shutil.copytree(trained(name), folder, dirs_exist_ok=True)
        return folder

    return make


@pytest.fixture
def in_this_process(monkeypatch):
    """Submissions are looked at in this process, where tests can change what is required."""
    monkeypatch.setattr(check_submission, "checks_in_process", checks_of)


@pytest.fixture
def check(flowers, capsys, in_this_process):
    """Checks a folder; gives the exit status, and what was found by what was asked, of the part that is named."""

    def run(folder, part=None, root=flowers):
        status = 0
        try:
            check_submission.main([str(folder), "--json", "--data-root", str(root)])
        except SystemExit as stop:
            status = stop.code
        found = json.loads(capsys.readouterr().out)
        assert found["complete"] is (status == 0) and found["folder"] == str(folder)
        assert status == (1 if any(c["ok"] is False for c in found["checks"]) else 0)
        return status, {c["asked"]: (c["found"], c["ok"]) for c in found["checks"] if part in (None, c["part"])}

    return run


def log_of(*losses):
    """A log with the losses (train, valid) of each epoch."""
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, 1))


def test_a_complete_submission_is_as_asked(easy, submission, check):
    folder = submission("MLPAE", "AE", "VAE")
    status, found = check(folder)
    assert status == 0 and {ok for _, ok in found.values()} == {True, None}
    # Code and pictures are for the teacher to look at.
    assert {asked.rpartition(".")[2] for asked, (_, ok) in found.items() if ok is None} == {"py", "png"}
    patterns = "*.py", "autograd/*.py", "models/Best*", "log/train*.txt", "vis/train*", "vis/valid*", "vis/random*"
    files = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    assert files and files == {asked for asked in found if (folder / asked).is_file()}
    for part, name in PARTS.items():
        _, found = check(folder, part)
        assert found["log and model agree"][1]
        checkpoint = load_checkpoint(folder / "models", name)
        for which, limit in REQUIRED_LOSSES[name].items():
            loss, how = found[f"loss on {which} photos < {limit:g}"][0].split(", ")
            tolerance = 1e-3 if which == "valid" else 0.25  # the training loss is measured during the training
            assert float(loss) == pytest.approx(checkpoint[f"{which}_loss"], rel=tolerance) and how == "computed anew"


def test_part_2_alone_is_complete_and_photos_may_be_in_it(easy, submission, check):
    folder = submission("MLPAE")
    (folder / "flowers").mkdir()
    status, found = check(folder)
    assert status == 0 and found["optional"] == ("not handed in", None)
    assert found["to be left out"] == ("flowers is there", None)


def test_an_optional_part_counts_as_handed_in_by_any_of_its_files(tmp_path, check):
    (tmp_path / "Autoencoder.py").touch()  # was there from the beginning
    assert check(tmp_path, "Part 3")[1] == {"optional": ("not handed in", None)}
    (tmp_path / "vis").mkdir()
    (tmp_path / "vis" / "train_AE.png").touch()
    assert check(tmp_path, "Part 3")[1]["train_script.py"] == ("missing", False)


@pytest.mark.parametrize("file", ["models/Best_MLPAE.pkl", "model/BestModel_MLPAE.pkl", "model/Best_MLPAE.pkl"])
def test_models_named_by_the_handout_or_by_the_courses_scripts(file, trained, tmp_path, check):
    (tmp_path / file).parent.mkdir()
    shutil.copy(trained("MLPAE") / SAVED_MODELS["MLPAE"], tmp_path / file)
    assert check(tmp_path)[1][file][1]


# Files


@pytest.mark.parametrize("file", ["log/train_MLPAE.txt", "vis/valid_MLPAE.png", SAVED_MODELS["MLPAE"]])
@pytest.mark.parametrize("how", ["empty", "missing", "a folder"])
def test_files_that_are_empty_or_missing_or_folders(file, how, easy, submission, check):
    path = submission("MLPAE") / file
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "a folder":
        path.mkdir()
    status, found = check(path.parent.parent)
    assert status == 1 and [asked for asked, (_, ok) in found.items() if ok is False] == [file]


@unix
@pytest.mark.parametrize("what", [SAVED_MODELS["MLPAE"], "autograd/Nodes.py", "log"])
def test_links_out_of_the_folder_are_not_followed(what, submission, check, tmp_path):
    path = submission("MLPAE") / what
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    status, found = check(tmp_path / "submission")
    words, ok = found["log/train_MLPAE.txt" if what == "log" else what]
    assert status == 1 and "a link out of the folder" in words and ok is False


# Code


@pytest.mark.parametrize(
    ("code", "words", "ok"),
    [
        (b"", "no code in it", False),
        (b'"""Part 1."""\n\n# TODO\nencoder = None\npass\n', "no code in it", False),
        (b'raise NotImplementedError("Part 1, step 2: Linear.forward")', "Linear.forward", False),
        (b"class Node:\n    def forward(self, x):\n        raise NotImplementedError\n", "3 lines, not run", None),
        ("x = f()  # TODO\n# \u8865\u5168\n".encode(), "in line 1, 2", None),
        (b"x = 1\ndef backward(:\n", "line 2", None),
    ],
)
def test_empty_code_and_gaps_as_handed_out_are_not_as_asked_and_other_code_is_for_the_teacher(code, words, ok):
    found, as_asked = look_at_code(code)
    assert words in found and as_asked is ok


# Models and logs


@pytest.mark.parametrize("too_high", ["train", "valid"])
def test_a_model_whose_loss_is_too_high_is_not_as_asked(too_high, easy, submission, check):
    REQUIRED_LOSSES["MLPAE"][too_high] = 0.001
    status, found = check(submission("MLPAE"), "Part 2")
    wrong = {asked.partition(" <")[0] for asked, (_, ok) in found.items() if ok is False}
    assert status == 1 and wrong == {f"loss on {too_high} photos", "losses in it"}


@pytest.mark.parametrize(
    ("train", "valid", "agree"),
    [(0.82, 1, True), (0.78, 1, False), (1.4, 1, False), (1, 1.015, True), (1, 1.025, False), (1, 0.975, False)],
)
def test_how_far_a_log_may_be_from_its_model(train, valid, agree, easy, submission, check):
    """The training loss by a quarter, and the validation loss by two percent."""
    folder = submission("MLPAE")
    of_model = [float(words.split(",")[0]) for asked, (words, _) in check(folder)[1].items() if "loss on" in asked]
    (folder / "log" / "train_MLPAE.txt").write_text(log_of((train * of_model[0], valid * of_model[1])))
    assert check(folder)[1]["log and model agree"][1] is agree


def layers(*hidden, activation=ReLU, end=Sigmoid):
    """Nodes of an autoencoder of images of 4 x 4 pixels."""
    rng = np.random.default_rng(0)
    nodes = [node for shape in itertools.pairwise([48, *hidden, 48]) for node in (Linear(*shape, rng), activation())]
    return [*nodes[:-1], end()]


@pytest.mark.parametrize(
    ("nodes", "ok"),
    [
        (layers(256, 128, 64, 128, 256), (True, True)),
        (layers(256, 128, 64, 128, 255), (False, True)),
        (layers(256, 128, 64, 128, 256, end=ReLU), (True, False)),
        (layers(256, 128, 64, 128, 256, activation=Sigmoid), (True, False)),
        ([], (False, False)),
    ],
)
def test_the_layers_of_the_mlp(nodes, ok, flowers, tmp_path, check):
    model = MLPAutoencoder(BaseGraph(nodes), 64, (4, 4))
    saved_model("MLPAE", flowers, tmp_path / "models", (4, 4), model=model, encoding_dim=64)
    found = check(tmp_path)[1]
    assert (found["3HW-256-128-64-128-256-3HW"][1], found["ReLU; output in [0, 1]"][1]) == ok


def test_losses_that_are_reached_too_late_do_not_count_but_agree_with_the_model(submission, check):
    folder = submission("AE")
    model = load_checkpoint(folder / "models", "AE")
    losses = [(0.9, 0.9)] * 15 + [(model["train_loss"], model["valid_loss"])]
    (folder / "log" / "train_AE.txt").write_text(log_of(*losses))
    found = check(folder, "Part 3")[1]
    assert found["within 15 epochs < 0.01 / 0.012"][1] is False and found["log and model agree"][1]


def test_a_log_that_is_not_understood_is_for_the_teacher(tmp_path, check):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train_MLPAE.txt").write_text("Epoch 1 Train Loss: 0,5 Valid Loss: 0,5")
    found = check(tmp_path)[1]
    assert found["log/train_MLPAE.txt"][1] is None and "losses in it < 0.03 / 0.03" not in found


def test_the_losses_of_a_model_of_other_photos_are_not_computed(easy, submission, check, flowers, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(flowers, fewer)
    (fewer / "rose" / "0.png").unlink()
    status, found = check(submission("MLPAE"), root=fewer)
    words, ok = found["losses of the model"]
    assert status == 0 and "other photos" in words and ok is None


class Hostile(str):
    """The name of a file, which its pickle makes when it is loaded."""

    def __reduce__(self):
        return open, (str(self), "w")


def saved_by_torch(value):
    torch.save(value, content := io.BytesIO())
    return content.getvalue()


@pytest.mark.filterwarnings("ignore")  # PyTorch's, on pickles by another protocol than its own
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("MLPAE", pickle.dumps),
        ("AE", pickle.dumps),
        ("AE", saved_by_torch),
        ("AE", lambda _: saved_by_torch(Autoencoder(5, (8, 8)))),
        ("AE", lambda _: saved_by_torch(Autoencoder(5, (8, 8)).state_dict())),
    ],
)
def test_foreign_models_are_for_the_teacher_and_neither_they_nor_code_are_run(name, save, submission, tmp_path, check):
    folder, trap = submission(name), tmp_path / "trapped"
    (folder / SAVED_MODELS[name]).write_bytes(save(Hostile(trap)))
    (folder / "autograd" / "Nodes.py").write_text(f"open({str(trap)!r}, 'w')")
    found = check(folder)[1]
    assert found[SAVED_MODELS[name]][1] is None and not any("loss on" in asked for asked in found)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["MLPAE", "AE"])
def test_damaged_models_of_this_lab_are_not_as_asked(name, submission, check):
    folder = submission(name)
    path = folder / SAVED_MODELS[name]
    content = path.read_bytes()
    save_checkpoint(load_checkpoint(folder / "models", name) | {"epoch": 0}, path)
    for damaged in content[:1000] + content[1001:], path.read_bytes():
        path.write_bytes(damaged)
        words, ok = check(folder)[1][SAVED_MODELS[name]]
        assert words.startswith("no usable model: ") and ok is False


# The command


def test_the_table_has_a_mark_for_each_check_and_no_control_characters(capsys):
    found = [
        Check("Part 1", "ReLU", "missing; there is\n\x1b[2J Relu", False),
        Check("Part 4", "within 20 epochs < 800 / 800, or so it says", "epoch 20: 787.1 / 799.3, " * 5, None),
    ]
    check_submission.print_table(check_submission.Result(Path("zhang"), found, {"Part 1": None, "Part 2": 12.5}))
    out = capsys.readouterr().out
    assert "  NO  ReLU" in out and "  ?   within" in out and "Part 1 look, Part 2 12.5" in out
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out


def test_folders_and_photos_that_are_not_there_are_errors_of_the_command(submission, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "none") in fails(check_submission, [tmp_path / "none"], capsys)
    error = fails(check_submission, [submission("MLPAE"), "--data-root", tmp_path / "empty"], capsys)
    assert str(tmp_path / "empty") in error


def test_the_students_own_copy_of_script_and_photos_is_refused(submission, flowers, capsys, monkeypatch):
    folder = submission()
    for flag in "--data-root", "--drawn-root":
        assert f"found {flag} in it" in fails(check_submission, [folder, flag, folder / "flowers"], capsys)
    monkeypatch.setattr(check_submission, "LAB", folder)
    assert "found this script in it" in fails(check_submission, [folder, "--data-root", flowers], capsys)


@pytest.mark.photos
def test_the_committed_results_are_as_asked(photos, tmp_path):
    for name in "autograd", "models", "log", "vis":
        shutil.copytree(ROOT / name, tmp_path / "handed in" / name)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, tmp_path / "handed in")
    result = run_script("teaching.check_submission", tmp_path / "handed in", "--data-root", photos)
    assert result.returncode == 0, result.stdout
    assert "  NO" not in result.stdout and result.stdout.count("log and model agree") == 3


# A process of its own


def test_a_process_finds_what_this_one_finds(submission, flowers):
    folder, photos = submission("MLPAE", "AE"), Photos(str(flowers))
    assert list(checks_in_process(folder, photos)) == list(checks_of(folder, photos))


class FaultyPhotos(Photos):
    """Photos that something happens to when they are read."""

    def __init__(self, root, fault, *arguments):
        super().__init__(str(root))
        self.fault = functools.partial(fault, *arguments)

    def read(self, size):
        self.fault()
        return super().read(size)


@unix
def test_the_end_of_the_process_is_a_line_below_the_checks_it_has_finished(submission, flowers):
    folder = submission("MLPAE")
    *before, last = checks_in_process(folder, FaultyPhotos(flowers, signal.raise_signal, 9))
    assert before and before == list(checks_of(folder, Photos(str(flowers))))[: len(before)]
    assert last.part == "Part 2" and "SIGKILL" in last.found and last.ok is False


def test_a_submission_that_takes_too_long_is_given_up(submission, flowers):
    found = list(checks_in_process(submission(), Photos(str(flowers)), seconds=0))
    assert found == [("Part 1", "all that can be looked at", "not finished after 0 seconds", False)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_the_memory_of_the_process_is_limited(submission, flowers):
    checks = checks_in_process(submission("MLPAE"), FaultyPhotos(flowers, np.empty, 5 * 10**9, np.uint8))
    found = {check.asked: check for check in checks}
    assert "Unable to allocate" in found["losses of the model"].found and "vis/valid_MLPAE.png" in found


# A class

OF_CLASS = {
    "1 complete": (["look", "12.5", "7.5", "7.5"], ""),
    "2 forged log": (["look", "look", "0", "0"], "log and model agree"),
    "3 foreign": (["look", "look", "0", "0"], ""),
    "4 empty": (["look", "look", "0", "0"], "autograd/BaseNode.py: missing"),
    "5 roster.csv": (["look", "look", "look", "look"], "a folder"),
}


@pytest.fixture
def check_class(easy, submission, tmp_path, flowers, in_this_process, capsys):
    """Checks a class with submissions of every sort, and a file among them; gives what was printed."""
    folders = [tmp_path / "class" / name for name in OF_CLASS]
    folders[3].mkdir(parents=True)
    for folder, models in zip(folders, (["MLPAE", "AE", "VAE"], ["MLPAE"], ["MLPAE"]), strict=False):
        shutil.move(submission(*models), folder)
    (folders[1] / "log" / "train_MLPAE.txt").write_text(log_of((0.001, 0.001)))
    (folders[2] / SAVED_MODELS["MLPAE"]).write_bytes(pickle.dumps("of another lab"))
    folders[4].touch()

    def run(*flags):
        with pytest.raises(SystemExit, match="1"):
            check_submission.main([*map(str, folders), "--data-root", str(flowers), *map(str, flags)])
        return capsys.readouterr().out

    return run


def test_a_class_is_a_line_each(check_class):
    _, *lines = check_class().splitlines()
    for line, (name, (points, first_wrong)) in zip(lines, OF_CLASS.items(), strict=True):
        columns = line[20:].split()
        assert line.startswith(name) and columns[:4] == points and first_wrong in line and len(line) <= 120
        assert float(columns[4]) == sum(float(part) for part in points if part != "look")
        assert bool(int(columns[5])) is bool(first_wrong)


def test_all_checks_of_a_class_as_json_and_csv(check_class, tmp_path):
    found = json.loads(check_class("--json", "--csv", tmp_path / "class.csv"))
    assert [Path(each["folder"]).name for each in found] == list(OF_CLASS)
    assert [each["complete"] for each in found] == [not first_wrong for _, first_wrong in OF_CLASS.values()]
    assert found[0]["points"] == {"Part 1": None, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}

    text = (tmp_path / "class.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert text.startswith("\ufeff")  # by which Excel knows UTF-8
    expected = [(Path(each["folder"]).name, check) for each in found for check in each["checks"]]
    for row, (name, check) in zip(rows, expected, strict=True):
        assert row["folder"] == name and row["mark"] == {True: "ok", False: "NO", None: "?"}[check["ok"]]
        assert [row[column] for column in ("part", "asked", "found")] == [check["part"], check["asked"], check["found"]]
    assert {row["points"] for row in rows if row["folder"] == "1 complete" and row["part"] == "Part 2"} == {"12.5"}


def test_texts_that_a_spreadsheet_would_compute_are_quoted(tmp_path):
    texts = ['=HYPERLINK("x")', "+1", "-1", "@x", "\t=1", "1-1", "x, y"]
    found = [Check("Part 1", "a", text, True) for text in texts]
    result = check_submission.Result(Path("=cmd"), found, {"Part 1": None})
    check_submission.write_csv([result], tmp_path / "class.csv")
    _, *rows = csv.reader(io.StringIO((tmp_path / "class.csv").read_text(encoding="utf-8-sig"), newline=""))
    assert [row[5] for row in rows] == ['\'=HYPERLINK("x")', "'+1", "'-1", "'@x", "'=1", "1-1", "x, y"]
    assert {row[0] for row in rows} == {"'=cmd"}
