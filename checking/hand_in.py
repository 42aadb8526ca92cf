"""The files of a hand-in, under the names that are asked for. Nothing in them is run, and nothing outside is read."""

import contextlib
import os
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from checking.messages import Unclear, Wrong

CODE = {
    "Part 1": ["autograd/BaseGraph.py", "autograd/Nodes.py"],
    "Part 2": ["MLPAE_train_script.py"],
    "Part 3": ["Autoencoder.py", "train_script.py", "random_generation.py"],
    "Part 4": ["VarAutoencoder.py"],
}
NAMES = {"Part 2": "MLPAE", "Part 3": "AE", "Part 4": "VAE"}  # of the models
RESULTS = {  # the model, its log, and its pictures
    part: [f"models/BestModel_{name}.{'pkl' if name == 'MLPAE' else 'pth'}", f"log/train_{name}.txt"]
    + [f"vis/{which}_{name}.png" for which in ("train", "valid", "random_images")[: 2 if name == "MLPAE" else 3]]
    for part, name in NAMES.items()
}

LARGEST, LARGEST_TEXT, MOST_FILES = 200_000_000, 2_000_000, 20_000  # bytes of a file, of one of text; files
LEFT_OUT = {"flowers", "drawn_flowers", "__pycache__", "__macosx", "venv", "env", "node_modules", "site-packages"}


class HandIn:
    """What was handed in: a folder or a zip file, also with zip files in the folder. OSError if it cannot be read.

    ``files`` has the size of each, and what reads it, by its path with "/"; those in lab.zip are in lab/. Links are not
    followed. ``unread`` are archives that are not opened.
    """

    def __init__(self, place: Path) -> None:
        self.files: dict[str, tuple[int, Callable[[], bytes]]] = {}
        self.unread: list[str] = []
        if place.is_file():
            self._add_zip(place, "")
            if self.unread:
                raise OSError(f"{place}: not a folder or a zip file that can be read")
        for folder, folders, names in os.walk(place):
            folders[:] = [name for name in folders if not _left_out(name)]
            for path in [Path(folder, name) for name in names]:
                if path.is_file() and not path.is_symlink():
                    self._add(path.relative_to(place).as_posix(), path.stat().st_size, path.read_bytes)
        for file in list(self.files) if place.is_dir() else ():
            if file.lower().endswith(".zip"):
                self._add_zip(place / file, file[:-4] + "/")
            elif file.lower().endswith((".rar", ".7z", ".tar", ".gz", ".tgz")):
                self.unread.append(file)

    def _add(self, name: str, size: int, read: Callable[[], bytes]) -> None:
        name = name.replace("\\", "/").lstrip("/")  # in zip files by some tools of Windows
        if not any(map(_left_out, name.split("/"))):  # ".." is, too
            self.files.setdefault(name, (size, read))
        if len(self.files) > MOST_FILES:
            raise OSError(f"more than {MOST_FILES} files; hand in, or check, fewer")

    def _add_zip(self, place: Path, folder: str) -> None:
        try:
            archive = zipfile.ZipFile(place)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
            self.unread.append(place.name)
            return
        for member in archive.infolist():
            if not member.is_dir():
                self._add(folder + member.filename, member.file_size, lambda m=member: archive.read(m))  # type: ignore[misc]

    def find(self, wanted: str) -> str | None:
        """The path of a file, in whatever case and in the fewest folders, also as model/Best_AE.pth."""
        names = {wanted, wanted.replace("models/", "model/")}
        names |= {name.replace("BestModel_", "Best_") for name in names}
        endings = tuple(f"/{name.lower()}" for name in names)
        found = [file for file in self.files if f"/{file}".lower().endswith(endings)]
        return min(found, key=lambda file: (file.count("/"), file), default=None)

    def read(self, wanted: str, largest: int = LARGEST_TEXT) -> tuple[bytes, str]:
        """The content of a file that is asked for, and words on where it is, "" if that is where it should be. Wrong if
        there is none; Unclear if it is too large, or cannot be read."""
        file = self.find(wanted)
        if not file:
            like = [file for file in self.files if Path(file).name.lower() == Path(wanted).name.lower()]
            raise Wrong(f"missing; there is {like[0]}" if like else "missing")
        size, read = self.files[file]
        if size > largest:
            raise Unclear(f"{file} has {size / 1e6:.0f} MB; more than {largest / 1e6:.0f} are not read")
        try:
            return read(), "" if file == wanted else f"as {file}; "
        except Exception as error:  # a damaged zip file can raise any exception
            raise Unclear(f"{file} cannot be read: {error}") from None

    def code(self) -> dict[str, bytes]:
        """The content of each file of Python, by its path beside autograd/ or the name that is asked for."""
        top, found = (self.find("autograd/Nodes.py") or "")[: -len("autograd/Nodes.py")], {}
        files = {file: size for file, (size, _) in self.files.items() if file.lower().endswith(".py")}
        if sum(files.values()) > LARGEST:
            raise OSError(f"more than {LARGEST / 1e6:.0f} MB of Python; not run")
        for file in files:
            with contextlib.suppress(Exception):  # a damaged zip file can raise any; ``read`` says so
                found[file.removeprefix(top)] = self.files[file][1]()
        for name in [*chain(*CODE.values()), "autograd/BaseNode.py", "autograd/__init__.py"]:
            with contextlib.suppress(Unclear):
                found[name], _ = self.read(name)
        return found


def _left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_OUT
