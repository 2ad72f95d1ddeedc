"""Create or remove the roles that the GitHub workflows of a stack assume."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from botocore.exceptions import ClientError
from pulumi import automation

from infra.aws.policies import Statement
from infra.dag_declarations import declarations
from infra.errors import OperationError
from infra.settings import PROJECT, Settings
from infra.settings.preview_rules import why_no_previews
from ops.aws.account import Account, aws_errors, error_code
from ops.console import Echo
from ops.plan.cloud import ACCOUNT
from ops.plan.recorder import Recorder
from ops.plan.recording import record_program
from ops.plan.resources import Recording
from ops.pulumi.pulumi_cli import pulumi_command
from ops.roles import policies, program
from ops.roles.policies import Scope
from ops.roles.program import AUDIENCE, GitHubRole, provider_arn

# A separate project in the same state: `make destroy` deletes the stack, but not the roles that deploy it again.
ROLES_PROJECT = f"{PROJECT}-github-roles"
PREVIEW = "preview"
# The repository in recordings.
EXAMPLE = "example/airflow"
# https://docs.github.com/en/repositories/creating-and-managing-repositories/about-repositories
REPOSITORY = re.compile(r"[\w.-]+(@\d+)?/[\w.-]+(@\d+)?")
ON_GITHUB = re.compile(r"(?:https://|ssh://git@|git@)github\.com[/:](?P<repository>[\w.-]+/[\w.-]+?)(?:\.git)?/?")


def repository_of(stack: str, settings: Settings, given: str | None) -> str:
    """Return the GitHub repository whose workflows deploy a stack: the given one, else that of the DAGs.

    Raises:
        OperationError: There is none, or its deployments assume another role.
    """
    if settings.deploy_role_arn:
        raise OperationError(
            f"deployments of {stack} assume {settings.deploy_role_arn}: remove airflow:deploy_role_arn from "
            f"Pulumi.{stack}.yaml, so that the roles of the workflows deploy it themselves"
        )
    found = ON_GITHUB.fullmatch(settings.dags.repository)
    repository = given or (found and found["repository"])
    if repository is None:
        raise OperationError(
            f"{settings.dags.repository} is not on GitHub: run `make github-roles STACK={stack} "
            "REPOSITORY=<owner>/<name>`"
        )
    if not REPOSITORY.fullmatch(repository):
        raise OperationError(f"{repository!r} is not a GitHub repository: set REPOSITORY=<owner>/<name>")
    return repository


def roles_of(stack: str, settings: Settings, scope: Scope) -> list[GitHubRole]:
    """Return the roles of a stack; the environments are those of the workflows."""
    roles = [
        GitHubRole("deploy", stack, policies.deployer(scope, boundary(scope))),
        GitHubRole("read", f"{stack}-read", policies.reader(scope)),
    ]
    if why_no_previews(stack, settings) is None:
        roles.append(GitHubRole(PREVIEW, PREVIEW, policies.previews(scope, preview_boundary(scope))))
    return roles


def boundaries_of(stack: str, settings: Settings, scope: Scope) -> dict[str, list[Statement]]:
    """Return the permissions of the boundaries of the stack's own roles, by name."""
    found = {scope.name("boundary"): policies.stack_boundary(scope)}
    if why_no_previews(stack, settings) is None:
        found[scope.name("preview-boundary")] = policies.preview_boundary(scope, declarations().values())
    return found


def boundary(scope: Scope) -> str:
    """Return the ARN of the boundary of the stack's roles."""
    return scope.policy(scope.name("boundary"))


def preview_boundary(scope: Scope) -> str:
    """Return the ARN of the boundary of the roles of preview environments."""
    return scope.policy(scope.name("preview-boundary"))


def create(stack: str, settings: Settings, account: Account, repository: str, echo: Echo) -> None:
    """Create or update the roles.

    Raises:
        OperationError: Pulumi failed, or the account's identity provider has another audience.
    """
    scope = Scope.of(stack, settings, account)
    roles, boundaries = roles_of(stack, settings, scope), boundaries_of(stack, settings, scope)
    with _selected(scope, echo) as deployed:
        run = partial(program.create, scope, repository, roles, boundaries)
        deployed.workspace.program = partial(run, has_provider=_has_foreign_provider(account, deployed))
        deployed.up(suppress_progress=True)
    for line in next_steps(stack, settings, scope, roles):
        echo(line)


