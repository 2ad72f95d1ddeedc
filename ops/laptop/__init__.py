"""Run Airflow and the services it needs as local processes, without Docker, Kubernetes or a cloud account.

PostgreSQL, an S3 server, the MLflow server, Airflow's four components and the model server listen on the loopback
address. One folder, the home, holds their data and their generated passwords.
"""
