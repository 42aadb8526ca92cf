"""Losses in the logs of students, read where they are certain: none rather than a wrong one.

What is read is ``Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220``, and the same in other words and in Chinese, in
one line or in several, also as Keras and tqdm print it. All patterns take time in proportion to the log's length.
"""

import re
from collections.abc import Iterable, Iterator

Both = tuple[float, float]
Losses = set[tuple[str, float | None]]  # with their sides: "train", "valid" or ""; None: a number that is not read

SIDES = dict.fromkeys(["val", "valid", "validation", "test", "testing", "eval", "evaluation"], "valid")
SIDES |= {"train": "train", "training": "train"}
NAMES = {"loss", "mse"}
KNOWN = {*SIDES, *NAMES, "avg", "average", "mean", "total", "epoch", "set"}  # a KL loss is another one
CHINESE = {"训练": "train", "验证": "valid", "测试": "test", "损失": "loss", "平均": "mean", "轮次": "epoch"}
CHINESE |= dict.fromkeys(["最佳", "最优", "最好", "最低", "最小"], "best") | dict.fromkeys("轮集上的值为是", "")
WIDE = {0xFEE0 + code: code for code in range(33, 127)}  # full-width letters, digits and colons
CLUTTER = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|(?:tensor|np\.float\d\d)\(")  # colours, tensor(0.02)
EPOCH = re.compile(r"(?<![a-z_])epoch(?![a-z])[\W_]{0,6}?(\d[\w.]*(?: ?%|[ ,']\d{3}(?![\d%/]))?)(?:/\d+)?", re.ASCII)
OTHER = re.compile(r"(?<![a-z])(?:best|lowest|(?:since|from|at|after|until) epoch)")  # losses after it are others
NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d{1,3}(?:[,']\d{3}){1,2}\.\d+\b|\.?\d[\w.]*(?:(?<=e)[+-][\w.]+)?)", re.ASCII)
LOSS = re.compile(r"[+-]?(?:[\d,']*\.\d+(?:e[+-]?\d\d?)?|\d+e[+-]?\d\d?)")  # 517 may be a number of photos
AFTER = re.compile(r"\s?%|\s?/\s?[\d.]|\s?-{0,3}[>→]|[\s,'~-]\d")  # a share, a change from 0.03 --> 0.02, a range
STOP = re.compile(r"[,;|()\[\]{}]|:(?=\s?[a-z])|\s-+\s|\s/\s|\.\s")
WORD = re.compile(r"[a-z\u3400-\u9fff][a-z\d\u3400-\u9fff]*|[<>/%]")


def read_log(content: bytes) -> tuple[list[dict[int, Both]], str]:
    """The runs in a log, each (training loss, validation loss) by epoch number as written; and why it is not clear, ""
    if it is. A log that is not clear has no runs.

    A number that is not above the last one begins a run, unless its line is the same, or a progress bar's next state.
    """
    text = _decode(content)
    line = text[text.rfind("\n") + 1 :]
    decimals = [len(digits) for digits in re.findall(r"\.(\d*)", line)][-2:]
    # A log is cut off within a number when the training was killed: 0.0091, 0.0
    cut = line if re.search(r"\.\d*$", line[-40:]) and decimals != sorted(decimals) else ""
    runs: list[dict[int, Both]] = []
    last = last_row = -1
    try:
        for number, both, row in _epochs(text.removesuffix(cut)):
            if not runs or number < last or (number == last and row != last_row and runs[-1][number] != both):
                # A run that goes on from a checkpoint is counted from 0 if the one before it is.
                runs.append({0: runs[-1][0]} if number and runs and 0 in runs[-1] else {})
            runs[-1][number] = both
            last, last_row = number, row
    except ValueError as error:
        return [], str(error)
    return runs, "" if runs or not text.strip() else "it has no losses in a form that is known"


def counted(run: dict[int, Both], most: int | None) -> dict[int, Both]:
    """Those epochs that are among the first ``most`` that were trained (None: all), by number, counting from 0 or 1."""
    return {number: both for number, both in run.items() if most is None or number < most + (0 not in run)}


def best(epochs: dict[int, Both]) -> int:
    """The epoch with the lowest validation loss; of several, the last."""
    return min(epochs, key=lambda epoch: (epochs[epoch][1], -epoch))


def _decode(content: bytes) -> str:
    """The text in small letters, its Chinese words in English. PowerShell writes logs in UTF-16."""
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError:
        text = content.decode("gbk", errors="replace")
    text = re.sub("(?<=[a-z])(?=[A-Z])", " ", CLUTTER.sub("", text.translate(WIDE))).lower()  # TrainLoss
    text = re.sub(r"第 ?(\d+) ?(?:/ ?\d+ ?)?(?:轮|个? ?epoch)", r" epoch \1 ", text)
    return re.sub("|".join(CHINESE), lambda found: f" {CHINESE[found[0]]} ", text)


def _epochs(text: str) -> Iterator[tuple[int, Both, int]]:
    """(epoch, its losses, row) as they come, from lines with all three, or else from the lines after an epoch's number;
    ValueError where it is not clear."""
    number, told = -1, False
    lines: dict[int, Losses] = {}  # of the epoch, by row; of a progress bar, the last state
    parts = ((row, part) for row, line in enumerate(text.split("\n")) for part in re.split("[\r\b]+", line))
    for row, part in parts:
        line, *other = OTHER.split(part, maxsplit=1)
        losses = _losses(EPOCH.sub(" ; ", line))
        both = _pair(losses)
        numbers = {re.sub(r"\.0?$", "", found) for found in EPOCH.findall(line)}
        if len(numbers) > 1 or not all(re.fullmatch(r"\d{1,6}", some) for some in numbers):
            if losses:
                raise ValueError(f"it has losses of epoch {' or '.join(sorted(numbers))[:50]}")
            continue
        if numbers and int(*numbers) != number:
            yield from ((number, pair, row) for pair in _pairs(number, lines.values()))
            number, told, lines = int(*numbers), False, {}
        if numbers and both:
            told, lines = True, {}
            yield number, both, row
        elif numbers and other and _losses(other[0]):
            losses |= {("train", None), ("valid", None)}  # Epoch 3 (best so far), train loss 0.02, ...
        if losses and not told:
            lines[row] = losses
        if lines and number < 0:
            raise ValueError("it has losses before the first epoch")
    yield from ((number, pair, -1) for pair in _pairs(number, lines.values()))


def _pairs(number: int, lines: Iterable[Losses]) -> set[Both]:
    """The losses of an epoch, if its lines have both: in one of them, or else in several."""
    together = {loss for losses in lines for loss in losses if loss[0]}
    pairs = {pair for losses in lines if (pair := _pair(losses))} or {pair for pair in [_pair(together)] if pair}
    if len(pairs) > 1 or (not pairs and {"train", "valid"} <= {side for side, _ in together}):
        raise ValueError(f"it has several losses of one kind in epoch {number}, or one that is not read")
    return pairs


def _pair(losses: Losses) -> Both | None:
    """Both losses if they are certain. Keras calls the training loss ``loss``, beside ``val_loss``."""
    train, valid, neither = ([loss for side, loss in losses if side == of] for of in ("train", "valid", ""))
    match train or neither, valid:
        case [float(first)], [float(second)]:
            return first, second
    return None


def _losses(line: str) -> Losses:
    """The losses in a line. A side may stand apart: Train Epoch: 3 [2071/2071], Loss: 0.02."""
    losses: dict[bool, Losses] = {True: set(), False: set()}  # with the word, and without: train 0.02, valid 0.03
    side, end = "", 0
    for found in NUMBER.finditer(line):
        for part in STOP.split(line[end : found.start()]):
            label = set(WORD.findall(part))
            if sides := {SIDES[word] for word in label & SIDES.keys()}:
                side = sides.pop() if len(sides) == 1 and label <= KNOWN else "?"
        end = found.end()
        number = found[0].rstrip(".")
        certain = len(number) < 40 and LOSS.fullmatch(number) and not AFTER.match(line, end)
        loss = float(re.sub("[,']", "", number)) if certain else None
        named = bool(label & NAMES)
        if label <= KNOWN and (named or (label & SIDES.keys() and loss is not None)):
            losses[named].add((side, loss))
            side = ""
    return losses[bool(losses[True]) or not set(WORD.findall(line)) <= KNOWN]
