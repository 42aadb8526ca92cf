"""What the scripts lean on, and a reader of the lab need not know.

In it: training runs (log, files, resume), checkpoints, safe loading of untrusted files, the command line, several
processes, reading of photo files, plots, and the drawn stand-in set of flowers. Not in it: autograd, the models, their
losses and the training loops, which are in ``autograd/``, in ``generative/`` and in the files of the top level.
"""

import lab.threads  # noqa: F401
