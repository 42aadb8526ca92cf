"""The version to hand out: what is left of the lab without the parts that students write."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT, fails, run

from teaching import make_handout
from teaching.gaps import FILES, GAPS, GRADIENTS, find, handed_out

EVERY_GAP = [(step, file, gap) for step, files in GAPS.items() for file, gaps in files.items() for gap in gaps]
PAGES = [f"{page}{language}.md" for page in ("README", "docs/trouble") for language in ("", ".zh-CN")]
BY_FILE = {file: [(step, gap) for step, each, gap in EVERY_GAP if each == file] for _, file, _ in EVERY_GAP}


@pytest.fixture(scope="module")
def handout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handout") / "lab"
    out, err = run(make_handout, folder)
    assert out.startswith(f"{folder}: the lab without the parts that students write.") and err == ""
    return folder


def source(folder, file):
    return (folder / file).read_text(encoding="utf-8")


def test_files_of_the_handout(handout):
    found = {path.relative_to(handout).as_posix() for path in handout.rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for pattern in FILES for path in ROOT.glob(pattern)}
    assert found == expected | set(PAGES) | {f"{folder}/.gitkeep" for folder in ("models", "log", "vis")}
    assert BY_FILE.keys() <= found and not any(name.startswith(("teaching/", "tests/", "models/B")) for name in found)
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?://|#)(.*?)\)", source(handout, page)):
            assert ((handout / page).parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("file", BY_FILE)
def test_every_part_is_taken_out_and_nothing_else(file, handout):
    """With the solution's own code in the place of each part, it is the solution, to the byte, but for gradients."""
    text = source(handout, file)
    solution = source(ROOT, file).splitlines(keepends=True)
    parts = [(step, *part) for step, gap in BY_FILE[file] for part in find(source(ROOT, file), gap)]
    for step, words, part in parts:
        line = f'^ +raise NotImplementedError\\("{step}: {re.escape(words)}"\\)\n'
        first = part[0].lineno - 1
        while solution[first - 1].strip().startswith("#"):
            first -= 1
        body = "".join(solution[first : part[-1].end_lineno])
        text, count = re.subn(line, lambda _, body=body: body, text, count=1, flags=re.MULTILINE)
        assert count == 1
    assert text == re.sub(GRADIENTS, "", source(ROOT, file)) and handed_out(file) == source(handout, file)


def test_docstrings_of_the_nodes_lose_the_gradients_alone(handout):
    """And what they say of the gradients is nowhere else."""

    def docstrings(folder):
        nodes = [node for node in ast.parse(source(folder, "autograd/Nodes.py")).body if isinstance(node, ast.ClassDef)]
        return [line for node in nodes for line in ast.get_docstring(node).splitlines()]

    gone = [line.split(" = ") for line in docstrings(ROOT) if line not in docstrings(handout)]
    assert [name for name, _ in gone] == ["dL/dW", "dL/db", "dL/dx", "dL/dx", "dL/dx", "dL/doutput"]
    assert "y = x W + b" in docstrings(handout)
    for path in handout.rglob("*.*"):
        assert not [equation for _, equation in gone if path.is_file() and equation in path.read_text("utf-8")], path


def test_answers_are_left_out_unless_they_are_asked_for(handout, tmp_path):
    assert "To think about" in source(handout, "README.md") and "<details>" not in source(handout, "README.md")
    run(make_handout, tmp_path / "lab", "--with-answers")
    assert source(tmp_path / "lab", "README.md").count("</details>") == source(ROOT, "docs/tasks.md").count("<details>")


# What the gradients are, in a form that may stand in the check of them.
FORMULAS = ["x.T @ grad", "grad @ weight.T", "grad.sum(axis=0)", "grad.sum(0)", "grad * (x > 0)", "y * (1 - y)"]
FORMULAS += ["2 * error", "2 * (output - target)", "lr * grad"]


def test_the_check_solves_no_gap(handout):
    for path in (handout / "checking").glob("*.py"):
        assert not [formula for formula in FORMULAS if formula in path.read_text(encoding="utf-8")], path


def test_the_check_says_not_yet_of_all_that_is_a_gap(handout):
    command = [sys.executable, "-B", "check.py"]
    result = subprocess.run(command, cwd=handout, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0 and result.stderr == ""
    assert re.search(r"^0 ok, 0 NO, 0 \?, \d+ not yet$", result.stdout, re.MULTILINE)
    words = " ".join(result.stdout.split())
    for step, file, gap in EVERY_GAP:
        if not step.startswith("Part 4, step 4") and not file.startswith("lab/"):
            assert all(name in words for name, _ in find(source(ROOT, file), gap)), gap


def statements(code):
    """The lines of code as Python writes them, but for short ones and the calls that the tasks give."""
    lines = (line.strip() for line in ast.unparse(ast.parse(code)).splitlines())
    return {line for line in lines if len(line) > 35 and not line.startswith("run.")}


def test_no_line_of_a_part_that_was_taken_out_is_left_anywhere(handout):
    code = set().union(*(statements(path.read_text(encoding="utf-8")) for path in handout.rglob("*.py")))
    pages = "".join(source(handout, page) for page in PAGES)
    for _, file, gap in EVERY_GAP:
        for _, part in find(source(ROOT, file), gap):
            lines = statements("\n".join(map(ast.unparse, part)))
            assert not [line for line in lines if line in code or line in pages], gap


def test_all_of_it_can_be_imported_and_its_scripts_say_what_is_not_written_yet(handout, folders):
    """In one process, since each would import PyTorch for seconds."""
    names = [".".join(path.relative_to(handout).with_suffix("").parts) for path in handout.rglob("*.py")]
    code = f"""
import importlib

modules = {{name: importlib.import_module(name) for name in {names}}}
for script in "MLPAE_train_script", "generative.train_GAN", "generative.train_DDPM":
    try:
        modules[script].main([*{list(map(str, folders))}, "--image-size=8"])
    except SystemExit as stop:
        print(stop.code)
"""
    command = [sys.executable, "-B", "-c", code]
    result = subprocess.run(command, cwd=handout, capture_output=True, text=True, timeout=100)
    assert result.stdout.split() == ["2"] * 3, result.stderr
    found = re.findall("(Part ., step .: .*) is not written yet", result.stderr)
    assert len(found) == 3 and found[0] == "Part 2, step 1: build_autoencoder"


def test_another_folder_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for place in tmp_path, tmp_path / "file":
        assert "found something there" in fails(make_handout, [place], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"
