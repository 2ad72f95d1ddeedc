"""Fitted models as files: equal models are equal bytes, and reading one runs no code from it."""

import re
import warnings
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flight_model import candidates
from ml_common.errors import PermanentError

# Types of scikit-learn's that skops does not trust by itself.
TRUSTED = ("numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")
# The cores that a pod asks for. With more threads than cores, gradient boosting takes many times longer.
THREADS = 1
# skops names objects, and the files of arrays, by their addresses in memory.
ADDRESS = re.compile(r'(?<="__id__": )\d+|(?<="file": ")\d+(?=\.npy")')
SCHEMA = "schema.json"


def fit(name: str, seed: int, features: pd.DataFrame, late: "pd.Series[bool]") -> Any:
    """Fit a candidate to flights; the same inputs always give the same model."""
    with threadpool_limits(THREADS):
        return candidates.create(name, seed).fit(features, late)


def probabilities(model: Any, features: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probability that each flight is late, float64 [N]."""
    with threadpool_limits(THREADS):
        predicted: NDArray[np.float64] = model.predict_proba(features)[:, 1]
        return predicted


def to_bytes(model: Any) -> bytes:
    """Return a fitted model as a file of skops, with numbers in place of addresses and times."""
    written = ZipFile(BytesIO(_skops_io().dumps(model)))
    numbers: dict[str, str] = {}
    schema = ADDRESS.sub(lambda found: numbers.setdefault(found[0], str(len(numbers))), written.read(SCHEMA).decode())
    files = {SCHEMA: schema.encode()}
    for name in written.namelist():
        address, dot, suffix = name.partition(".")
        if address in numbers:
            files[numbers[address] + dot + suffix] = written.read(name)
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as target:
        for name in sorted(files):
            target.writestr(ZipInfo(name), files[name], ZIP_DEFLATED)
    return file.getvalue()


def from_bytes(file: bytes) -> Any:
    """Read a file that `to_bytes` wrote.

    Raises:
        PermanentError: The file is something else.
    """
    try:
        return _skops_io().loads(file, trusted=list(TRUSTED))
    except Exception as error:
        raise PermanentError(
            f"The file is not a model of flight_model ({type(error).__name__}: {error}): delete its folder, and run "
            "the task again."
        ) from error


def _skops_io() -> Any:
    """Import skops.io, which takes seconds: it imports all of scikit-learn, and looks for SciPy's functions everywhere.

    It looks for them in every module that is loaded, and Airflow's modules warn of each name that they do not have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io
