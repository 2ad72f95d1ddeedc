"""The Pulumi program: build a stack's platform, deploy Airflow on it and export the outputs."""

from pathlib import Path

import pulumi

from infra.airflow.airflow import Airflow
from infra.mlflow_server import ModelRegistry
from infra.observability.observability import Observability
from infra.preview_names import is_preview
from infra.settings import ExistingClusterSettings, load

stack, folder = pulumi.get_stack(), Path(pulumi.get_root_directory())
if is_preview(stack):
    from infra.previews import platform as preview

    values, tasks, platform, outputs = preview.create(stack, folder)
else:
    settings = load(stack, folder)
    values, tasks = (stack,), settings.tasks
    if isinstance(settings, ExistingClusterSettings):
        from infra.existing_cluster import platform as existing_cluster

        platform, outputs = existing_cluster.create(stack, settings)
    else:
        from infra.aws import platform as aws

        platform, outputs = aws.create(stack, settings)
    Observability("observability", platform)
model_registry = ModelRegistry("model-registry", platform)
airflow = Airflow("airflow", values, tasks, platform)

for name, value in {**outputs, **airflow.outputs}.items():
    pulumi.export(name, value)
pulumi.export("model_registry_url", model_registry.url)
