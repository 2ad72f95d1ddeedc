"""Dashboards and alerts of Airflow, and what brings them into a cluster."""

from infra.observability.observability import Observability

__all__ = ["Observability"]
