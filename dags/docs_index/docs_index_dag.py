"""
# docs_index

Makes documents searchable by meaning and by words, and puts a new version of the index live only if it answers enough
questions of a question set.

**Input.** Documents under `s3://$DATA_BUCKET/<prefix>`: Markdown (`.md`), web pages (`.html`), PDF (`.pdf`) and text
(`.txt`, UTF-8); other files are ignored. Among them, in any folder, question sets `questions.yaml`: lists of questions,
each with the file that answers it, relative to the folder of the question set, and words that the answer contains:

```yaml
- question: Who may deploy to production?
  file: runbooks/roles.md
  contains: only the owner
```

**Sources.** A run with `git_url` also indexes a Git repository, and one with `pages` web pages. The folder `sources/`
below `prefix` is a copy of what the Params of the last run name. For a private repository, create the Airflow
connection `docs_index_git` with its host, and with a user and a token as login and password.

**Output.** The view `docs_index.<index>` in the database of the Airflow connection `features`, which has pgvector; the
page `s3://$ARTIFACTS_BUCKET/docs_index/<index>/index.html` with documents, quarantine and evaluation; and an event of
the asset `docs_index`.

| Task | What it does | When it fails |
| --- | --- | --- |
| fetch | copies the sources, lists all documents in batches | correct the Params, or put documents under `prefix` |
| chunk | splits the documents of a batch by headings into chunks | see Retries |
| collect | names the version, moves unreadable files to quarantine | correct the files |
| embed | embeds chunks that are new, copies the vectors of all others | see pgvector, or Retries |
| evaluate | asks the version and the live one all questions | correct `questions.yaml` as the log says |
| gate | fails below `minimum_hit_rate`, or below the live version | see the questions on the page |
| swap | lets the name of the index point to the version, writes the page | see Retries |

**The live index stays** until `swap`: a run that fails before changes nothing that is searched. A version whose hybrid
search finds fewer answers among its first four chunks than `minimum_hit_rate`, or than the live version finds with the
same questions, does not go live. The page shows which questions have no answer.

**Quarantine.** A file that is damaged, encrypted, larger than 20 MiB, without text (such as a scanned PDF) or not UTF-8
moves to `docs_index/quarantine/` in the data bucket, with the reason as metadata and on the page. Upload it again when
it is corrected.

**Changes.** A chunk is embedded once for the same text under the same headings. A second run embeds nothing, a changed
file only its changed chunks, and the next version no longer has the chunks of a deleted file. The previous version is
kept until the next swap.

**Languages.** `language` is the text search configuration of PostgreSQL, such as `english` or `german`. The embedding
model is for English texts: for other languages, the search by words finds more.

**pgvector.** The extension `vector` must exist in the database. `make up` and `make deploy` create it.

**Retries.** The same documents give the same version: clearing any task is safe. A killed `embed` continues with the
chunks that are missing.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from docs_index.params import OF_INDEX
from ml_common import pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
INDEX = Asset("docs_index")
# The model runs on one core.
EMBEDDING = pods.Size(cores=1, memory_gib=2)


@dag(
    dag_id="docs_index",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        **OF_INDEX,
        "git_url": Param(
            None,
            type=["null", "string"],
            pattern="^https?://[^@]+$",
            description="Git repository whose documents are indexed as well, such as https://github.com/org/handbook.git.",
        ),
        "git_ref": Param(None, type=["null", "string"], description="Branch or tag; the default branch if empty."),
        "git_folder": Param("", type="string", description="Folder of the documents in the repository."),
        "pages": Param(
            [],
            type="array",
            items={"type": "string", "pattern": "^https?://[^@]+$"},
            description="Addresses of web pages that are indexed as well.",
        ),
        "minimum_hit_rate": Param(
            0.8, type="number", minimum=0, maximum=1, description="hit@4 of hybrid search below which the run fails."
        ),
    },
    tags=["documents", "retrieval"],
    doc_md=__doc__,
)
def docs_index() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task
    def fetch(params: Any = None) -> Any:
        from docs_index import steps

        return steps.fetch(
            params["prefix"], params["git_url"], params["git_ref"], params["git_folder"], params["pages"]
        )

    @task
    def chunk(keys: Any, params: Any = None) -> Any:
        from docs_index import steps

        return steps.chunk(keys, params["prefix"])

    @task
    def collect(chunked: Any, params: Any = None) -> Any:
        from docs_index import steps

        return steps.collect(params["index"], params["prefix"], params["language"], chunked)

    # 100,000 new chunks take two hours at 14 chunks a second.
    @task(executor_config=PODS.on_cpu(EMBEDDING), execution_timeout=timedelta(hours=4))
    def embed(collected: Any, params: Any = None) -> Any:
        from docs_index import steps

        return steps.embed(params["index"], params["language"], collected)

    @task(executor_config=PODS.on_cpu(EMBEDDING))
    def evaluate(collected: Any, params: Any = None) -> Any:
        from docs_index import steps

        return steps.evaluate(params["index"], params["prefix"], params["language"], collected)

    @task
    def gate(collected: Any, embedded: Any, evaluated: Any, params: Any = None) -> Any:
        from docs_index import steps

        return steps.decide(
            params["index"], params["prefix"], collected, embedded, evaluated, params["minimum_hit_rate"]
        )

    @task(outlets=[INDEX])
    def swap(
        collected: Any, embedded: Any, evaluated: Any, reason: Any, params: Any = None, outlet_events: Any = None
    ) -> Any:
        from docs_index import steps

        version = steps.swap(
            params["index"], params["prefix"], params["language"], collected, embedded, evaluated, reason
        )
        outlet_events[INDEX].extra = {"index": params["index"], "version": version}
        return version

    collected = collect(chunk.expand(keys=fetch()))
    embedded = embed(collected)
    evaluated = evaluate(collected)
    embedded >> evaluated
    swap(collected, embedded, evaluated, gate(collected, embedded, evaluated))


docs_index()
