"""The model as MLflow serves it: rows of features in, the probability that each flight is late out.

Every registered version carries this file, which imports nothing else of this repository.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from threadpoolctl import ThreadpoolController


class FlightDelays(PythonModel):  # type: ignore[misc] # MLflow has no types
    """Predicts in the caller's thread, because a few rows are not faster with more threads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the fitted model, without running code from its file."""
        self.model = skops.io.load(Path(context.artifacts["model"]), trusted=context.model_config["trusted"])
        self.threads = ThreadpoolController()

    def predict(self, model_input: pd.DataFrame) -> np.ndarray:
        """Return probabilities, float64 [N]; a feature may be missing (null)."""
        with self.threads.limit(limits=1):
            return np.asarray(self.model.predict_proba(model_input[list(self.model.feature_names_in_)])[:, 1])


set_model(FlightDelays())
