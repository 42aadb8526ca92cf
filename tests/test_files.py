"""Atomic writes, copies of earlier results, and folders that can be written."""

import os
import stat
import subprocess
import sys

import pytest
from conftest import ROOT, unix, write

from lab.errors import UserError
from lab.files import atomic_write, keep_previous, prepare_folder, remove_unfinished


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "file.pkl", b"old")
    return tmp_path / "file.pkl"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "disk full"), OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_else(step, error, path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        write(path, b"new")
    if isinstance(error, OSError):
        assert str(raised.value) == f"{path}: could not be written (disk full); what was there before still is"
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_an_error_while_the_content_is_made_leaves_the_old_file(path):
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_the_whole_content_is_on_the_disk_before_it_gets_the_name(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_size, path.read_bytes())))
    write(str(path), b"newer")
    assert synced[0] == (5, b"old")
    assert path.read_bytes() == b"newer" and list(path.parent.iterdir()) == [path]


def test_unfinished_files_of_a_killed_training_are_removed(tmp_path):
    code = """
import os
from lab.files import atomic_write
os.fsync = lambda _: os._exit(1)
with atomic_write("history_AE.csv") as file:
    file.write(b"new")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment).returncode == 1
    [unfinished] = tmp_path.iterdir()
    for name in "BestModel_AE.pth", "BestModel_AE.previous.pth", "LastEpoch_AE.pth", "BestModel_VAE.pth":
        unfinished.with_name(unfinished.name.replace("history_AE.csv", name)).write_bytes(b"new")
    write(tmp_path / "BestModel_AE.pth", b"finished")
    remove_unfinished(str(tmp_path), "AE")
    unfinished, finished = sorted(file.name for file in tmp_path.iterdir())
    assert unfinished.startswith(".BestModel_VAE.pth.") and finished == "BestModel_AE.pth"


@pytest.mark.parametrize("folder", ["none", "file.pkl"])
def test_a_file_in_no_folder_is_the_users_error(folder, path):
    with pytest.raises(UserError, match=f"{folder}/new: could not be written"):
        write(path.parent / folder / "new", b"new")


def test_the_file_of_an_earlier_run_is_kept(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    keep_previous(path)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")
    for content in b"first", b"second":
        write(path, content)
        keep_previous(path)
        assert (tmp_path / "model.previous.pkl").read_bytes() == path.read_bytes() == content
        out, err = capsys.readouterr()
        assert out == "" and "Kept model.pkl of an earlier run" in err and "model.previous.pkl" in err
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_to_write_in_is_created(tmp_path):
    for _ in range(2):  # one that is there already is fine
        prepare_folder(str(tmp_path / "new" / "one"))
        assert list((tmp_path / "new" / "one").iterdir()) == []


@pytest.mark.parametrize("name", ["file.pkl", "file.pkl/below", "/proc/self"])
def test_a_folder_that_cannot_be_written_in_is_the_users_error(name, path):
    folder = path.parent / name
    if name == "/proc/self" and not folder.exists():
        pytest.skip("needs a folder that nobody may write in: Linux has one")
    with pytest.raises(UserError, match=f"^{folder}: expected a folder to write in, found: .+; give another one"):
        prepare_folder(folder)


@unix
def test_files_have_the_permissions_of_the_umask(path):
    before = os.umask(0o027)
    try:
        write(path, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
