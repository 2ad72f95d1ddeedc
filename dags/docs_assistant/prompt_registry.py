"""The prompt registry of MLflow, where the alias `champion` names the prompt and the model that answer."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from docs_assistant.outputs import Candidate
from ml_common.content_keys import content_key
from ml_common.registry import CHAMPION, clear_errors

PREFIX = "docs_assistant_"
KEY, CONNECTION, CANDIDATE = "candidate_key", "connection", "candidate"
MISSING = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}


def key_of(candidate: Candidate) -> str:
    """Return what identifies the version of a candidate."""
    return content_key({"prompt": candidate["prompt"], "connection": candidate["connection"]})


def champion(index: str) -> Candidate | None:
    """Return the champion of an index, or None before the first one."""
    with clear_errors("look up the champion"):
        try:
            found = MlflowClient().get_prompt_version_by_alias(PREFIX + index, CHAMPION)
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise
        return Candidate(
            name=found.tags[CANDIDATE],
            prompt=str(found.template),
            connection=found.tags[CONNECTION] or None,
            version=str(found.version),
        )


def register(index: str, candidate: Candidate) -> str:
    """Register a candidate and return its version; the same candidate is registered once."""
    key = key_of(candidate)
    with clear_errors("register the prompt"):
        client = MlflowClient()
        existing = client.search_model_versions(
            f"name = '{PREFIX}{index}' and tags.`mlflow.prompt.is_prompt` = 'true' and tags.{KEY} = '{key}'"
        )
        if existing:
            return str(existing[0].version)
        tags = {KEY: key, CONNECTION: candidate["connection"] or "", CANDIDATE: candidate["name"]}
        return str(client.register_prompt(PREFIX + index, candidate["prompt"], tags=tags).version)


def promote(index: str, version: str) -> None:
    """Set the alias `champion` to a version."""
    with clear_errors(f"make version {version} the champion"):
        MlflowClient().set_prompt_alias(PREFIX + index, CHAMPION, int(version))
