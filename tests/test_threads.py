"""The environment that NumPy and PyTorch find when they are imported."""

import os
import subprocess
import sys

import pytest
from conftest import MODULES, ROOT, SCRIPTS

DEFAULTS = {"OPENBLAS_NUM_THREADS": "1", "GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "0"}

# Prints the variables as they are when NumPy or PyTorch is imported, and imports no further.
CODE = f"""
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name in ("numpy", "torch"):
            print(*[os.environ.get(variable) for variable in {list(DEFAULTS)}])
            os._exit(sys.stdout.flush() or 0)

sys.meta_path.insert(0, Finder())
import importlib
importlib.import_module(sys.argv[1])
Finder().find_spec("numpy")  # it has imported neither
"""
SEVEN = dict.fromkeys(DEFAULTS, "7")
CASES = [(module, {}, {}) for module in [*sorted(SCRIPTS | MODULES), "benchmarks.__main__"]] + [
    ("MLPAE_train_script", SEVEN, SEVEN),
    ("MLPAE_train_script", {"OMP_NUM_THREADS": "4"}, {"OPENBLAS_NUM_THREADS": "None"}),
    ("MLPAE_train_script", {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "None", "KMP_BLOCKTIME": "None"}),
]


@pytest.mark.parametrize(("module", "environment", "changed"), CASES)
def test_defaults_are_set_before_numpy_and_pytorch_but_the_users_come_first(module, environment, changed):
    names = [*DEFAULTS, "OMP_NUM_THREADS", "OMP_WAIT_POLICY"]
    environment = {name: value for name, value in os.environ.items() if name not in names} | environment
    command = [sys.executable, "-c", CODE, module]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert dict(zip(DEFAULTS, result.stdout.split(), strict=True)) == DEFAULTS | changed
