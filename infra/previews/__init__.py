"""The platform of a preview environment: a feature branch's own Airflow in the cluster of its base stack."""
