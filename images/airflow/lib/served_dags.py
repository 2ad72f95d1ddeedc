"""Fetch the DAGs of the newest commit from the server in the cluster (dags_server.py), in the pod of a task."""

import io
import logging
import tarfile
from pathlib import Path

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

log = logging.getLogger(__name__)

# Long enough for another pod of the server to start, on another node.
PATIENCE_SECONDS = 300
TIMEOUT_SECONDS = 10
LONGEST_WAIT_SECONDS = 5


class DagsUnavailableError(Exception):
    """The server has no DAGs for this task."""


def fetch(url: str, link: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Let `link` point to the DAGs of the newest commit, in a folder with its name, as git-sync does.

    Args:
        url: The address of the archive.
        link: The link to create.
        patience_seconds: How long to try while the server cannot be reached.

    Raises:
        DagsUnavailableError: The server cannot be reached, or has no DAGs.
    """
    content = _download(url, patience_seconds)
    work_trees = link.parent / ".worktrees"
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        commit = tar.getnames()[0].partition("/")[0]
        tar.extractall(work_trees, filter="data")
    link.symlink_to(work_trees / commit)


def _download(url: str, patience_seconds: float) -> bytes:
    attempts = Retrying(
        stop=stop_after_delay(patience_seconds),
        wait=wait_exponential_jitter(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
        retry=retry_if_exception(_is_transient),
        before_sleep=_log_first,
        reraise=True,
    )
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            return attempts(_get, client, url)
    except httpx.HTTPStatusError as error:
        raise DagsUnavailableError(
            f"the server of the DAGs answers {error.response.status_code}: {error.response.text or 'no reason'}"
        ) from None
    except httpx.TransportError as error:
        raise DagsUnavailableError(
            f"the server of the DAGs does not answer ({error}): check the dag-processor with `make status`"
        ) from None


def _get(client: httpx.Client, url: str) -> bytes:
    return client.get(url).raise_for_status().content


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, httpx.TransportError)


def _log_first(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        log.warning("Waiting for the server of the DAGs: %s", state.outcome.exception())
