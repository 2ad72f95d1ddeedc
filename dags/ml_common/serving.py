"""What a model version and the model server (images/serving) agree on.

A version carries the code that serves it, as an MLflow pyfunc model. Its `predict` returns one prediction per input.
For an input that it cannot predict it returns a `failure`, so that the other inputs of a batch get their predictions.
"""

from pathlib import Path

# In the metadata of a model whose inputs are files: the name of the field of a multipart form. The default is `input`.
UPLOAD_FIELD = "upload_field"
# In the metadata of a model whose `predict_stream` answers a question: the server has a page, and /ask.
ANSWERS_QUESTIONS = "answers_questions"


def failure(status: int, sentence: str) -> dict[str, object]:
    """Return the prediction of an input that has none.

    Args:
        status: The status code of the HTTP response: 4xx for an invalid input, 503 if the client should try again.
        sentence: What is wrong, and what to do.
    """
    return {"error": sentence, "status": status}


def code_paths(file: str) -> list[str]:
    """Return the `code_paths` of a model: the package of the DAG that contains `file`, and `ml_common`."""
    return [str(Path(file).parent), str(Path(__file__).parent)]
