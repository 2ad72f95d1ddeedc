"""A stack's Airflow: its user interfaces, its DAGs, its health."""
