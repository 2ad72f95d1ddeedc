"""The decision whether a model becomes the champion, and who decides."""

import logging

from flight_model.outputs import Decision, Evaluation, Frozen
from ml_common.gate import Gate, Verdict
from ml_common.gate import next_task as next_task_of
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

GATE = Gate(
    metric="AUC",
    param="minimum_auc",
    rows="evaluation days",
    remedy="look at the pictures of its evaluation, publish more days of features, or lower minimum_auc",
)


def decide(frozen: Frozen, evaluated: Evaluation, minimum_auc: float) -> Decision:
    """Decide whether the model may become the champion. Raises PermanentError if it is below the minimum."""
    verdict = _verdict(evaluated, minimum_auc)
    log.info(verdict.reason)
    return Decision(promote=verdict.promote, reason=verdict.reason, summary=_summary(frozen, evaluated, verdict))


def _verdict(evaluated: Evaluation, minimum_auc: float) -> Verdict:
    champion = evaluated["champion_metrics"]
    if evaluated["is_champion"]:
        return Verdict(
            False,
            f"The model is version {evaluated['champion_version']}, which is the champion: the same flights and the "
            "same settings give the same model.",
        )
    return GATE.judge(
        evaluated["metrics"]["auc"], minimum_auc, evaluated["champion_version"], champion["auc"] if champion else None
    )


def _summary(frozen: Frozen, evaluated: Evaluation, verdict: Verdict) -> str:
    """Return what a person needs to approve the model, as Markdown."""
    measured = {"new model": evaluated["metrics"]}
    if evaluated["champion_metrics"]:
        measured[f"version {evaluated['champion_version']}"] = evaluated["champion_metrics"]
    rows = [
        f"| {name} | {metrics['auc']:.4f} | {metrics['brier_score']:.4f} | {metrics['brier_skill']:.4f} |"
        for name, metrics in measured.items()
    ]
    return "\n".join(
        [
            verdict.reason,
            "",
            "| | AUC | Brier score | Brier skill |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"Trained on flights from {frozen['first']}, and measured on {evaluated['rows']:,} flights from "
            f"{evaluated['first']} to {evaluated['last']}. The pictures are in "
            f"`{artifacts_bucket().uri(evaluated['folder'])}`.",
        ]
    )


def next_task(evaluated: Evaluation, decision: Decision) -> str | None:
    """Return the task that follows the gate; None if the model is the champion already."""
    if evaluated["is_champion"]:
        return None
    return next_task_of(promote=decision["promote"], otherwise="card")
