"""Airflow and all that it needs as processes on this machine: no Docker, no Kubernetes, no cloud account.

PostgreSQL, an S3 server, the MLflow server, Airflow's four components and the model server listen on the loopback
address. What they keep, and the passwords that were generated for them, lies in one folder, the home.
"""
