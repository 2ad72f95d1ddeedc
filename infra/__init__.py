"""The programs that provision, deploy and run the bundle."""

import sys

from infra import process_environment

# `python -m infra.laptop` imports this package before anything else, while sys.argv[0] is "-m": no library has read a
# variable yet. https://docs.python.org/3/library/sys.html#sys.argv
if sys.argv[:1] == ["-m"]:
    process_environment.enter_command(getattr(sys, "orig_argv", ()))  # which Python has since 3.10
