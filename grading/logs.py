"""Losses in the logs of students, in whatever words; none rather than a wrong one.

A log is read line by line, and a line word by word, so that the time is linear in its length. A number is a loss if a
label stands before it, such as "Train Loss:" or "val_loss=", with nothing between them but words that change nothing.
"""

import re
from typing import NamedTuple

LONGEST_LINE, MOST_LINES = 1_000, 100_000
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# A number comes with all that clings to it, so that a part of one is never read as another.
TOKENS = re.compile(r"[+-]?\.?\d(?:[\d.]|,(?=\d))*(?:[eE][+-]?\d+)?[\w%]*|[^\W\d]\w*|[^\w\s]")
NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
PARTS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*")  # of a word: valLoss, train_loss, float64

SIDES = dict.fromkeys(["train", "training", "trn", "tr"], "train")
SIDES |= dict.fromkeys(["val", "valid", "validate", "validation", "dev", "test", "testing", "eval"], "valid")
LOSS = {"loss", "losses", "mse", "error", "err"}
# What may stand between a label and its number, and what means that the number is not that of the epoch.
BETWEEN = {"avg", "average", "mean", "total", "set", "dataset", "is", "np", "numpy", "torch", "tensor"}
BETWEEN |= {"float", "float32", "float64"}
OF_ANOTHER_EPOCH = {"best", "min", "minimum", "lowest", "previous", "last", "target"}

FULL_WIDTH = {code: code - 0xFF01 + ord("!") for code in range(0xFF01, 0xFF5F)}  # digits, letters, punctuation
EPOCH_IN_CHINESE = re.compile(r"第 ?(\d{1,6}) ?个?(?:轮次?|周期|epoch)")
CHINESE = {"训练": "train", "验证": "valid", "测试": "test", "损失": "loss", "误差": "error", "平均": "mean"}
CHINESE |= {"集": "set", "轮次": "epoch", "轮": "epoch", "值": "", "为": "is"}
CHINESE |= {"最佳": "best", "最优": "best", "最低": "best"}
OF_AN_EPOCH = re.compile(r"\b(?:at|for|in|of|on|after) epoch\b", re.IGNORECASE)


class Log(NamedTuple):
    """The losses in a log.

    Args:
        epochs: training and validation loss by epoch, counted from 1; None for one that was not measured.
        unclear: what was not read with certainty, in short; "" if there is nothing.
    """

    epochs: dict[int, tuple[float | None, float | None]]
    unclear: str


def best(epochs: dict[int, tuple[float | None, float | None]]) -> tuple[int, tuple[float, float]] | None:
    """The epoch with the lowest validation loss, the last of several, and its two losses; None if none has both."""
    both = [
        (valid, -epoch, train) for epoch, (train, valid) in epochs.items() if train is not None and valid is not None
    ]
    if not both:
        return None
    valid, epoch, train = min(both)
    return -epoch, (train, valid)


def impossible(loss: float, name: str) -> bool:
    """Whether a loss of this model cannot be: squared errors are above 0, and their mean at most 1 in [0, 1]."""
    return loss <= 0 or (name in ("MLPAE", "AE") and loss > 1)


def read_log(content: bytes) -> Log:
    """The losses in a log, which PowerShell writes in UTF-16.

    The first epoch is 1, also where the log calls it 0. An epoch that occurs again, in a later run, counts anew.
    """
    utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if utf_16 else "utf-8", errors="replace")
    epochs: dict[int, dict[str, set[float]]] = {}
    epoch = None
    unclear = ""
    fresh = False  # the epoch has just been named, and nothing of it has been read
    for line in re.split(r"[\r\n]+", text, maxsplit=MOST_LINES)[:MOST_LINES]:
        named, losses, certain = _read_line(line[:LONGEST_LINE])
        if named is not None:
            fresh, epoch = named != epoch, named
        if not certain or (losses and epoch is None):
            unclear = unclear or line.strip()[:60]
        if not losses or not certain or epoch is None:
            continue
        before = epochs.get(epoch, {})
        known = {loss for side in before.values() for loss in side}
        if fresh and not {loss for _, loss in losses} <= known:
            before = {}
        fresh = False
        epochs[epoch] = before
        for side, loss in losses:
            before.setdefault(side, set()).add(loss)

    found = {}
    for number, sides in sorted(epochs.items()):
        if "train" not in sides and "valid" in sides and "bare" in sides:
            sides["train"] = sides["bare"]
        both = [sides.get(side, set()) for side in ("train", "valid")]
        if any(len(losses) > 1 for losses in both):
            unclear = unclear or f"several losses of one kind in epoch {number}"
        if any(both):
            train, valid = (next(iter(losses)) if len(losses) == 1 else None for losses in both)
            found[number + (min(epochs) == 0)] = train, valid
    if not found and text.strip():
        unclear = unclear or "no losses in a form that is known"
    return Log(found, unclear)