def remove(stack: str, settings: Settings, account: Account, echo: Echo) -> None:
    """Delete the roles. The identity provider stays, because roles of other stacks may use it.

    Raises:
        OperationError: Pulumi failed.
    """
    scope = Scope.of(stack, settings, account)
    with _selected(scope, echo) as deployed:
        deployed.destroy(suppress_progress=True)
        deployed.workspace.remove_stack(stack)
    echo(f"deleted the roles of {stack}; the identity provider {provider_arn(account.id)} stays, for other stacks")


def recording(stack: str, settings: Settings) -> Recording:
    """Return the resources that the command creates, recorded without Pulumi's engine and AWS."""
    scope = Scope.of(stack, settings, Account(ACCOUNT, "", settings.region, None))
    roles, boundaries = roles_of(stack, settings, scope), boundaries_of(stack, settings, scope)
    run = partial(program.create, scope, EXAMPLE, roles, boundaries, has_provider=False)
    recorder = Recorder(ACCOUNT, settings.region, reveal=False)
    return record_program(run, recorder, ROLES_PROJECT, f"{stack}-github-roles")


def next_steps(stack: str, settings: Settings, scope: Scope, roles: Sequence[GitHubRole]) -> Iterator[str]:
    """Yield what to enter in GitHub and in the stack file."""
    arns = {role.purpose: scope.role(scope.name(role.purpose)) for role in roles}
    yield "on GitHub, in Settings > Environments, set these variables:"
    for role in roles:
        yield f"  {role.environment}: AWS_ROLE={arns[role.purpose]} AWS_REGION={scope.region}"
    wanted = [
        (
            "airflow:cluster.admin_arns",
            settings.cluster.admin_arns,
            [arns[p] for p in ("deploy", PREVIEW) if p in arns],
        ),
        ("airflow:cluster.reader_arns", settings.cluster.reader_arns, [arns["read"]]),
        ("airflow:permissions_boundary", (settings.permissions_boundary,), [boundary(scope)]),
    ]
    if PREVIEW in arns:
        present = (settings.preview_permissions_boundary,)
        wanted.append(("airflow:preview_permissions_boundary", present, [preview_boundary(scope)]))
    missing = [f"  {key}: {arn}" for key, present, needed in wanted for arn in needed if arn not in present]
    if missing:
        yield f"in Pulumi.{stack}.yaml, add these values and your own role to admin_arns, and deploy the stack once:"
        yield from missing


@contextmanager
def _selected(scope: Scope, echo: Echo) -> Iterator[automation.Stack]:
    """Yield Pulumi's stack of the roles, in the state of the stack that they deploy.

    Raises:
        OperationError: Pulumi failed.
    """
    # The state contains no secrets.
    environment = {**scope.backend.environment, "PULUMI_CONFIG_PASSPHRASE": ""}
    with tempfile.TemporaryDirectory(prefix="roles-") as folder:
        options = automation.LocalWorkspaceOptions(
            work_dir=folder,
            pulumi_command=pulumi_command(echo),
            env_vars={name: value for name, value in environment.items() if value is not None},
        )
        try:
            yield automation.create_or_select_stack(
                scope.stack, project_name=ROLES_PROJECT, program=lambda: None, opts=options
            )
        except automation.CommandError as error:
            echo(str(error))
            raise OperationError(
                f"the roles of {scope.stack} could not be changed: see the output above, and use credentials that may "
                "administer IAM"
            ) from error


def _has_foreign_provider(account: Account, deployed: automation.Stack) -> bool:
    """Return whether the account has the identity provider, and this stack of Pulumi does not manage it.

    Raises:
        OperationError: Its tokens are not for AWS, or AWS refused the request.
    """
    arn = provider_arn(account.id)
    state = deployed.export_stack().deployment or {}
    if any(resource.get("id") == arn for resource in state.get("resources", ())):
        return False
    with aws_errors():
        try:
            found = account.client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                return False
            raise
    if AUDIENCE not in found["ClientIDList"]:
        raise OperationError(
            f"{arn} does not accept the audience {AUDIENCE}: run `aws iam add-client-id-to-open-id-connect-provider "
            f"--open-id-connect-provider-arn {arn} --client-id {AUDIENCE}`"
        )
    return True
