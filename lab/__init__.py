"""What the scripts lean on, and a reader of the lab need not know.

In it: training runs (log, files, resume), checkpoints, safe loading of untrusted files, the command line, several
processes, reading of photo files, plots, and the drawn stand-in set of flowers. Not in it: autograd, the models, their
losses and the training loops, which are in ``autograd/``, in ``generative/`` and in the files of the top level.
"""

import importlib.util
import sys

import lab.threads  # noqa: F401

# Before an import fails that needs it.
needed = "numpy", "torch", "torchvision", "matplotlib", "PIL", "tqdm", "filelock"
wrong = ""
if sys.version_info < (3, 10):  # noqa: UP036
    wrong = "Python 3.10 or later, found {}.{}: install a later one".format(*sys.version_info)
elif missing := [name for name in needed if not importlib.util.find_spec(name)]:
    wrong = f"{', '.join(missing)}, not found by {sys.executable}: activate the virtual environment of README.md"
    wrong += ", and pip install -r requirements.txt"
if wrong:
    print(f"This lab needs {wrong}", file=sys.stderr)
    sys.exit(2)
