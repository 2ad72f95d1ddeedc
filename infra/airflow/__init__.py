"""Apache Airflow on any platform."""

from infra.airflow.airflow import Airflow

__all__ = ["Airflow"]
