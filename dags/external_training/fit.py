"""The program that fits a model on another system: reads the frozen flights, writes the model and facts about it.

It runs from an archive of a few modules, with Python, scikit-learn, skops, pandas and pyarrow of the other system.
Arguments: the Parquet file, the folder of the output, and the training as JSON.
"""

import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import sklearn
from pyarrow import parquet

from flight_features.columns import FEATURES, TARGET
from flight_model import models

MODEL = "model.skops"
FACTS = "fit.json"


def main(flights: Path, output: Path, training: dict[str, Any]) -> None:
    """Fit the candidate to the flights before a day; write the facts last."""
    filters = [("day", "<", date.fromisoformat(training["before"]))]
    rows = parquet.read_table(flights, columns=["day", *FEATURES, TARGET], filters=filters).to_pandas()
    started = time.perf_counter()
    model = models.fit(training["candidate"], training["seed"], rows[list(FEATURES)], rows[TARGET])
    seconds = time.perf_counter() - started
    facts = {"rows": len(rows), "seconds": seconds, "scikit-learn": sklearn.__version__}
    (output / MODEL).write_bytes(models.to_bytes(model))
    (output / FACTS).write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
