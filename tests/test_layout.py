"""The house of docs/architecture.md: what is on top, and that imports point one way."""

import ast
import functools
import sys

import pytest
from conftest import MODULES, ROOT, SCRIPTS, run

import MLPAE_train_script

MODELS = {"Autoencoder", "VarAutoencoder", "generative.GAN", "generative.Diffusion"}
ALL_SCRIPTS = SCRIPTS | MODULES | {"benchmarks.__main__"}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (".", "autograd", "generative", "checking", "teaching", "lab", "benchmarks", "docs")
    for path in (ROOT / folder).glob("*.py")
}


def level(name):
    """0 for what stands at the bottom of the house. The package ``lab`` itself sets the number of threads, and has
    nothing else."""
    packages = "lab", "generative", "checking", "teaching"
    if name.split(".")[0] == "autograd" or name in (*packages, "lab.threads", "lab.photo_files"):
        return 0
    if name in MODELS | {"data_processor"}:
        return 1
    return 2 if name.startswith("lab.") else 3 if name.startswith("checking.") else 4


@functools.cache
def imports_of(name):
    """The modules of this project that one of them imports."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = f"{name.split('.')[0]}." if node.level else ""
            module = f"{package}{node.module}"
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found & FILES.keys()


def test_what_is_on_top():
    """The files that the handout names, and the check that students run."""
    files = "Autoencoder VarAutoencoder data_processor MLPAE_train_script train_script visualization random_generation"
    assert {path.stem for path in ROOT.glob("*.py")} == {*files.split(), "check"}


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    package = name.split(".")[0]
    for imported in imports_of(name):
        assert imported not in ALL_SCRIPTS, f"{name} imports the script {imported}"
        same = level(imported) == level(name) and (imported.split(".")[0] == package or level(name) == 1)
        assert same or level(imported) < level(name), f"{name} imports {imported}"
    assert imports_of("lab.photo_files") == set()


def test_the_process_of_a_students_code_imports_nothing_of_the_lab():
    """In the sandbox there is checking/ alone."""
    for name in "student_side", "student_nodes", "student_models", "messages":
        assert all(imported.startswith("checking.") for imported in imports_of(f"checking.{name}"))


def test_a_mistake_in_another_model_does_not_stop_part_2(folders, monkeypatch):
    needed = {"MLPAE_train_script"}
    while more := set().union(*map(imports_of, needed)) - needed:
        needed |= more
    assert "lab.training_run" in needed and not needed & MODELS
    for name in MODELS:
        monkeypatch.setitem(sys.modules, name, None)  # importing it, as lab.checkpoint does by name, is an error
    out, _ = run(MLPAE_train_script, "--image-size", 8, "--epochs", 1, *folders)
    assert "Epoch: 1, Train Loss" in out


def test_the_architecture_page_names_every_file_of_the_lab():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in [*(ROOT / "lab").glob("*.py"), *(ROOT / "checking").glob("*.py")]:
        assert path.stem == "__init__" or f"`{path.name}`" in page, path.name
