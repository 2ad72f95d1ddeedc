"""Dashboards and alert rules for Airflow, deployed as ConfigMaps."""

from infra.observability.observability import Observability

__all__ = ["Observability"]
