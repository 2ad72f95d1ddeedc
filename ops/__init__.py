"""The command-line tool that deploys, runs and removes the bundle."""

import sys
from pathlib import Path

from ops import process_environment

# Python imports this package first, before any library reads a variable. With `python -m ops`, argv[0] is still "-m"
# here, and orig_argv (since Python 3.10) has the name of the module.
# https://docs.python.org/3/library/sys.html#sys.orig_argv
MODULE = list(getattr(sys, "orig_argv", ()))[-len(sys.argv) :][:1]
if (sys.argv[0] == "-m" and MODULE == ["ops"]) or Path(sys.argv[0]).name == "ops":
    process_environment.enter_command(sys.argv[1:])
