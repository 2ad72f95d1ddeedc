"""The verdict on a version in a month: outcomes decide, drift of the inputs only warns."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SHOWN_FEATURES = 5


class Verdict(StrEnum):
    """What follows from a month."""

    FINE = "fine"
    WARN = "warn"
    REQUEST = "request"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Limits:
    """The limits of a run.

    Attributes:
        minimum_outcomes: With fewer outcomes, there is no verdict.
        minimum_skill: With a lower Brier skill, a new model is requested.
        maximum_psi: With a higher population stability index, a feature counts as drifted.
    """

    minimum_outcomes: int
    minimum_skill: float
    maximum_psi: float


@dataclass(frozen=True)
class Judgement:
    """A verdict and the reason, in one sentence."""

    verdict: Verdict
    reason: str


def limits(params: Mapping[str, Any]) -> Limits:
    """Return the limits that a run's Params set."""
    return Limits(params["minimum_outcomes"], params["minimum_skill"], params["maximum_psi"])


def judge(version: str, outcomes: int, skill: float | None, psi: Mapping[str, float], allowed: Limits) -> Judgement:
    """Judge a version by its Brier skill and by the population stability index of each feature.

    Args:
        version: The version.
        outcomes: The number of flights with an outcome.
        skill: The Brier skill; None if all flights had the same outcome.
        psi: The population stability index of each feature.
        allowed: The limits.
    """
    if outcomes < allowed.minimum_outcomes:
        return Judgement(
            Verdict.UNDECIDED,
            f"Version {version} has {outcomes} outcomes, fewer than {allowed.minimum_outcomes}: nothing is requested.",
        )
    if skill is None:
        return Judgement(
            Verdict.UNDECIDED,
            f"All {outcomes} flights that version {version} scored had the same outcome: nothing is requested.",
        )
    if skill < allowed.minimum_skill:
        return Judgement(
            Verdict.REQUEST,
            f"The skill of version {version} is {skill:.3f}, below {allowed.minimum_skill}: it needs a successor.",
        )
    fine = f"The skill of version {version} is {skill:.3f}, not below {allowed.minimum_skill}"
    changed = drifted(psi, allowed.maximum_psi)
    if changed:
        return Judgement(Verdict.WARN, f"{fine}, but the inputs drifted: {_list(changed)}.")
    return Judgement(Verdict.FINE, f"{fine}, and no input drifted.")


def drifted(psi: Mapping[str, float], maximum: float) -> dict[str, float]:
    """Return the features whose index is above the maximum, highest first."""
    found = sorted(psi.items(), key=lambda item: -item[1])
    return {feature: value for feature, value in found if value > maximum}


def _list(changed: Mapping[str, float]) -> str:
    shown = [f"{feature} (PSI {value:.2f})" for feature, value in list(changed.items())[:SHOWN_FEATURES]]
    more = f" and {len(changed) - SHOWN_FEATURES} more" if len(changed) > SHOWN_FEATURES else ""
    return ", ".join(shown) + more
