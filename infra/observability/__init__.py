"""Dashboards and alert rules for Airflow, deployed as ConfigMaps."""
