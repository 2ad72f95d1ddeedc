"""The values of the stack files in this repository that every team replaces with its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network

from infra.settings.models import ExistingClusterSettings, Settings
from infra.settings.stack_summaries import Source

# The networks for documentation: https://datatracker.ietf.org/doc/html/rfc5737
EXAMPLE_NETWORKS = tuple(map(IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")))
# The domains for documentation: https://datatracker.ietf.org/doc/html/rfc2606
EXAMPLE_ADDRESS = re.compile(r"@example\.(com|net|org)$")
EXAMPLE_OWNER = re.compile(r"github\\?\.com/example/")


def placeholders(settings: Settings | ExistingClusterSettings) -> Iterator[str]:
    """Yield each setting that still has its placeholder, and what to replace it with."""
    if isinstance(settings, Settings):
        for network in settings.cluster.public_access_cidrs:
            if any(network.subnet_of(example) for example in EXAMPLE_NETWORKS):
                yield f"airflow:cluster.public_access_cidrs, {network}: set the networks that you work from"
        for address in settings.alarms.emails if settings.alarms else ():
            if EXAMPLE_ADDRESS.search(address):
                yield f"airflow:alarms.emails, {address}: set the addresses that get the alarms"
    if settings.dags and EXAMPLE_OWNER.match(Source.of(settings.dags.repository, "").repository):
        yield f"airflow:dags.repository, {settings.dags.repository}: set your own repository"
    if settings.release and EXAMPLE_OWNER.search(settings.release.signed_by or ""):
        yield "airflow:release.signed_by: set the workflow in your own repository, or remove it"
