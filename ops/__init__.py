"""The command line tool that deploys, runs and removes the bundle."""

import sys
from pathlib import Path

from ops import process_environment

# Python imports this package before anything else: no library has read a variable yet. With `python -m ops`, argv[0]
# is "-m" until then, and orig_argv, which Python has since 3.10, names the module.
# https://docs.python.org/3/library/sys.html#sys.orig_argv
MODULE = list(getattr(sys, "orig_argv", ()))[-len(sys.argv) :][:1]
if (sys.argv[0] == "-m" and MODULE == ["ops"]) or Path(sys.argv[0]).name == "ops":
    process_environment.enter_command(sys.argv[1:])
