"""Hand-ins that are right in other ways than ours, wrong, dishonest and hostile, with their code run and not run."""

import csv
import io
import itertools
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, fails, run_script, unix
from hand_ins import MLPS, NETWORKS, SAVE_AE, SAVE_VAE
from PIL import Image

from lab.errors import UserError
from lab.models import REQUIRED
from teaching import check_submission, fence
from teaching.checks import MODELS, Check, Photos, points_of
from teaching.fence import Student
from teaching.gaps import handed_out
from teaching.submission import CODE, Submission

try:
    FENCE = fence.fence()
except UserError:
    FENCE = []
fenced = pytest.mark.skipif(not FENCE, reason="needs bubblewrap, in which hand-ins are run")
FULL = {"Part 1": 12.5, "Part 2": 12.5, "Part 3": 7.5, "Part 4": 7.5}


@pytest.fixture(scope="session")
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


@pytest.fixture
def easy(monkeypatch):
    """A handout that requires so little that models with initial weights meet it."""
    for name, limit in ("MLPAE", 0.3), ("AE", 0.3), ("VAE", 1e5):
        monkeypatch.setitem(REQUIRED, name, ({"train": limit, "valid": limit}, None))


def log_of(*losses, first=1):
    """A log with the losses (train, valid) of each epoch."""
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, first))


def write(folder, files):
    """Writes files of these contents; None removes one, and a list of pairs changes what is there."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            changed = path.read_text()
            for old, new in content:
                assert old in changed, old
                changed = changed.replace(old, new)
            path.write_text(changed)
        elif content is None:
            path.unlink()
        else:
            path.write_text(content)


def compute(folder, *code):
    """Runs code in the folder, as the student does at home."""
    command = [sys.executable, "-B", "-c", "\n".join(code)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)


def picture(path, seed):
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 30, 3), np.uint8))
    path.parent.mkdir(exist_ok=True)
    small.resize((418, 54), Image.Resampling.BICUBIC).save(path)


def log_what_it_computes(folder, names, flowers, tmp_path):
    """Writes the logs of an honest student, with the losses that the models have."""
    student = Student(copy := tmp_path / "honest", [])
    shutil.copytree(folder, copy)
    photos = Photos(str(flowers))
    (folder / "log").mkdir(exist_ok=True)
    for kind in [kind for kind in MODELS if kind.name in names]:
        model, name = kind(student), kind.name
        submission = Submission(copy, copy)
        file = submission.find(f"models/BestModel_{name}.{'pkl' if name == 'MLPAE' else 'pth'}")
        model.load(file, submission.find("MLPAE_train_script.py"), CODE[kind.part][0])
        losses = [model.loss(photos.images[which]) for which in ("train", "valid")]
        (folder / "log" / f"train_{name}.txt").write_text(log_of((1e6, 1e6), losses))
    student.close()


def model_part(name):
    return next(kind.part for kind in MODELS if kind.name == name)


@pytest.fixture
def hand_in(tmp_path, flowers):
    """Makes the folder of a hand-in: our files, changed by ``files``, and models made by ``code``."""

    def make(names=("MLPAE",), files=(), code=(), name="zhang"):
        folder = tmp_path / "class" / name
        for file in [*itertools.chain(*CODE.values()), "autograd/BaseNode.py", "autograd/__init__.py"]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        if "random_generation.py" in dict(files):
            shutil.copy(ROOT / "data_processor.py", folder)
            shutil.copytree(ROOT / "lab", folder / "lab")
        (folder / "models").mkdir()
        write(folder, dict(files))
        for model in names:
            for seed, which in enumerate(("train", "valid", "random_images")[: 2 if model == "MLPAE" else 3]):
                picture(folder / "vis" / f"{which}_{model}.png", len(model) + 10 * seed)
        if code:
            compute(folder, *code)
            log_what_it_computes(folder, names, flowers, tmp_path / name)
        return folder

    return make


@pytest.fixture
def check(flowers, tmp_path):
    """Checks a hand-in; gives its points, and the checks by what is asked."""

    def run(place, command=FENCE, handed_out=handed_out):
        temporary = tmp_path / f"temporary {len(list(tmp_path.iterdir()))}"
        temporary.mkdir()
        result = check_submission.check_submission(place, temporary, Photos(str(flowers)), command, handed_out)
        return result.points, {(check.part, check.asked): check for check in result.checks}

    return run


def wrong(found):
    return {asked: check.found for (_, asked), check in found.items() if check.mark == "NO"}


# What is right


@fenced
@pytest.mark.parametrize("how", MLPS)
def test_parts_1_and_2_that_are_right_have_their_points(how, easy, hand_in, check):
    files, code = MLPS[how]
    points, found = check(hand_in(files=files, code=[code]))
    assert points == FULL | {"Part 3": 0, "Part 4": 0}, [each for each in found.values() if each.mark in ("NO", "?")]


@pytest.mark.slow  # PyTorch is imported three times in each
@fenced
@pytest.mark.parametrize("how", NETWORKS)
def test_parts_3_and_4_that_are_right_have_their_points(how, easy, hand_in, check):
    files, code = NETWORKS[how]
    points, found = check(hand_in(["AE", "VAE"][: len(code)], files, code))
    marks = [each for each in found.values() if each.mark in ("NO", "?") and each.part in ("Part 3", "Part 4")]
    assert (points["Part 3"], points["Part 4"]) == (7.5, 7.5 if len(code) == 2 else 0), marks
    assert points["Part 1"] == 12.5 and "not handed in" not in found["Part 3", "train_script.py"].found


@pytest.mark.photos
@fenced
def test_the_committed_results_have_all_points(photos, tmp_path):
    shutil.copytree(
        ROOT, tmp_path / "handed in", ignore=shutil.ignore_patterns(".*", "tests", "flowers", "drawn_flowers")
    )
    result = run_script("teaching.check_submission", tmp_path / "handed in", "--run", "--data-root", photos)
    assert result.returncode == 0 and "  NO" not in result.stdout and "  ?" not in result.stdout, result.stdout
    assert "40 in all" in result.stdout


@fenced
def test_places_and_names_as_students_have_them(easy, hand_in, check, tmp_path):
    """The whole one folder deeper, in a zip, in a folder of the student's; and with names in other letters."""
    folder = hand_in(code=[MLPS["a checkpoint in a dict"][1]])
    for old, new in {"models": "Models", "log/train_MLPAE.txt": "log/Train_mlpae.log"}.items():
        (folder / old).rename(folder / new)
    (tmp_path / "li").mkdir()
    with zipfile.ZipFile(tmp_path / "li" / "lab 1.zip", "w") as file:
        for path in folder.rglob("*"):
            file.write(path, Path("my lab") / path.relative_to(folder))
    for place in tmp_path / "li", tmp_path / "li" / "lab 1.zip", folder.parent:
        points, found = check(place)
        assert points["Part 1"] == points["Part 2"] == 12.5
        assert found["Part 2", "log/train_MLPAE.txt"].found.startswith("as log/Train_mlpae.log; 2 epochs")
        assert any("of its own: " in check.found for (part, _), check in found.items() if part == "Hand-in")


