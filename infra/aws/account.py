"""The AWS account and region as one stack uses them: credentials, names and tags."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.names import Names
from infra.documents import REPOSITORY
from infra.settings import PROJECT, Settings


@dataclass(frozen=True)
class Account:
    """What every component needs to know of where it makes things.

    Attributes:
        provider: The credentials and the region; it tags everything that it makes.
        region: The region's name.
        id: The account's number.
        names: The names of the stack.
        tags: The tags that do not change with each commit.
        protect: Whether what holds data is kept from deletion.
    """

    provider: aws.Provider
    region: str
    id: pulumi.Output[str]
    names: Names
    tags: Mapping[str, str]
    protect: bool

    @classmethod
    def of(cls, stack: str, settings: Settings) -> "Account":
        """Make the provider, and ask it for the account's number."""
        tags = stack_tags(stack, settings)
        role = settings.deploy_role_arn
        provider = aws.Provider(
            "aws",
            region=settings.region,
            allowed_account_ids=[settings.account_id] if settings.account_id else None,
            assume_roles=[aws.ProviderAssumeRoleArgs(role_arn=role)] if role else None,
            default_tags=aws.ProviderDefaultTagsArgs(tags={**tags, "commit": commit()}),
        )
        identity = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=provider))
        return cls(provider, settings.region, identity.account_id, Names(PROJECT, stack), tags, settings.protect)


def stack_tags(stack: str, settings: Settings) -> dict[str, str]:
    """Return the tags that say whose a thing is and who pays for it."""
    return {
        "project": PROJECT,
        "stack": stack,
        "owner": settings.owner,
        "cost-center": settings.cost_center,
        "managed-by": "pulumi",
    }


def commit() -> str:
    """Return the commit that is deployed, with `-dirty` where files differ from it; `unknown` outside a git clone."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"
