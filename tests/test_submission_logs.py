"""Losses in the logs of students: read where they are certain, and never wrong."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teaching.logs import best, read_log

THREE = {3: (0.02, 0.03)}


def log_of(*losses, first=1):
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, first))


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220", {12: (0.0213, 0.022)}),
        ("EPOCH [7/20] training loss = 5e-3 | validation loss = 1.25E-2 (best)", {7: (0.005, 0.0125)}),
        ("2024-05-01 10:00:00 epoch 2: lr 0.1, train loss 812.345, valid loss 3.0", {2: (812.345, 3)}),
        ("Epoch #003 - Val Loss → .03; Train Loss → .02", THREE),
        ("epoch3 | train_loss=0.02 | val_loss=0.03", THREE),
        ("{'epoch': 3, 'train_loss': 0.02, 'valid_loss': 0.03}", THREE),
        ("Epoch 3 trainLoss 0.02 valLoss 0.03", THREE),
        ("Epoch 3 (12.3s) train mse 0.02 \u00b1 0.1 val mse 0.03", THREE),
        ("Epoch 3/20\ntrain loss: 0.02\nvalid loss: 0.03\n\nDone", THREE),
        ("Epoch 3: 50%, train loss: 0.7\rEpoch 3, train loss 0.02, valid loss 0.03", THREE),
        ("第3轮 训练损失: 0.02 验证集损失: 0.03", THREE),
        ("Epoch 3 train loss 0.02 valid loss 0.03 best valid loss: 0.01", THREE),
        ("Epoch 3 train loss 0.02 valid loss 0.03\nFinal train loss: 0.7", THREE),
        ("Epoch 3, Train Loss: 0.02, Valid Loss: 0.03, Valid Squared Error: 600.00, Valid KL Divergence: 190.0", THREE),
        ("Epoch 1 step 9 train loss 0.5\nEpoch 1 step 19 train loss 0.4\nEpoch 3 train loss 0.02 val loss 0.03", THREE),
        # Of two runs in one log, the later one counts; a line on the best epoch changes nothing.
        (log_of((1.0, 1.0), (2.0, 2.0)) + log_of((4.0, 3.0)), {1: (4, 3), 2: (2, 2)}),
        (log_of((1.0, 1.0), (2.0, 2.0)) + "Best epoch: 1, Valid Loss: 1.0\n", {1: (1, 1), 2: (2, 2)}),
        # Epochs that are counted from 0.
        (log_of((0.3, 0.2), (0.2, 0.1), first=0), {1: (0.3, 0.2), 2: (0.2, 0.1)}),
    ],
)
def test_losses_that_are_read(text, epochs):
    assert read_log(f"The log of a training\n{text}\nEnd".encode()) == (epochs, "")


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "Epoch 3 Train Loss: 0,0213 Valid Loss: 0,0220",
        "Epoch 3 Train Loss: 1,887.3 Valid Loss: 0.0220",
        "Epoch 3 Train Loss: 12.5% Valid Loss: 0.02",
        "Epoch 3 Train Loss: 12.5 % Valid Loss: 0.02",
        "Epoch 3 Train Loss: 0.02 Valid Loss: 0.02s",
        "Epoch 3 Train Loss: 0.0.2 Valid Loss: 0.02",
        "Epoch 3 Train Loss: 0x1F Valid Loss: 1_000.0",
        "Epoch 3 Train/Valid Loss: 0.0213 / 0.0220",
        "Epoch 3 Train Loss, Valid Loss: 0.5, 0.6",
        "Epoch 3 train loss (2071 images): 0.02, valid loss (517 images): 0.03",
        "Epoch 3 train loss 0.02, best valid loss 0.01",
        "Epoch 3 train loss 0.02, lowest_val_loss 0.01",
        "第3轮 训练损失 0.02 最低验证损失 0.01",
        "Epoch 3 train loss 0.02, valid loss improved (0.03 --> 0.02)",
        "Epoch 3 Train Loss: nan, Valid Loss: nan",
        "Epoch 3 recon train loss: 600.5, kl train loss: 90.5, valid loss: 700.0",
        "Epoch 3\nstep 9 train loss 0.5\nstep 19 train loss 0.4\nvalid loss 0.3",
        "Epoch 3, the handout requires: train loss < 0.03, valid loss < 0.03",
        "Epoch, Train Loss: 0.5, Valid Loss: 0.5",
        "Epoch 1.5, Train Loss: 0.5, Valid Loss: 0.5",
        "train loss 0.5 valid loss 0.6\nEpoch 1 done\ntrain loss 0.4 valid loss 0.5\nEpoch 2 done",
        "Settings: epochs 15, lr 0.003, patience 15",
        "Epoch " + "1" * 5_000 + " Train Loss: 0.5, Valid Loss: 0.5",
    ],
)
def test_what_is_not_certain_is_not_read(text):
    epochs, unclear = read_log(text.encode())
    assert epochs == {} and unclear


WORDINGS = [
    "Epoch: {e}, Train Loss: {t}, Valid Loss: {v}",
    "[{e}/99] epoch {e} training loss={t} validation loss={v}",
    "epoch {e}/99: val_loss {v} train_loss {t}",
    "Epoch {e}\n  train loss: {t}\n  valid loss: {v}",
    "Epoch {e} train/valid loss: {t} / {v}",
    "epoch {e} train loss {t}, best valid loss 0.001, valid loss {v} (0.5% better)",
]
FORMS = ["{:.4f}", "{:.3e}", "{:.6g}", "{:,.2f}", "{:.0f}", "{}", "{:.1%}", "{:g},5"]
positive = st.floats(1e-4, 1e5)


@given(
    st.lists(st.tuples(positive, positive), min_size=1, max_size=5), st.sampled_from(WORDINGS), st.sampled_from(FORMS)
)
def test_what_is_read_is_what_was_written(losses, wording, form):
    written = [tuple(form.format(loss) for loss in both) for both in losses]
    lines = [wording.format(e=epoch, t=train, v=valid) for epoch, (train, valid) in enumerate(written, 1)]
    epochs, _ = read_log("\n".join(lines).encode())
    for epoch, both in epochs.items():
        assert both == tuple(map(float, written[epoch - 1]))
    if "train/valid" not in wording and form in FORMS[:2]:
        assert len(epochs) == len(losses)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gbk"])
def test_logs_in_other_encodings(encoding):
    text = "训练\r\n" + log_of((0.25, 0.5), (0.2, 0.4)).replace("\n", "\r\n")
    assert read_log(text.encode(encoding)) == ({1: (0.25, 0.5), 2: (0.2, 0.4)}, "")


def test_an_empty_log_is_not_unclear():
    assert read_log(b" \n") == ({}, "")


def test_the_best_epoch_is_the_last_one_with_the_lowest_validation_loss():
    assert best({1: (0.1, 0.2), 2: (0.9, 0.125), 3: (0.6, 0.125), 4: (0.5, 0.13)}) == 3


@pytest.mark.parametrize(
    "text",
    ["train loss " * 90_000, "epoch 1 " * 120_000, "train loss " + "1" * 1_000_000, "best " * 200_000, " " * 10**6],
)
def test_a_log_of_a_million_characters_is_read_in_seconds(text):
    before = time.process_time()
    read_log(text.encode())
    assert time.process_time() - before < 10
