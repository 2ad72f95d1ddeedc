"""The service accounts that the tests expect."""

# Of tasks: one of each DAG, and that of DAGs that were pushed after the deployment.
OF_TASKS = {
    "airflow-task",
    "dag-docs-assistant",
    "dag-docs-index",
    "dag-external-training-sagemaker",
    "dag-flight-features",
    "dag-flight-model",
    "dag-flight-monitor",
    "dag-flight-scores",
    "dag-image-classifier",
    "dag-smoke-test",
}
