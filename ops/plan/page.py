"""The plan as a self-contained HTML page, without external scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.plan.diagram import diagram
from ops.plan.difference import opened
from ops.plan.permissions import matrix
from ops.plan.plan import Comparison, Plan
from ops.plan.resources import Resource
from ops.plan.short_tasks import MWAA_CLASS, short_tasks
from ops.plan.task_nodes import TaskNode

FOLDER = Path(__file__).parent
COMPONENTS = ("airflow", "pulumi")  # packages whose names do not help a reader


def page(plan: Plan, comparison: Comparison | None = None, task_nodes: Sequence[TaskNode] = ()) -> str:
    """Return the page; a comparison comes first."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"usd": usd, "number": number, "kind": kind}
    environment.tests["text_lines"] = lambda value: isinstance(value, str) and "\n" in value
    permitted, permissions = matrix(plan.recording)
    return environment.get_template("page.html.j2").render(
        plan=plan,
        comparison=comparison,
        task_nodes=task_nodes,
        short_tasks=short_tasks(plan),
        mwaa_class=MWAA_CLASS,
        diagram=diagram(plan.architecture),
        permitted=permitted,
        permissions=permissions,
        opened=opened,
    )


def usd(amount: float) -> str:
    """Format an amount in dollars: 1,234.56."""
    return f"{amount:,.2f}"


def number(value: float, decimals: int = 5) -> str:
    """Format a number without trailing zeros."""
    return f"{value:,.{decimals}f}".rstrip("0").rstrip(".")


def kind(resource: Resource) -> str:
    """Shorten a type token: `aws:s3/bucket:Bucket` becomes `s3 Bucket`."""
    package, _, rest = resource.type.partition(":")
    module, _, name = rest.rpartition(":")
    group = module.split("/", maxsplit=1)[0] if package == "aws" else "" if package in COMPONENTS else package
    return f"{group} {name}".strip()
