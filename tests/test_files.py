import os
import subprocess
import sys

import pytest
from conftest import ROOT, write

from lab.errors import UserError
from lab.files import atomic_write, keep_previous, prepare_folder, remove_unfinished


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "disk full"), KeyboardInterrupt()])
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
    remove_unfinished(tmp_path, "AE")
    assert [file.name.startswith(".BestModel_VAE.pth.") for file in tmp_path.iterdir()] == [True]


def test_keep_previous(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    keep_previous(path)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().err == ""
    write(path, b"old")
    keep_previous(path)
    write(path, b"new")
    assert (tmp_path / "model.previous.pkl").read_bytes() == b"old"
    assert "Kept model.pkl of an earlier run as" in capsys.readouterr().err


def test_prepare_folder(tmp_path):
    prepare_folder(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder to write in, found: "):
        prepare_folder(tmp_path / "file")


def test_an_error_while_the_content_is_made_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(UserError, match="could not be written"):
        write(tmp_path / "none" / "file", b"new")
