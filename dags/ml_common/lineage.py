"""The lineage of a task: which folders and tables it reads and writes, given as URIs.

`ml_common.object_store` and `ml_common.feature_store` record it, and Airflow's OpenLineage provider sends it when the
task ends. Where the provider is not configured, and in environments without Airflow, nothing is recorded. Lineage never
fails a task.
"""

import logging
from functools import cache
from importlib.util import find_spec
from threading import Lock

log = logging.getLogger(__name__)

# Names what records the lineage; Airflow only compares it.
CONTEXT = "ml_common"
# Threads that start at the same time must not create several collectors.
RECORDING = Lock()


@cache
def reads(uri: str) -> None:
    """Record that the task reads a folder or table."""
    _record("add_input_asset", uri)


@cache
def writes(uri: str) -> None:
    """Record that the task writes a folder or table."""
    _record("add_output_asset", uri)


def _record(method: str, uri: str) -> None:
    if find_spec("airflow") is None:
        return
    from airflow.sdk import plugins_manager
    from airflow.sdk.lineage import get_hook_lineage_collector

    with RECORDING:
        # A collector imports all providers, even if nothing reads it: 0.2 s and 14 MiB.
        if not plugins_manager.get_hook_lineage_readers_plugins():
            return
        try:
            getattr(get_hook_lineage_collector(), method)(context=CONTEXT, uri=uri)
        except ValueError as error:
            log.warning("%s is missing in the lineage of this task: %s.", uri, error)
