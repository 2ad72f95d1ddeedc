"""The AWS account and region of a stack: credentials, names and tags."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.names import Names
from infra.settings import PROJECT, Settings


@dataclass(frozen=True)
class Account:
    """The AWS account of a stack, as all components use it.

    Attributes:
        provider: The provider, with credentials, region and default tags.
        region: The region's name.
        id: The account ID.
        names: The resource names of the stack.
        tags: The tags for ownership and cost.
        protect: Whether resources with data are protected from deletion.
        permissions_boundary: The policy that bounds the permissions of all roles.
    """

    provider: aws.Provider
    region: str
    id: pulumi.Output[str]
    names: Names
    tags: Mapping[str, str]
    protect: bool
    permissions_boundary: str | None

    @classmethod
    def of(cls, stack: str, settings: Settings) -> "Account":
        """Create the provider and look up the account ID."""
        tags = stack_tags(stack, settings)
        role = settings.deploy_role_arn
        provider = aws.Provider(
            "aws",
            region=settings.region,
            allowed_account_ids=[settings.account_id] if settings.account_id else None,
            assume_roles=[aws.ProviderAssumeRoleArgs(role_arn=role)] if role else None,
            default_tags=aws.ProviderDefaultTagsArgs(tags=tags),
        )
        identity = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=provider))
        return cls(
            provider,
            settings.region,
            identity.account_id,
            Names(PROJECT, stack),
            tags,
            settings.protect,
            settings.permissions_boundary,
        )


def stack_tags(stack: str, settings: Settings) -> dict[str, str]:
    """Return the tags for ownership and cost."""
    return {
        "project": PROJECT,
        "stack": stack,
        "owner": settings.owner,
        "cost-center": settings.cost_center,
        "managed-by": "pulumi",
    }
