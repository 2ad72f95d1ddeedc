"""The model card: what the model is, how good it is, who let it serve, and what it is not for.

A card is a page, and the same as JSON. A short form in Markdown describes the version in MLflow.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flight_features.columns import FEATURES
from flight_model import candidates
from flight_model.outputs import Choice, Computing, Decision, Evaluation, Fitted, Frozen, Registration
from ml_common import pages

PAGE = "card.html"
JSON = "card.json"
TEMPLATE = Path(__file__).with_name("card.html.j2")

INTENDED_USE = (
    "Estimates, before departure, the probability that a flight from New York (EWR, JFK, LGA) arrives at least 30 "
    "minutes late or never, in order to rank the flights of a day by risk."
)
LIMITS = [
    "The flights are those of 2013 from three airports; other airports, years and carriers are not covered.",
    "The weather is the observation of the scheduled hour, not a forecast made earlier.",
    "Flights without a tail number were mostly cancelled, so that unknown features of a plane reveal some of them.",
    "Late flights follow seasons and storms that the training days may not contain; flight_monitor measures that.",
    "The probabilities say nothing about the cause of a delay, and must not be used to judge people.",
]


def facts(
    frozen: Frozen,
    choice: Choice,
    fitted: Fitted,
    evaluated: Evaluation,
    details: Mapping[str, Any],
    decision: Decision,
    approval: Mapping[str, Any] | None,
    registered: Registration | None,
    computing: Computing | None = None,
) -> dict[str, Any]:
    """Return the content of the card.

    Args:
        frozen: The training set.
        choice: The compared candidates.
        fitted: The model.
        evaluated: Its evaluation.
        details: The manifest of the evaluation.
        decision: What the gate decided.
        approval: The answer of a person, if one was asked.
        registered: The version, if the model was registered.
        computing: Where the model was fitted, if that was outside the stack.
    """
    return {
        "model": "flight_delays",
        "version": registered["version"] if registered else None,
        "training_key": fitted["training_key"],
        "decision": _sentence(decision, evaluated, approval, registered),
        "approved_by": registered["approved_by"] if registered else None,
        "training_set": {**frozen},
        "candidate": fitted["candidate"],
        "hyperparameters": candidates.hyperparameters(fitted["candidate"]),
        "training_rows": fitted["rows"],
        "training_seconds": round(fitted["seconds"], 1),
        "candidates": choice["compared"],
        "failed_candidates": choice["failed"],
        "computing": computing,
        "evaluation": {"first": evaluated["first"], "last": evaluated["last"], "rows": evaluated["rows"], **details},
        "features": list(FEATURES),
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }


def _sentence(
    decision: Decision,
    evaluated: Evaluation,
    approval: Mapping[str, Any] | None,
    registered: Registration | None,
) -> str:
    """Return what became of the model, and why."""
    if registered:
        return f"Version {registered['version']} became the champion. {decision['reason']}"
    if decision["promote"]:
        who = answered_by(approval)
        answer = f"{who} rejected the model" if who else "The model was not approved in time"
        champion = evaluated["champion_version"]
        return f"{answer}, so {f'version {champion} stays champion' if champion else 'there is still no champion'}."
    return decision["reason"]


def answered_by(approval: Mapping[str, Any] | None) -> str | None:
    """Return the name of the person who answered, or None without a question or an answer."""
    user = (approval or {}).get("responded_by_user")
    return str(user["name"]) if user else None


def files(content: Mapping[str, Any], pictures: Mapping[str, bytes]) -> dict[str, tuple[bytes, str]]:
    """Return the files of the card with their content types, by name."""
    return {
        JSON: (json.dumps(content, indent=1, sort_keys=True).encode(), "application/json"),
        PAGE: (pages.render(TEMPLATE, **content, pictures=pictures), pages.CONTENT_TYPE),
    }


def markdown(content: Mapping[str, Any]) -> str:
    """Return what MLflow shows as the description of the version."""
    evaluated, trained_on = content["evaluation"], content["training_set"]
    measured = [
        f"| {name} | {metrics['auc']:.4f} | {metrics['brier_skill']:.4f} |"
        for name, metrics in evaluated["metrics"].items()
    ]
    return "\n".join(
        [
            content["decision"],
            *([f"Approved by {content['approved_by']}."] if content["approved_by"] else []),
            f"\n{content['intended_use']}",
            f"\n| {evaluated['rows']:,} flights, {evaluated['first']} to {evaluated['last']} | AUC | Brier skill |",
            "| --- | --- | --- |",
            *measured,
            f"\nTraining set: `{trained_on['training_set']}`, SHA-256 of its rows `{trained_on['sha256']}`",
            "\nLimits:\n",
            *(f"- {limit}" for limit in content["limits"]),
        ]
    )
