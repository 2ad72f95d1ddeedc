"""The model as MLflow serves it: questions in, answers with their sources out.

Every registered version carries this file and the code that it imports. The server reads the index in the database of
the variable FEATURES_DATABASE, and sends MODEL_API_KEY to the model.
"""

import os
from collections.abc import Iterator
from typing import Any

import mlflow
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from docs_assistant.assistant import Assistant, Event, reply_of
from docs_assistant.models import ChatModel, Endpoint
from docs_assistant.retrieval import LiveIndex
from docs_assistant.sentence_vectors import SentenceVectors
from ml_common import embedding
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.serving import failure

DATABASE = "FEATURES_DATABASE"
KEY = "MODEL_API_KEY"


class DocsAnswers(PythonModel):  # type: ignore[misc] # MLflow has no types
    """Answers questions about the live version of an index."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the prompt, and load the embedding model, so that the first question need not wait for it."""
        config = context.model_config
        address = os.environ.get(DATABASE)
        if not address:
            raise PermanentError(f"{DATABASE} is not set: set it to the address of the feature store's database.")
        endpoint = config["endpoint"]
        embedding.embed(["warm up"])
        self.assistant = Assistant(
            index=LiveIndex(config["index"], config["language"], address),
            index_name=config["index"],
            prompt=config["prompt"],
            prompt_version=config["prompt_version"],
            chat=ChatModel(Endpoint(**endpoint, key=os.environ.get(KEY) or "none")) if endpoint else None,
            embed=SentenceVectors(embedding.embed),
            experiment_id=mlflow.get_experiment_by_name(config["experiment"]).experiment_id,
        )

    def predict(self, model_input: list[str]) -> list[dict[str, Any]]:
        """Return the answer to each question with its sources, or a failure."""
        return [self._reply(question) for question in model_input]

    def predict_stream(self, model_input: str) -> Iterator[Event | dict[str, Any]]:
        """Yield the events of one answer, or a failure as the first one."""
        try:
            yield from self.assistant.ask(model_input)
        except ServiceUnavailableError as error:
            yield failure(503, str(error))

    def _reply(self, question: str) -> dict[str, Any]:
        try:
            return dict(reply_of(self.assistant.ask(question)))
        except ServiceUnavailableError as error:
            return failure(503, str(error))


set_model(DocsAnswers())
