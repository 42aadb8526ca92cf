"""The check at home and at the teacher's: hand-ins that are right in other ways than ours, wrong, and hostile."""

import csv
import ctypes
import io
import itertools
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, fails, run_script, unix
from hand_ins import MLPS, NETWORKS, SAVE_AE, SAVE_VAE

import check
from checking import checks
from checking.checks import KINDS, checks_of, read_photos
from checking.hand_in import CODE, RESULTS, HandIn
from checking.logs import Log
from checking.messages import Unclear, Wrong
from checking.student_process import StudentProcess
from lab.errors import UserError
from lab.models import REQUIRED
from teaching import grade, sandbox
from teaching.gaps import handed_out

try:
    SANDBOX = sandbox.sandbox()
except UserError:
    SANDBOX = []
fenced = pytest.mark.skipif(not SANDBOX, reason="needs bubblewrap, in which hand-ins are run")
IN_SANDBOX = partial(StudentProcess, sandbox=SANDBOX)
NODES_PY, MLP_PKL, MLP_LOG = "autograd/Nodes.py", "models/BestModel_MLPAE.pkl", "log/train_MLPAE.txt"
RIGHT_MLP = MLPS["a checkpoint in a dict"][1]


@pytest.fixture
def easy(monkeypatch):
    """A handout that requires so little that models with initial weights meet it."""
    for name, limit in ("MLPAE", 0.3), ("AE", 0.3), ("VAE", 1e5):
        monkeypatch.setitem(REQUIRED, name, ({"train": limit, "valid": limit}, None))


def log_of(*losses, first=1):
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, first))


