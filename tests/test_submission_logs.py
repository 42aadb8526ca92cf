"""Losses in the logs of students: read where they are certain, and never wrong."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.logs import Log, best, impossible, read_log

THREE = {3: (0.02, 0.03)}


@pytest.mark.parametrize(
    ("line", "epochs"),
    [
        ("Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220", {12: (0.0213, 0.022)}),
        ("EPOCH [7/20] training loss = 5e-3 | validation loss = 1.25E-2 (best)", {7: (0.005, 0.0125)}),
        ("2024-05-01 10:00:00 epoch 2: lr 0.1, train loss 812.345, valid loss 3.", {2: (812.345, 3)}),
        ("Best epoch: 3, Train Loss 2.5, KL Divergence: 7, Valid Loss: 1", {3: (2.5, 1)}),
        ("Epoch 3 Val Loss: 0.03 Train Loss: 0.02", THREE),
        ("Epoch 3/20 - loss: 0.02 - val_loss: 0.03", THREE),
        ("epoch 3: train 0.02 valid 0.03", THREE),
        ("epoch 3 train: 0.02, val: 0.03", THREE),
        ("Epoch 3\ttrain\t0.02\tvalid\t0.03", THREE),
        ("Epoch 3 | train_loss=0.02 | val_loss=0.03", THREE),
        ("Epoch 3 trainLoss 0.02 valLoss 0.03", THREE),
        ("Epoch 3 loss_train: 0.02 loss_val: 0.03", THREE),
        ("Epoch 3 loss (train): 0.02 loss (val): 0.03", THREE),
        ("Epoch 3: train loss np.float64(0.02), valid loss np.float64(0.03)", THREE),
        ("Epoch 3 train loss: tensor(0.02, device='cuda:0', grad_fn=<A0>) val loss: tensor(0.03)", THREE),
        ("{'epoch': 3, 'train_loss': 0.02, 'valid_loss': 0.03}", THREE),
        ("Epoch 3 train mse 0.02 val mse 0.03", THREE),
        ("Epoch 3 train loss 0.02 test loss 0.03", THREE),
        ("Epoch 3 training error: 0.02 validation error: 0.03", THREE),
        ("epoch = 3, total train loss = 0.02, avg valid loss = 0.03", THREE),
        ("Epoch #3 - Training Loss → 0.02; Validation Loss → 0.03", THREE),
        ("Epoch 003 | Train 2071 | loss 0.02 | Val 517 | loss 0.03", THREE),
        ("Epoch 3 (12.3s) train loss 0.02 valid loss 0.03", THREE),
        ("epoch3 train loss 0.02 val loss 0.03", THREE),
        ("Epoch:3,Train Loss:0.02,Valid Loss:0.03", THREE),
        ("Train loss at epoch 3: 0.02, valid loss at epoch 3: 0.03", THREE),
        ("Validation loss of epoch 3 is 0.03 and train loss is 0.02", THREE),
        ("\x1b[32mEpoch 3\x1b[0m train loss \x1b[1m0.02\x1b[0m valid loss 0.03", THREE),
        ("第3轮 训练损失: 0.02 验证损失: 0.03", THREE),
        (
            "第 ３ 轮，训练集损失：0.02，验证集损失：０.０３",  # noqa: RUF001
            THREE,
        ),
        ("轮次 3 训练误差 0.02 测试误差 0.03", THREE),
        ("Epoch 3 Train Loss: 9.30e+02 Valid Loss: 1,887.3", {3: (930, 1887.3)}),
        ("Epoch 3 Train Loss: 1,234,567 Valid Loss: +7", {3: (1234567, 7)}),
        ("Epoch 3 Train Loss: .0220 Valid Loss: .0230", {3: (0.022, 0.023)}),
        ("Epoch 3 Train Loss: 800 Valid Loss: 790", {3: (800, 790)}),
        ("Epoch 3 Train Loss: -0.5 Valid Loss: -1", {3: (-0.5, -1)}),
        ("Epoch 3 valid acc: 0.9 train loss 0.02 valid loss 0.03", THREE),
        ("Epoch 3, Train Loss: 0.02, Valid Loss: 0.03, Valid Squared Error: 600.00, Valid KL Divergence: 190", THREE),
        ("Epoch 3 train loss 0.02 valid loss 0.03 best valid loss so far 0.01", THREE),
        ("Epoch 3 train loss 0.02 best valid loss 0.01 valid loss 0.03", THREE),
        ("Epoch 3 train recon loss: 600.5, train loss: 0.02, valid kl loss 200.1, valid loss: 0.03", THREE),
        ("Epoch 3 Train Loss: 0.02 \u00b1 0.001 Valid Loss: 0.03 \u00b1 0.002", THREE),
        (
            "第3轮 训练损失 0.02 验证准确率: 0.9 验证损失 0.03",
            THREE,
        ),
        # One loss of the two
        ("Epoch 4, Train Loss: 0.5", {4: (0.5, None)}),
        ("Epoch 4, Valid Loss: 0.5", {4: (None, 0.5)}),
        ("train loss epoch [3/20]: 0.02", {3: (0.02, None)}),
        ("[Valid] Epoch 3 Loss: 0.03", {3: (None, 0.03)}),
        ("Train Epoch: 3 [320/2071 (15%)] Loss: 0.02", {3: (0.02, None)}),
        ("Epoch 3, Train Loss: inf, Valid Loss: 0.03", {3: (None, 0.03)}),
        ("Epoch 3 train loss over 2071 images: 0.02, valid loss 0.03", {3: (None, 0.03)}),
        # None, rather than a wrong one
        ("Epoch 3 Train Loss: 0,0213 Valid Loss: 0,0220", {}),
        ("Epoch 3 Train Loss: 1.887,3 Valid Loss: 0.0220", {}),
        ("Epoch 3 Train Loss: 12,34 Valid Loss: 0.0220", {}),
        ("Epoch 3 Train Loss: 12% Valid Loss: 0.02s", {}),
        ("Epoch 3 Train Loss: 12 % Valid Loss: 0.02", {}),
        ("Epoch 3 Train Loss: 0.0.2 Valid Loss: 0.02", {}),
        ("Epoch 3 Train Loss: 1_000.0 Valid Loss: 0x1F", {}),
        ("Epoch 3 Train Loss: 16/20 Valid Loss: 0.02", {}),
        ("Epoch 3 train loss: 16 images 0.02", {}),
        ("Train/Valid Loss: 0.0213/0.0220 epoch 3", {}),
        ("Epoch 3 loss (train/val): 0.02/0.03", {}),
        ("Epoch 3 Train Loss, Valid Loss: 0.5, 0.6", {}),
        ("Epoch 3 0.0213,0.0220", {}),
        ("Epoch 1e3 train loss 0.02 valid loss 0.03", {}),
        ("Train Loss: 0.5, Valid Loss: 0.5", {}),
        ("Epoch, Train Loss: 0.5, Valid Loss: 0.5", {}),
        ("Epoch: 4, Train Loss: nan, Valid Loss: nan", {}),
        ("Epoch 3: valid loss improved (0.03 --> 0.02). Saving model", {}),
        ("Epoch 3: val loss did not improve from 0.02", {}),
        ("Epoch 3 100%|██| 130/130 [00:03<00:00, 40.1it/s, loss=0.02]", {}),
        ("Epoch 3 train 2071 images, valid 517 images", {}),
        ("Epoch 3 train: 2071, valid: 517", {}),
        ("Settings: epochs 15, lr 0.003, patience 15", {}),
        ("Early stopping at epoch 4.", {}),
    ],
)
def test_lines_of_logs(line, epochs):
    found = read_log(f"The log of a training\n{line}\nEnd".encode())
    assert found.epochs == epochs and bool(found.unclear) is not bool(epochs)


WORDINGS = [
    "Epoch: {e}, Train Loss: {t}, Valid Loss: {v}",
    "[{e}/99] epoch {e} training loss={t} validation loss={v}",
    "epoch {e}/99: val_loss {v} train_loss {t}",
    "Epoch {e}\n  train: {t}\n  valid: {v}",
    "Epoch {e} - loss: {t} - val_loss: {v}",
    "Epoch [{e}] Train Loss {t} | Val Loss {v} | lr 0.01 | 3.5s",
    "{{'epoch': {e}, 'train_loss': np.float64({t}), 'val_loss': tensor({v})}}",
    "Epoch {e} train/valid: {t} / {v}",
    "epoch {e} train loss {t}, best valid loss 0.001, valid loss {v} (0.5% better)",
]
FORMS = ["{:.4f}", "{:.6g}", "{:.3e}", "{:,.2f}", "{:.0f}", "{}", "{:.1%}", "{:g},5"]
positive = st.floats(1e-4, 1e5)


@given(
    st.lists(st.tuples(positive, positive), min_size=1, max_size=5), st.sampled_from(WORDINGS), st.sampled_from(FORMS)
)
def test_what_is_read_is_what_was_written_or_nothing(losses, wording, form):
    written = [tuple(form.format(loss) for loss in both) for both in losses]
    lines = [wording.format(e=epoch, t=train, v=valid) for epoch, (train, valid) in enumerate(written, 1)]
    found = read_log("\n".join(lines).encode())
    for epoch, both in found.epochs.items():
        for read, text in zip(both, written[epoch - 1], strict=True):
            assert read is None or read == float(text.replace(",", ""))
    with_points = all("." in text or "e" in text for both in written for text in both)
    if "train/valid" not in wording and form in FORMS[:4] and (with_points or "loss" in wording):
        assert len(found.epochs) == len(losses) and not any(None in both for both in found.epochs.values())


def log_of(*losses, first=1):
    return "".join(f"Epoch: {i}, Train Loss: {t}, Valid Loss: {v}\n" for i, (t, v) in enumerate(losses, first))


def test_losses_on_lines_of_their_own():
    text = "Epoch 1/20\ntrain loss: 0.5\nvalid loss: 0.6\n\nEpoch 2/20\nvalid loss: 0.4\ntrain loss: 0.3\n"
    assert read_log(text.encode()) == Log({1: (0.5, 0.6), 2: (0.3, 0.4)}, "")
    text = "Epoch 1\n[Train] Loss 0.5\n[Valid] Loss 0.6\n"
    assert read_log(text.encode()) == Log({1: (0.5, 0.6)}, "")


def test_a_validation_every_third_epoch():
    lines = [
        f"Epoch {i}: train loss {1 / i:.4f}" + (f"\nEpoch {i}: valid loss {2 / i:.4f}" if i % 3 == 0 else "")
        for i in range(1, 8)
    ]
    found = read_log("\n".join(lines).encode())
    assert [None if valid is None else round(valid, 3) for _, valid in found.epochs.values()] == [
        None, None, 0.667, None, None, 0.333, None,
    ]  # fmt: skip
    assert best(found.epochs) == (6, (0.1667, 0.3333)) and found.unclear == ""


def test_losses_of_batches_are_not_those_of_an_epoch():
    text = "Epoch 1 batch 10 loss 0.5\nEpoch 1 batch 20 loss 0.4\nEpoch 1 train loss 0.45 valid loss 0.5\n"
    assert read_log(text.encode()) == Log({1: (0.45, 0.5)}, "")
    text = "Train Epoch: 1 [0/9] Loss: 0.5\nTrain Epoch: 1 [5/9] Loss: 0.4\nEpoch 1 Validation loss: 0.3\n"
    assert read_log(text.encode()) == Log({1: (None, 0.3)}, "several losses of one kind in epoch 1")
    text = "Epoch 1 loss 0.5\nEpoch 1 loss 0.4\nEpoch 1 val_loss 0.3\n"
    assert read_log(text.encode()) == Log({1: (None, 0.3)}, "several losses of one kind in epoch 1")


@pytest.mark.parametrize("first", [0, 1, 2])
def test_epochs_are_counted_from_1(first):
    """The sixteenth is not the fifteenth, where the log begins at 0."""
    found = read_log(log_of(*[(1, 1)] * 15, (0.5, 0.5), first=first).encode())
    assert min(found.epochs) == max(first, 1) and best(found.epochs)[0] == max(first, 1) + 15


def test_of_two_runs_in_one_log_the_later_one_counts():
    assert read_log((log_of((1, 1), (2, 2)) + log_of((4, 3))).encode()) == Log({1: (4, 3), 2: (2, 2)}, "")
    summary = "Best epoch: 1, Valid Loss: 1\n"
    assert read_log((log_of((1, 1), (2, 2)) + summary).encode()) == Log({1: (1, 1), 2: (2, 2)}, "")
    again = log_of((1, 1), (2, 2)) + "Resumed after epoch 1\n" + log_of((2, 2), (3, 3), first=2)
    assert read_log(again.encode()) == Log({1: (1, 1), 2: (2, 2), 3: (3, 3)}, "")


def test_losses_before_the_first_epoch_are_not_read():
    found = read_log(b"train loss 0.5 valid loss 0.6\nEpoch 1 done\ntrain loss 0.4 valid loss 0.5\nEpoch 2 done\n")
    assert found.unclear == "train loss 0.5 valid loss 0.6"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "gbk"])
def test_logs_in_other_encodings(encoding):
    """PowerShell writes logs in UTF-16, with a byte order mark."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + "训练\r\n" + log_of((0.25, 0.5), (0.2, 0.4)).replace("\n", "\r\n")
    assert read_log(text.encode(encoding)) == Log({1: (0.25, 0.5), 2: (0.2, 0.4)}, "")


