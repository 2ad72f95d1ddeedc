"""The Params that name an index and its documents."""

from airflow.sdk import Param

OF_INDEX = {
    "index": Param(
        "docs", type="string", pattern="^[a-z][a-z0-9]{0,29}$", description="Name by which the index is searched."
    ),
    "prefix": Param(
        "docs_index/documents/",
        type="string",
        pattern="^docs_index/.*/$",
        description="Folder of the documents and question sets in the data bucket.",
    ),
    "language": Param(
        "english", type="string", pattern="^[a-z_]+$", description="Text search configuration of PostgreSQL."
    ),
}
