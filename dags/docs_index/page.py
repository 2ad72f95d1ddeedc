"""The page of an index: its files, the quarantine and the evaluation."""

from collections.abc import Sequence
from pathlib import Path

from docs_index.evaluation import HITS, Evaluation
from docs_index.outputs import Collected, Embedded, File, Rejected
from docs_index.search import HYBRID, METHODS
from ml_common import pages

TEMPLATE = Path(__file__).with_name("index.html.j2")


def render(
    index: str,
    collected: Collected,
    embedded: Embedded,
    files: Sequence[File],
    quarantined: Sequence[Rejected],
    evaluated: Evaluation,
    reason: str,
    *,
    live: bool,
) -> bytes:
    """Return the page of a version that went live, or that did not for a reason."""
    return pages.render(
        TEMPLATE,
        index=index,
        collected=collected,
        embedded=embedded,
        files=files,
        quarantined=quarantined,
        evaluated=evaluated,
        reason=reason,
        live=live,
        methods=METHODS,
        hybrid=HYBRID,
        hits=HITS,
    )
