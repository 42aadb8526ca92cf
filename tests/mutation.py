"""Mutation testing: puts small faults into the code, one at a time, and runs the tests that concern the file.

    pip install cosmic-ray
    python tests/mutation.py lab/files.py
    python tests/mutation.py --sample 20

It works in a temporary copy of the repository, and prints, for each file, every fault that no test noticed, and the
number of those that were noticed. Without file names, all files are taken: that takes many hours. With ``--sample``,
only so many faults of each file are tried, chosen at random by ``--seed``.

Cosmic Ray rather than mutmut: it also changes constants of modules and decorated functions (here the ``main`` of each
script), and starts a new Python for each fault, which tests with threads and processes of their own need.
"""

import argparse
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The tests that concern a file: those that can notice a fault in it without running the whole suite.
TESTS = {
    "autograd/": ["autograd"],
    "Autoencoder.py": ["models", "committed"],
    "VarAutoencoder.py": ["models", "generative_models", "committed"],
    "MLPAE_train_script.py": ["training", "scripts"],
    "train_script.py": ["training", "processes", "scripts"],
    "data_processor.py": ["data_processor", "interfaces"],
    "visualization.py": ["visualization"],
    "random_generation.py": ["visualization"],
    "check_gradients.py": ["check_gradients"],
    "generative/train_": ["training", "processes", "scripts"],
    "generative/sample_quality.py": ["sample_quality"],
    "generative/": ["models", "generative_models", "committed"],
    "teaching/make_handout.py": ["make_handout"],
    "teaching/gaps.py": ["make_handout", "submission"],
    "teaching/logs.py": ["submission_logs"],
    "teaching/pictures.py": ["submission_pictures"],
    "teaching/": ["submission"],
    "lab/gradient_checks.py": ["check_gradients"],
    "lab/student_code.py": ["check_gradients", "submission"],
    "lab/checkpoint.py": ["checkpoint"],
    "lab/command_line.py": ["command_line", "scripts"],
    "lab/defaults.py": ["training", "command_line"],
    "lab/drawn_flowers.py": ["drawn_flowers"],
    "lab/errors.py": ["command_line", "scripts"],
    "lab/files.py": ["files"],
    "lab/generation.py": ["visualization"],
    "lab/grids.py": ["grids"],
    "lab/mlp_autoencoder.py": ["checkpoint", "visualization", "committed"],
    "lab/photo_files.py": ["photo_files"],
    "lab/photos.py": ["photos"],
    "lab/plots.py": ["plots", "committed"],
    "lab/processes.py": ["processes"],
    "lab/threads.py": ["threads"],
    "lab/training_run.py": ["training", "interruptions", "scripts"],
}

# Of each operator, the changes that are most like a slip: + for -, and not + for every other operator. Changes of |,
# which is a type hint nearly everywhere, end each test at once, and would only flatter the score.
OPERATORS = re.compile(
    r"core/(?!ReplaceBinaryOperator|ReplaceComparison|ReplaceUnary)|Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Div$|Mod_Mul"
    r"|Pow_Mul|RShift_LShift|Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Is_IsNot|IsNot_Is|Unary.*_Delete"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing by Cosmic Ray.")
    parser.add_argument("files", nargs="*", help="the files to put faults into, default: all")
    parser.add_argument("--sample", type=int, help="number of faults per file, default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    args = parser.parse_args()
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    checkout = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    files = args.files or [file for file in checkout if file.endswith(".py") and tests_of(file)]
    with tempfile.TemporaryDirectory() as folder:
        for file in checkout:
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, Path(folder, file))
        for file in files:
            noticed, number = mutate(file, Path(folder), args.sample, args.seed)
            print(f"{file}: {noticed} of {number} noticed", flush=True)


def tests_of(file: str) -> list[str]:
    """The names of the test files that concern a file."""
    return next((tests for start, tests in TESTS.items() if file.startswith(start)), [])


def mutate(file: str, folder: Path, sample: int | None, seed: int) -> tuple[int, int]:
    """Tries the faults of a file, prints those that were not noticed, and returns how many were, and their number."""
    session, config = folder / "mutation.sqlite", folder / "mutation.toml"
    session.unlink(missing_ok=True)
    tests = " ".join(f"tests/test_{name}.py" for name in tests_of(file))
    settings = {
        "module-path": file,
        "timeout": 300,
        "test-command": f"{sys.executable} -m pytest -x -q -p no:cacheprovider --hypothesis-profile=mutation {tests}",
    }
    lines = ["[cosmic-ray]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    config.write_text("\n".join([*lines, "excluded-modules = []", "distributor.name = 'local'"]))

    def cosmic_ray(command: str, *arguments: Path) -> None:
        subprocess.run(["cosmic-ray", command, *arguments], cwd=folder, check=True)

    cosmic_ray("baseline", config)
    cosmic_ray("init", config, session)
    with sqlite3.connect(session) as jobs:
        rows = jobs.execute("SELECT job_id, operator_name FROM mutation_specs ORDER BY start_pos_row, start_pos_col")
        chosen = [job for job, operator in rows if OPERATORS.search(operator)]
        if sample is not None:
            chosen = random.Random(seed).sample(chosen, min(sample, len(chosen)))
        others = [row for row in jobs.execute("SELECT job_id FROM work_items") if row[0] not in chosen]
        for table in "mutation_specs", "work_items":
            jobs.executemany(f"DELETE FROM {table} WHERE job_id = ?", others)
    cosmic_ray("exec", config, session)
    subprocess.run(["cr-report", "--surviving-only", "--show-diff", session], check=True)
    with sqlite3.connect(session) as jobs:
        [(noticed,)] = jobs.execute("SELECT count(*) FROM work_results WHERE test_outcome != 'SURVIVED'")
    return noticed, len(chosen)


if __name__ == "__main__":
    main()