def write(folder, files):
    """Writes files of these contents; None removes one, and a list of pairs changes what is there."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, list):
            changed = path.read_text()
            for old, new in content:
                assert old in changed, old
                changed = changed.replace(old, new)
            path.write_text(changed)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def log_what_it_computes(folder, part, few_photos):
    """Writes the log of an honest student, with the losses that the model has."""
    hand_in, file = HandIn(folder), RESULTS[part][0]
    with StudentProcess(hand_in.code() | {file: hand_in.read(file, 10**8)[0]}, 100) as student:
        model = KINDS[part](student, file, CODE[part][0])
        losses = [model.loss(images) for images in read_photos(few_photos).values()]
    write(folder, {RESULTS[part][1]: log_of((1e6, 1e6), losses)})
    return losses


@pytest.fixture
def hand_in(tmp_path, few_photos):
    """Makes the folder of a hand-in: our files, changed by ``files``, and models made by ``code``, as at home."""

    def make(parts=("Part 2",), files=(), code=(), name="zhang"):
        folder = tmp_path / "class" / name
        for file in [*itertools.chain(*CODE.values()), "autograd/BaseNode.py", "autograd/__init__.py"]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        (folder / "models").mkdir()
        write(folder, dict(files))
        for picture in itertools.chain(*(RESULTS[part][2:] for part in parts)):
            (folder / "vis").mkdir(exist_ok=True)
            shutil.copy(ROOT / "vis" / "train_AE.png", folder / picture)
        if code:
            command = [sys.executable, "-B", "-c", "\n".join(code)]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
            for part in parts:
                log_what_it_computes(folder, part, few_photos)
        return folder

    return make


@pytest.fixture
def found(few_photos):
    """Checks a hand-in; gives the mark and what was found by what is asked. ``found.marks`` are those of each part."""

    def run(place, *parts, process=IN_SANDBOX):
        done = list(checks_of(HandIn(place), lambda: read_photos(few_photos), process, parts or tuple(CODE)))
        run.marks = {part: {check.mark for check in done if check.part == part} for part in CODE}
        return {check.asked: f"{check.mark} {check.found}" for check in done}

    return run


# What is right


@fenced
@pytest.mark.parametrize("how", MLPS)
def test_parts_1_and_2_that_are_right(how, easy, hand_in, found):
    files, code = MLPS[how]
    right = found(hand_in(files=files, code=[code]), "Part 1", "Part 2")
    assert found.marks["Part 1"] == found.marks["Part 2"] == {"ok"}, right


@pytest.mark.slow  # PyTorch is imported three times in each
@fenced
@pytest.mark.parametrize("how", NETWORKS)
def test_parts_3_and_4_that_are_right(how, easy, hand_in, found):
    files, code = NETWORKS[how]
    parts = ["Part 3", "Part 4"][: len(code)]
    right = found(hand_in(parts, files, code), *parts)
    assert all(found.marks[part] == {"ok"} for part in parts), right


@pytest.mark.slow
@pytest.mark.photos
@fenced
def test_the_committed_results_are_right_at_home_and_at_the_teachers(photos, tmp_path):
    others = shutil.ignore_patterns(".*", "tests", "flowers", "drawn_flowers")
    shutil.copytree(ROOT, tmp_path / "lab", ignore=others)
    home, teacher = (
        run_script(script, tmp_path / "lab", "--data-root", photos) for script in ("check.py", "teaching.grade")
    )
    assert home.returncode == teacher.returncode == 0 and "40 in all" in teacher.stdout
    lines = [
        re.sub(r"-?[\d.]+ to [\d.]+|\d+%", "", result.stdout).splitlines() for result in (home, teacher)
    ]  # of noise
    assert lines[0] == lines[1][: len(lines[0])] and lines[0][-1].endswith(" ok, 0 NO, 0 ?, 0 not yet")


def test_part_1_needs_numpy_alone(hand_in):
    code = "import sys\nfor name in 'torch', 'torchvision', 'PIL', 'tqdm', 'filelock': sys.modules[name] = None\n"
    command = [sys.executable, "-c", f"{code}import check; check.main(sys.argv[1:])", "--part", "1", hand_in()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0 and result.stdout.endswith("7 ok, 0 NO, 0 ?, 0 not yet\n"), result.stderr


def zipped(folder, place, files):
    with zipfile.ZipFile(place, "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))


def test_places_and_names_as_students_have_them(easy, hand_in, found, tmp_path):
    """One folder deeper; in a zip; code in a zip beside models, and models in a zip beside code; in another case."""
    folder = hand_in(code=[RIGHT_MLP])
    (folder / "autograd").rename(folder / "Autograd")
    (folder / "Autograd" / "Nodes.py").rename(folder / "Autograd" / "nodes.py")
    (folder / MLP_PKL).rename(folder / "models" / "best_mlpae.pkl")
    (folder / "models").rename(folder / "Model")
    zipped(folder.parent, tmp_path / "all.zip", folder.rglob("*.*"))
    shutil.copytree(folder, tmp_path / "code in a zip")
    zipped(folder, tmp_path / "code in a zip" / "code.zip", folder.rglob("*.py"))
    for path in [*(tmp_path / "code in a zip").rglob("*.py")]:
        path.unlink()
    shutil.copytree(folder, tmp_path / "models in a zip")
    zipped(folder, tmp_path / "models in a zip" / "my models.zip", folder.rglob("*.pkl"))
    shutil.rmtree(tmp_path / "models in a zip" / "Model")
    for place in folder, folder.parent, tmp_path / "all.zip", tmp_path / "code in a zip", tmp_path / "models in a zip":
        right = found(place, "Part 1", "Part 2")
        assert found.marks["Part 1"] == found.marks["Part 2"] == {"ok"}, right
    write(folder, {"results.rar": "Rar!"})
    assert found(folder)["results.rar"] == "? not opened: unpack it"


# What is wrong


@fenced
@pytest.mark.parametrize(
    ("file", "old", "new", "asked", "words"),
    [
        (NODES_PY, "self.saved = x > 0", "exit()", "ReLU", r"NO .*line \d+: exit\(\).*exit"),
        (NODES_PY, "self.saved = x > 0", "import os; os._exit(0)", "ReLU", "[?] its process ended"),
        (NODES_PY, "self.saved = x > 0", "while True: pass", "ReLU", "[?] it does not end: stopped after 3 seconds"),
        # It prints what a check may print, and replaces what a check may compare with.
        (NODES_PY, "return grad * self.recall()", "print('7 ok'); return grad", "ReLU", "NO .*the mask is missing"),
        (NODES_PY, "import numpy as np", "import numpy as np\nnp.maximum = np.minimum", "ReLU", "NO forward"),
    ],
)
def test_nodes_that_are_wrong(file, old, new, asked, words, hand_in, found, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", (3, 100, 100))
    wrong = found(hand_in(files={file: [(old, new)]}), "Part 1")
    assert re.match(words, " ".join(wrong.pop(asked).split()))
    assert all(words.startswith("ok") for words in wrong.values()), wrong  # the others are checked


SAME = "class Same:\n    def forward(self, x):\n        return x\n"
PICKLED_SAME = f"import pickle\nfrom MLPAE_train_script import Same\npickle.dump(Same(), open('{MLP_PKL}', 'wb'))"
MLP, BOTTLENECK, RANGE = "3HW-256-128-64-128-256-3HW", "noise is not reconstructed", "output in [0, 1]"
SIZES, VALID = "sizes on the way, max pooling, ReLU", "loss on valid photos < "
WIDER = [("3, 32, ", "3, 48, "), ("32, 64, ", "48, 64, ")]
MEAN = "self.decoder(z) * 0 + images.mean((1, 2, 3), True), mu"
FORWARD_AE, FORWARD_VAE = "return self.decoder(self.encoder(images))", "return self.decoder(z), mu, log_var"


@pytest.mark.slow
@fenced
@pytest.mark.parametrize(
    ("part", "file", "change", "code", "asked", "words"),
    [
        (2, "MLPAE_train_script.py", SAME, PICKLED_SAME, BOTTLENECK, "NO 100% of its variance"),
        (2, "MLPAE_train_script.py", SAME, PICKLED_SAME, f"{VALID}0.3", "[?] 0; 64 numbers cannot hold"),
        (2, "", "", RIGHT_MLP.replace("128, 256, 1", "128, 255, 1"), MLP, "NO .*-255-"),
        (2, "", "", RIGHT_MLP.replace("[Sigmoid()]", "[]"), RANGE, "NO"),
        (2, "", "", RIGHT_MLP.replace("ReLU()", "Sigmoid()"), MLP, "[?] .*0 times ReLU"),
        (3, "Autoencoder.py", [("nn.Sigmoid()", "nn.Tanh()")], SAVE_AE, RANGE, "NO -0."),
        (3, "Autoencoder.py", [("nn.MaxPool2d", "nn.AvgPool2d")], SAVE_AE, SIZES, "[?] not found: max pooling$"),
        (3, "Autoencoder.py", WIDER, SAVE_AE, SIZES, "NO not found: 32x12x12 of the encoder$"),
        (3, "Autoencoder.py", [(FORWARD_AE, f"{FORWARD_AE} * 0.7 + 0.3 * images")], SAVE_AE, BOTTLENECK, "NO"),
        (4, "VarAutoencoder.py", [(FORWARD_VAE, "return images, 0 * mu, 0 * log_var")], SAVE_VAE, BOTTLENECK, "NO"),
        (4, "VarAutoencoder.py", [("self.decoder(z), mu", MEAN)], SAVE_VAE, "z from N(mu, sigma^2)", "[?]"),
        (4, "VarAutoencoder.py", [(", mu, log_var\n", "\n")], SAVE_VAE, f"{VALID}100000", "[?] .*mu and log_var"),
    ],
)  # fmt: skip
def test_models_that_are_wrong(part, file, change, code, asked, words, easy, hand_in, found):
    folder = hand_in([f"Part {part}"], {file: change} if file else {})
    subprocess.run([sys.executable, "-B", "-c", code], cwd=folder, check=True, capture_output=True, timeout=100)
    assert re.match(words, found(folder, f"Part {part}")[asked])


@pytest.mark.slow
@fenced
def test_a_mistake_in_the_script_of_part_2_costs_part_3_nothing(easy, hand_in, found):
    folder = hand_in(["Part 3"], code=[SAVE_AE.replace(".state_dict()", "")])
    write(folder, {"MLPAE_train_script.py": "def broken(:\n"})
    part_3 = found(folder, "Part 3")
    assert found.marks["Part 3"] == {"ok"}, part_3


@fenced
def test_a_process_that_ended_answers_nothing_more(easy, hand_in, found):
    """Its end may come at any call; the numbers of a new process would be those of another model."""
    folder = hand_in(code=[RIGHT_MLP])
    count = "calls = [0]\n\nclass Linear(BaseNode):"
    ends = "def forward(self, x):\n        calls[0] += 1\n        calls[0] < 14 or __import__('os')._exit(0)\n        w"
    write(folder, {NODES_PY: [("class Linear(BaseNode):", count)]})
    code = (folder / NODES_PY).read_text()
    write(
        folder, {NODES_PY: re.sub(r"def forward\(self, x: np.ndarray\) -> np.ndarray:\n        w", ends, code, count=1)}
    )
    part_2 = found(folder, "Part 2")
    assert found.marks["Part 2"] == {"ok", "?"} and "its process ended before" in part_2[f"{VALID}0.3"], part_2


# Logs, models and pictures

A, B, C = (0.5, 0.625), (0.25, 0.375), (0.02, 0.03)


@pytest.mark.parametrize("path", sorted(ROOT.glob("log/train_*.txt")), ids=lambda path: path.stem)
def test_our_logs_are_read(path):
    line = r"^Epoch: (\d+), Train Loss: (\S+), Valid Loss: ([^,\s]+)"
    told = re.findall(line, path.read_text("utf-8"), re.MULTILINE)
    if told:  # none in the GAN's log
        log = Log(path.read_bytes())
        assert log.epochs == [(int(epoch), float(train), float(valid)) for epoch, train, valid in told]
        assert log.data == [("./flowers", 2071, 517)] and len(log.best) == 1


@pytest.mark.parametrize(
    ("text", "best", "within_2"),
    [
        (log_of(A, C, B), [C], [1, 2]),
        (log_of(A, B, C, first=0), [C], [0, 1]),
        (log_of(A, B) + "Resuming\n" + log_of(C, first=3), [C], [1, 2]),
        (log_of(A, B) + log_of(C), [B, C], [1, 2, 1]),
        (log_of(C, first=16), [C], []),
        (log_of(C)[:-5] + "1e-2, Epochs: 20\n", [(0.02, 0.01)], [1]),
        ("EPOCH: 1,Train loss:0.02,  Valid loss: 0.03\r\nBest epoch: 1, Train Loss: 1.0, Valid Loss: 1.0", [C], [1]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])  # PowerShell writes UTF-16
def test_logs_in_the_courses_form(text, best, within_2, encoding):
    log = Log(text.encode(encoding))
    assert log.best == best and [number for number, *_ in log.within(2)] == within_2 and log.within(None) == log.epochs


@pytest.mark.parametrize(("text", "finding"), [("", Wrong), (" \n", Wrong), ("Epoch 1 loss 0.02\n", Unclear)])
def test_logs_in_other_forms_are_not_read(text, finding):
    with pytest.raises(finding) as error:
        Log(text.encode())
    assert type(error.value) is finding


def test_losses_that_a_log_has(hand_in, found, monkeypatch):
    """Within the epochs that are asked for; and a loss of 0 cannot be."""
    asked = "within 15 epochs < 0.01 / 0.012"
    for log, words in [
        (log_of(*[(0.02, 0.02)] * 13, (0.009, 0.011), (0.011, 0.0105)), "ok epoch 14"),
        (log_of(*[(0.02, 0.02)] * 15, (0.009, 0.011)), "NO epoch 1: 0.02"),
        (log_of(*[(0.009, 0.011)] * 45, first=16), "? it begins with epoch 16"),
        (log_of((-0.1, 0.01)), "NO epoch 1: -0.1 / 0.01, which cannot be"),
    ]:
        folder = hand_in(["Part 3"], {"log/train_AE.txt": log}, name=words)
        assert found(folder, "Part 3")[asked].startswith(words)


@fenced
def test_a_log_is_to_be_that_of_the_model_and_of_the_photos(easy, hand_in, found, few_photos, monkeypatch):
    folder = hand_in(code=[RIGHT_MLP])
    losses = log_what_it_computes(folder, "Part 2", few_photos)
    for factor, mark in (1.05, "ok"), (1.2, "?"), (0.4, "?"), (2.5, "?"):
        write(folder, {MLP_LOG: log_of([factor * loss for loss in losses])})
        assert found(folder, "Part 2")["log and model agree"][0] == mark[0]
    for data, mark in (
        ("./few_photos, 16 training and 4", "ok"),
        ("./my, 9 training and 4", "?"),
        ("drawn_flowers, 16 training and 4", "NO"),
    ):
        write(folder, {MLP_LOG: f"Data: {data} validation photos\n{log_of(losses)}"})
        assert found(folder, "Part 2")["trained on the photos"].startswith(mark)
    monkeypatch.setitem(REQUIRED, "MLPAE", ({"train": 0.002, "valid": 0.002}, None))
    for log, mark in (log_of((0.001, 0.001)), "?"), (log_of(losses), "NO"):
        write(folder, {MLP_LOG: log})
        assert found(folder, "Part 2")[f"{VALID}0.002"].startswith(mark)


def test_files_that_are_missing_or_damaged(hand_in, found):
    folder = hand_in()
    wrong = found(folder, "Part 2")
    assert wrong[MLP_PKL] == wrong[MLP_LOG] == "NO missing" and wrong["vis/valid_MLPAE.png"].startswith("ok")
    png = (ROOT / "vis" / "train_AE.png").read_bytes()
    files = {"vis/valid_MLPAE.png": png[:3000], "vis/train_MLPAE.png": "hello", MLP_PKL: "", "train_MLPAE.txt": "x"}
    write(folder, files)
    wrong = found(folder, "Part 2")
    assert wrong["vis/valid_MLPAE.png"].startswith("NO") and wrong["vis/train_MLPAE.png"].startswith("NO")
    assert wrong[MLP_PKL] == "NO empty" and wrong[MLP_LOG] == "NO missing; there is train_MLPAE.txt"
    write(folder, {MLP_PKL: pickle.dumps([1, 2])[:-3], MLP_LOG: "no losses", "MLPAE_train_script.py": "x = 1"})
    wrong = found(folder, "Part 2")
    assert wrong[MLP_PKL].startswith("? UnpicklingError") and wrong[MLP_LOG].startswith(
        "? found no line in the form Epoch"
    )
    assert wrong["MLPAE_train_script.py"] == "NO no code in it"
    write(folder, {"MLPAE_train_script.py": "def f(:\n"})
    assert found(folder, "Part 2")["MLPAE_train_script.py"].startswith("? a mistake, or newer than Python")


@unix
@pytest.mark.parametrize("what", [NODES_PY, "log"])
def test_links_are_not_followed(what, hand_in, found, tmp_path):
    folder = hand_in(files={MLP_LOG: log_of(C)})
    shutil.move(folder / what, tmp_path / "elsewhere")
    (folder / what).symlink_to(tmp_path / "elsewhere")
    assert found(folder, "Part 1", "Part 2")[MLP_LOG if what == "log" else what] == "NO missing"


# The sandbox

TRIES = {  # what the sandbox is to keep code from; it ends with an error that says ESCAPED if it does not
    "network": "import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
    "environment": "import os; 'SECRET' in os.environ or open('/proc/1/environ').read().index('SECRET')",
    "namespaces": "import os, ctypes; assert os.getuid() < 20000 and not ctypes.CDLL(None).unshare(1 << 28)",
    "home": "import os; os.listdir({home!r})",
    "files": "open({home!r} + '/trapped', 'w')",
    "etc": "open('/etc/passwd').read()",
    "root": "open('/trapped', 'w')",
    "processes of others": "import os; os.stat('/proc/{pid}')",
    "memory of others": "import ctypes; assert ctypes.CDLL(None).shmget({key}, 1, 0) >= 0",
    "shared memory": "open('/dev/shm/trapped', 'w')",
}
LIMITS = {
    "memory": "import numpy; kept = numpy.ones(10**9)",
    "anonymous shared memory": "import mmap; kept = mmap.mmap(-1, 10**10); kept[::4096] = bytes(len(kept[::4096]))",
    "a file": "open('large', 'wb').write(bytes(300_000_000))",
    "all files": "for i in range(100): open(f'/tmp/{{i}}', 'wb').write(bytes(15_000_000))",
    "processes": "import os, time\nfor i in range(200): os.fork() or (time.sleep(99), os._exit(0))",
    "open files": "kept = [open('/dev/null') for _ in range(500)]",
}


def processes():
    """Those of students' code, after a second in which they may end."""
    time.sleep(1)
    listed = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if f"sys.path[0] = {str(ROOT)!r}" in line]


