"""The gaps of the lab, which students fill: what is taken out of the version to hand out, and what is still as it was
handed out in what they hand in. Code is parsed, and not run."""

import ast
import re
import threading
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
DEFINITION = ast.FunctionDef, ast.ClassDef

FILES = [
    *("autograd/*.py", "lab/*.py", "generative/*.py", "MLPAE_train_script.py", "Autoencoder.py", "VarAutoencoder.py"),
    *("train_script.py", "data_processor.py", "visualization.py", "random_generation.py", "check_gradients.py"),
    *("requirements.txt", "LICENSE", ".gitignore"),
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
        "random_generation.py": ["sample_by_fitted_prior"],
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

# What is written where a student is to write: in this lab's version, and in others.
MARK = re.compile(r"NotImplementedError|todo|your code|你的代码|补全", re.IGNORECASE)
NOT_GRADED = "Part 4, step 4"


def files() -> list[str]:
    """The names of the files that ``FILES`` stands for."""
    return [path.relative_to(LAB).as_posix() for pattern in FILES for path in sorted(LAB.glob(pattern))]


def handed_out(name: str) -> str:
    """The text of a file of the lab as it is handed out: without the parts that students write.

    Raises:
        FileNotFoundError: the file is not among ``FILES``.
    """
    if name not in files():
        raise FileNotFoundError(f"{name}: not among the files that are handed out")
    text = (LAB / name).read_text(encoding="utf-8")
    for step, names in GAPS.items():
        for gap in names.get(name, []):
            text = take_out(text, gap, step)
    return re.sub(GRADIENTS, "", text) if name == "autograd/Nodes.py" else text


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
    body: list[ast.stmt] = parsed(source).body
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


# In what is handed in


_one_at_a_time = threading.Lock()


def parsed(code: str | bytes) -> ast.Module:
    """The syntax tree. SyntaxError if ``code`` is none of Python."""
    with _one_at_a_time:  # before Python 3.11.5, several threads that parse end in a SystemError
        return ast.parse(code)


def gaps(code: str, handed_out: str) -> list[str]:
    """The names of the functions in ``code`` that are gaps as in ``handed_out``, or were gaps there and are empty now.

    SyntaxError if ``code`` is none of Python.
    """
    originals, found = _functions(handed_out), []
    for name, (_, function) in _functions(code).items():
        segment, original = originals.get(name, ("", None))
        if original is None or not MARK.search(segment) or NOT_GRADED in segment:
            continue
        if _empty(function) or ast.dump(_body(function)) == ast.dump(_body(original)):
            found.append(name)
        elif _raised(function) & _raised(original):
            found.append(f"a part of {name}")
    return found


def _functions(code: str) -> dict[str, tuple[str, ast.FunctionDef]]:
    """The functions and methods by name, as Linear.forward, each with its text."""
    lines, found = code.splitlines(), {}
    tree = parsed(code)
    classes = [(f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef)]
    for prefix, node in [("", tree), *classes]:
        for part in node.body:  # type: ignore[attr-defined]
            if isinstance(part, ast.FunctionDef):
                found[prefix + part.name] = "\n".join(lines[part.lineno - 1 : part.end_lineno]), part
    return found


def _body(function: ast.FunctionDef) -> ast.Module:
    """The statements of a function, without its docstring, up to the first return: what is below is not run."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    end = next((i for i, part in enumerate(body) if isinstance(part, ast.Return)), len(body))
    return ast.Module(body[: end + 1], [])


def _empty(function: ast.FunctionDef) -> bool:
    """Whether it does nothing: pass, an ellipsis, or return without a value."""
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr | ast.Return) and isinstance(part.value, ast.Constant | None))
        for part in _body(function).body
    )


def _raised(function: ast.FunctionDef) -> set[str]:
    """The errors that it raises for what is not written yet."""
    raised = {ast.dump(part) for part in ast.walk(_body(function)) if isinstance(part, ast.Raise)}
    return {text for text in raised if "NotImplementedError" in text}
