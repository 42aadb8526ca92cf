"""What the scripts lean on, and a reader of the lab need not know.

In it: training runs (log, files, resume), checkpoints, safe loading of untrusted files, the command line, several
processes, reading of photo files, plots, and the drawn stand-in set of flowers. Not in it: autograd, the models, their
losses and the training loops, which are in ``autograd/``, in ``generative/`` and in the files of the top level.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (before an import fails that needs it)
    sys.exit("This lab needs Python 3.10 or later, found {}.{}.".format(*sys.version_info))

import lab.threads  # noqa: F401