def test_progress_bars_are_lines_of_their_own():
    assert read_log(b"Epoch 1: 0%\rEpoch 1: 50%, loss=0.7\r" + log_of((0.25, 0.5)).encode()).epochs == {1: (0.25, 0.5)}


def test_empty_logs():
    assert read_log(b"") == read_log(b" \n\n") == Log({}, "")
    assert read_log(b"hello") == Log({}, "no losses in a form that is known")


def test_only_the_first_thousand_characters_of_a_line_are_read():
    line = f"Epoch 1, {'-' * 961}, Train Loss: 1, Valid Loss: 2"
    assert len(line) == 1000
    assert read_log(line.encode()).epochs == {1: (1, 2)}
    assert read_log(f" {line}".encode()).epochs == {1: (1, None)}


@pytest.mark.parametrize(
    "text",
    [
        "epoch" + "1" * 300 + "train" * 80 + " loss" + "1" * 1000 + "valid loss",
        "epoch " * 200_000,
        "1," * 500_000,
        ("train loss " * 90 + "\n") * 1_000,
        ("a1" * 499 + "\n") * 1_000,
        ("\ufdfa" * 999 + "\n") * 1_000,  # eighteen characters each, if written out
        "\n" * 1_000_000,
        "Epoch 1 train loss 0.5\r" * 40_000,
        "\x1b[" * 500_000,
    ],
)
def test_no_log_takes_long(text):
    """A second or less for a million characters; some of these took hours by the square of their length."""
    before = time.process_time()
    read_log(text.encode())
    assert time.process_time() - before < 20


def test_the_best_epoch():
    epochs = {1: (0.1, 0.2), 2: (0.9, 0.125), 3: (0.6, 0.125), 4: (None, 0.1), 5: (0.1, None), 6: (0.5, 0.13)}
    assert best(epochs) == (3, (0.6, 0.125))
    assert best({}) is None and best({1: (None, 0.1), 2: (0.1, None)}) is None


@pytest.mark.parametrize(
    ("loss", "name", "expected"),
    [
        (0.0, "MLPAE", True),
        (-0.1, "AE", True),
        (1.0, "AE", False),
        (1.01, "MLPAE", True),
        (1e-9, "MLPAE", False),
        (750.0, "VAE", False),
        (-1.0, "VAE", True),
    ],
)
def test_losses_that_cannot_be(loss, name, expected):
    assert impossible(loss, name) is expected
