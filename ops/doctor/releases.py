"""Newer releases of Airflow and its chart."""

from __future__ import annotations

import re
from importlib.metadata import version

import httpx

from infra.airflow import chart
from infra.errors import OperationError
from ops.doctor.outcome import Outcome, passed, warning
from ops.doctor.support import newest

RUNBOOK = "docs/runbooks/upgrade-airflow.md"
LISTED = re.compile(r'href="(\d+(?:\.\d+)+)/"')


def airflow() -> Outcome:
    """Check whether there is a newer release of Airflow."""
    return judge("Airflow", version("apache-airflow"), _newest(chart.RELEASES))


def airflow_chart() -> Outcome:
    """Check whether there is a newer release of the chart."""
    return judge("the chart", chart.VERSION, _newest(chart.CHART_RELEASES))


def judge(what: str, pinned: str, available: str) -> Outcome:
    """Judge a pinned version against the newest release."""
    if newest([pinned, available]) == pinned:
        return passed(f"{pinned} is the newest release of {what}")
    return warning(f"{available} of {what} is released, and {pinned} is pinned: see {RUNBOOK}")


def _newest(url: str) -> str:
    """Return the newest version that a page of the archive lists."""
    try:
        page = httpx.get(url, follow_redirects=True, timeout=chart.TIMEOUT_SECONDS).raise_for_status().text
    except (httpx.HTTPError, ValueError, ImportError) as error:  # the last two: a proxy that httpx cannot use
        raise OperationError(f"{url} cannot be read ({str(error).partition(chr(10))[0]}): check the network") from error
    listed = LISTED.findall(page)
    if not listed:
        raise OperationError(f"{url} lists no releases: check that no proxy answers in its place")
    return newest(listed)