def left():
    """What code may leave behind: files where it might be, and in the folder of our own temporary files; processes."""
    files = [Path("/tmp").glob("*left_behind*"), Path("/dev/shm").iterdir(), Path(tempfile.tempdir).iterdir()]
    return [*itertools.chain(*files), *processes()]


@fenced
@pytest.mark.parametrize("what", [*TRIES, *LIMITS])
def test_walls_and_limits_of_the_sandbox(what, hand_in, found, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    code = (TRIES | LIMITS)[what]
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {"home": str(tmp_path), "port": server.getsockname()[1], "pid": os.getpid(), "key": os.getpid()}
        memory = ctypes.CDLL(None).shmget(os.getpid(), 1, 0o1666)  # IPC_CREAT
        lines = "\n ".join(code.format(**places).splitlines())
        attempt = f"try:\n {lines}\nexcept BaseException: exit()\nraise ValueError('ESCAPED')"
        folder = hand_in(files={NODES_PY: f"def f(): pass\n{attempt}"})
        kept = found(folder, "Part 1")["autograd/ can be imported"]
        if what in ("network", "environment", "home", "processes of others", "memory of others"):  # harmless without it
            assert "ESCAPED" in found(folder, "Part 1", process=StudentProcess)["autograd/ can be imported"]
    ctypes.CDLL(None).shmctl(memory, 0, None)  # IPC_RMID
    assert "ESCAPED" not in kept and ("exit" in kept or "ended" in kept), kept


@pytest.mark.slow
@fenced
@pytest.mark.parametrize(
    "code",
    [
        "import os; os.kill(-1, 9)",
        "import time; time.sleep(1000)",
        "import os\nfor fd in range(3, 30):\n try:\n  while True: os.write(fd, b'[' * 10**6)\n except OSError: pass",
        "import os\nfor fd in range(3, 30):\n try: os.write(fd, b'{\"result\": [0]}\\n' * 99)\n except OSError: 1",
        "import os; os.setsid(); os.fork() or os.fork()\nwhile True: pass",
        "import os; os.mkdir('left_behind'); open('left_behind/x', 'w'); os.chmod('left_behind', 0)\nwhile True: pass",
    ],
)
def test_hostile_code_leaves_nothing_behind(code, hand_in, found, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "SECONDS", (2, 100, 100))
    folder = hand_in(files={NODES_PY: f"def f(): pass\n{code}"})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before, files = left(), sorted(folder.rglob("*"))
    assert found(folder, "Part 1")["autograd/ can be imported"][0] in "?N"
    assert left() == before and sorted(folder.rglob("*")) == files


@fenced
def test_a_sandbox_ends_with_the_check(hand_in, few_photos):
    command = [sys.executable, "-m", "teaching.grade", hand_in(files={NODES_PY: "def f(): pass\nwhile True: pass"})]
    with subprocess.Popen([*command, "--data-root", few_photos], cwd=ROOT, stdout=-3, stderr=-3) as check:
        before = processes()
        while processes() == before:
            assert check.poll() is None
        check.kill()
    assert processes() == before


@unix
def test_without_a_sandbox_what_does_not_end_is_ended_too(hand_in, found, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", (2, 100, 100))
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(20)\nos._exit(0)"
    wrong = found(hand_in(files={NODES_PY: f"def f(): pass\n{code}"}), "Part 1", process=StudentProcess)
    assert (
        wrong["autograd/ can be imported"] == "? it does not end: stopped after 2 seconds"
    )  # its child holds the pipe


class Hostile(str):
    """The name of a file, which its pickle makes when it is loaded."""

    def __reduce__(self):
        return open, (str(self), "w")


@fenced
def test_nothing_of_a_hand_in_is_run_in_the_teachers_process(hand_in, few_photos, tmp_path):
    """Not the code, not what a pickle asks for, and not what has the name of a module where the command is started."""
    folder, trap = hand_in(["Part 2"]), tmp_path / "trapped"
    names = NODES_PY, "selectors.py", "data_processor.py", "lab/__init__.py", "checking/__init__.py", "zipfile.py"
    write(folder, dict.fromkeys(names, f"open({str(trap)!r}, 'w')") | {MLP_PKL: pickle.dumps(Hostile(trap))})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "teaching.grade", str(folder), "--data-root", str(few_photos)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "Points: Part 1 look, Part 2 look" in result.stdout, result.stderr
    assert not trap.exists()


# A class


@pytest.fixture
def of_class(hand_in, tmp_path, few_photos, capsys):
    """Grades a class of which no code is right; gives what is printed."""
    for name in "\u5f20\u4e09", "li", "zhao":
        folder = hand_in(files={MLP_LOG: log_of((0.01, 0.01))}, name=name)
    zipped(folder, tmp_path / "class" / "zhao.zip", folder.rglob("*.*"))
    nodes = (ROOT / NODES_PY).read_text().replace("return grad * y", "return y * grad")
    hand_in([], {NODES_PY: nodes}, name="wang")
    (tmp_path / "class" / "=roster.zip").touch()

    def run(*flags):
        places = sorted((tmp_path / "class").iterdir())
        with pytest.raises(SystemExit, match="1"):
            grade.main([*map(str, places), "--data-root", str(few_photos), "--unfenced", *map(str, flags)])
        return capsys.readouterr().out

    return run


def test_a_class(of_class, tmp_path):
    heading, *lines = of_class("--csv", tmp_path / "class.csv").splitlines()
    names = ["=roster.zip", "li", "wang", "zhao", "zhao.zip", "\u5f20\u4e09"]
    assert heading.endswith("  hand-in: the first that is not as asked")
    assert [re.sub(" {2,}", "|", line).split("|")[-1].partition(":")[0] for line in lines[:6]] == names
    assert lines[1].split()[:5] == ["12.5", "look", "look", "look", "12.5"] and "12.5 + look" in lines[1]
    everyone, all_but_wang = ", ".join(names[1:]), ", ".join([names[1], *names[3:]])
    assert lines[6].startswith(f"Equal: {everyone}, this lab: autograd/BaseGraph.py, MLPAE_train_script.py")
    assert lines[7:] == [f"Equal: {all_but_wang}, this lab: {NODES_PY}", f"Equal: {all_but_wang}: {MLP_LOG}"]
    points, done = (
        list(csv.reader(io.StringIO((tmp_path / name).read_text(encoding="utf-8-sig"), newline="")))
        for name in ("class.csv", "class_checks.csv")
    )
    assert points[0] == ["hand-in", *grade.POINTS, "total", "equal to"]
    assert [row[0] for row in points[1:]] == ["'=roster.zip", *names[1:]]
    assert points[2][1:6] == ["12.5", "look", "look", "look", "12.5 + look"]
    assert points[2][6] == "wang; zhao; zhao.zip; \u5f20\u4e09; this lab"
    assert done[0] == ["hand-in", "part", "mark", "asked", "found"] and {"ok", "NO", "?"} <= {row[2] for row in done}
    assert (tmp_path / "class.csv").read_bytes().startswith("\ufeff".encode())  # by which Excel knows UTF-8


def test_what_is_as_it_was_handed_out_has_no_points_and_is_not_said_to_be_equal(hand_in, few_photos, capsys):
    files = {file: handed_out(file) + "# mine\n" for file in itertools.chain(*CODE.values())}
    folders = [hand_in([], files, name=name) / ".." / name for name in ("li", "wang")]
    grade.main([*map(str, folders), "--data-root", str(few_photos), "--unfenced"])
    out = capsys.readouterr().out
    assert "Equal" not in out and out.count("      0      0      0      0            0      0      0  ") == 2


def test_what_is_missing_or_the_students_own_is_an_error_of_the_command(
    hand_in, few_photos, tmp_path, capsys, monkeypatch
):
    folder = hand_in()
    assert f"{tmp_path / 'none'}: no such" in fails(grade, [folder, tmp_path / "none"], capsys)
    assert str(tmp_path / "none") in fails(check, [tmp_path / "none"], capsys)
    assert "found no file of the lab" in fails(check, [few_photos], capsys)
    assert "argument --part" in fails(check, ["--part", 7], capsys)


def test_bubblewrap_that_is_missing_or_refused(hand_in, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install bubblewrap" in fails(grade, [hand_in()], capsys)
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho setting up uid map: Permission denied >&2\nexit 1")
    (tmp_path / "bwrap").chmod(0o755)
    error = fails(grade, [hand_in(name="li")], capsys)
    assert "uid map: Permission denied" in error and "trouble" in error and "apt install" not in error
