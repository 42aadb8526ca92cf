"""Both READMEs: every command that .ci/run does not run as it stands is run here, on tiny photos."""

import importlib
import re
import shlex
import shutil
import sys
import types

import pytest
from conftest import ROOT, unix

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
PAGE = PAGES["README.md"]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def indented(page):
    """The lines of indented blocks up to the first wide gap, after which there are words."""
    page = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return [re.split(r"   +", line)[0] for line in re.findall(r"^    (\S.*)$", page, re.MULTILINE)]


def without_comments(code):
    return re.sub(r"  # .*", "", code)


def test_both_pages_have_the_same_code_and_pictures():
    first, second = PAGES.values()
    assert blocks(first, "sh") == blocks(second, "sh")
    assert list(map(without_comments, blocks(first, "python"))) == list(map(without_comments, blocks(second, "python")))
    assert indented(first) == indented(second)
    commands = [re.findall(r"`(python .*?|--.*?)`", page) for page in (first, second)]
    assert commands[0] == commands[1]
    pictures = [re.findall(r"\w+(?:/\w+)+\.(?:png|gif)", page) for page in (first, second)]
    assert pictures[0] == pictures[1]
    figures = [re.findall(r"\d\.\d{3,4}\b", page) for page in (first, second)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\((.*?)\)", page) + re.findall(r'src="(.*?)"', page):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def test_every_file_has_its_place_on_the_page():
    listed = " ".join(indented(PAGE)).replace(",", "").split()
    for file in ROOT.glob("*.py"):
        assert file.name in listed, file.name


@pytest.fixture
def newcomer(few_photos, tmp_path, monkeypatch):
    """A folder to be in, with tiny photos in flowers/ and this repository's models."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    shutil.copytree(few_photos, tmp_path / "flowers")
    for folder in "training_flowers", "sixteen_kinds":
        shutil.copytree(few_photos, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_to_do_with_a_pencil(capsys):
    code = blocks(PAGE, "python")[0]
    exec(code, {})
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == expected and len(expected) == 4


@unix
@pytest.mark.parametrize("number", range(1, len(blocks(PAGE, "python"))))
def test_every_example_in_python_runs(number, newcomer, monkeypatch):
    code = blocks(PAGE, "python")[number]
    if "kagglehub" in code:
        for kind in "astilbe", "bellflower", "calendula", "rose":
            shutil.copytree(newcomer / "flowers" / "tulip", newcomer / "cache" / "flowers" / kind)
        shutil.rmtree(newcomer / "flowers")
        library = types.ModuleType("kagglehub")
        library.dataset_download = lambda name: {"l3llff/flowers": str(newcomer / "cache")}[name]
        monkeypatch.setitem(sys.modules, "kagglehub", library)
    exec(code, {})
    if "kagglehub" in code:
        found = sorted(folder.name for folder in (newcomer / "flowers").iterdir())
        assert found == ["astilbe", "bellflower", "calendula"]
        assert len(list((newcomer / "flowers" / "calendula").rglob("*.jpg"))) == 10


OTHER_COMMANDS = [line for line in indented(PAGE) if line.startswith("python ")]
OTHER_COMMANDS += re.findall(r"`(python .*?)`", PAGE)
RUN_ELSEWHERE = {
    "python -m benchmarks",
    "python -m pytest",
    "python -m pytest;",
    "python -m pytest -m slow",
}  # by test_benchmarks.py, by .ci/run


@unix
@pytest.mark.parametrize("command", sorted(set(OTHER_COMMANDS) - RUN_ELSEWHERE))
def test_every_other_command_runs(command, newcomer, capsys):
    _, script, *flags = shlex.split(command.split(" > ")[0])
    tiny = ["--image-size", "8", "--epochs", "1", "--model-dir", "tiny"]
    importlib.import_module(script.removesuffix(".py")).main([*flags, *tiny])
    assert "Epoch: 1, Train Loss: " in capsys.readouterr().out
