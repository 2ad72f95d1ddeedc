"""The stack in whose cluster preview environments run."""

from infra.errors import OperationError
from ops.console import Echo
from ops.previews.records import Records
from ops.previews.rules import check_base
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.resolve import resolve


def resolve_base(name: str, echo: Echo) -> PlatformStack:
    """Return a stack that has preview environments.

    Raises:
        SettingsError: The settings are missing or invalid.
        ContextError: The settings do not allow the current context.
        OperationError: The stack does not allow preview environments, or is not deployed.
    """
    base = resolve(name, echo)
    check_base(name, base.settings)
    outputs = base.outputs
    if missing := [each for each in base.needed_by_previews if each not in outputs]:
        why = "was deployed by a version without preview environments" if outputs else "is not deployed"
        raise OperationError(f"{name} {why} (its outputs have no {missing[0]}): run `make deploy STACK={name}`")
    base.cluster.check()
    return base


def records_of(base: PlatformStack) -> Records:
    """Return the records of a stack's preview environments."""
    return Records(base.cluster, base.setup_namespace)


def check_none_left(stack: PlatformStack) -> None:
    """Refuse to destroy a stack while preview environments use its cluster, database server and buckets.

    Raises:
        OperationError: The stack has preview environments, or the request to its cluster failed.
    """
    if stack.has_cluster and (found := [record.stack for record in records_of(stack).all()]):
        raise OperationError(
            f"{stack.name} has preview environments ({', '.join(found)}): remove each with `make preview-env-down`, "
            f"see `make preview-envs STACK={stack.name}`"
        )
