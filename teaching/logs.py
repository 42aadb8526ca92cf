"""Losses in the logs of students; none rather than a wrong one.

What is read is ``Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220``, and the same in other words, such as
``epoch 12/20 - train_loss = 2.13e-2 - val_loss = 2.2e-2``, in one line or in several.
"""

import re

EPOCH = re.compile(r"(?:\bepoch|第)\W{0,4}?(\d{1,6})(?!\w|\.\d)", re.IGNORECASE | re.ASCII)
# A number with a point or an exponent: one without may be that of the images. It is not part of a longer one, as
# in 1,887.3 and 0,0213, and no share, as in 0.5 % and 0.02/0.03.
LOSS = re.compile(
    r"(?P<other>(?:best|lowest|min|minimum|last|previous|最佳|最低)[ _:-]{0,2})?"
    r"(?<![a-z])(?P<side>train|val|训练|验证)(?:ing|id|idation|集)?[ _-]?(?:loss|mse|损失)[^\w<>]{0,4}?"
    r"(?P<loss>[+-]?(?:\d*\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+))(?!\w|[.,]\d|\s?[%/])",
    re.IGNORECASE,
)
SIDES = {"train": "train", "训练": "train", "val": "valid", "验证": "valid"}


def read_log(content: bytes) -> tuple[dict[int, tuple[float, float]], str]:
    """(training loss, validation loss) by epoch, of the epochs with both; and why it is not clear, "" if it is.

    A log that is not clear has no losses. The first epoch is 1, also where the log calls it 0. Of an epoch that occurs
    again, in a later run, the later losses count. PowerShell writes logs in UTF-16.
    """
    utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf_16 else "utf-8", errors="replace")
    before, *parts = EPOCH.split(text)
    if any(_losses_in(before).values()):
        return {}, "it has losses before the first epoch"
    epochs = {}
    for number, part in zip(map(int, parts[::2]), parts[1::2], strict=True):
        losses = _losses_in(part.partition("\n")[0])
        if not all(losses.values()):
            losses = _losses_in(part)  # on lines of their own
        if any(len(some) > 1 for some in losses.values()):
            return {}, f"it has several losses of one kind in epoch {number}"
        if all(losses.values()):
            epochs[number] = losses["train"].pop(), losses["valid"].pop()
    if not epochs and text.strip():
        return {}, "it has no losses in a form that is known"
    return {number + (min(epochs) == 0): both for number, both in epochs.items()}, ""


def _losses_in(text: str) -> dict[str, set[float]]:
    """The losses in a text by side, "train" and "valid"; not those of the best epoch or of another one."""
    losses: dict[str, set[float]] = {"train": set(), "valid": set()}
    for found in LOSS.finditer(text):
        if not found["other"]:
            losses[SIDES[found["side"].lower()]].add(float(found["loss"]))
    return losses


def best(epochs: dict[int, tuple[float, float]]) -> int:
    """The epoch with the lowest validation loss; of several, the last."""
    return min(epochs, key=lambda epoch: (epochs[epoch][1], -epoch))
