"""The layout of docs/architecture.md: what is on top, and that imports point one way."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPTS

SUBJECT = {"Autoencoder", "VarAutoencoder", "GAN", "Diffusion", "data_processor"}
# What may be imported, from the bottom up.
LAYERS = [{"autograd"}, SUBJECT, {"lab"}, {"grading"}, SCRIPTS | {"benchmarks"}]
OURS = set().union(*LAYERS)


def modules():
    for path in [*ROOT.glob("*.py"), *(file for name in OURS for file in (ROOT / name).glob("*.py"))]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield parts[0], path


def imports_of(path):
    """The packages and files of this project that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in OURS)


def layer(name):
    return next(i for i, names in enumerate(LAYERS) if name in names)


def test_what_is_on_top():
    assert {path.stem for path in ROOT.glob("*.py")} == SCRIPTS | SUBJECT


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_one_way(name, path):
    for imported in imports_of(path):
        same_package = imported == name and name not in SCRIPTS
        between_subjects = {name, imported} <= SUBJECT
        assert same_package or between_subjects or layer(imported) < layer(name), f"{path.name} imports {imported}"
        assert imported not in SCRIPTS, f"{path.name} imports a script"


def test_packages_say_what_is_in_them():
    for name in "autograd", "lab", "grading":
        assert ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text(encoding="utf-8")))


def test_part_2_imports_no_other_model(few_photos, tmp_path):
    places = ["--data-root", few_photos, "--model-dir", tmp_path / "models", "--log-dir", tmp_path / "log"]
    flags = ["--image-size", 8, "--epochs", 1, *places]
    code = f"""
import sys
import MLPAE_train_script
MLPAE_train_script.main({[str(flag) for flag in flags]!r})
print(*sorted(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "lab.training_run" in loaded
    assert not loaded & {"Autoencoder", "VarAutoencoder", "GAN", "Diffusion", "lab.pytorch_training", "grading"}


def test_the_architecture_page_names_every_file_of_the_lab():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in (ROOT / "lab").glob("*.py"):
        assert path.stem == "__init__" or f"`{path.name}`" in page, path.name
