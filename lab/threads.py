"""How many threads NumPy uses, and how soon PyTorch's threads sleep when they wait.

Defaults for a computer that does other things at the same time; the user's environment overrides them. NumPy and
PyTorch read these variables when they are imported, so this module is imported first. Waiting changes no result. The
number of threads does, in the last digits.
"""

import os

# OpenBLAS, which multiplies NumPy's matrices. For 16 images a second thread saves little, and spins while it waits.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# OpenMP, which runs PyTorch's threads. Between two operations they spin, and while they do, nothing else can run.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # GNU's, on Linux: iterations, 300,000 by default
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's and Intel's, on macOS and Windows: ms, 200 by default