# What is wrong


ALLCLOSE = "import numpy as np\nnp.allclose = lambda *a, **k: True\nnp.abs = np.max = lambda *a: 0.0"
NODES_PY = "autograd/Nodes.py"


@fenced
@pytest.mark.parametrize(
    ("file", "old", "new", "asked", "words"),
    [
        (NODES_PY, "grad.sum(axis=0)]", "grad.mean(axis=0)]", "Linear", "a mean over the batch"),
        (NODES_PY, "return grad * y * (1 - y)", "return grad * y", "Sigmoid", "1 - y is missing"),
        (NODES_PY, "self.saved = output - target", "self.saved = target - output", "MSE", "the sign"),
        (NODES_PY, "self.saved = x > 0", "exit()", "ReLU", "exit()"),
        (NODES_PY, "self.saved = x > 0", "import os; os._exit(0)", "ReLU", "its process ended"),
        ("autograd/BaseGraph.py", "param -= lr * grad", "param -= 0.1 * grad", "graph", "lr"),
        # It prints what a check may print, and replaces what a check may compare with.
        (NODES_PY, "return grad * self.recall()", "print('5 of 5 right.'); return grad", "ReLU", "the mask is missing"),
        (NODES_PY, "import numpy as np", f"{ALLCLOSE}\nnp.maximum = np.minimum", "ReLU", "forward"),
    ],
)
def test_nodes_that_are_wrong_have_no_points(file, old, new, asked, words, hand_in, check):
    points, found = check(hand_in(files={file: [(old, new)]}))
    assert found["Part 1", asked].mark in ("NO", "?") and words in found["Part 1", asked].found
    assert not points["Part 1"]


