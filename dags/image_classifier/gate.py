"""The decision whether a classifier becomes the champion."""

import logging
from dataclasses import asdict
from typing import Any

from image_classifier.outputs import Evaluation
from ml_common.gate import Gate

log = logging.getLogger(__name__)

GATE = Gate(
    metric="Accuracy",
    param="minimum_accuracy",
    rows="held-out images",
    remedy="add images, train for more epochs or lower minimum_accuracy",
)


def decide(evaluated: Evaluation, minimum_accuracy: float) -> dict[str, Any]:
    """Decide whether the model becomes the champion. Raises PermanentError if it is below the minimum."""
    verdict = GATE.judge(
        evaluated["accuracy"], minimum_accuracy, evaluated["champion_version"], evaluated["champion_accuracy"]
    )
    log.info(verdict.reason)
    return asdict(verdict)
