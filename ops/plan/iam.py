"""Permissions on AWS: every statement of every IAM policy in a recording."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ops.plan.grants import Grant
from ops.plan.resources import Recording, Resource

# By resource type: the input that names what the policy is attached to.
IDENTITY_POLICIES = {
    "aws:iam/rolePolicy:RolePolicy": "role",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "role",
}
RESOURCE_POLICIES = {
    "aws:s3/bucketPolicy:BucketPolicy": "bucket",
    "aws:kms/key:Key": "",
    "aws:ecr/repositoryPolicy:RepositoryPolicy": "repository",
}


def grants(recording: Recording) -> list[Grant]:
    """Return the statements of identity policies, trust policies and resource-based policies."""
    return [*_of_roles(recording), *_trusts(recording), *_of_resources(recording)]


def components(recording: Recording) -> dict[str, str]:
    """Return each role's component: its Kubernetes service account, else the role's logical name."""
    names = {role.inputs.get("name", role.name): role.name for role in recording.of_type("aws:iam/role:Role")}
    for link in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation"):
        role = link.inputs["roleArn"].rsplit("/", 1)[-1]
        names[role] = link.inputs["serviceAccount"]
    return names


def _of_roles(recording: Recording) -> Iterator[Grant]:
    component = components(recording)
    policies = {policy.inputs.get("name", policy.name): policy for policy in recording.of_type("aws:iam/policy:Policy")}
    for resource in recording.of_type(*IDENTITY_POLICIES):
        who = component.get(resource.inputs["role"], resource.inputs["role"])
        if "policy" in resource.inputs:
            yield from _statements(who, resource.inputs["policy"], resource.name)
            continue
        name = resource.inputs["policyArn"].rsplit("/", 1)[-1]
        if name in policies:
            yield from _statements(who, policies[name].inputs["policy"], policies[name].name)
        else:
            yield Grant(who, "Allow", (f"all of {name}",), ("as defined by AWS",), (), resource.name)


def _trusts(recording: Recording) -> Iterator[Grant]:
    component = components(recording)
    for role in recording.of_type("aws:iam/role:Role"):
        target = component.get(role.inputs.get("name", role.name), role.name)
        yield from _statements("", role.inputs["assumeRolePolicy"], role.name, resource=f"role of {target}")


def _of_resources(recording: Recording) -> Iterator[Grant]:
    for resource in recording.of_type(*RESOURCE_POLICIES):
        if "policy" in resource.inputs:
            target = _target(resource)
            yield from _statements("", resource.inputs["policy"], resource.name, resource=target)


def _target(resource: Resource) -> str:
    return str(resource.inputs.get(RESOURCE_POLICIES[resource.type], f"{resource.name} itself"))


def _statements(who: str, policy: str | Mapping[str, Any], source: str, resource: str = "") -> Iterator[Grant]:
    document = json.loads(policy) if isinstance(policy, str) else policy
    for statement in _many(document["Statement"]):
        yield Grant(
            who=who or ", ".join(_principals(statement)),
            effect=statement["Effect"],
            actions=tuple(_many(statement.get("Action", ())))
            or tuple(f"not {name}" for name in _many(statement["NotAction"])),
            resources=(resource,) if resource else tuple(_many(statement.get("Resource", ()))),
            conditions=tuple(_conditions(statement.get("Condition", {}))),
            source=source,
        )


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal", "*")
    if isinstance(principal, str):
        yield "anyone" if principal == "*" else principal
        return
    for kind in principal.values():
        yield from ("anyone" if name == "*" else name for name in _many(kind))


def _conditions(condition: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for operator, tests in condition.items():
        for key, values in tests.items():
            yield f"{operator} {key} = {' or '.join(map(str, _many(values)))}"


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
