"""Preview environments: a feature branch's own Airflow in the cluster of another stack, until it expires."""
