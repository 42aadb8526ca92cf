"""Losses in the logs of students: read where they are certain, and never wrong."""

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
        ("{'epoch': 3, 'train_loss': 0.02, 'valid_loss': 0.03}", THREE),
        ("Epoch 3/20\ntrain loss: 0.02\nvalid loss: 0.03\n\nDone", THREE),
        ("Epoch 3: 50%, train loss: 0.7\rEpoch 3, train loss 0.02, valid loss 0.03", THREE),
        ("第3轮 训练损失: 0.02 验证集损失: 0.03", THREE),
        ("Epoch 3 train loss 0.02 valid loss 0.03 best valid loss: 0.01", THREE),
        ("Epoch 3, Train Loss: 0.02, Valid Loss: 0.03, Valid Squared Error: 600.00, Valid KL Divergence: 190.0", THREE),
        # Of two runs in one log, the later one counts.
        (log_of((1.0, 1.0), (2.0, 2.0)) + log_of((4.0, 3.0)), {1: (4, 3), 2: (2, 2)}),
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
        "Epoch 3 Train Loss: 12.5% Valid Loss: 0.02",
        "Epoch 3 Train/Valid Loss: 0.0213 / 0.0220",
        "Epoch 3 train loss (2071 images): 0.02, valid loss (517 images): 0.03",
        "Epoch 3 train loss 0.02, best valid loss 0.01",
        "Epoch 3 Train Loss: nan, Valid Loss: nan",
        "Epoch 3 recon train loss: 600.5, kl train loss: 90.5, valid loss: 700.0",
        "Epoch 3, the handout requires: train loss < 0.03, valid loss < 0.03",
        "Epoch, Train Loss: 0.5, Valid Loss: 0.5",
        "train loss 0.5 valid loss 0.6\nEpoch 1 done\ntrain loss 0.4 valid loss 0.5\nEpoch 2 done",
    ],
)
def test_what_is_not_certain_is_not_read(text):
    epochs, unclear = read_log(text.encode())
    assert epochs == {} and unclear


WORDINGS = [
    "[{e}/99] epoch {e} training loss={t} validation loss={v}",
    "epoch {e}/99: val_loss {v} train_loss {t}",
    "Epoch {e} train/valid loss: {t} / {v}",
]
FORMS = ["{:.4f}", "{:.3e}", "{:,.2f}", "{:.0f}", "{:.1%}", "{:g},5"]
loss = st.floats(1e-4, 1e5)


@given(st.lists(st.tuples(loss, loss), min_size=1, max_size=5), st.sampled_from(WORDINGS), st.sampled_from(FORMS))
def test_what_is_read_is_what_was_written(losses, wording, form):
    written = [tuple(form.format(loss) for loss in both) for both in losses]
    lines = [wording.format(e=epoch, t=train, v=valid) for epoch, (train, valid) in enumerate(written, 1)]
    for epoch, both in read_log("\n".join(lines).encode())[0].items():
        assert both == tuple(map(float, written[epoch - 1]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gbk"])  # PowerShell writes UTF-16
def test_logs_in_other_encodings(encoding):
    text = "训练\r\n" + log_of((0.25, 0.5), (0.2, 0.4)).replace("\n", "\r\n")
    assert read_log(text.encode(encoding)) == ({1: (0.25, 0.5), 2: (0.2, 0.4)}, "")


def test_the_best_epoch_is_the_last_one_with_the_lowest_validation_loss():
    assert best({1: (0.1, 0.2), 2: (0.9, 0.125), 3: (0.6, 0.125), 4: (0.5, 0.13)}) == 3