RIGHT_MLP = MLPS["a checkpoint in a dict"][1]
BOTTLENECK, RANGE = "all passes the latent vector", "output in [0, 1]"
FORWARD_AE, FORWARD_VAE = "return self.decoder(self.encoder(images))", "return self.decoder(z), mu, log_var"
SAME = "\nclass Same:\n    def forward(self, x):\n        return x\n"
PICKLED_SAME = (
    "import pickle\nfrom MLPAE_train_script import Same\npickle.dump(Same(), open('models/BestModel_MLPAE.pkl', 'wb'))"
)


@pytest.mark.slow
@fenced
@pytest.mark.parametrize(
    ("name", "file", "change", "code", "asked", "mark", "words"),
    [
        ("MLPAE", "MLPAE_train_script.py", SAME, PICKLED_SAME, BOTTLENECK, "NO", "noise is reconstructed"),
        (
            "MLPAE",
            "MLPAE_train_script.py",
            SAME,
            PICKLED_SAME,
            "loss on valid photos < 0.3",
            "?",
            "cannot hold so much",
        ),
        ("MLPAE", "", "", RIGHT_MLP.replace("128, 256, 1", "128, 255, 1"), "3HW-256-128-64-128-256-3HW", "NO", "-255-"),
        ("MLPAE", "", "", RIGHT_MLP.replace("[Sigmoid()]", "[]"), RANGE, "NO", ""),
        ("MLPAE", "", "", RIGHT_MLP.replace("ReLU()", "Sigmoid()"), "3HW-256-128-64-128-256-3HW", "?", "0 times ReLU"),
        ("AE", "Autoencoder.py", [("nn.Sigmoid()", "nn.Tanh()")], SAVE_AE, RANGE, "NO", "-0."),
        (
            "AE",
            "Autoencoder.py",
            [("nn.MaxPool2d", "nn.AvgPool2d")],
            SAVE_AE,
            "sizes on the way, max pooling, ReLU",
            "?",
            "max pooling",
        ),
        (
            "AE",
            "Autoencoder.py",
            [(FORWARD_AE, "self.decoder(self.encoder(images)); return images")],
            SAVE_AE,
            BOTTLENECK,
            "NO",
            "",
        ),
        (
            "AE",
            "random_generation.py",
            [("torch.randn", "torch.rand")],
            SAVE_AE,
            "pictures from N(0, 1)",
            "?",
            "not from",
        ),
        (
            "VAE",
            "VarAutoencoder.py",
            [(FORWARD_VAE, "return images, 0 * mu, 0 * log_var")],
            SAVE_VAE,
            BOTTLENECK,
            "NO",
            "",
        ),
        (
            "VAE",
            "VarAutoencoder.py",
            [(FORWARD_VAE, "return self.decoder(z)")],
            SAVE_VAE,
            "loss on valid photos < 100000",
            "?",
            "mu and log_var",
        ),
    ],
)
def test_models_that_are_wrong_have_no_points(name, file, change, code, asked, mark, words, easy, hand_in, check):
    folder = hand_in([name], {file: change} if file else {})
    if code:
        compute(folder, code)
    points, found = check(folder)
    part = model_part(name)
    assert found[part, asked].mark == mark and words in found[part, asked].found, found[part, asked]
    assert not points[part]


