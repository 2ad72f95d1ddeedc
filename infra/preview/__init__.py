"""Preview environments: a feature branch's own Airflow in the cluster of another stack, for some days."""
