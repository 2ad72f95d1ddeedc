"""A stack's AWS resources as Terraform's JSON, which scanners read."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ops.plan.cloud import ACCOUNT, Cloud
from ops.plan.resources import Recording, Resource

AWS = "aws:"
# Terraform's names of services that differ from those of Pulumi's modules.
SERVICES = {"ec2": "", "rds": "db_"}
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Inputs whose keys are the user's.
MAPS = ("tags", "variables", "parameters")


def configuration(recording: Recording) -> Mapping[str, Any]:
    """Return the resources as a Terraform configuration in JSON syntax.

    https://developer.hashicorp.com/terraform/language/syntax/json
    """
    known = {resource.urn: resource for resource in recording.resources if is_aws(resource)}
    cloud = Cloud(ACCOUNT, recording.region, {})
    referenced = {urn for resource in known.values() for urn in resource.dependencies} & known.keys()
    references_to = {urn: dict(_references(known[urn], cloud)) for urn in referenced}
    found: dict[str, dict[str, Any]] = {}
    for resource in known.values():
        dependencies = [references_to[urn] for urn in resource.dependencies if urn in known]
        references = {text: reference for one in dependencies for text, reference in one.items()}
        found.setdefault(type_of(resource), {})[name_of(resource)] = _converted(resource.inputs, references)
    return {"resource": found}


def is_aws(resource: Resource) -> bool:
    """Return whether a resource is one of AWS."""
    return resource.custom and resource.type.startswith(AWS)


def type_of(resource: Resource) -> str:
    """Return Terraform's name for a resource's type, such as `aws_s3_bucket` for `aws:s3/bucket:Bucket`."""
    module = resource.type.split(":")[1].split("/")[0]
    return f"aws_{SERVICES.get(module, f'{module}_')}{_snake(resource.type.rpartition(':')[2])}"


def name_of(resource: Resource) -> str:
    """Return a resource's name; Terraform allows no dots and slashes."""
    return re.sub(r"[^\w-]", "_", resource.name)


def _references(resource: Resource, cloud: Cloud) -> Iterator[tuple[str, str]]:
    """Yield the values by which other resources refer to a resource, with the reference."""
    identity, outputs = cloud.create(resource.type, resource.name, resource.inputs)
    address = f"{type_of(resource)}.{name_of(resource)}"
    yield identity, f"${{{address}.id}}"
    if "arn" in outputs:
        yield outputs["arn"], f"${{{address}.arn}}"


def _converted(value: Any, references: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return dict(_argument(name, item, references) for name, item in value.items())
    if isinstance(value, list):
        return [_converted(item, references) for item in value]
    return references.get(value, value) if isinstance(value, str) else value


def _argument(name: str, value: Any, references: Mapping[str, str]) -> tuple[str, Any]:
    if name in MAPS and isinstance(value, Mapping):
        return name, dict(value)
    # Pulumi names a repeated block in the plural.
    block = isinstance(value, list) and any(isinstance(item, Mapping) for item in value)
    return _snake(name.removesuffix("s") if block else name), _converted(value, references)


def _snake(name: str) -> str:
    return WORDS.sub("_", name).lower()
