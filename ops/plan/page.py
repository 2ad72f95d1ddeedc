"""The plan as one HTML page that needs nothing else: no script, font or picture from anywhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.plan.diagram import diagram
from ops.plan.difference import opened
from ops.plan.iam import matrix
from ops.plan.plan import Comparison, Plan
from ops.plan.resources import Resource

FOLDER = Path(__file__).parent
COMPONENTS = ("airflow", "pulumi")  # packages whose names say nothing to a reader


def page(plan: Plan, comparison: Comparison | None = None) -> str:
    """Return the page; with a comparison it begins with what differs."""
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
        diagram=diagram(plan.architecture),
        permitted=permitted,
        permissions=permissions,
        opened=opened,
    )


def usd(amount: float) -> str:
    """Write an amount of dollars: 1,234.56."""
    return f"{amount:,.2f}"


def number(value: float, decimals: int = 5) -> str:
    """Write a number without superfluous zeros."""
    return f"{value:,.{decimals}f}".rstrip("0").rstrip(".")


def kind(resource: Resource) -> str:
    """Shorten a type token for reading: `aws:s3/bucket:Bucket` is `s3 Bucket`."""
    package, _, rest = resource.type.partition(":")
    module, _, name = rest.rpartition(":")
    group = module.split("/", maxsplit=1)[0] if package == "aws" else "" if package in COMPONENTS else package
    return f"{group} {name}".strip()
