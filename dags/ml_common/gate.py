"""The decision whether a model becomes the champion."""

import os
from dataclasses import dataclass

from ml_common.errors import PermanentError


def next_task(*, promote: bool, otherwise: str) -> str:
    """Return the task that follows the gate, as a task of the DAG returns it to Airflow.

    Args:
        promote: Whether the gate lets the model pass.
        otherwise: The task that follows if it does not.
    """
    if not promote:
        return otherwise
    return "approval" if os.environ.get("MODEL_APPROVAL") == "required" else "register"


@dataclass(frozen=True)
class Verdict:
    """Whether the champion changes, and why, in one sentence."""

    promote: bool
    reason: str


@dataclass(frozen=True)
class Gate:
    """What a new model must reach, in a metric that is better the higher it is.

    Attributes:
        metric: The name of the metric, which begins a sentence.
        param: The name of the DAG's Param with the minimum.
        rows: What the new model and the champion are measured on.
        remedy: What to do about a model below the minimum.
    """

    metric: str
    param: str
    rows: str
    remedy: str

    def judge(
        self, value: float, minimum: float, champion_version: str | None, champion_value: float | None
    ) -> Verdict:
        """Compare a model with the minimum, and with the champion on the same rows.

        In a tie the new model wins, because it was trained on the newer data.

        Raises:
            PermanentError: The value is below the minimum.
        """
        if value < minimum:
            keeps = f"version {champion_version} keeps serving" if champion_version else "there is no champion yet"
            raise PermanentError(
                f"{self.metric} {value:.4f} on the {self.rows} is below {self.param} {minimum:.4f}, so the model is "
                f"not registered and {keeps}: {self.remedy}."
            )
        if champion_version is None or champion_value is None:
            return Verdict(
                True, f"{self.metric} {value:.4f} reaches the minimum {minimum:.4f} and there was no champion."
            )
        if value < champion_value:
            return Verdict(
                False,
                f"{self.metric} {value:.4f} is below the {champion_value:.4f} of version {champion_version} on the "
                f"same {self.rows}, so that version stays champion.",
            )
        return Verdict(
            True,
            f"{self.metric} {value:.4f} is not below the {champion_value:.4f} of the previous champion, "
            f"version {champion_version}, on the same {self.rows}.",
        )
