"""Documents of a Git repository and of web pages, which are copied into the folder of the documents."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
import urllib3
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from dulwich.client import HTTPUnauthorized, default_urllib3_manager, get_transport_and_path_from_url
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.object_store import iter_tree_contents, peel_sha
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from docs_index import formats, questions
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket
from ml_common.parallel import parallel_map

# The Airflow connection with the credentials of private repositories on its host.
GIT_CONNECTION = "docs_index_git"
TIMEOUT_SECONDS = 30
REGULAR_FILES = (0o100644, 0o100755)
SUFFIXES = {"text/html": ".html", "application/pdf": ".pdf", "text/markdown": ".md", "text/plain": ".txt"}


def mirror(bucket: Bucket, folder: str, documents: Iterable[tuple[str, bytes]]) -> None:
    """Make a folder contain exactly these documents; those that are equal are not written again.

    Args:
        bucket: The bucket.
        folder: The folder, which ends in "/".
        documents: Paths below the folder, and contents.
    """

    def store(document: tuple[str, bytes]) -> str:
        path, content = document
        key = folder + path
        if not bucket.exists(key) or bucket.get(key) != content:
            bucket.put(key, content)
        return key

    stored = set(parallel_map(store, documents))
    for found in list(bucket.list(folder)):
        if found.key not in stored:
            bucket.delete(found.key)


def git_documents(url: str, ref: str | None, folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield the documents and question sets of a repository, by their paths below `folder`.

    Only the newest commit of `ref` is fetched, and nothing is checked out, so links in the repository lead nowhere.

    Raises:
        PermanentError: There is no such repository, branch, tag or folder, or access is denied.
        ServiceUnavailableError: The server does not answer, or fails.
    """
    with TemporaryDirectory() as target, Repo.init_bare(target) as repository:
        store = repository.object_store
        _, commit = peel_sha(store, _fetch(url, ref, repository))
        if not isinstance(commit, Commit):
            raise PermanentError(f"{ref} of {url} is not a commit: correct git_ref.")
        found = False
        for entry in iter_tree_contents(store, commit.tree):
            path = PurePosixPath((entry.path or b"").decode(errors="replace"))
            if entry.mode not in REGULAR_FILES or not path.is_relative_to(folder) or not _is_indexed(path):
                continue
            blob = store[entry.sha] if entry.sha else None
            if isinstance(blob, Blob):
                found = True
                yield str(path.relative_to(folder)), blob.data
        if not found:
            raise PermanentError(
                f"{url} has no documents in the folder {folder or '/'}: correct git_folder or git_ref."
            )


def _is_indexed(path: PurePosixPath) -> bool:
    return formats.is_document(path.name) or path.name == questions.FILE


def _fetch(url: str, ref: str | None, repository: Repo) -> ObjectID:
    """Fetch the commit of a branch or tag, by default of the default branch; return its ID."""
    wanted = ["HEAD"] if ref is None else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    private = (
        f"create the Airflow connection `{GIT_CONNECTION}` with the host {urlsplit(url).hostname}, and with a user "
        "that may read it as login and password"
    )

    def commit_of(refs: Mapping[Ref, ObjectID | None]) -> ObjectID:
        found = next(filter(None, (refs.get(Ref(name.encode())) for name in wanted)), None)
        if found is None:
            raise PermanentError(f"{url} has no branch or tag {ref or 'HEAD'}: correct git_ref.")
        return found

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        return [commit_of(refs)]

    # Uses the proxy of the environment.
    pool: Any = default_urllib3_manager(None, base_url=url, timeout=TIMEOUT_SECONDS)
    try:
        client, path = get_transport_and_path_from_url(url, quiet=True, pool_manager=pool, **_credentials(url))
        result = client.fetch(path, repository, wants, depth=1)
    except HTTPUnauthorized as error:
        raise PermanentError(f"{url} refuses access: {private}.") from error
    except NotGitRepository as error:
        raise PermanentError(f"{url} is not a Git repository: correct git_url; if it is private, {private}.") from error
    except (GitProtocolError, urllib3.exceptions.HTTPError, OSError) as error:
        raise ServiceUnavailableError(
            f"{url} could not be fetched; check that the server is running and reachable ({type(error).__name__})."
        ) from error
    return commit_of(result.refs)


def _credentials(url: str) -> dict[str, Any]:
    """Return the credentials for the connection's own host, because anyone who starts a run chooses the repository."""
    try:
        connection = Connection.get(GIT_CONNECTION)
    except AirflowNotFoundException:
        return {}
    if connection.host != urlsplit(url).hostname:
        return {}
    return {"username": connection.login, "password": connection.password}


def page_documents(urls: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return the documents at addresses, each by its host and path.

    Raises:
        PermanentError: An address is refused, or is not a document; the message names all addresses that failed.
        ServiceUnavailableError: A server does not answer, or fails.
    """
    with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:

        def document(url: str) -> tuple[str, bytes] | PermanentError | ServiceUnavailableError:
            try:
                return _page(client, url)
            except (PermanentError, ServiceUnavailableError) as error:
                return error

        results = list(parallel_map(document, urls))
    failures = [result for result in results if isinstance(result, Exception)]
    reasons = "; ".join(map(str, failures))
    if any(isinstance(failure, PermanentError) for failure in failures):
        raise PermanentError(f"{reasons}: correct the Param `pages`.")
    if failures:
        raise ServiceUnavailableError(f"{reasons}: check that the servers are running and reachable.")
    return [result for result in results if isinstance(result, tuple)]


def _page(client: httpx.Client, url: str) -> tuple[str, bytes]:
    try:
        with client.stream("GET", url) as response:
            if not response.is_success:
                kind = PermanentError if response.is_client_error else ServiceUnavailableError
                raise kind(f"{url} answered {response.status_code}")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if media_type not in SUFFIXES:
                raise PermanentError(f"{url} is of type {media_type or 'unknown'}, not {', '.join(SUFFIXES)}")
            content = bytearray()
            for part in response.iter_bytes():
                content += part
                if len(content) > formats.MAX_BYTES:
                    raise PermanentError(f"{url} has more than {formats.MAX_BYTES // 2**20} MiB")
            encoding = response.charset_encoding if media_type.startswith("text/") else None
    except httpx.InvalidURL as error:
        raise PermanentError(f"{url} is not a valid URL ({error})") from error
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(f"{url} could not be fetched ({type(error).__name__})") from error
    return _path(url, SUFFIXES[media_type]), _in_utf_8(bytes(content), encoding)


def _in_utf_8(content: bytes, encoding: str | None) -> bytes:
    """Return a text in UTF-8 with a byte order mark, which precedes what a web page declares in its head."""
    if encoding is None:
        return content
    try:
        return content.decode(encoding).encode("utf-8-sig")
    except (LookupError, UnicodeDecodeError):
        return content


def _path(url: str, suffix: str) -> str:
    """Return a path that differs for different addresses and ends in the suffix of the format."""
    parts = urlsplit(url)
    name = f"{parts.netloc}/{parts.path.strip('/') or 'index'}"
    if parts.query:
        name += f"-{sha256(parts.query.encode()).hexdigest()[:8]}"
    return name if name.lower().endswith(suffix) else name + suffix
