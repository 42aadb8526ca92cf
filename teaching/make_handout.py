"""For teachers: writes the version of the lab to hand out, without the parts that students are to write.

    python -m teaching.make_handout ../handout

Signatures and docstrings stay, and in place of each body there is

    raise NotImplementedError("Part 1, step 2: Linear.forward")

Results, tests and what grades are left out; docs/tasks.md becomes the README.
"""

import argparse
import ast
from pathlib import Path

from lab.command_line import Parser, log
from lab.errors import UserError, one_line_errors
from lab.files import atomic_write, prepare_folder

LAB = Path(__file__).resolve().parent.parent
DEFINITION = ast.FunctionDef, ast.ClassDef

FILES = [
    *("autograd/*.py", "lab/*.py", "generative/*.py", "MLPAE_train_script.py", "Autoencoder.py", "VarAutoencoder.py"),
    *("train_script.py", "data_processor.py", "visualization.py", "random_generation.py", "check_gradients.py"),
    *("requirements.txt", "LICENSE", ".gitignore"),
]
PAGES = {"docs/tasks.md": "README.md", "docs/tasks.zh-CN.md": "README.zh-CN.md"}
FOLDERS = ["models", "vis", "log"]  # which the commands of the handout write to

# The parts that students write, by step of the handout and by file. A part is named by where it is: a function or
# method, as Linear.forward; a loop in a function by its variable, as main.epoch; an assignment (without a type) in a
# function by its target, as Autoencoder.__init__.encoder.
GAPS = {
    "Part 1, step 1": {"autograd/BaseGraph.py": ["BaseGraph.backward", "BaseGraph.optimstep"]},
    "Part 1, step 2": {
        "autograd/Nodes.py": [
            *("Linear.forward", "Linear.backward", "ReLU.forward", "ReLU.backward"),
            *("Sigmoid.forward", "Sigmoid.backward", "MSE.forward", "MSE.backward"),
        ],
    },
    "Part 2, step 1": {"MLPAE_train_script.py": ["build_autoencoder"]},
    "Part 2, step 2": {"MLPAE_train_script.py": ["train_one_epoch", "validate", "main.epoch"]},
    "Part 3, step 1": {
        "Autoencoder.py": ["Autoencoder.__init__.encoder", "Autoencoder.__init__.decoder", "Autoencoder.forward"],
        "train_script.py": ["train_one_epoch", "validate", "main.epoch"],
    },
    "Part 3, step 2": {"train_script.py": ["main.optimizer"]},
    "Part 3, step 3": {
        "random_generation.py": ["random_images"],
        "Autoencoder.py": ["Autoencoder.sample"],
        "lab/mlp_autoencoder.py": ["MLPAutoencoder.sample"],
    },
    "Part 4, step 1": {
        "VarAutoencoder.py": ["VarAutoencoder.encode", "VarAutoencoder.reparameterize", "VarAutoencoder.forward"],
    },
    "Part 4, step 2": {"VarAutoencoder.py": ["squared_error", "KL_divergence", "VAE_loss_function"]},
    "Part 4, step 4": {
        "VarAutoencoder.py": ["calibrated_VAE_loss_function"],
        "random_generation.py": ["random_images_by_fitted_prior"],
        "generative/GAN.py": [
            *("GAN.__init__.generator", "GAN.__init__.discriminator", "GAN.generate", "GAN.score", "GAN.sample"),
            *("discriminator_loss", "generator_loss", "augment"),
        ],
        "generative/train_GAN.py": ["main.epoch"],
        "generative/Diffusion.py": [
            *("Diffusion.forward", "Diffusion.denoise", "Diffusion.sample"),
            *("UNet.__init__", "UNet.forward", "stratified_times", "schedule", "ddim", "sampling_times"),
            *("time_features", "ResidualBlock.__init__", "ResidualBlock.forward", "Attention.__init__"),
            *("Attention.forward", "DDPM_loss_function"),
        ],
        "generative/train_DDPM.py": ["validate", "main.epoch"],
    },
}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Writes the version of the lab to hand out, without the parts that students are to write.")
    parser.add_argument("folder", metavar="OUT", default=argparse.SUPPRESS, help="where to write it: a new folder")
    out = Path(parser.parse_args(argv).folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: found something there, expected a new or an empty folder; nothing was written")
    for path in (path for pattern in FILES for path in sorted(LAB.glob(pattern))):
        name = path.relative_to(LAB).as_posix()
        text = path.read_text(encoding="utf-8")
        for step, names in GAPS.items():
            for gap in names.get(name, []):
                text = take_out(text, gap, step)
        write(out / name, text)
    for page, name in PAGES.items():
        text = (LAB / page).read_text(encoding="utf-8")
        for other, its_name in PAGES.items():
            text = text.replace(f"]({Path(other).name})", f"]({its_name})")
        write(out / name, text)
    for folder in FOLDERS:
        write(out / folder / ".gitkeep", "")
    gaps = [gap for names in GAPS.values() for each in names.values() for gap in each]
    log(f"{out}: the lab without {len(gaps)} parts that students write. Add your photos as {out / 'flowers'}.")


def write(path: Path, text: str) -> None:
    prepare_folder(path.parent)
    with atomic_write(path) as file:
        file.write(text.encode())


def take_out(source: str, gap: str, step: str) -> str:
    """The source code with ``raise NotImplementedError`` in place of a part, named as in ``GAPS``.

    Raises:
        ValueError: there is no such part.
    """
    lines = source.splitlines(keepends=True)
    for words, part in reversed(find(source, gap)):
        first, last = part[0].lineno - 1, part[-1].end_lineno
        while lines[first - 1].strip().startswith("#"):  # comments on the part
            first -= 1
        indent = " " * part[0].col_offset
        lines[first:last] = [f'{indent}raise NotImplementedError("{step}: {words}")\n']
    return "".join(lines)


def find(source: str, gap: str) -> list[tuple[str, list[ast.stmt]]]:
    """Where a part is, in the order of the code: what it is in words, and its statements.

    Those of a function, without its docstring; of a loop; or an assignment, of which there may be several. ValueError
    if there is none.
    """
    *path, name = gap.split(".")
    body: list[ast.stmt] = ast.parse(source).body
    for outer in path:
        body = next((node.body for node in body if isinstance(node, DEFINITION) and node.name == outer), [])
    found: list[tuple[str, list[ast.stmt]]] = []
    for node in body:
        if isinstance(node, DEFINITION):
            if node.name == name:
                found.append((gap, node.body[1:] if ast.get_docstring(node) else node.body))
            continue
        for inside in ast.walk(node):
            if isinstance(inside, ast.For) and ast.unparse(inside.target) == name:
                found.append((f"for {name} in {'.'.join(path)}", inside.body))
            if isinstance(inside, ast.Assign) and ast.unparse(inside.targets[0]).removeprefix("self.") == name:
                found.append((f"{name} in {'.'.join(path)}", [inside]))
    if not found:
        raise ValueError(f"{gap}: no such function, loop or assignment")
    return sorted(found, key=lambda each: each[1][0].lineno)


if __name__ == "__main__":
    main()
