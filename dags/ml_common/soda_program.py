"""Verify a contract with Soda. Runs in Soda's environment, which has nothing else of this repository: see soda.py."""

import json
import os
import sys
from typing import Any

# Otherwise Soda sends usage statistics to collect.soda.io.
os.environ["SODA_CORE_TELEMETRY_ENABLED"] = "false"


def main() -> None:
    """Answer the results of all checks."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # Soda logs to standard output
    json.dump(verify(**json.load(sys.stdin)), answer)


def verify(connection: dict[str, str], contract: str, variables: dict[str, str]) -> list[dict[str, Any]]:
    """Verify a contract in a database, and return its checks."""
    from soda_core.common.data_source_impl import DataSourceImpl
    from soda_core.common.yaml import DataSourceYamlSource
    from soda_core.contracts import verify_contract_locally

    source = {"type": "postgres", "name": "features", "connection": {**connection, "port": int(connection["port"])}}
    database = DataSourceImpl.from_yaml_source(DataSourceYamlSource.from_str(json.dumps(source)))
    session = verify_contract_locally(data_sources=[database], contract_file_path=contract, variables=variables)
    return [
        {
            "name": check.check.relative_path,
            "outcome": check.outcome.name,
            "ok": check.is_passed or check.is_warned,
            "value": check.threshold_value,
        }
        for result in session.results
        for check in result.check_results
    ]


if __name__ == "__main__":
    main()
