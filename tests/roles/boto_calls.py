"""The requests to AWS in the source of the tool."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import boto3
from botocore import xform_name

from infra.documents import REPOSITORY

# IAM's prefixes of services, and the actions whose names differ from those of the operations.
PREFIXES = {"elbv2": "elasticloadbalancing", "resourcegroupstaggingapi": "tag", "service-quotas": "servicequotas"}
ACTIONS = {
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
}
# Only operators run these, with their own credentials; and the clients of a laptop are not of AWS.
BY_OPERATORS = ("laptop/", "roles/", "own_s3.py", "pulumi/bootstrap.py")
# Needs no permission.
FREE = ("sts:GetCallerIdentity",)


def actions(files: list[Path]) -> set[str]:
    """Return the IAM actions of the requests in files."""
    return {action for file in files for action in _actions(file)} - set(FREE)


def files() -> list[Path]:
    """Return the sources of the tool whose requests the roles of the workflows may have to make."""
    folder = REPOSITORY / "ops"
    found = sorted(folder.glob("**/*.py"))
    return [file for file in found if not str(file.relative_to(folder)).startswith(BY_OPERATORS)]


def _actions(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    services = {text for call in _calls(tree) if _name(call) == "client" and (text := _text(call))} or {"s3"}
    for call in _calls(tree):
        operation = _text(call) if _name(call) in ("get_paginator", "get_waiter") else _name(call)
        for service in services:
            if action := _operations(service).get(str(operation)):
                yield ACTIONS.get(action, action)


def _calls(tree: ast.AST) -> Iterator[ast.Call | ast.Attribute]:
    """Yield calls of methods, and methods that are passed on, such as to `partial`."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)) or isinstance(node, ast.Attribute):
            yield node


def _name(node: ast.Call | ast.Attribute) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    assert isinstance(function, ast.Attribute)
    return function.attr


def _text(node: ast.Call | ast.Attribute) -> str | None:
    first = node.args[0] if isinstance(node, ast.Call) and node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


@cache
def _operations(service: str) -> dict[str, str]:
    if service not in boto3.Session().get_available_services():
        return {}
    names = boto3.client(service, region_name="us-east-1").meta.service_model.operation_names
    return {xform_name(name): f"{PREFIXES.get(service, service)}:{name}" for name in names}
