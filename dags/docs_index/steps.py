"""The steps as plain functions. Chunks and evaluations are passed as keys of the artifacts bucket."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from docs_index import chunks, evaluation, formats, gate, questions, sources
from docs_index.chunks import Chunk
from docs_index.evaluation import Evaluation
from docs_index.outputs import Chunked, Collected, Embedded, File, Rejected
from docs_index.search import HITS, HYBRID, METHODS
from docs_index.store import PgvectorStore, Store
from ml_common import embedding_model, pages
from ml_common.content_keys import code_version, content_key
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket, data_bucket
from ml_common.parallel import parallel_map

log = logging.getLogger(__name__)

Item = TypeVar("Item")

TEMPLATE = Path(__file__).with_name("index.html.j2")
FOLDER = "docs_index/"
QUARANTINE = "docs_index/quarantine/"
REASON = "reason"
# Folders that are copies of the sources.
SOURCES = "sources/"
GIT, PAGES = f"{SOURCES}git/", f"{SOURCES}pages/"
# Files that one task reads.
BATCH_FILES = 20
# Chunks that are embedded and stored together: what a killed task has to repeat.
BATCH_CHUNKS = 128
# What the chunks of a file depend on besides its content and its path.
CODE = [Path(__file__).with_name(name) for name in ("chunks.py", "formats.py")]


def fetch(
    prefix: str, git_url: str | None, git_ref: str | None, git_folder: str, pages: Sequence[str]
) -> list[list[str]]:
    """Copy the documents of the sources under `prefix` of the data bucket; return the keys of all, in batches.

    The question sets are checked as well, because embedding may take hours.

    Raises:
        PermanentError: A source or a question set is wrong, or there are no documents.
        ServiceUnavailableError: A source does not answer; the documents are unchanged.
    """
    bucket = data_bucket()
    of_pages = sources.page_documents(pages)
    of_git = sources.git_documents(git_url, git_ref, git_folder) if git_url else ()
    sources.mirror(bucket, prefix + GIT, of_git)
    sources.mirror(bucket, prefix + PAGES, of_pages)
    # The sources still have what is in quarantine, or have corrected it.
    sources.mirror(bucket, f"{QUARANTINE}{prefix}{SOURCES}", ())
    keys = [found.key for found in bucket.list(prefix) if formats.is_document(found.key)]
    if not keys:
        raise PermanentError(
            f"{bucket.uri(prefix)} has no documents: put files there whose names end in {', '.join(formats.READERS)}."
        )
    questions.read(prefix)
    return [list(batch) for batch in _batches(keys, BATCH_FILES)]


def chunk(keys: Sequence[str], prefix: str) -> Chunked:
    """Split documents into chunks; a document that is unchanged since an earlier run is not read again."""
    done = Chunked(files=[], rejected=[])
    code = code_version(CODE)
    for key, content in parallel_map(lambda key: (key, data_bucket().get(key)), keys):
        path = key.removeprefix(prefix)
        try:
            done["files"].append(_chunk(path, content, code))
        except formats.UnreadableFileError as error:
            done["rejected"].append(Rejected(path=path, reason=str(error)))
    return done


def _chunk(path: str, content: bytes, code: str) -> File:
    bucket = artifacts_bucket()
    inputs = {"path": path, "content": sha256(content).hexdigest(), "code": code}
    key = f"{FOLDER}chunks/{content_key({**inputs, 'model': embedding_model.NAME})}.json"
    if bucket.exists(key):
        return File(path=path, key=key, chunks=len(bucket.get_json(key)))
    sections = formats.read(path, content)
    found = list(chunks.chunks(path, sections, embedding_model.NAME, embedding_model.count_tokens))
    bucket.put_json(key, [asdict(one) for one in found])
    return File(path=path, key=key, chunks=len(found))


def collect(index: str, prefix: str, language: str, chunked: Iterable[Chunked]) -> Collected:
    """Name the version that the chunks make, and move unreadable files to quarantine.

    Raises:
        PermanentError: No document can be read.
    """
    batches = list(chunked)
    files = sorted((file for one in batches for file in one["files"]), key=lambda file: file["path"])
    rejected = [file for one in batches for file in one["rejected"]]
    _quarantine(prefix, rejected)
    if not files:
        raise PermanentError(
            f"None of the {len(rejected)} documents under {data_bucket().uri(prefix)} can be read, so the index is "
            f"unchanged: correct the files in {data_bucket().uri(QUARANTINE + prefix)} and upload them again."
        )
    version = content_key({"chunks": [file["key"] for file in files], "language": language})
    manifest = f"{FOLDER}{index}/{version}/documents.json"
    artifacts_bucket().put_json(manifest, files)
    return Collected(version=version, manifest=manifest, files=len(files), chunks=sum(file["chunks"] for file in files))


def _quarantine(prefix: str, rejected: Iterable[Rejected]) -> None:
    bucket = data_bucket()
    for file in rejected:
        key = prefix + file["path"]
        if bucket.exists(key):  # not moved by an earlier try
            bucket.move(key, QUARANTINE + key, {REASON: file["reason"]})
        log.warning("Moved %s to quarantine: %s.", bucket.uri(key), file["reason"])


def embed(index: str, language: str, collected: Collected) -> Embedded:
    """Build the version: copy the vectors of known chunks from the live one, and calculate those of new chunks.

    A try that was killed is continued at the chunk where it ended.
    """
    to, version = PgvectorStore(index, language), collected["version"]
    live = to.live()
    live_ids = to.ids(live) if live else set()
    to.create(version)
    wanted = list(_chunks(collected["manifest"]))
    present = to.ids(version)
    embedded = 0
    for batch in _batches([one for one in wanted if one.id not in present], BATCH_CHUNKS):
        embedded += _add(to, version, live, batch)
    to.finish(version)
    ids = {one.id for one in wanted}
    result = Embedded(
        embedded=embedded, added=len(ids - live_ids), kept=len(ids & live_ids), deleted=len(live_ids - ids)
    )
    log.info(
        "Embedded %(embedded)d chunks: %(added)d are new, %(kept)d are kept, and %(deleted)d were removed.", result
    )
    return result


def _add(to: Store, version: str, live: str | None, batch: Sequence[Chunk]) -> int:
    """Add chunks to a version; return how many vectors were calculated."""
    from ml_common import embedding

    texts = {one.hash: one.embedded for one in batch}
    vectors: dict[str, Any] = {}
    for source in filter(None, (live, version)):
        vectors |= to.vectors(source, texts.keys() - vectors.keys())
    new = [digest for digest in texts if digest not in vectors]
    if new:
        vectors |= dict(zip(new, embedding.embed([texts[digest] for digest in new]), strict=True))
    to.add(version, batch, [vectors[one.hash] for one in batch])
    return len(new)


def evaluate(index: str, prefix: str, language: str, collected: Collected) -> str:
    """Ask the version and the live one the questions; return the key of what was measured."""
    from ml_common import embedding

    asked = [one for one in questions.read(prefix) if one.answerable]
    of, version = PgvectorStore(index, language), collected["version"]
    vectors = embedding.embed([one.question for one in asked])
    new = evaluation.evaluate(of, version, asked, vectors)
    log.info(evaluation.describe(new))
    live = of.live()
    of_live = evaluation.evaluate(of, live, asked, vectors) if live else None
    result = f"{FOLDER}{index}/{version}/evaluation.json"
    artifacts_bucket().put_json(result, {"new": new, "live": of_live})
    return result


def decide(index: str, prefix: str, collected: Collected, embedded: Embedded, evaluated: str, minimum: float) -> str:
    """Decide whether the version goes live; return why.

    Raises:
        PermanentError: It does not, and the page says why.
    """
    measured = artifacts_bucket().get_json(evaluated)
    try:
        reason = gate.judge(measured["new"], measured["live"], minimum)
    except PermanentError as error:
        _write_page(index, prefix, collected, embedded, measured["new"], str(error), live=False)
        raise
    log.info(reason)
    return reason


def swap(
    index: str, prefix: str, language: str, collected: Collected, embedded: Embedded, evaluated: str, reason: str
) -> str:
    """Let the name of the index point to the version, and write the page; return the version."""
    deleted = PgvectorStore(index, language).swap(collected["version"])
    log.info("%s answers with version %s; deleted %d older ones.", index, collected["version"], len(deleted))
    measured = artifacts_bucket().get_json(evaluated)
    _write_page(index, prefix, collected, embedded, measured["new"], reason, live=True)
    return collected["version"]


def page_key(index: str) -> str:
    """Return the key of the page of an index in the artifacts bucket."""
    return f"{FOLDER}{index}/index.html"


def _write_page(
    index: str,
    prefix: str,
    collected: Collected,
    embedded: Embedded,
    evaluated: Evaluation,
    reason: str,
    *,
    live: bool,
) -> None:
    bucket = artifacts_bucket()
    files: list[File] = bucket.get_json(collected["manifest"])
    content = pages.render(
        TEMPLATE,
        index=index,
        collected=collected,
        embedded=embedded,
        files=files,
        quarantined=_quarantined(prefix, files),
        evaluated=evaluated,
        reason=reason,
        live=live,
        methods=METHODS,
        hybrid=HYBRID,
        hits=HITS,
    )
    bucket.put(page_key(index), content, pages.CONTENT_TYPE)


def _quarantined(prefix: str, files: Iterable[File]) -> list[Rejected]:
    """Return the files in quarantine, except those that were uploaded again and can be read."""
    bucket, readable = data_bucket(), {file["path"] for file in files}
    paths = [found.key.removeprefix(QUARANTINE + prefix) for found in bucket.list(QUARANTINE + prefix)]
    return [
        Rejected(path=path, reason=bucket.metadata(QUARANTINE + prefix + path).get(REASON, "unknown"))
        for path in paths
        if path not in readable
    ]


def _chunks(manifest: str) -> Iterator[Chunk]:
    bucket = artifacts_bucket()
    for entries in parallel_map(lambda file: bucket.get_json(file["key"]), bucket.get_json(manifest)):
        yield from (Chunk(**entry) for entry in entries)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
