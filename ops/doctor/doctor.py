"""The checks before a deployment of a stack on AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from rich.console import Console

from infra.errors import OperationError
from ops.aws.account import Account, account_of
from ops.console import Echo
from ops.doctor import account as accounts
from ops.doctor import alarms, deployment, machine
from ops.doctor.outcome import Check, Outcome, failed, passed
from ops.doctor.permissions import permissions
from ops.doctor.report import run, show
from ops.pulumi.pulumi_cli import pulumi_command
from ops.stacks.aws_stack import AwsStack


def checks(stack: AwsStack) -> Iterator[Check]:
    """Yield the checks that `make deploy` runs: all that it does not make itself."""
    settings, echo = stack.settings, stack.echo
    yield Check("placeholders", partial(deployment.replaced_placeholders, stack.name, settings))
    yield Check("kubectl", partial(machine.kubectl, settings.cluster.kubernetes_version), "failed")
    yield Check("AWS CLI", machine.aws_cli, "failed")
    yield Check("Pulumi", partial(_pulumi, echo), "failed")
    yield Check("chart", deployment.chart_available, "failed")
    yield Check("DAG repository", partial(deployment.dag_repository, stack.name, settings))
    yield Check("public address", partial(_public_address, stack))
    yield from _account_checks(stack)


def checks_of_release(stack: AwsStack) -> Iterator[Check]:
    """Yield the checks that `make deploy` makes itself, and those of `make images`."""
    if stack.settings.release is None or stack.settings.release.after is None:
        yield Check("image builder", machine.builder, "failed")
    yield Check("bootstrap", partial(deployment.bootstrapped, stack))
    yield Check("release", partial(deployment.release, stack))


def check(stack: AwsStack, console: Console) -> bool:
    """Run and show all checks; return whether none failed."""
    return run((*checks(stack), *checks_of_release(stack)), console)


def check_before_deployment(stack: AwsStack, console: Console) -> None:
    """Run the checks before a deployment, and show those that did not pass.

    Raises:
        OperationError: A check failed.
    """
    found = [(check.name, outcome) for check in checks(stack) if (outcome := check.outcome()).status != "passed"]
    show(console, found)
    if failures := sum(outcome.status == "failed" for _, outcome in found):
        raise OperationError(
            f"{failures} check{'s' * (failures != 1)} failed: follow the advice above, then rerun this command; `make "
            f"doctor STACK={stack.name}` shows all checks"
        )


def _account_checks(stack: AwsStack) -> Iterator[Check]:
    settings = stack.settings
    account: Account | None = None
    try:
        account = account_of(stack.name, settings)
        credentials = accounts.credentials(account, settings.account_id)
    except OperationError as error:
        credentials = failed(str(error))
    yield Check("credentials", lambda: credentials)
    gateways = 1 if settings.network.nat_gateways == "one" else len(settings.network.zones)
    examined: dict[str, Callable[[Account], Outcome]] = {
        "region": accounts.region,
        "zones": partial(accounts.zones, wanted=settings.network.zones),
        "permissions": partial(permissions, stack=stack.name, settings=settings),
        **{
            f"{name} quota": partial(accounts.vcpus, pool=name, settings=pool)
            for name, pool in settings.node_pools.items()
        },
        "address quota": partial(accounts.addresses, stack=stack.name, needed=gateways),
        "VPC quota": partial(accounts.vpcs, stack=stack.name),
    }
    if settings.alarms:
        examined["alarms"] = partial(alarms.recipients, stack=stack.name, wanted=settings.alarms.emails)
    for name, examine in examined.items():
        yield Check(name, partial(examine, account) if account else accounts.without_credentials)


def _public_address(stack: AwsStack) -> Outcome:
    """Check this machine's address; a machine in the VPC or a connected network has another way to the cluster."""
    outcome = machine.public_address(stack.settings.cluster.public_access_cidrs)
    if outcome.status == "failed" and _reaches_cluster(stack):
        return passed("this machine reaches the Kubernetes API")
    return outcome


def _reaches_cluster(stack: AwsStack) -> bool:
    try:
        stack.cluster.check()
    except OperationError:
        return False
    return True


def _pulumi(echo: Echo) -> Outcome:
    return passed(f"Pulumi {pulumi_command(echo).version}")