def _read_line(line: str) -> tuple[int | None, list[tuple[str, float]], bool]:
    """The number of the epoch, the losses with their sides ("train", "valid" or "bare"), and whether all is certain."""
    tokens = TOKENS.findall(_in_english(line))
    epoch = None
    losses: list[tuple[str, float]] = []
    certain = True
    epoch_next = after_epoch = False  # a number would be that of an epoch; the total of epochs may follow
    side = loss = ""  # the label so far
    other = of_another_epoch = False  # whether it is a part of the loss or another figure, and of which epoch
    context = ""  # the latest side in this line
    for i, token in enumerate(tokens):
        if token[0].isdigit() or (token[0] in "+-." and len(token) > 1):
            following = tokens[i + 1] if i + 1 < len(tokens) else ""
            if epoch_next and token.rstrip(".").isdigit():
                epoch, after_epoch = int(token.rstrip(".")[:9]), True
                side = side if loss else ""
            elif after_epoch and tokens[i - 1] in ("/", "of"):
                after_epoch = False  # epoch 3 / 20
            elif not other and not of_another_epoch and (loss or (side and re.search(r"[.eE]", token))):
                value = _number(token)
                if value is None or following in ("/", "%"):
                    certain = False
                elif token.isdigit() and following.isalpha() and not _known(following):
                    pass  # 16 images
                else:
                    losses.append((side or (context if loss.startswith("loss") else "") or "bare", value))
                side = loss = ""
            else:
                side, loss, other, of_another_epoch = "", "", False, False
            epoch_next = False
        elif token[0].isalpha() or token[0] == "_":
            for part in (part.lower() for part in PARTS.findall(token) or [token]):
                epoch_next = part in ("epoch", "ep")
                if glued := re.fullmatch(r"epoch(\d{1,6})", part):
                    epoch, after_epoch = int(glued[1]), True
                elif part in OF_ANOTHER_EPOCH:
                    of_another_epoch = True
                elif part in SIDES:
                    if side and side != SIDES[part]:
                        certain = False  # train / valid loss: which number is whose?
                    side = context = SIDES[part]
                elif part in LOSS:
                    loss = part
                elif epoch_next:
                    other = False
                elif part not in BETWEEN:
                    side, loss, other = "", "", part != "and"
        elif token in ",;|)>]}":
            other = False
            of_another_epoch = of_another_epoch and token not in ",;|"
    return epoch, losses, certain


def _known(word: str) -> bool:
    return any(part.lower() in {*SIDES, *LOSS, "epoch", "lr", "time"} for part in PARTS.findall(word))


def _number(token: str) -> float | None:
    """The value of a number, with commas between thousands or none; None if that is not certain."""
    token = token if NUMBER.fullmatch(token) else token.removesuffix(".")
    return float(token.replace(",", "")) if NUMBER.fullmatch(token) and len(token) < 30 else None


def _in_english(line: str) -> str:
    """The line without colours, with full-width characters as usual ones, and with the words of a log in English."""
    line = ANSI.sub("", line).translate(FULL_WIDTH)
    line = EPOCH_IN_CHINESE.sub(r" epoch \1 ", line)
    for chinese, english in CHINESE.items():
        line = line.replace(chinese, f" {english} ")
    return OF_AN_EPOCH.sub(" epoch", line)
