"""The program that fits a model on another system: reads the frozen flights, writes the model and facts about it.

It runs from an archive of a few modules, with Python, scikit-learn, skops, pandas and pyarrow of the other system.
Arguments: the Parquet file, the folder of the output, and the training as JSON. Both are paths or s3:// addresses.
"""

import json
import sys
import time
from datetime import date
from typing import Any

import sklearn
from pyarrow import fs, parquet

from flight_features.columns import FEATURES, TARGET
from flight_model import models

MODEL = "model.skops"
FACTS = "fit.json"


def main(flights: str, output: str, training: dict[str, Any]) -> None:
    """Fit the candidate to the flights before a day; write the facts last."""
    system, path = fs.FileSystem.from_uri(flights) if "://" in flights else (fs.LocalFileSystem(), flights)
    filters = [("day", "<", date.fromisoformat(training["before"]))]
    table = parquet.read_table(path, columns=["day", *FEATURES, TARGET], filters=filters, filesystem=system)
    rows = table.to_pandas()
    started = time.perf_counter()
    model = models.fit(training["candidate"], training["seed"], rows[list(FEATURES)], rows[TARGET])
    seconds = time.perf_counter() - started
    facts = {"rows": len(rows), "seconds": seconds, "scikit-learn": sklearn.__version__}
    for name, content in {MODEL: models.to_bytes(model), FACTS: json.dumps(facts).encode()}.items():
        _write(output, name, content)


def _write(folder: str, name: str, content: bytes) -> None:
    system, path = fs.FileSystem.from_uri(folder) if "://" in folder else (fs.LocalFileSystem(), folder)
    with system.open_output_stream(f"{path.rstrip('/')}/{name}") as file:
        file.write(content)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
