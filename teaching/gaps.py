"""What students write: what is taken out of the version to hand out."""

import ast
import re
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
FILES = [
    *("autograd/*.py", "lab/*.py", "generative/*.py", "checking/*.py", "check.py", "data_processor.py"),
    *("MLPAE_train_script.py", "Autoencoder.py", "VarAutoencoder.py", "train_script.py", "visualization.py"),
    *("random_generation.py", "requirements.txt", "LICENSE", ".gitignore"),
]

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
        "random_generation.py": ["sample"],
        "Autoencoder.py": ["Autoencoder.sample"],
        "lab/mlp_autoencoder.py": ["MLPAutoencoder.sample"],
    },
    "Part 4, step 1": {
        "VarAutoencoder.py": ["VarAutoencoder.encode", "VarAutoencoder.reparameterize", "VarAutoencoder.forward"],
    },
    "Part 4, step 2": {"VarAutoencoder.py": ["squared_error", "KL_divergence", "VAE_loss_function"]},
    "Part 4, step 4": {
        "VarAutoencoder.py": ["calibrated_VAE_loss_function"],
        "generative/GAN.py": [
            *("GAN.__init__.generator", "GAN.__init__.discriminator", "GAN.forward", "GAN.score", "GAN.sample"),
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

# The gradients in the docstrings of the nodes, each a line that begins with dL/d... =, and the empty line above them.
GRADIENTS = r"\n(?: +dL/d\w+ = .*\n)+"
DEFINITION = ast.FunctionDef, ast.ClassDef


def handed_out(name: str) -> str:
    """The text of a file of the lab as it is handed out: without the parts that students write."""
    text = (LAB / name).read_text(encoding="utf-8")
    for step, names in GAPS.items():
        for gap in names.get(name, []):
            text = take_out(text, gap, step)
    return re.sub(GRADIENTS, "", text) if name == "autograd/Nodes.py" else text


def take_out(source: str, gap: str, step: str) -> str:
    """The source code with ``raise NotImplementedError`` in place of a part, named as in ``GAPS``."""
    lines = source.splitlines(keepends=True)
    for words, part in reversed(find(source, gap)):
        first, last = part[0].lineno - 1, part[-1].end_lineno
        while lines[first - 1].strip().startswith("#"):  # comments on the part
            first -= 1
        indent = " " * part[0].col_offset
        lines[first:last] = [f'{indent}raise NotImplementedError("{step}: {words}")\n']
    return "".join(lines)


def find(source: str, gap: str) -> list[tuple[str, list[ast.stmt]]]:
    """Where a part is, in the order of the code: its name in words, and its statements. ValueError if there is none."""
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
