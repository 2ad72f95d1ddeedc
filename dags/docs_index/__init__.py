"""The DAG docs_index."""