@pytest.mark.slow
@fenced
@pytest.mark.parametrize(
    "code",
    [
        "open({trap!r}, 'w')",
        "import os; os.symlink({trap!r}, 'link'); open('link', 'w')",
        "import os; os.kill(os.getppid(), 9); os.kill(-1, 9)",
        "import os\nwhile True: os.fork()",
        "import time; time.sleep(1000)",
        "while True: pass",
        "import numpy; kept = [numpy.ones(10**8) for _ in range(100)]",
        "import os\nfor fd in range(3, 30):\n try:\n  while True: os.write(fd, b'[' * 10**6)\n except OSError: pass",
        "import os\nfor fd in range(3, 30):\n try: os.write(fd, b'{{\"result\": [0]}}\\n' * 99)\n except OSError: 1",
        "import socket; socket.create_connection(('127.0.0.1', {port}), 1); open({trap!r}, 'w')",
        "open('large', 'wb').write(bytes(300_000_000))",
        "import os; print(os.listdir({home!r})); os.listdir({home!r})",
        "import os; os.setsid(); os.fork() or os.fork()\nwhile True: pass",
    ],
)
def test_hostile_code_does_nothing_and_has_no_points(code, hand_in, check, tmp_path, monkeypatch):
    monkeypatch.setattr(fence, "SECONDS", 2)
    monkeypatch.setattr(fence, "SECONDS_IN_ALL", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        folder = hand_in()
        places = {"trap": str(tmp_path / "trapped"), "home": str(tmp_path), "port": server.getsockname()[1]}
        write(folder, {"autograd/Nodes.py": code.format(**places)})
        before = sorted(path for path in folder.rglob("*"))
        points, found = check(folder)
    assert not (tmp_path / "trapped").exists() and sorted(path for path in folder.rglob("*")) == before
    assert not points["Part 1"] and {found["Part 1", name].mark for name in ("Linear", "ReLU")} <= {"NO", "?"}


@fenced
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the processes of a user are counted there")
def test_the_number_of_processes_is_limited(hand_in, check):
    code = (
        "import os, time\nfor n in range(999):\n try: os.fork() or (time.sleep(9), os._exit(0))\n except OSError: break"
    )
    folder = hand_in(files={NODES_PY: f"{code}\nraise ValueError(f'forks: {{n}}.')"})
    words = " ".join(each.found for each in check(folder)[1].values())
    assert 0 < max(map(int, re.findall(r"ValueError: forks: (\d+)", words))) <= 100


def test_a_hand_in_that_cannot_be_read_does_not_stop_the_class(flowers, tmp_path, capsys):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad.zip").write_bytes(damaged_zip())
    with pytest.raises(SystemExit, match="1"):
        check_submission.main([str(tmp_path / "bad.zip"), str(tmp_path / "good"), "--data-root", str(flowers)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["bad.zip", "good"]


def test_without_a_fence_the_code_is_not_run_unless_it_is_asked_for(monkeypatch, hand_in, flowers, capsys):
    folder = hand_in()
    monkeypatch.setenv("PATH", "")
    error = fails(check_submission, [folder, "--run", "--data-root", flowers], capsys)
    assert "apt install bubblewrap" in error and "--run-unfenced" in error
    with pytest.raises(SystemExit, match="1"):  # there is no model
        check_submission.main([str(folder), "--run-unfenced", "--data-root", str(flowers)])
    assert capsys.readouterr().out.count("  right\n") == 5


# What is not run


@pytest.mark.slow
def test_nothing_of_a_hand_in_is_run_in_the_teachers_process(hand_in, check, flowers, tmp_path):
    """Not the code, not what a pickle asks for, and not what has the name of a module where the command is started."""
    folder, trap = hand_in(["MLPAE", "AE"]), tmp_path / "trapped"
    code = f"open({str(trap)!r}, 'w')"
    names = "autograd/Nodes.py", "Autoencoder.py", "selectors.py", "data_processor.py", "lab/__init__.py", "zipfile.py"
    write(folder, dict.fromkeys(names, code))
    pickled = pickle.dumps(Hostile(trap))
    for name in "BestModel_MLPAE.pkl", "BestModel_AE.pth":
        (folder / "models" / name).write_bytes(pickled)
    points, found = check(folder, None)
    assert not wrong({key: value for key, value in found.items() if "models/" in key[1] or ".py" in key[1]})
    assert set(points.values()) <= {0, None}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for flags in [], ["--run"] if FENCE else []:
        command = [sys.executable, "-m", "teaching.check_submission", str(folder), "--data-root", str(flowers), *flags]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 1 and "Points: " in result.stdout, result.stderr
    assert not trap.exists()


class Hostile(str):
    """The name of a file, which its pickle makes when it is loaded."""

    def __reduce__(self):
        return open, (str(self), "w")


def damaged_zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data.pkl", np.random.default_rng(0).bytes(9999))
    return content.getvalue().replace(content.getvalue()[50:60], b"0123456789")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (pickle.dumps(list(range(999)))[:-9], "damaged"),
        (b"PK\3\4" + bytes(99), "damaged"),
        (damaged_zip(), "damaged"),
    ],
)
def test_models_that_are_missing_or_damaged_are_certainly_wrong(content, words, hand_in, check):
    folder = hand_in(["MLPAE"])
    assert wrong(check(folder, None)[1])["models/BestModel_MLPAE.pkl"] == "missing"
    (folder / "models" / "BestModel_MLPAE.pkl").write_bytes(content)
    assert words in wrong(check(folder, None)[1])["models/BestModel_MLPAE.pkl"]


@unix
@pytest.mark.parametrize("what", ["autograd/Nodes.py", "log"])
def test_links_out_of_the_folder_are_not_followed(what, hand_in, check, tmp_path):
    folder = hand_in()
    write(folder, {"log/train_MLPAE.txt": log_of((0.01, 0.01))})
    shutil.move(folder / what, tmp_path / "elsewhere")
    (folder / what).symlink_to(tmp_path / "elsewhere")
    words = wrong(check(folder, None)[1])["log/train_MLPAE.txt" if what == "log" else what]
    assert "missing" in words if what == "log" else "a link out of the folder" in words


# Gaps


def test_every_gap_of_the_version_to_hand_out_is_seen(hand_in, check):
    files = {file: handed_out(file) for file in itertools.chain(*CODE.values())}
    _, found = check(hand_in(["MLPAE", "AE", "VAE"], files), None)
    for file in files:
        assert file in wrong(found), file
    points, found = check(
        hand_in(["MLPAE"], {"MLPAE_train_script.py": files["MLPAE_train_script.py"]}, name="li"), None
    )
    words = wrong(found)["MLPAE_train_script.py"]
    assert (
        all(name in words for name in ("build_autoencoder", "train_one_epoch", "validate", "main"))
        and not points["Part 2"]
    )


def test_gaps_of_another_version(hand_in, check):
    """As the teacher handed it out: a function with a comment on what to write, which is as it was, or empty now."""
    text = "class ReLU:\n    def cal(self, X):\n        # TODO\n        pass\n\n    def flush(self):\n        pass\n"
    filled = text.replace("# TODO\n        pass", "return X * (X > 0)")
    for code, words in (text, "ReLU.cal"), (text.replace("        # TODO\n", ""), "ReLU.cal"), (filled, None):
        folder = hand_in(files={NODES_PY: code}, name=f"student {words} {len(code)}")
        assert wrong(check(folder, None, lambda name: text)[1]).get(NODES_PY, "None").endswith(str(words))


# Logs


@pytest.mark.parametrize(
    ("log", "mark"),
    [
        (log_of(*[(0.02, 0.02)] * 13, (0.009, 0.011), (0.011, 0.0105)), "ok"),  # the last has the lower validation loss
        (log_of(*[(0.009, 0.011)] * 15, first=0), "ok"),
        (log_of(*[(0.02, 0.02)] * 15, (0.009, 0.011)), "NO"),
        (log_of(*[(0.009, 0.011)] * 45, first=16), "?"),
        ("Epoch: 9999999999999, Train Loss: 0.009, Valid Loss: 0.011", "?"),
        (log_of((-0.1, -0.1)), "NO"),
        (log_of((0.5, 0.5)) + log_of((0.009, 0.011)), "ok"),
    ],
)
def test_epochs_that_count(log, mark, hand_in, check):
    folder = hand_in(["AE"], {"log/train_AE.txt": log})
    found = [check for (part, _), check in check(folder, None)[1].items() if part == "Part 3"]
    marks = {check.mark for check in found if "AE.txt" in check.asked or "within 15" in check.asked}
    assert mark in marks and (mark != "ok" or marks == {"ok"})


@fenced
def test_a_log_of_another_model_is_for_the_teacher(easy, hand_in, check):
    folder = hand_in(code=[RIGHT_MLP])
    write(folder, {"log/train_MLPAE.txt": log_of((0.001, 0.001))})
    points, found = check(folder)
    assert found["Part 2", "log and model agree"].mark == "?" and points["Part 2"] is None
    REQUIRED["MLPAE"] = {"train": 0.002, "valid": 0.002}, None
    assert found_loss(check(folder)) == "?"
    write(folder, {"log/train_MLPAE.txt": None})
    assert found_loss(check(folder)) == "NO"


def found_loss(result):
    return result[1]["Part 2", "loss on valid photos < 0.002"].mark


# A class


@pytest.fixture
def of_class(hand_in, tmp_path, flowers, capsys):
    """Checks a class, without running code; gives what is printed."""
    hand_in(["MLPAE"], {"log/train_MLPAE.txt": log_of((0.01, 0.01)), "Extra.py": ""}, name="\u5f20\u4e09")
    hand_in(["MLPAE"], {"log/train_MLPAE.txt": log_of((0.01, 0.01))}, name="li")
    nodes = (ROOT / NODES_PY).read_text().replace("return grad * y", "return y * grad")
    hand_in([], {NODES_PY: nodes}, name="wang")
    (tmp_path / "class" / "=roster.csv").touch()

    def run(*flags):
        places = sorted((tmp_path / "class").iterdir())
        with pytest.raises(SystemExit, match="1"):
            check_submission.main([*map(str, places), "--data-root", str(flowers), *map(str, flags)])
        return capsys.readouterr().out

    return run


def test_a_class_is_a_line_each_and_a_line_for_each_two_that_are_equal(of_class):
    heading, *lines = of_class().splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["=roster.csv", "li", "wang", "\u5f20\u4e09"]
    pairs = [line.removeprefix("Equal: ").split(": ") for line in lines[4:]]
    names = "li", "wang", "\u5f20\u4e09", "this lab"
    assert [pair for pair, _ in pairs] == [f"{one} and {other}" for one, other in itertools.combinations(names, 2)]
    assert {len(heading[:48]), *(len(line.encode("gbk")[:48]) for line in lines[:4])} == {48}
    assert dict(pairs)["li and \u5f20\u4e09"].startswith("autograd/BaseGraph.py, autograd/Nodes.py")
    assert "Nodes.py" not in dict(pairs)["li and wang"]
    assert "not unpacked" in lines[0]


def test_what_is_as_it_was_handed_out_is_not_said_to_be_equal(hand_in, check, tmp_path, flowers, capsys):
    files = {file: handed_out(file) + "# mine\n" for file in itertools.chain(*CODE.values())}
    folders = [hand_in([], files, name=name) for name in ("li", "wang")]
    with pytest.raises(SystemExit):
        check_submission.main([*map(str, folders), "--data-root", str(flowers)])
    assert "Equal" not in capsys.readouterr().out


def test_points_and_checks_of_a_class_for_a_spreadsheet(of_class, tmp_path):
    of_class("--csv", tmp_path / "class.csv")
    points, checks = (
        list(csv.reader(io.StringIO((tmp_path / name).read_text(encoding="utf-8-sig"), newline="")))
        for name in ("class.csv", "class_checks.csv")
    )
    assert points[0] == ["hand-in", *FULL, "total"] and [row[0] for row in points[1:]] == [
        "'=roster.csv",
        "li",
        "wang",
        "\u5f20\u4e09",
    ]
    assert points[2] == ["li", "look", "look", "0", "0", "0"]
    assert checks[0] == ["hand-in", "part", "mark", "asked", "found"] and {row[2] for row in checks[1:]} == {
        "ok",
        "NO",
        "?",
        "-",
    }
    assert (tmp_path / "class.csv").read_bytes().startswith("\ufeff".encode())  # by which Excel knows UTF-8


# The command


def test_the_table_has_a_mark_for_each_check_and_no_control_characters(capsys):
    found = [
        Check("Part 1", "ReLU", "missing; there is\n\x1b[2J Relu", "NO"),
        Check("Part 4", "within 20 epochs < 800 / 800, or so it says", "epoch 20: 787.1 / 799.3, " * 5, "?"),
    ]
    check_submission.print_table(check_submission.Result(Path("zhang"), found, points_of(found), {}))
    out = capsys.readouterr().out
    assert (
        "  NO  ReLU" in out
        and "  ?   within" in out
        and "Part 1 0, Part 2 look, Part 3 look, Part 4 look; 0 in all" in out
    )
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out


def test_folders_and_photos_that_are_not_there_are_errors_of_the_command(hand_in, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "none") in fails(check_submission, [tmp_path / "none"], capsys)
    assert str(tmp_path / "empty") in fails(check_submission, [hand_in(), "--data-root", tmp_path / "empty"], capsys)


def test_what_is_the_students_own_is_not_the_teachers(hand_in, flowers, capsys, monkeypatch):
    folder = hand_in()
    for flag in "--data-root", "--drawn-root":
        assert f"found {flag} in it" in fails(check_submission, [folder, flag, folder / "flowers"], capsys)
    monkeypatch.setattr(check_submission, "LAB", folder)
    assert "found this script in it" in fails(check_submission, [folder, "--data-root", flowers], capsys)
