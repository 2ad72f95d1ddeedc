"""The page of the riskiest flights."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from flight_features.columns import FEATURES
from flight_scores.contributions import Predict, contributions
from ml_common import pages

TEMPLATE = Path(__file__).with_name("riskiest.html.j2")
FLIGHTS = 50
FACTS = 3
# Less than one percentage point is not worth a line.
SMALLEST_CONTRIBUTION = 0.01


def render(predict: Predict, version: str, day: date, scored: pd.DataFrame) -> bytes:
    """Return the page of a day.

    Args:
        predict: The model of the version.
        version: The version of the model.
        day: The day of the flights.
        scored: The flights of the day with their features and probabilities, the riskiest first.
    """
    riskiest = scored.head(FLIGHTS)
    contributed = contributions(predict, riskiest[list(FEATURES)], scored[list(FEATURES)].median())
    flights = riskiest.to_dict("records")
    for flight, (_, contribution) in zip(flights, contributed.iterrows(), strict=True):
        flight["facts"] = list(_facts(flight, contribution))
    return pages.render(
        TEMPLATE,
        day=day,
        version=version,
        flights=flights,
        scored=len(scored),
        expected=scored["probability"].sum(),
    )


def _facts(flight: dict[str, Any], contribution: pd.Series) -> Iterator[dict[str, Any]]:
    """Yield the features that raise the probability of a flight most, with their values."""
    for feature, points in contribution.nlargest(FACTS).items():
        if points >= SMALLEST_CONTRIBUTION:
            yield {
                "name": str(feature).replace("_", " "),
                "value": _text(flight[str(feature)]),
                "points": points,
            }


def _text(value: float) -> str:
    if pd.isna(value):
        return "unknown"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
