"""Checks of partitions by Great Expectations: which days of a run violate an expectation about their rows.

The severity of an expectation decides: `critical`, the default, halts the run; the others warn. Nothing is written to
disk, and nothing is sent. The import takes seconds: import this module in the function that needs it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

# The pinned version sends nothing anyway.
os.environ["GX_ANALYTICS_ENABLED"] = "False"

import great_expectations as gx
import pandas as pd
from great_expectations.core import ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from ml_common.checks import Finding

DAY = "day"
# Each violation with the day of its row.
RESULT_FORMAT = {"result_format": "COMPLETE", "unexpected_index_column_names": [DAY]}
# Arguments of an expectation that name columns.
COLUMNS = ("column", "column_A", "column_B", "column_list")


def findings(expectations: Sequence[Expectation], rows: pd.DataFrame) -> list[Finding]:
    """Return the days that violate the expectations.

    Args:
        expectations: Expectations that each row fulfils or violates, such as a range, and not all rows together.
        rows: The rows of all days, with a column `day`.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    suite = gx.ExpectationSuite("suite", expectations=list(expectations))
    results = batch.validate(suite, result_format=RESULT_FORMAT).results
    return [finding for result in results if not result.success for finding in _of_days(result)]


def _of_days(result: ExpectationValidationResult) -> Iterator[Finding]:
    config = result.expectation_config
    if "unexpected_index_list" not in result.result:
        raise RuntimeError(f"{config.type} was not evaluated: {result.exception_info}")
    violations: dict[date, list[Mapping[str, Any]]] = {}
    for violation in result.result["unexpected_index_list"]:
        violations.setdefault(violation[DAY], []).append(violation)
    for day, of_day in sorted(violations.items()):
        yield Finding(day, _sentence(config.type, config.kwargs, of_day), config.severity == FailureSeverity.CRITICAL)


def _sentence(name: str, arguments: Mapping[str, Any], violations: Sequence[Mapping[str, Any]]) -> str:
    """Return what was observed first, in how many rows, and which expectation that violates."""
    observed = ", ".join(f"{column} {value}" for column, value in violations[0].items() if column != DAY)
    limits = [f"{key} {value}" for key, value in arguments.items() if key not in (*COLUMNS, "batch_id")]
    return f"has {observed} (rows: {len(violations)}), which violates {' '.join([name, *limits])}"
