"""Airflow's DAG processor, extended to parse every file of a new commit: `python -m dag_processor`.

Airflow parses a file again if it changed after its last parsing ended. But git-sync checks out a commit up to
`refresh_interval` seconds before Airflow notices it, and a file that Airflow parses in between, still for the previous
commit, would hide the change until `min_file_process_interval` is over.
"""

import sys
from typing import Any

import attrs
from airflow.cli.commands import dag_processor_command
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager


@attrs.define(kw_only=True)
class DagProcessor(DagFileProcessorManager):
    """A manager of parsing processes that parses all files of a bundle again when its commit changes."""

    _outdated: set[DagFileInfo] = attrs.field(factory=set, init=False)

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


if __name__ == "__main__":
    from airflow.__main__ import main

    dag_processor_command.DagFileProcessorManager = DagProcessor  # type: ignore[attr-defined]
    sys.argv = ["airflow", "dag-processor"]
    main()  # type: ignore[no-untyped-call]
