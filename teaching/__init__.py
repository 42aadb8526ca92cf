"""For teachers: the version of the lab to hand out, and the check of what is handed in, with points."""

import os
import sys

# Where the command is started may be a student's folder, whose modules are not to be imported here.
sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]
sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
