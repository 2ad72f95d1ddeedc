"""The decision whether a version of the index goes live."""

from docs_index.evaluation import Evaluation
from docs_index.search import HITS, HYBRID
from ml_common.errors import PermanentError


def judge(evaluated: Evaluation, live: Evaluation | None, minimum_hit_rate: float) -> str:
    """Return why the version may go live.

    Raises:
        PermanentError: It answers too few questions, or fewer than the live version.
    """
    value = evaluated["measured"][HYBRID]["hit_rate"]
    of_live = live["measured"][HYBRID]["hit_rate"] if live else None
    keeps = f"version {live['version']} keeps answering" if live else "there is no index yet"
    remedy = "look at the questions without an answer on the page, then correct the documents or the questions"
    if value < minimum_hit_rate:
        raise PermanentError(
            f"hit@{HITS} {value:.4f} is below minimum_hit_rate {minimum_hit_rate:.4f}, so {keeps}: {remedy}."
        )
    if of_live is not None and value < of_live:
        raise PermanentError(
            f"hit@{HITS} {value:.4f} is below the {of_live:.4f} of the live version on the same questions, so {keeps}: "
            f"{remedy}."
        )
    compared = "there was no index" if of_live is None else f"the live version has {of_live:.4f}"
    return f"hit@{HITS} {value:.4f} reaches the minimum {minimum_hit_rate:.4f}, and {compared}."
