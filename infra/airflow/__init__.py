"""Apache Airflow on any platform."""
