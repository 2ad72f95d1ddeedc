"""The Pulumi deployment of a stack on an existing cluster, with its state and key in a folder of this clone."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.settings import ExistingClusterSettings
from ops.console import Echo
from ops.kubernetes.cluster import Cluster
from ops.pulumi.deployment import Deployment
from ops.pulumi.pulumi_cli import pulumi_command

STATE = REPOSITORY / ".pulumi-state"
# Commands that read the stack file and write the key's salt to it.
WITH_STACK_FILE = ("preview", "up", "refresh", "destroy")


@dataclass(frozen=True)
class ExistingClusterDeployment(Deployment):
    """The Pulumi deployment of a stack on an existing cluster.

    Attributes:
        settings: The settings of the stack.
        cluster: The current cluster.
    """

    settings: ExistingClusterSettings
    cluster: Cluster

    @classmethod
    def of(cls, stack: str, settings: ExistingClusterSettings, echo: Echo) -> ExistingClusterDeployment:
        """Check the cluster, and select the stack.

        Raises:
            ContextError: There is no current context, or the settings do not allow it.
            OperationError: The cluster does not respond, or the stack is in another cluster.
        """
        context = checked_context(stack, settings.contexts)
        cluster = Cluster.of_context(context)
        cluster.check()
        found = cls(stack, pulumi_command(echo).command, environment(STATE), settings, cluster)
        found.select()
        deployed = found.outputs().get("context", context)
        if deployed != context:
            raise OperationError(
                f"{stack} is deployed in the cluster {deployed}, but the current context is {context}: switch with "
                f"`kubectl config use-context {deployed}`, or delete {STATE.name} if that cluster no longer exists"
            )
        return found

    def objects(self) -> list[dict[str, Any]]:
        """Return the Kubernetes objects in the stack's state.

        Raises:
            OperationError: The state cannot be read.
        """
        state = json.loads(self.answer("stack", "export"))["deployment"]
        return [
            dict(resource["outputs"])
            for resource in state.get("resources", ())
            if resource["type"].startswith("kubernetes:") and "kind" in resource.get("outputs", {})
        ]

    def _command(self, *arguments: str) -> list[str]:
        # Each clone has its own key, so the salt must not go into a file under version control. The program reads
        # the settings itself.
        file = ("--config-file", str(STATE / f"Pulumi.{self.stack}.yaml")) if arguments[0] in WITH_STACK_FILE else ()
        return super()._command(*arguments, *file)

    def select(self) -> None:
        """Select the stack; create it in the state if it does not exist.

        Raises:
            OperationError: The state cannot be read.
        """
        file = REPOSITORY / f"Pulumi.{self.stack}.yaml"
        before = file.read_bytes()
        try:
            self.answer("stack", "select", "--create", "--secrets-provider", "passphrase")
        finally:
            if file.read_bytes() != before:
                file.write_bytes(before)


def environment(state: Path) -> dict[str, str | None]:
    """Return Pulumi's environment; create the key if there is none."""
    state.mkdir(mode=0o700, exist_ok=True)
    passphrase = state / "passphrase"
    if not passphrase.exists():
        temporary = passphrase.with_name(f"passphrase.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        temporary.replace(passphrase)
    return {
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        "PULUMI_CONFIG_PASSPHRASE": None,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
