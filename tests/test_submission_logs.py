"""Losses in the logs of students: read where they are certain, and never wrong."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teaching.logs import best, counted, read_log

A, B, C = (0.5, 0.625), (0.25, 0.375), (0.02, 0.03)
LOGS = sorted(Path(__file__).parents[1].glob("log/train_*.txt"))


def log_of(*losses, first=1):
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, first))


# One log a line, in which ¶ stands for a new line and ^ for a return to its beginning.
READ = """\
EPOCH [3/20] training loss = 2e-2 | validation loss = 3.0E-2 (best)
2024-05-01 10:00:00,123 - INFO - epoch 3: lr 0.1, train loss 0.02, valid loss 0.03, best valid loss 0.01
{'train_loss': np.float64(0.02), 'valid_loss': np.float64(0.03), 'epoch': 3}
{"epoch": 3.0, "train": {"loss": 0.02}, "test": {"loss": 0.03}}
epoch=003 TrainLoss=tensor(0.02, device='cuda:0') EvalLoss=tensor(0.03)
Train: 2071, Valid: 517¶Epoch 3 | Train: 0.02 | Val: 0.03
Epoch 3: 50%, train loss: 0.7, val loss: 0.8^Epoch 3: 100%, train loss 0.02, val loss 0.03
Epoch 3/20¶^ 1/130 [>.] - ETA: 2s - loss: 0.5^130/130 [=] - 2s 15ms/step - loss: 0.02 - val_loss: 0.03
Epoch 3 took 2.1s¶train loss: 0.02¶valid loss: 0.03¶Validation loss decreased (0.04 --> 0.03). Saving
Train Epoch: 3 [2071/2071 (100%)]\tLoss: 0.02¶Test Epoch: 3 [517/517 (100%)]\tLoss: 0.03
Epoch 3¶train loss 0.02¶No better since epoch 1¶epoch 3¶valid loss 0.03
第 3/20 轮\uff1a训练集损失为\uff10.\uff10\uff12\uff0c验证集损失为0.03\uff0c最佳验证损失 0.01
\x1b[32mEpoch 3\x1b[0m Train Loss: \x1b[1m0.02\x1b[0m Valid Loss: 0.03¶Final valid loss: 0.04
Epoch 3 train loss 0.02 valid loss 0.03¶Best valid loss 0.01 at epoch 2, train loss 0.01
Epoch 3 train loss 0.02 valid loss 0.03, Valid VAE Loss: 7.5, KL loss: 0.1¶Epoch 4 train loss 0.01"""

UNCLEAR = """\
Epoch 3 Train Loss: 0,0213 Valid Loss: 0,0220
Epoch 3 Train Loss: 12.5% Valid Loss: 0.02
Epoch 3 Train Loss: 0.02 Valid Loss: 0.04 -> 0.03
Epoch 3 train loss 1 234.5 valid loss 1\xa0234.5
Epoch 1 234 train loss 0.02 valid loss 0.03
Epoch: 9999999999999, Train Loss: 0.02, Valid Loss: 0.03
Epoch: 15%|# | 3/20 [00:10<00:57, train loss=0.02, valid loss=0.03]
Epoch 3 (best so far): train loss 0.02, valid loss 0.03
Epoch 3 Train Loss: nan, Valid Loss: nan
Epoch 3 train loss: 600.5, train mse: 90.5, valid loss: 700.0
Epoch 3 Train, Valid Loss: 0.02, 0.03
Epoch 3 train 0.9 val 0.8 accuracy
Epoch 3, the handout requires: train loss < 0.03, valid loss < 0.03
Epoch 3 train loss 0.5 valid loss 0.6 epoch 4 train loss 0.4 valid loss 0.5
epoch,train_loss,valid_loss¶1,0.5,0.6
train loss 0.5 valid loss 0.6¶Epoch 1 done¶train loss 0.4 valid loss 0.5¶Epoch 2 done"""


@pytest.mark.parametrize("text", READ.split("\n"))
def test_losses_that_are_read(text):
    text = text.replace("¶", "\n").replace("^", "\r")
    assert read_log(f"The log of a training\n{text}\nEnd".encode()) == ([{3: C}], "")


@pytest.mark.parametrize("text", UNCLEAR.split("\n"))
def test_what_is_not_certain_is_not_read(text):
    runs, unclear = read_log(text.replace("¶", "\n").encode())
    assert runs == [] and unclear


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("", []),
        (log_of(A, (0.25, 0.25))[:-2], [{1: A}]),  # cut off in the last number
        (log_of(A, B) + "Resuming\n" + log_of(C, first=3), [{1: A, 2: B, 3: C}]),
        (log_of(A, B) + log_of(C), [{1: A, 2: B}, {1: C}]),
        (log_of(A, B).replace("\n", "\n\n") + log_of(B, first=2), [{1: A, 2: B}]),  # told twice
        (log_of(A, B, B, first=0) + log_of(C, first=2), [{0: A, 1: B, 2: B}, {0: A, 2: C}]),
        (log_of(A, B).replace("\n", "\r"), [{1: A, 2: B}]),  # one progress bar for all epochs
        ("Epoch 1 train loss 1,860.5 valid loss -1'234'567.25", [{1: (1860.5, -1234567.25)}]),
    ],
)
def test_runs(text, runs):
    assert read_log(text.encode()) == (runs, "")


def test_epochs_that_count():
    for numbers, within in (range(60), 15), (range(1, 61), 15), (range(16, 61), 0), ([5, 10, 15, 20], 3):
        run = dict.fromkeys(numbers, C)
        assert list(counted(run, 15)) == list(numbers[:within]) and counted(run, None) == run


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_our_logs_are_read(path):
    told = re.findall(r"^Epoch: (\d+), Train Loss: (\S+), Valid Loss: ([^,\s]+)", path.read_text("utf-8"), re.MULTILINE)
    run = {int(epoch): (float(train), float(valid)) for epoch, train, valid in told}  # none in the GAN's log
    assert read_log(path.read_bytes())[0] == ([run] if run else [])


WORDINGS = [
    "[{e}/99] epoch {e} training loss={t} validation loss={v}",
    "epoch {e}/99: val_loss {v} loss {t}",
    "Epoch {e}\ntrain loss {t}\nvalid loss {v}",
    "Epoch {e} train/valid loss: {t} / {v}",
]
FORMS = ["{:.4f}", "{:.3e}", "{:,.2f}", "{:.0f}", "{:.1%}", "{:g},5", "{:g} 500", "{:g}ms"]
loss = st.floats(-1e5, 1e5).map(lambda loss: round(loss, 9))


@given(st.lists(st.tuples(loss, loss), min_size=1, max_size=5), st.sampled_from(WORDINGS), st.sampled_from(FORMS))
def test_what_is_read_is_what_was_written(losses, wording, form):
    written = [tuple(form.format(loss) for loss in both) for both in losses]
    lines = [wording.format(e=epoch, t=train, v=valid) for epoch, (train, valid) in enumerate(written, 1)]
    runs, unclear = read_log("\n".join(lines).encode())
    assert len(runs) == (not unclear) and (form not in FORMS[:3] or "/valid" in wording or not unclear)
    for epoch, both in runs[0].items() if runs else []:
        assert both == tuple(float(loss.replace(",", "")) for loss in written[epoch - 1])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk"])  # PowerShell writes UTF-16
def test_logs_in_other_encodings(encoding):
    assert read_log(("训练\n" + log_of(A, B)).replace("\n", "\r\n").encode(encoding)) == ([{1: A, 2: B}], "")


@pytest.mark.parametrize("text", ["\n", "1", "1 ", "123,", "train loss 0.1 ", "epoch 1 ", " -", "第1", log_of(A, B)])
def test_a_long_log_takes_seconds(text):
    begin = time.monotonic()
    read_log(text.encode() * (300_000 // len(text)))
    assert time.monotonic() - begin < 20


def test_the_best_epoch_is_the_last_one_with_the_lowest_validation_loss():
    assert best({1: (0.1, 0.2), 2: (0.9, 0.125), 3: (0.6, 0.125), 4: (0.5, 0.13)}) == 3
