"""Start tasks faster: Python imports this module at its start, because its folder is in PYTHONPATH.

Importing Airflow creates 300,000 objects that stay until the process ends. Looking for garbage among them takes a
quarter of the CPU time of the imports, and as much again in the process that the supervisor forks for the task, where
it also copies their memory. https://docs.python.org/3/library/gc.html#gc.freeze
"""

import gc
import os
import sys

SUPERVISOR = "airflow.sdk.execution_time.execute_workload"


def collect_from_now_on() -> None:
    """Before the first fork, which is that of the task, keep all objects for good and look for garbage in new ones."""
    if not gc.get_freeze_count():
        gc.freeze()
        gc.enable()


if SUPERVISOR in sys.orig_argv:
    gc.disable()
    os.register_at_fork(before=collect_from_now_on)
