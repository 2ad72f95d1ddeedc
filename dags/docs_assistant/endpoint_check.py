"""Check that an endpoint answers questions with the version that it must serve."""

import logging

import httpx

from docs_assistant.outputs import NO_ANSWER
from ml_common.errors import PermanentError, ServiceUnavailableError

# One line per request would bury the task's own lines.
logging.getLogger("httpx").setLevel(logging.WARNING)

TIMEOUT_SECONDS = 90.0


def check_endpoint(endpoint: str, version: str, index: str, question: str, model: str | None) -> str:
    """Ask a question, and return the answer.

    Args:
        endpoint: Its URL.
        version: The version that it must serve.
        index: The index that it must search.
        question: The question.
        model: The model that must answer; None for sentences of the passages.

    Raises:
        PermanentError: The endpoint serves another version, or another model answers.
        ServiceUnavailableError: The endpoint does not answer.
    """
    try:
        with httpx.Client(base_url=endpoint, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            reply = client.post("/ask", json={"question": question}).raise_for_status().json()
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(f"The endpoint {endpoint} does not answer: {error}.") from error
    if (reply["model_version"], reply["index"]) != (version, index):
        raise PermanentError(
            f"The endpoint {endpoint} serves version {reply['model_version']} for the index {reply['index']} instead "
            f"of version {version} for {index}: stop the other process or Service at that address."
        )
    if model and reply["notice"].startswith(NO_ANSWER):
        raise PermanentError(f"The endpoint {endpoint} does not reach the model {model}. {reply['notice']}")
    return str(reply["answer"])
