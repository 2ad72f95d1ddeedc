"""The decision whether a prompt and a model become the champion, and why."""

import logging

from docs_assistant.outputs import Decision, Score
from ml_common import gate as common
from ml_common.gate import Gate

log = logging.getLogger(__name__)

GATE = Gate(
    metric="Share of correct answers",
    param="minimum_correct",
    rows="questions",
    remedy="look at the answers on the page, correct the prompts or the documents, or lower minimum_correct",
)


def decide(scores: list[Score], best: int, minimum_correct: float) -> Decision:
    """Decide whether the best candidate may become the champion.

    Raises:
        PermanentError: It answers too few questions.
    """
    chosen = scores[best]
    champion = next((score for score in scores if score["candidate"]["version"]), None)
    version = champion["candidate"]["version"] if champion else None
    verdict = GATE.judge(chosen["correct"], minimum_correct, version, champion["correct"] if champion else None)
    promote, reason = verdict.promote, verdict.reason
    is_champion = chosen["candidate"]["version"] is not None
    if is_champion:
        promote, reason = False, f"Version {version}, {chosen['candidate']['name']}, is the champion already."
    log.info(reason)
    rows = [
        f"| {score['candidate']['name']} | {score['correct']:.3f} | {score['grounded']:.3f} | {score['usd']:.4f} |"
        for score in scores
    ]
    table = "\n".join(["| candidate | correct | grounded | $ |", "| --- | --- | --- | --- |", *rows])
    return Decision(
        promote=promote,
        is_champion=is_champion,
        reason=reason,
        summary=f"{chosen['candidate']['name']}: {reason}\n\n{table}",
    )


def next_task(decision: Decision) -> str:
    """Return the task that follows: a champion that stays is served again, with the present code and without asking."""
    return "register" if decision["is_champion"] else common.next_task(promote=decision["promote"], otherwise="page")
