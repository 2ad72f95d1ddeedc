"""What a stack consists of: its settings, the platform that Airflow runs on, and what others need to know of it."""

from pathlib import Path

import pulumi

from infra.aws import platform as aws_platform
from infra.settings import load

stack = pulumi.get_stack()
settings = load(stack, Path(pulumi.get_root_directory()))
platform, outputs = aws_platform.create(stack, settings)

for name, value in outputs.items():
    pulumi.export(name, value)
