"""Atomic writes, and copies of earlier results."""

import os

import pytest
from conftest import write

from lab.errors import UserError
from lab.files import atomic_write, keep_previous


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
        assert str(raised.value).startswith(f"{path}: ") and "disk full" in str(raised.value)
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


def test_folders_are_made_and_where_that_fails_it_is_the_users_error(path):
    write(path.parent / "new" / "folder" / "file", b"new")
    assert (path.parent / "new" / "folder" / "file").read_bytes() == b"new"
    with pytest.raises(UserError, match=r"file\.pkl/new: "):
        write(path / "new", b"new")
    assert path.read_bytes() == b"old"


def test_the_file_of_an_earlier_run_is_kept(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    keep_previous(path)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")
    for content in b"first", b"second":
        write(path, content)
        keep_previous(path)
        assert (tmp_path / "model.previous.pkl").read_bytes() == path.read_bytes() == content
        out, err = capsys.readouterr()
        assert out == "" and "model.pkl" in err and "model.previous.pkl" in err
    assert len(list(tmp_path.iterdir())) == 2
