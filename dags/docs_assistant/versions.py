"""The versions of the registered MLflow model `docs_answers`: a champion prompt with its model and its index."""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.models import Model

from docs_assistant.models import Endpoint
from docs_assistant.outputs import Candidate
from ml_common import registry
from ml_common.content_keys import code_version, content_key
from ml_common.serving import ANSWERS_QUESTIONS, code_paths

MODEL_NAME = "docs_answers"
HERE = Path(__file__).parent
SERVING_CODE = HERE / "serve.py"
SEARCH = HERE.parent / "docs_index"
CODE = [*sorted(HERE.glob("*.py")), SEARCH / "search.py", SEARCH / "pgvector_search.py"]
REQUIREMENTS = (
    *("cachetools", "mlflow-skinny", "numpy", "openai", "pgvector", "psycopg", "psycopg-pool"),
    *("safetensors", "tokenizers", "torch"),
)


def register(candidate: Candidate, prompt_version: str, endpoint: Endpoint | None, index: str, language: str) -> str:
    """Register what answers questions about an index, and return the version; the same is registered once."""
    config = {
        "index": index,
        "language": language,
        "prompt": candidate["prompt"],
        "prompt_version": prompt_version,
        "endpoint": _public(endpoint) if endpoint else None,
        "experiment": MODEL_NAME,
    }
    key = content_key({**config, "code": code_version(CODE)})
    params = {"index": index, "candidate": candidate["name"], "prompt_version": prompt_version}
    run = registry.Run(training_key=key, name=f"{index}: {candidate['name']}", params=params, metrics=[])
    return registry.register(MODEL_NAME, run, lambda folder, entry: write_files(folder, config, entry))


def write_files(folder: Path, config: dict[str, Any], entry: Model | None = None) -> None:
    """Write the files of a version: its settings, and the code that serves it."""
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(SERVING_CODE),
        code_paths=[*code_paths(__file__), str(SEARCH)],
        model_config=config,
        metadata={ANSWERS_QUESTIONS: True},
        pip_requirements=registry.pinned(REQUIREMENTS),
        mlflow_model=entry,
    )


def _public(endpoint: Endpoint) -> dict[str, Any]:
    """Return what MLflow may show: not the key, and no prices, which only a budget needs."""
    return {
        "name": endpoint.name,
        "address": endpoint.address,
        "model": endpoint.model,
        "parameters": dict(endpoint.parameters),
    }
