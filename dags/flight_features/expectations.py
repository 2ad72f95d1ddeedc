"""What is expected of the features. A violation that a model cannot be trained on halts; what is only unusual warns."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import pandas as pd
import pyarrow
from great_expectations import expectations as gxe
from great_expectations.expectations.metadata_types import FailureSeverity

from flight_features.columns import FEATURES, KEY
from ml_common import expectations
from ml_common.checks import Finding

SHARES = [feature for feature in FEATURES if feature.startswith("late_share_")]
# Temperature in °F, wind in miles per hour, precipitation in inches, pressure in hPa, visibility and distance in miles.
POSSIBLE = {
    "minute_of_day": (0, 24 * 60 - 1),
    "day_of_week": (1, 7),
    "distance": (1, 12_500),
    "flights_in_hour": (1, None),
    "humidity": (0, 100),
    "precipitation": (0, None),
    "wind_speed": (0, None),
    "wind_gust": (0, None),
    "visibility": (0, None),
    "plane_seats": (1, None),
    **dict.fromkeys(SHARES, (0, 1)),
}
USUAL = {
    "temperature": (-20, 115),
    "wind_speed": (None, 75),
    "wind_gust": (None, 100),
    "precipitation": (None, 5),
    "pressure": (940, 1060),
    "visibility": (None, 10),
    "plane_age": (0, 60),
    "plane_seats": (None, 850),
}
ALWAYS_KNOWN = ("minute_of_day", "day_of_week", "distance", "flights_in_hour")

# About each row of features.
OF_FLIGHTS = [
    gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEY)),
    *(gxe.ExpectColumnValuesToNotBeNull(column=feature) for feature in ALWAYS_KNOWN),
    *(
        gxe.ExpectColumnValuesToBeBetween(column=feature, min_value=lowest, max_value=highest)
        for feature, (lowest, highest) in POSSIBLE.items()
    ),
    *(
        gxe.ExpectColumnValuesToBeBetween(
            column=feature, min_value=lowest, max_value=highest, severity=FailureSeverity.WARNING
        )
        for feature, (lowest, highest) in USUAL.items()
    ),
]
# About the counts of each day, as count_features.sql names them.
OF_DAYS = [
    gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="kept_flights"),
    gxe.ExpectColumnValuesToBeBetween(
        column="share_of_recent_days", min_value=0.6, max_value=1.4, severity=FailureSeverity.WARNING
    ),
]


def findings(features: pyarrow.Table, counts: Mapping[date, Mapping[str, Any]]) -> list[Finding]:
    """Return what violates the expectations, given the features and the counts of each day."""
    of_days = pd.DataFrame([{"day": day, **counted} for day, counted in counts.items()])
    return [*expectations.findings(OF_FLIGHTS, features.to_pandas()), *expectations.findings(OF_DAYS, of_days)]
