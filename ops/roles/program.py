"""The Pulumi program of the roles of the GitHub workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.policies import Conditions, Statement, document
from infra.settings import PROJECT
from ops.roles.documents import documents
from ops.roles.policies import Scope

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
# Without the tag `stack`, so that they are not taken for resources that the stack's destruction left.
TAGS = {"project": PROJECT, "purpose": "github-roles", "managed-by": "pulumi"}


@dataclass(frozen=True)
class GitHubRole:
    """A role of the workflows.

    Attributes:
        purpose: What it is for.
        environment: The GitHub environment whose jobs may assume it.
        permissions: Its permissions.
    """

    purpose: str
    environment: str
    permissions: Sequence[Statement]


def create(
    scope: Scope,
    repository: str,
    roles: Sequence[GitHubRole],
    boundaries: Mapping[str, Sequence[Statement]],
    *,
    has_provider: bool,
) -> None:
    """Create the roles, the policies that bound the stack's own roles, and the identity provider if it is missing.

    Args:
        scope: The stack.
        repository: The GitHub repository, as in the subject of its tokens.
        roles: The roles.
        boundaries: The permissions of each boundary, by its name.
        has_provider: Whether the account has the identity provider, of which there can be only one.
    """
    provider = aws.Provider(
        "aws",
        region=scope.region,
        allowed_account_ids=[scope.account],
        default_tags=aws.ProviderDefaultTagsArgs(tags=TAGS),
    )
    opts = pulumi.ResourceOptions(provider=provider)
    if not has_provider:
        aws.iam.OpenIdConnectProvider(
            "github",
            url=f"https://{ISSUER}",
            client_id_lists=[AUDIENCE],
            # Roles of other stacks use it, too.
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=True)),
        )
    for name, statements in boundaries.items():
        aws.iam.Policy(name, name=name, policy=document(*statements), opts=opts)
    for role in roles:
        _create_role(scope, repository, role, opts)


def _create_role(scope: Scope, repository: str, role: GitHubRole, opts: pulumi.ResourceOptions) -> None:
    name = scope.name(role.purpose)
    created = aws.iam.Role(
        role.purpose,
        name=name,
        description=f"Jobs of {repository} in the environment {role.environment}",
        assume_role_policy=trust(provider_arn(scope.account), repository, role.environment),
        opts=opts,
    )
    for number, text in enumerate(documents(role.permissions), 1):
        policy = aws.iam.Policy(f"{role.purpose}-{number}", name=f"{name}-{number}", policy=text, opts=opts)
        aws.iam.RolePolicyAttachment(f"{role.purpose}-{number}", role=created.name, policy_arn=policy.arn, opts=opts)


def provider_arn(account: str) -> str:
    """Return the ARN of GitHub's identity provider in an account."""
    return f"arn:aws:iam::{account}:oidc-provider/{ISSUER}"


def trust(provider: str, repository: str, environment: str) -> str:
    """Return the trust policy for the jobs of one GitHub environment of one repository.

    https://docs.github.com/en/actions/reference/security/oidc#immutable-subject-claims
    """
    return document(
        Statement(
            ("sts:AssumeRoleWithWebIdentity",),
            principals={"Federated": provider},
            conditions=_of_subject(repository, environment),
        )
    )


def _of_subject(repository: str, environment: str) -> Conditions:
    audience, subject = f"{ISSUER}:aud", f"repo:{repository}:environment:{environment}"
    if "@" in repository:
        return {"StringEquals": {audience: AUDIENCE, f"{ISSUER}:sub": subject}}
    # Names contain no `@`, so only IDs match the wildcards. Which form GitHub uses depends on the repository's age.
    owner, _, name = repository.partition("/")
    with_ids = f"repo:{owner}@*/{name}@*:environment:{environment}"
    return {"StringEquals": {audience: AUDIENCE}, "StringLike": {f"{ISSUER}:sub": [subject, with_ids]}}
