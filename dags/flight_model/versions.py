"""The versions of the registered MLflow model `flight_delays`."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
from mlflow.entities import Metric
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from flight_features.columns import FEATURES
from flight_model import candidates, models
from flight_model.outputs import Choice, Evaluation, Fitted, Frozen
from ml_common import registry

MODEL_NAME = "flight_delays"
SERVING_CODE = Path(__file__).with_name("serve.py")
REQUIREMENTS = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "skops", "threadpoolctl")
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("double", name) for name in FEATURES]), outputs=Schema([ColSpec("double")])
)


def write_files(folder: Path, model: bytes, entry: Model | None = None) -> None:
    """Write the files of a version: the fitted model, and the code that serves it.

    Args:
        folder: An empty folder.
        model: What `models.to_bytes` returned.
        entry: The model in MLflow that the files belong to.
    """
    with TemporaryDirectory() as temporary:
        file = Path(temporary, "model.skops")
        file.write_bytes(model)
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(SERVING_CODE),
            artifacts={"model": str(file)},
            model_config={"trusted": list(models.TRUSTED)},
            signature=SIGNATURE,
            pip_requirements=registry.pinned(REQUIREMENTS),
            mlflow_model=entry,
        )


def training_run(
    frozen: Frozen, choice: Choice, fitted: Fitted, evaluated: Evaluation, files: Mapping[str, bytes]
) -> registry.Run:
    """Return what MLflow shows about a training, with the compared candidates below it."""
    children = [
        registry.Run(
            training_key=compared["training_key"],
            name=compared["candidate"],
            params=_params(compared),
            metrics=[Metric("auc", compared["auc"], compared["finished_at_ms"], 0)],
        )
        for compared in choice["compared"]
    ]
    metrics = {**evaluated["metrics"], "training_seconds": fitted["seconds"]}
    return registry.Run(
        training_key=fitted["training_key"],
        name=f"{frozen['as_of']} {fitted['candidate']}",
        params={
            **_params(fitted),
            "as_of": frozen["as_of"],
            "evaluation_days": frozen["evaluation_days"],
            "training_set": frozen["training_set"],
        },
        metrics=[Metric(name, float(str(value)), fitted["finished_at_ms"], 0) for name, value in metrics.items()],
        files=files,
        children=children,
    )


def _params(fitted: Fitted) -> dict[str, object]:
    return {
        "candidate": fitted["candidate"],
        "training_rows": fitted["rows"],
        **candidates.hyperparameters(fitted["candidate"]),
    }
