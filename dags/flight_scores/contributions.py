"""Why a flight has a high probability, for any model that returns probabilities."""

from collections.abc import Callable

import numpy as np
import pandas as pd

Predict = Callable[[pd.DataFrame], np.ndarray]


def contributions(predict: Predict, flights: pd.DataFrame, typical: pd.Series) -> pd.DataFrame:
    """Return by how much each flight's probability falls if one feature has its typical value instead.

    Args:
        predict: Returns one probability per row.
        flights: One column per feature, of dtype float64.
        typical: The typical value of each feature.
    """
    changed = [flights.assign(**{feature: typical[feature]}) for feature in flights.columns]
    probabilities = predict(pd.concat([flights, *changed], ignore_index=True)).reshape(-1, len(flights))
    return pd.DataFrame((probabilities[0] - probabilities[1:]).T, index=flights.index, columns=flights.columns)
