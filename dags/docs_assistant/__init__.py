"""The DAG docs_assistant."""
