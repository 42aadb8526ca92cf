import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, unix, write

from lab.drawn_flowers import draw_flowers
from lab.errors import UserError
from lab.files import atomic_write, keep_previous, prepare_folder, remove_unfinished


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "disk full"), OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_else(step, error, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path, b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        write(path, b"new")
    if isinstance(error, OSError):
        assert str(raised.value) == f"{path}: could not be written (disk full); what was there before still is"
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_whole_content_is_on_the_disk_before_it_gets_the_name(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path, b"old")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_size, path.read_bytes())))
    write(str(path), b"newer")
    assert synced[0] == (5, b"old")
    assert path.read_bytes() == b"newer" and list(tmp_path.iterdir()) == [path]


def test_all_is_written_in_the_folder_itself(tmp_path, monkeypatch):
    """Renaming is atomic within a file system, and another one may be read-only or full."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no folder for temporary files"))
    prepare_folder(str(tmp_path))
    write(tmp_path / "file", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_just_after_the_replacement(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path, b"old")
    replace = os.replace

    def replace_and_stop(*paths):
        replace(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace_and_stop)
    with pytest.raises(KeyboardInterrupt):
        write(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_unfinished_files_of_the_killed_are_removed(tmp_path):
    code = """
import os, sys
from lab.files import atomic_write
os.fsync = lambda _: os._exit(1)
with atomic_write(sys.argv[1]) as file:
    file.write(b"new")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    names = ["BestModel_AE.pth", "BestModel_AE.previous.pth", "LastEpoch_AE.pth", "history_AE.csv", "BestModel_VAE.pth"]
    for name in names:
        assert subprocess.run([sys.executable, "-c", code, name], cwd=tmp_path, env=environment).returncode == 1
    assert len(list(tmp_path.iterdir())) == 5 and not any((tmp_path / name).exists() for name in names)
    write(tmp_path / "BestModel_AE.pth", b"finished")
    remove_unfinished(str(tmp_path), "AE")
    unfinished, finished = sorted(file.name for file in tmp_path.iterdir())
    assert unfinished.startswith(".BestModel_VAE.pth.") and finished == "BestModel_AE.pth"


def test_the_file_of_an_earlier_run_is_kept(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    keep_previous(path)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")
    for content in b"first", b"second":
        write(path, content)
        keep_previous(str(path))
        assert (tmp_path / "model.previous.pkl").read_bytes() == path.read_bytes() == content
        expected = f"Kept model.pkl of an earlier run as {tmp_path / 'model.previous.pkl'}.\n"
        out, err = capsys.readouterr()
        assert (out, err.replace("\n  ", " ")) == ("", expected)
        assert max(map(len, err.splitlines())) <= 80 or str(tmp_path) in err
    assert len(list(tmp_path.iterdir())) == 2


@unix
def test_what_cannot_be_kept(tmp_path):
    path = tmp_path / "model.pkl"
    path.mkdir()
    with pytest.raises(UserError) as raised:
        keep_previous(path)
    found = f"{path}: could not be kept ({os.strerror(errno.EISDIR)})"
    assert str(raised.value) == f"{found}; move it, or give another folder"


def test_a_folder_to_write_in_is_created(tmp_path):
    for _ in range(2):  # one that is there already is fine
        prepare_folder(str(tmp_path / "new" / "one"))
        assert list((tmp_path / "new" / "one").iterdir()) == []


@unix
@pytest.mark.parametrize("name", ["file", "file/below", "/proc/self"])
def test_a_folder_that_cannot_be_written_in(name, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / name
    if name == "/proc/self" and not folder.exists():
        pytest.skip("needs a folder that nobody may write in: Linux has one")
    with pytest.raises(UserError) as raised:
        prepare_folder(folder)
    start, found = str(raised.value).split(": expected a folder to write in, found: ")
    reasons = errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.EACCES
    assert start == str(folder) and found in [f"{os.strerror(reason)}; give another one" for reason in reasons]


def test_an_error_while_the_content_is_made_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing(tmp_path):
    path = Path(tmp_path, "none", "file")
    with pytest.raises(UserError) as raised:
        write(path, b"new")
    found = f"{path}: could not be written ({os.strerror(errno.ENOENT)})"
    assert str(raised.value) == f"{found}; what was there before still is"


@unix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_of_the_umask(mask, few_drawn, tmp_path):
    before = os.umask(mask)
    try:
        write(tmp_path / "file", b"new")
        draw_flowers(tmp_path / "set")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    for folder in "set", "set/astilbe":
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o777 & ~mask
