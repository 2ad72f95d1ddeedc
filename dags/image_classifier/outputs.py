"""What the tasks of the DAG pass each other."""

from typing import TypedDict


class Dataset(TypedDict):
    """Output of `validate`; `quarantined` counts the files in quarantine that have not been replaced, by reason."""

    fingerprint: str
    quarantined: dict[str, int]


class Training(TypedDict):
    """Output of `train`."""

    training_key: str
    fingerprint: str
    image_size: int
    seconds: float
    device: str
    reused: bool


class Evaluation(TypedDict):
    """Output of `evaluate`; the champion's accuracy is on the same held-out images."""

    accuracy: float
    confusion_matrix: str
    predictions: str
    champion_version: str | None
    champion_accuracy: float | None


class Registration(TypedDict):
    """Output of `register`."""

    version: str
    promoted: bool
    reason: str


class Deployment(TypedDict):
    """Output of `deploy`."""

    version: str
    endpoint: str
