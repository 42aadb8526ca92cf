"""The README and docs/, in both languages: what .ci/run does not run as it stands is run here, on tiny photos."""

import importlib
import os
import re
import shlex
import shutil
import sys
import types
from html import unescape

import numpy as np
import pytest
import torch
from cmarkgfm import github_flavored_markdown_to_html
from cmarkgfm.cmark import Options
from conftest import ROOT, skip_if_trained_here, unix
from PIL import Image

from docs import figures
from lab.models import MODELS
from lab.plots import read_history

DOCS = "architecture", "pictures", "results", "tasks", "teachers", "training", "trouble", "why"
NAMES = ["README", *(f"docs/{name}" for name in DOCS)]
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


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_code_commands_pictures_figures_and_lists(name):
    first, second = PAGES[f"{name}.md"], PAGES[f"{name}.zh-CN.md"]
    assert blocks(first, "sh") == blocks(second, "sh") and indented(first) == indented(second)
    codes = [[re.sub(r"  # .*", "", code) for code in blocks(page, "python")] for page in (first, second)]
    assert codes[0] == codes[1]
    for same in (
        r"`(python .*?|--.*?)`",
        r"\w+(?:/\w+)+\.(?:png|gif)",
        r"\d\.\d{3,4}\b",
        r"(?m)^ *(\d+\.|-) ",
    ):
        assert re.findall(same, first) == re.findall(same, second)


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\((?!https://)(.*?)\)|src=\"(.*?)\"", PAGES[name]):
        place, _, anchor = "".join(link).partition("#")
        path = (ROOT / name).parent / place if place else ROOT / name
        assert path.exists(), link
        assert not anchor or anchor in anchors_of(path.read_text(encoding="utf-8")), link


def misread(page):
    """What GitHub shows in another way than it is meant: formulas, tables, lists, and elements that are left open."""
    html = github_flavored_markdown_to_html(page, Options.CMARK_OPT_UNSAFE)
    text = unescape(re.sub(r"<(pre|code).*?</\1>|<[^>]*>", "", html, flags=re.DOTALL))
    source = re.sub(r"^( *)```.*?^\1```$|^    .*?$|`[^`]*`", "", page, flags=re.MULTILINE | re.DOTALL)
    # A line that begins with a number, as a wrapped one may; a row of a table that is none; a list in a paragraph.
    found = re.findall(r"(?m)^\s*(?:\d+[.)]\s|\|).*", text) + re.findall(r"(?m)^.*\S.*\n *1[.)] .*", source)
    last = {}
    for indent, number in re.findall(r"(?m)^( *)(\d+)[.)] ", source):
        found += [] if int(number) in (1, last.get(indent, 0) + 1) else [f"item {number}"]
        last[indent] = int(number)
    tables = re.findall(r"(?m)(?:^\|.*\n)+", source)
    found += [table for table in tables if len({row.count("|") for row in table.splitlines()}) > 1]
    tags = set(re.findall(r"<(\w+)", html)) - {"img", "br", "hr"}
    found += [tag for tag in tags if len(re.findall(rf"<{tag}\b", html)) != html.count(f"</{tag}>")]
    for formula in re.finditer(r"\$\$.+?\$\$|\$[^$]+\$", source, re.DOTALL):
        whole = formula[0] in text and ("\n" not in formula[0] or formula[0].startswith("$$"))
        before, after = source[formula.start() - 1], source[formula.end() :][:1]
        found += [] if whole and before.isspace() and not re.match(r"\w", after) else [formula[0]]
    return found


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md")], ids=lambda page: page.name)
def test_GitHub_shows_what_is_meant(page):
    assert misread(page.read_text(encoding="utf-8")) == []


def test_what_is_misread_is_found():
    page = "1. By 3. Then\n   <details>\n   2\n   </details>\n2. Add $a_i$ and $b_{i}$.\n\n"
    page += "| a | b |\n|---|---|\n| 1 | $x^2$ |\n"
    assert misread(page) == []
    wrongs = {"1. B": "So:\n1. B", "2. A": "3. A", "By 3.": "By\n3.", "3. T": "\n   3. T", "</details>": ""}
    wrongs |= {"a_i": "a\\;i", "$a": "$}", "Add $": "Add\N{FULLWIDTH COMMA}$", "$ and": "$and", "$b": "$\nb"}
    wrongs |= {"| b |": "| b | c |", "|---|---|": "|---|", "x^2$ |": "x|2$ |"}
    for right, wrong in wrongs.items():
        assert misread(page.replace(right, wrong)), wrong


def log_of(name):
    """The lines of a log in the repository."""
    return (ROOT / "log" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def losses_in(text):
    """All pairs of losses in a text, as in "0.0129 / 0.0145" or "687 / 716"."""
    return re.findall(r"(\d+(?:\.\d+)?) / (\d+(?:\.\d+)?)", text)


def rows_of(page, columns):
    """The cells of all tables with that many columns, row by row, the headings and the line below them included."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if len(row) == columns]


@pytest.fixture(params=[".md", ".zh-CN.md"])
def ending(request):
    """Of the pages in each language, which tell of the results in the repository, if they are still there."""
    for name in MODELS:
        skip_if_trained_here(name)
    return request.param


def test_losses_are_those_of_the_results_and_of_the_logs(ending):
    """On the first page, the means of five seeds; the log is that of one of the five."""
    means = {}
    rows = rows_of(PAGES[f"docs/results{ending}"], 5)[2:]
    for name, row in zip(("MLPAE", "AE_SGD", "AE", "VAE"), rows, strict=False):
        [means[name]], [worst] = losses_in(row[2]), losses_in(row[3])
        [best] = [line for line in log_of(f"train_{name}") if line.startswith("Best epoch")]
        for found, limit in zip(re.findall(r"Loss: ([\d.]+)", best), worst, strict=True):
            assert float(found) <= float(limit) + 0.5 * 10.0 ** -len(limit.partition(".")[2])
    page = PAGES[f"README{ending}"]
    table = [losses_in(row[3]) for row in rows_of(page, 5)]
    assert [losses[-1] for losses in table if losses] == [means[name] for name in ("MLPAE", "AE", "VAE")]
    assert " / ".join(means["AE_SGD"]) in page


def test_figures_of_the_derivations_are_those_of_the_logs(ending):
    page = PAGES[f"docs/why{ending}"]
    last = read_history(ROOT / "log" / "history_VAE.csv")[-1]  # the best
    figures = [f"{last['Valid Loss']:.0f}"]
    figures += [f"{last[key] / 16:.1f}" for key in ("Valid Squared Error", "Valid KL Divergence")]
    game = [row["Discriminator Loss"] for row in read_history(ROOT / "log" / "history_GAN.csv")[2:]]
    figures += [f"{min(game):.2f}", f"{max(game):.2f}"]
    assert all(figure in page for figure in figures)
    coverage = {name: cell for name, _, cell, *_ in rows_of("\n".join(log_of("sample_quality")), 5)}
    assert re.search(rf"{100 * float(coverage['GAN']):.0f} ?% (of the|的)", page)


def test_measures_of_quality_are_those_of_the_log(ending):
    logged = rows_of("\n".join(log_of("sample_quality")), 5)[2:]
    shown = rows_of(PAGES[f"docs/pictures{ending}"], 5)[2:]
    assert [row[1:] for row in shown] == [row[1:] for row in logged]
    assert all(row[0].endswith(name) or "noise" in row[0] for row, (name, *_) in zip(shown, logged, strict=True))
    told_apart = {name: f"{round(100 * float(cell[:4]))}" for name, cell, *_ in logged if cell}
    shares = re.findall(r"(\d+) ?%(?!\|)", PAGES[f"README{ending}"])
    assert {told_apart["DDPM"], told_apart["GAN"]} <= set(shares) <= {told_apart["DDPM"], told_apart["GAN"], "50"}


def test_what_a_busy_machine_costs_is_what_was_measured():
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    slower = re.findall(r"^\| busy +\|.*\| (\d\.\d\d) \(", benchmarks, re.MULTILINE)
    assert len(slower) == 2
    for name in "README.md", "README.zh-CN.md", "docs/tasks.md", "docs/tasks.zh-CN.md":
        assert all(f"{float(times):.1f}" in PAGES[name] for times in slower)


@pytest.mark.parametrize(("page", "words"), [("README.md", "**To read the code**"), ("README.zh-CN.md", "**读代码**")])
def test_lines_to_read_are_as_many_as_it_says(page, words):
    paragraph = PAGES[page].partition(words)[2].partition("\n\n")[0]
    names = re.findall(r"\]\((.*?\.py)\)", paragraph)
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in names}
    diffusion = sum(count for name, count in lines.items() if name.startswith("generative/"))
    said = [int(number) for number in re.findall(r"\b\d{3}\b", paragraph)]
    assert said == [round(sum(lines.values()) - diffusion, -1), round(diffusion, -1)]


def test_every_file_has_its_place_on_the_page():
    listed = " ".join(indented(PAGE)).replace(",", "").split()
    assert {file.name for file in ROOT.glob("*.py")} <= set(listed)


@pytest.fixture
def newcomer(few_photos, tmp_path, monkeypatch):
    """A folder to be in, with tiny photos in flowers/ and this repository's models."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "vis").mkdir()
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


@pytest.fixture
def with_photos(photos, tmp_path, monkeypatch):
    """A folder to be in, with the real photos in flowers/ and this repository's models."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "flowers").symlink_to(photos)
    (tmp_path / "vis").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


RESULTS = blocks(PAGES["docs/results.md"], "python")
DERIVATIONS = blocks(PAGES["docs/why.md"], "python") + [code for code in RESULTS if "  # 0" in code]


@pytest.mark.slow
@pytest.mark.photos
@pytest.mark.parametrize(
    ("number", "rel", "abs"), [(0, 0, 0), (1, 0.01, 0), (2, 0.03, 0.02), (3, 0, 0.001), (4, 0.3, 0), (5, 0.02, 0)]
)
@pytest.mark.usefixtures("with_photos")
def test_each_derivation_prints_what_it_says(number, rel, abs, capsys):
    """On any machine: how far a few steps are from many depends on rounding."""
    with torch.enable_grad():
        exec(DERIVATIONS[number], {})
    said = re.findall(r"^ *print\(.*\)  # (.*)$", DERIVATIONS[number], re.MULTILINE)
    found, expected = (
        sorted(map(float, re.findall(r"-?\b\d+(?:\.\d+)?", text.replace("True", "1"))))
        for text in (capsys.readouterr().out, " ".join(said))
    )
    assert found == pytest.approx(expected, rel=rel, abs=abs) and len(found) > 1


@pytest.mark.photos
@pytest.mark.usefixtures("with_photos")
def test_gradients_by_layer_are_those_of_the_table(capsys, ending):
    [code] = [code for code in RESULTS if "sizes" in code]
    exec(code, {})
    table = rows_of(PAGES[f"docs/results{ending}"], 7)[2:]
    for line, (_, *cells) in zip(capsys.readouterr().out.splitlines(), table, strict=True):
        assert list(map(float, line.split()[1:])) == pytest.approx(list(map(float, cells)), abs=0.02)


@pytest.mark.slow
@pytest.mark.photos
def test_pictures_of_the_derivations_are_drawn_again(with_photos):
    for name in "GAN", "DDPM":
        skip_if_trained_here(name)
    figures.main([])
    for picture in (with_photos / "vis").iterdir():
        drawn, committed = (Image.open(path).convert("RGB") for path in (picture, ROOT / "vis" / picture.name))
        assert np.abs(np.subtract(drawn, committed, dtype=float)).mean() < 2


# The numbers of the examples after the one of the pencil, without those whose figures are compared where photos are
# given. What trains, or samples step by step, is slow.
EXAMPLES = [
    pytest.param(number, marks=[pytest.mark.slow] if re.search("DDPM|GAN", code) else [])
    for number, code in enumerate(blocks(COMMANDS, "python"))
    if number > 0 and ("FLOWERS" not in os.environ or code not in DERIVATIONS)
]


@unix
@pytest.mark.parametrize("number", EXAMPLES)
def test_every_example_in_python_runs(number, newcomer, monkeypatch):
    code = blocks(COMMANDS, "python")[number]
    if "kagglehub" in code:
        (newcomer / "flowers").rename(newcomer / "cache")
        library = types.ModuleType("kagglehub")
        library.dataset_download = lambda name: {"l3llff/flowers": str(newcomer / "cache")}[name]
        monkeypatch.setitem(sys.modules, "kagglehub", library)
        for name in "astilbe", "bellflower", "calendula":
            shutil.copytree(newcomer / "cache" / "tulip", newcomer / "cache" / "flowers" / name)
    with torch.enable_grad():  # in which an example may change what is global
        exec(code, {})
    if "kagglehub" in code:
        photos = (newcomer / "flowers").rglob("*.jpg")
        assert {path.relative_to(newcomer).parts[1] for path in photos} == {"astilbe", "bellflower", "calendula"}


OTHER_COMMANDS = {line for line in indented(COMMANDS) if line.startswith("python ")}
OTHER_COMMANDS |= set(re.findall(r"`(python (?:-m )?\w[^`]*)`", COMMANDS))
RUN_ELSEWHERE = "python -m pytest", "python -m benchmarks", "python check.py", "python -m generative.sample_"
RUN_ELSEWHERE += ("python visualization.py --model all",)  # by .ci/run and by other tests


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
