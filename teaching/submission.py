"""The files of a hand-in, under the names that are asked for or under similar ones. Nothing in them is run.

Nothing outside the folder that was handed in is read: links are not followed out of it.
"""

import difflib
import os
import re
import shutil
import zipfile
from pathlib import Path

CODE = {
    "Part 1": ["autograd/BaseGraph.py", "autograd/Nodes.py"],
    "Part 2": ["MLPAE_train_script.py"],
    "Part 3": ["Autoencoder.py", "train_script.py", "random_generation.py"],
    "Part 4": ["VarAutoencoder.py"],
}
RESULTS = {  # the model, its log, and its pictures
    "MLPAE": ["models/BestModel_MLPAE.pkl", "log/train_MLPAE.txt", "vis/train_MLPAE.png", "vis/valid_MLPAE.png"],
    **{
        name: [f"models/BestModel_{name}.pth", f"log/train_{name}.txt"]
        + [f"vis/{which}_{name}.png" for which in ("train", "valid", "random_images")]
        for name in ("AE", "VAE")
    },
}
ASKED = [name for names in [*CODE.values(), *RESULTS.values()] for name in names]

LARGEST, LARGEST_TEXT = 500_000_000, 2_000_000  # bytes of a file, and of a log or a source file
LARGEST_IN_ALL, MOST_FILES = 2_000_000_000, 20_000
LEFT_OUT = {"flowers", "drawn_flowers", "__pycache__", "__macosx", "venv", "env", "node_modules", "site-packages"}
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz")
SAME_ENDING = {".pt": ".pth", ".pickle": ".pkl", ".log": ".txt", ".jpg": ".png", ".jpeg": ".png", ".ipynb": ".py"}
OF_THE_LAB = re.compile(r"(|.*/)(autograd/\w+\.py|mlpae_?train_?script\.\w+|(var)?autoencoder\.py)", re.IGNORECASE)
TRAIN_SCRIPT = re.compile(r"(train)?(ae|vae|aevae)?(trainscript|train|training)\.py")


class Submission:
    """What was handed in: a folder, or a zip file, which is unpacked in the empty folder ``temporary``.

    Attributes:
        root: the folder in which the lab's files are; perhaps not the one that was handed in, but one in it.
        files: paths below ``root``, of what is neither photos nor hidden.
        remarks: what a teacher would see at once.

    OSError if it is neither, or the zip file is damaged or too large.
    """

    def __init__(self, place: Path, temporary: Path) -> None:
        self.root, self.temporary, self.remarks = place, temporary, list[str]()
        if place.is_file():
            self._unpack(place)
        self.files = self._list()
        archives = [file for file in self.files if file.lower().endswith(ARCHIVES)]
        if archives and not any(file.endswith((".py", ".ipynb")) for file in self.files):
            self.remarks.append(f"archives in the folder: {', '.join(archives)}")
            for file in [self.root / file for file in archives]:
                self._unpack(file)
            self.files = self._list()
        tops = {found[1].rstrip("/") for file in self.files if (found := OF_THE_LAB.fullmatch(file))}
        if tops and "" not in tops:
            most = {top: sum(file.startswith(f"{top}/") for file in self.files) for top in tops}
            top = min(tops, key=lambda top: (top.count("/"), -most[top]))
            self.remarks.append(f"all of it in a folder of its own: {top}")
            self.root /= top
            self.files = self._list()
        if (self.root / "flowers").is_dir():
            self.remarks.append("the photos are in it, which are to be left out")

    def find(self, wanted: str) -> str | None:
        """The path of a file that is asked for, also in another folder or case, or with another ending."""
        same = [file for file in self.files if _key(file) == _key(wanted)]
        if wanted == "train_script.py":
            same = [file for file in self.files if TRAIN_SCRIPT.fullmatch(_key(file))]
        folder = wanted.rpartition("/")[0].lower()
        near = sorted(
            same, key=lambda file: (file != wanted, folder not in file.lower(), file.endswith(".ipynb"), file)
        )
        return near[0] if near else None

    def like(self, wanted: str) -> str:
        """Words on the file with the most similar name that is not asked for itself, "" if there is none."""
        asked = set(map(_key, ASKED))
        names = {_key(file): file for file in self.files if _key(file) not in asked}
        near = difflib.get_close_matches(_key(wanted), names, 1, 0.8)
        return f"; there is {names[near[0]]}" if near else ""

    def read(self, file: str, largest: int = LARGEST) -> bytes:
        """The bytes of a file; OSError if it is larger, no file, or a link out of what was handed in."""
        place = os.path.realpath(self.root / file, strict=True)
        if not Path(place).is_relative_to(os.path.realpath(self.root)):
            raise OSError("a link out of the folder that was handed in; not read")
        if not os.path.isfile(place) or os.path.getsize(place) > largest:
            raise OSError("no file, or too large")
        return Path(place).read_bytes()

    def copy(self, folder: Path) -> None:
        """Copies the files, without pictures, to a folder in which anyone may write; OSError if they are too large."""
        if sum((self.root / file).lstat().st_size for file in self.files) > LARGEST_IN_ALL:
            raise OSError(f"more than {LARGEST_IN_ALL / 1e9:g} GB, not copied")
        for file in self.files:
            source, target = self.root / file, folder / file
            if source.is_file() and not source.is_symlink() and not file.lower().endswith((".png", ".jpg", ".gif")):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for place in [folder, *folder.rglob("*")]:
            place.chmod(0o777 if place.is_dir() else 0o666)

    def _list(self) -> list[str]:
        found: list[str] = []
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".") and name.lower() not in LEFT_OUT]
            below = Path(folder).relative_to(self.root)
            found += [(below / name).as_posix() for name in files if not name.startswith(".")]
            if len(found) > MOST_FILES:
                raise OSError(f"more than {MOST_FILES} files")
        return sorted(found)

    def _unpack(self, place: Path) -> None:
        try:
            with zipfile.ZipFile(place) as archive:
                members = archive.infolist()
                if sum(member.file_size for member in members) > LARGEST_IN_ALL or len(members) > MOST_FILES:
                    raise OSError(f"more than {LARGEST_IN_ALL / 1e9:g} GB, or {MOST_FILES} files")
                for member in members:
                    member.filename = member.filename.replace("\\", "/")  # by some tools of Windows
                    archive.extract(member, self.temporary)
        except Exception as error:  # a damaged file can raise any exception
            raise OSError(f"{place.name}: not unpacked ({error}); unpack it, and give the folder") from None
        self.root = self.temporary


def _key(file: str) -> str:
    """What names of one file have in common: bestae.pth of models/BestModel_AE.pth and of Best-ae.pt."""
    name = Path(file).name.lower().removesuffix(".gz")
    stem, ending = os.path.splitext(name)
    return re.sub(r"[\W_]|model", "", stem) + SAME_ENDING.get(ending, ending)
