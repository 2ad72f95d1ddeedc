"""Check that an endpoint answers as the model itself does."""

import logging
from collections.abc import Iterable

import httpx

from image_classifier.model import Classifier
from ml_common.errors import PermanentError, ServiceUnavailableError

# One line per request would bury the task's own lines.
logging.getLogger("httpx").setLevel(logging.WARNING)

# A GPU and a CPU round differently, which can tip an image between two almost equal classes.
REQUIRED_AGREEMENT = 0.95
TIMEOUT_SECONDS = 10.0


def check_endpoint(endpoint: str, version: str, model: Classifier, files: Iterable[bytes]) -> float:
    """Return the share of `files` for which the endpoint predicts the same class as `model`.

    Args:
        endpoint: Its URL.
        version: The version that it must serve.
        model: The classifier of that version.
        files: Contents of image files, read one at a time.

    Raises:
        PermanentError: The endpoint serves another version, or disagrees with the model.
        ServiceUnavailableError: The endpoint does not answer.
    """
    try:
        with httpx.Client(base_url=endpoint, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            served = client.get("/healthz").raise_for_status().json()["version"]
            if served != version:
                raise PermanentError(
                    f"The endpoint {endpoint} serves version {served} instead of {version}: stop the other process or "
                    "Service at that address."
                )
            agreements = [_served_class(client, file) == _predicted_class(model, file) for file in files]
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(f"The endpoint {endpoint} does not answer: {error}.") from error
    agreement = sum(agreements) / len(agreements)
    if agreement < REQUIRED_AGREEMENT:
        raise PermanentError(
            f"The endpoint {endpoint} agrees with version {version} on {agreement:.0%} of {len(agreements)} held-out "
            f"images instead of at least {REQUIRED_AGREEMENT:.0%}, because its code differs from this run's: rebuild "
            "and restart serving."
        )
    return agreement


def _served_class(client: httpx.Client, file: bytes) -> str:
    answer: str = client.post("/predict", files={"image": ("image", file)}).raise_for_status().json()["class"]
    return answer


def _predicted_class(model: Classifier, file: bytes) -> str:
    probabilities = model.classify(file)
    return max(probabilities, key=lambda name: probabilities[name])
