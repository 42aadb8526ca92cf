"""The version to hand out: what is left of the lab without the parts that students write."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT, fails, run

import make_handout
from grading.gaps import FILES, FOLDERS, GAPS, PAGES

EVERY_GAP = [(step, file, gap) for step, files in GAPS.items() for file, gaps in files.items() for gap in gaps]


@pytest.fixture(scope="module")
def handout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handout") / "lab"
    out, err = run(make_handout, folder)
    assert out == f"{folder}: the lab without {len(EVERY_GAP)} parts that students write. Add your photos as " + (
        f"{folder / 'flowers'}.\n"
    )
    assert err == ""
    return folder


def source(folder, file):
    return (folder / file).read_text(encoding="utf-8")


def statements(code):
    """The lines of code as Python writes them, without what has hardly anything in it."""
    lines = (line.strip() for line in ast.unparse(ast.parse(code)).splitlines())
    return {line for line in lines if len(line) > 25}


def bodies():
    """The code of every part that is taken out."""
    for _, file, gap in EVERY_GAP:
        for _, part in make_handout.find(source(ROOT, file), gap):
            yield gap, "\n".join(map(ast.unparse, part))


def test_what_is_in_it(handout):
    found = {path.relative_to(handout).as_posix() for path in handout.rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for pattern in FILES for path in ROOT.glob(pattern)}
    assert found == expected | set(PAGES.values()) | {f"{folder}/.gitkeep" for folder in FOLDERS}
    for name in "grading", "tests", "benchmarks", "check_submission.py", "make_handout.py", ".git", "models/48":
        assert not (handout / name).exists()
    for page in "README.md", "README.zh-CN.md":
        for link in re.findall(r"\]\((?!https?://|#)(.*?)\)", source(handout, page)):
            assert (handout / link).exists(), link


def test_every_part_is_taken_out_and_nothing_else(handout):
    """With the solution's own code in the place of each part, it is the solution, to the byte."""
    for file in {file for _, file, _ in EVERY_GAP}:
        text = source(handout, file)
        solution = source(ROOT, file).splitlines(keepends=True)
        raised = re.findall(r'^ +raise NotImplementedError\("(Part \d, step \d): (.*)"\)\n', text, re.MULTILINE)
        parts = []
        for step, each, gap in EVERY_GAP:
            if each == file:
                parts += [(step, *part) for part in make_handout.find(source(ROOT, file), gap)]
        parts.sort(key=lambda part: part[2][0].lineno)
        assert raised == [(step, words) for step, words, _ in parts]
        for step, words, part in parts:
            line = re.search(rf'^ +raise NotImplementedError\("{step}: {re.escape(words)}"\)\n', text, re.MULTILINE)
            first = part[0].lineno - 1
            while solution[first - 1].strip().startswith("#"):
                first -= 1
            text = text[: line.start()] + "".join(solution[first : part[-1].end_lineno]) + text[line.end() :]
        assert text == source(ROOT, file)


def test_signatures_and_docstrings_stay(handout):
    for _, file, gap in EVERY_GAP:
        for words, _ in make_handout.find(source(ROOT, file), gap):
            if words == gap:
                kept, whole = (definition(source(folder, file), gap) for folder in (handout, ROOT))
                assert ast.get_docstring(kept) == ast.get_docstring(whole)
                assert ast.unparse(kept.args) == ast.unparse(whole.args) and kept.decorator_list is not None
                assert ast.unparse(kept.decorator_list) == ast.unparse(whole.decorator_list)


def definition(code, gap):
    body = ast.parse(code).body
    for name in gap.split("."):
        (found,) = [node for node in body if getattr(node, "name", None) == name]
        body = found.body
    return found


def test_nothing_of_the_solution_is_left(handout):
    """No line of a part that was taken out is anywhere in the handed-out code, or in a page of it."""
    code = set()
    for path in handout.rglob("*.py"):
        code |= statements(path.read_text(encoding="utf-8"))
    pages = "".join(source(handout, page) for page in PAGES.values())
    left = {(gap, line) for gap, body in bodies() for line in statements(body) if line in code or line in pages}
    assert not left


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["MLPAE_train_script.py"], "Part 2, step 1: build_autoencoder is not written yet"),
        (["train_script.py", "--model", "AE"], "Part 3, step 1: encoder in Autoencoder.__init__ is not written yet"),
        (["train_script.py", "--model", "VAE"], "Part 3, step 1: encoder in Autoencoder.__init__ is not written yet"),
        (["train_script.py", "--model", "GAN"], "Part 4, step 4: generator in GAN.__init__ is not written yet"),
        (["train_script.py", "--model", "DDPM"], "Part 4, step 4: UNet.__init__ is not written yet"),
    ],
)
def test_its_scripts_say_what_is_missing(command, message, handout, folders):
    result = subprocess.run(
        [sys.executable, "-B", *command, *map(str, folders), "--image-size", "8"],
        cwd=handout,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert re.search(r", line \d+\)\n$", result.stderr)


def test_all_of_it_can_be_imported(handout):
    names = [path.stem for path in handout.glob("*.py")]
    names += [
        f"{path.parent.name}.{path.stem}" for package in ("autograd", "lab") for path in handout.glob(f"{package}/*.py")
    ]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)"
    result = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=handout, capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr


def test_another_folder_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for place in tmp_path, tmp_path / "file":
        assert "found something there" in fails(make_handout, [place], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


CODE = '''
class A:
    def f(self, x):
        """Says what."""
        # why
        y = x
        for i in range(3):
            y += i
        return y

    def g(self):
        self.y = 1
        if self.y:
            self.y = [
                2,
            ]


def f():
    return 1
'''


@pytest.mark.parametrize(
    ("gap", "changes"),
    [
        ("f", {"    return 1": '    raise NotImplementedError("S: f")'}),
        (
            "A.f",
            {
                "        # why\n        y = x\n        for i in range(3):\n            y += i\n        return y": (
                    '        raise NotImplementedError("S: A.f")'
                )
            },
        ),
        ("A.f.i", {"            y += i": '            raise NotImplementedError("S: for i in A.f")'}),
        ("A.f.y", {"        # why\n        y = x": '        raise NotImplementedError("S: y in A.f")'}),
        (
            "A.g.y",
            {
                "        self.y = 1": '        raise NotImplementedError("S: y in A.g")',
                "            self.y = [\n                2,\n            ]": (
                    '            raise NotImplementedError("S: y in A.g")'
                ),
            },
        ),
    ],
)
def test_what_is_taken_out(gap, changes):
    expected = CODE
    for old, new in changes.items():
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert make_handout.take_out(CODE, gap, "S") == expected


@pytest.mark.parametrize("gap", ["h", "A.h", "B.f", "A.f.z"])
def test_a_part_that_is_not_there(gap):
    with pytest.raises(ValueError, match=f"{gap}: no such function, loop or assignment"):
        make_handout.take_out(CODE, gap, "S")
