"""The log of a training: losses by epoch, and the photos that it was trained on."""

import re

from checking.messages import Unclear, Wrong

NUMBER = r"(-?\d*\.?\d+(?:e[-+]?\d+)?|nan|inf)"
EPOCH = re.compile(
    rf"^Epoch:\s*(\d{{1,6}}),\s*Train Loss:\s*{NUMBER},\s*Valid Loss:\s*{NUMBER}", re.IGNORECASE | re.MULTILINE
)
DATA = re.compile(r"^Data: (.*), (\d+) training and (\d+) validation photos", re.MULTILINE)


class Log:
    """What ``Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220`` and the line ``Data:`` say.

    ``epochs`` are as they come; ``best`` are, of each run, the losses of the epoch with the lowest validation loss: a
    run begins where the number is not above the last one; ``data`` is the folder of the photos, and their numbers.
    Raises Wrong if the log is empty, and Unclear if it has no epochs in this form.
    """

    def __init__(self, content: bytes) -> None:
        # PowerShell's > writes UTF-16.
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
        if not text.strip():
            raise Wrong("empty")
        self.epochs = [(int(number), float(train), float(valid)) for number, train, valid in EPOCH.findall(text)]
        if not self.epochs:
            raise Unclear("found no line in the form Epoch: 12, Train Loss: 0.0213, Valid Loss: 0.0220")
        runs: list[list[tuple[int, float, float]]] = []
        for before, epoch in zip([None, *self.epochs], self.epochs, strict=False):
            runs += [[]] if before is None or epoch[0] <= before[0] else []
            runs[-1].append(epoch)
        self.best = [min(run, key=lambda epoch: (epoch[2], -epoch[0]))[1:] for run in runs]
        self.data = [(root, int(train), int(valid)) for root, train, valid in DATA.findall(text)[-1:]]

    def within(self, most: int | None) -> list[tuple[int, float, float]]:
        """Those of the first ``most`` epochs (None: all), counting from 0 or 1."""
        from_0 = any(number == 0 for number, _, _ in self.epochs)
        return [epoch for epoch in self.epochs if most is None or epoch[0] < most + (not from_0)]
