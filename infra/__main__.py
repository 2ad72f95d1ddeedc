"""What a stack consists of: its settings, the platform that Airflow runs on, and what others need to know of it."""

from pathlib import Path

import pulumi

from infra.airflow import Airflow
from infra.model_registry import ModelRegistry
from infra.observability import Observability
from infra.settings import ExistingClusterSettings, load

stack = pulumi.get_stack()
settings = load(stack, Path(pulumi.get_root_directory()))
if isinstance(settings, ExistingClusterSettings):
    from infra.existing_cluster import platform as existing_cluster

    platform, outputs = existing_cluster.create(stack, settings)
else:
    from infra.aws import platform as aws

    platform, outputs = aws.create(stack, settings)
model_registry = ModelRegistry("model-registry", platform)
Observability("observability", platform)
airflow = Airflow("airflow", stack, settings.tasks, platform)

for name, value in {**outputs, **airflow.outputs}.items():
    pulumi.export(name, value)
pulumi.export("model_registry_url", model_registry.url)
