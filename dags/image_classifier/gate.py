"""The decision whether a model becomes the champion."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from image_classifier.outputs import Evaluation
from ml_common.errors import PermanentError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Whether the champion changes, and why, in one sentence."""

    promote: bool
    reason: str


def judge(accuracy: float, minimum: float, champion_version: str | None, champion_accuracy: float | None) -> Verdict:
    """Compare a model's accuracy with the minimum, and with the champion's on the same held-out images.

    In a tie the new model wins, because it was trained on the newer images.

    Raises:
        PermanentError: The accuracy is below the minimum.
    """
    if accuracy < minimum:
        keeps = f"version {champion_version} keeps serving" if champion_version else "there is no champion yet"
        raise PermanentError(
            f"Held-out accuracy {accuracy:.4f} is below minimum_accuracy {minimum:.4f}, so the model is not registered "
            f"and {keeps}: add images, train for more epochs or lower minimum_accuracy."
        )
    if champion_version is None or champion_accuracy is None:
        return Verdict(True, f"Accuracy {accuracy:.4f} reaches the minimum {minimum:.4f} and there was no champion.")
    if accuracy < champion_accuracy:
        return Verdict(
            False,
            f"Accuracy {accuracy:.4f} is below the {champion_accuracy:.4f} of version {champion_version} on the same "
            "held-out images, so that version stays champion.",
        )
    return Verdict(
        True,
        f"Accuracy {accuracy:.4f} is not below the {champion_accuracy:.4f} of the previous champion, "
        f"version {champion_version}, on the same held-out images.",
    )


def decide(evaluated: Evaluation, minimum_accuracy: float) -> dict[str, Any]:
    """Decide whether the model becomes the champion. Raises PermanentError if it is below the minimum."""
    verdict = judge(
        evaluated["accuracy"], minimum_accuracy, evaluated["champion_version"], evaluated["champion_accuracy"]
    )
    log.info(verdict.reason)
    return asdict(verdict)
