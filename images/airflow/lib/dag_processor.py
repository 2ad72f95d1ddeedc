"""Airflow's DAG processor, extended to parse every file of a new commit, and to run with few rights.

Airflow parses a file again if it changed after its last parsing ended. But git-sync checks out a commit up to
`refresh_interval` seconds before Airflow notices it, and a file that Airflow parses in between, still for the previous
commit, would hide the change until `min_file_process_interval` is over.

This process imports authors' code, so it has no fernet key and no access to the tables of users. Airflow needs the key
for the links of DAG bundles, which images/airflow/bin/prepare_database.py stores instead, and for the arguments of
asset watchers' triggers. Those are in the DAG's file anyway, and Airflow reads them unencrypted as well. Permissions of
single DAGs (`access_control`) are left to `airflow sync-perm --include-dags`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import attrs
from airflow.cli.commands import dag_processor_command
from airflow.dag_processing import collection
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager
from airflow.models.trigger import Trigger
from airflow.sdk.serde import serialize
from airflow.serialization.enums import stringify_encoding_keys


@attrs.define(kw_only=True)
class DagProcessor(DagFileProcessorManager):
    """A manager of parsing processes that parses all files of a bundle again when its commit changes."""

    _outdated: set[DagFileInfo] = attrs.field(factory=set, init=False)

    def sync_bundles(self) -> None:
        """Leave the bundles in the database as they are."""

    def _refresh_dag_bundles(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        before = dict(self._bundle_versions)
        super()._refresh_dag_bundles(known_files)
        changed = {name for name, version in before.items() if self._bundle_versions[name] != version}
        if not changed:
            return
        for file in [file for file in self._file_stats if file.bundle_name in changed]:
            del self._file_stats[file]
        for file in [file for file in self._file_queue if file.bundle_name in changed]:
            if file not in self._callback_to_execute:
                del self._file_queue[file]
        self._outdated |= {file for file in self._processors if file.bundle_name in changed}
        self._add_new_files_to_queue(known_files)

    def handle_parsing_result(self, file: DagFileInfo, proc: Any, **options: Any) -> None:
        """Store what a process found; parse the file again if the process started before the newest commit."""
        super().handle_parsing_result(file, proc, **options)
        if file in self._outdated:
            self._outdated.remove(file)
            self._file_stats.pop(file, None)


def unencrypted(kwargs: dict[str, Any]) -> str:
    """Return a trigger's arguments as Airflow stores them, but not encrypted."""
    return json.dumps(serialize(stringify_encoding_keys(kwargs)))


def readable(stored: str, decrypt: Callable[[str], dict[str, Any]] = Trigger._decrypt_kwargs) -> dict[str, Any]:
    """Return a trigger's arguments; none if they are encrypted, so that a readable trigger replaces this one."""
    return decrypt(stored) if stored.startswith("{") else {}


def need_few_rights() -> None:
    """Change Airflow in this process so that it needs neither the fernet key nor the tables of users."""
    Trigger.encrypt_kwargs = staticmethod(unencrypted)  # type: ignore[method-assign]
    Trigger._decrypt_kwargs = staticmethod(readable)  # type: ignore[assignment, method-assign]
    collection._sync_dag_perms = lambda *_, **__: None


if __name__ == "__main__":
    from airflow.__main__ import main

    need_few_rights()
    dag_processor_command.DagFileProcessorManager = DagProcessor  # type: ignore[attr-defined]
    sys.argv = ["airflow", "dag-processor"]
    main()  # type: ignore[no-untyped-call]
