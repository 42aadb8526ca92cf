"""The README and docs/, in both languages: what .ci/run does not run as it stands is run here, on tiny photos."""

import importlib
import re
import shlex
import shutil
import sys
import types

import pytest
from conftest import ROOT, unix
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

NAMES = ["README", "docs/pictures", "docs/results", "docs/training", "docs/teachers", "docs/trouble", "docs/tasks"]
PAGES = {
    f"{name}{ending}": (ROOT / f"{name}{ending}").read_text(encoding="utf-8")
    for name in NAMES
    for ending in (".md", ".zh-CN.md")
}
PAGE = PAGES["README.md"]
COMMANDS = "\n".join(PAGES[f"{name}.md"] for name in NAMES if name != "docs/tasks")  # those of the tasks need a student


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def indented(page):
    """The lines of indented blocks up to the first wide gap, after which there are words."""
    page = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return [re.split(r"   +", line)[0] for line in re.findall(r"^    (\S.*)$", page, re.MULTILINE)]


def without_comments(code):
    return re.sub(r"  # .*", "", code)


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_code_and_pictures(name):
    first, second = PAGES[f"{name}.md"], PAGES[f"{name}.zh-CN.md"]
    assert blocks(first, "sh") == blocks(second, "sh")
    assert list(map(without_comments, blocks(first, "python"))) == list(map(without_comments, blocks(second, "python")))
    assert indented(first) == indented(second)
    commands = [re.findall(r"`(python .*?|--.*?)`", page) for page in (first, second)]
    assert commands[0] == commands[1]
    pictures = [re.findall(r"\w+(?:/\w+)+\.(?:png|gif)", page) for page in (first, second)]
    assert pictures[0] == pictures[1]
    figures = [re.findall(r"\d\.\d{3,4}\b", page) for page in (first, second)]
    assert figures[0] == figures[1]
    items = [re.findall(r"^ *(\d+\.|-) ", page, re.MULTILINE) for page in (first, second)]
    assert items[0] == items[1]


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for link in re.findall(r"\]\((.*?)\)", page) + re.findall(r'src="(.*?)"', page):
        place, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        path = (ROOT / name).parent / place
        assert not place or path.exists(), link
        if anchor:
            assert anchor in (anchors_of(path.read_text(encoding="utf-8")) if place else anchors_of(page)), link


def misread(page):
    """What a line that begins with a number, as a wrapped one may, has made of the lists; and details left open."""
    found = []
    for node in SyntaxTreeNode(MarkdownIt().enable("table").parse(page)).walk():
        if node.type == "ordered_list":
            found += [f"{item.info} for {i}" for i, item in enumerate(node.children, 1) if item.info != str(i)]
            before = node.previous_sibling
            if before and before.type == "paragraph" and before.map[1] == node.map[0]:
                found.append(f"a list in the paragraph of line {node.map[0]}")
        elif node.type == "inline":
            found += re.findall(r"^\s*\d+[.)]\s.*", node.content, re.MULTILINE)
        elif node.type == "html_block" and node.content.count("<details>") != node.content.count("</details>"):
            found.append(node.content)
    return found


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")], ids=lambda page: page.name)
def test_no_line_is_taken_for_an_item_of_a_list(page):
    assert misread(page.read_text(encoding="utf-8")) == []


def test_a_line_that_is_taken_for_an_item_is_found():
    page = "1. By 3. Then\n   <details>\n   2\n   </details>\n2. Add.\n"
    assert misread(page) == []
    for line in "3.", "   3.", "   3)", "1.", "   1.", "2.":
        assert misread(page.replace("3.", f"\n{line}"))
    for right, wrong in [
        ("2. A", "3. A"),
        ("1. B", "2. B"),
        ("1. B", "So:\n1. B"),
        ("   </", "</"),
        ("</details>", ""),
    ]:
        assert misread(page.replace(right, wrong))


def test_every_file_has_its_place_on_the_page():
    listed = " ".join(indented(PAGE)).replace(",", "").split()
    for file in ROOT.glob("*.py"):
        assert file.name in listed, file.name


@pytest.fixture
def newcomer(few_photos, tmp_path, monkeypatch):
    """A folder to be in, with tiny photos in flowers/ and this repository's models."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    shutil.copytree(few_photos, tmp_path / "flowers")
    for folder in set(re.findall(r"--data-root (\w+)", COMMANDS)):
        shutil.copytree(few_photos, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_to_do_with_a_pencil(capsys):
    code = blocks(PAGE, "python")[0]
    exec(code, {})
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == expected and len(expected) == 4


@unix
@pytest.mark.parametrize("number", range(1, len(blocks(COMMANDS, "python"))))
def test_every_example_in_python_runs(number, newcomer, monkeypatch):
    code = blocks(COMMANDS, "python")[number]
    if "kagglehub" in code:
        for name in "astilbe", "bellflower", "calendula", "rose":
            shutil.copytree(newcomer / "flowers" / "tulip", newcomer / "cache" / "flowers" / name)
        shutil.rmtree(newcomer / "flowers")
        library = types.ModuleType("kagglehub")
        library.dataset_download = lambda name: {"l3llff/flowers": str(newcomer / "cache")}[name]
        monkeypatch.setitem(sys.modules, "kagglehub", library)
    exec(code, {})
    if "kagglehub" in code:
        found = sorted(folder.name for folder in (newcomer / "flowers").iterdir())
        assert found == ["astilbe", "bellflower", "calendula"]
        assert len(list((newcomer / "flowers" / "calendula").rglob("*.jpg"))) == 10


OTHER_COMMANDS = {line for line in indented(COMMANDS) if line.startswith("python ")}
OTHER_COMMANDS |= set(re.findall(r"`(python (?:-m )?\w[^`]*)`", COMMANDS))
# By .ci/run and by other tests.
RUN_ELSEWHERE = "python -m pytest", "python -m benchmarks", "python check_gradients.py", "python -m generative.sample_"
RUN_ELSEWHERE += ("python visualization.py --model all",)


@unix
@pytest.mark.parametrize("command", sorted(OTHER_COMMANDS))
def test_every_other_command_runs(command, newcomer, capsys):
    """Trainings, with tiny photos; the rest is run by .ci/run, from the blocks."""
    script, *flags = shlex.split(command.removeprefix("python ").removeprefix("-m ").split(" > ")[0])
    script = script.removesuffix(".py")
    if "train" not in script:
        assert command.startswith(RUN_ELSEWHERE) or any(command in code for code in blocks(COMMANDS, "sh"))
        return
    tiny = ["--image-size", "8", "--epochs", "1", "--model-dir", "tiny", "--log-dir", "tiny", "--vis-dir", "tiny"]
    importlib.import_module(script).main([*flags, *tiny])
    assert "Epoch: 1, " in capsys.readouterr().out
