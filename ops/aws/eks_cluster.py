"""An EKS cluster as AWS describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.kubeconfig import kubeconfig
from ops.aws.account import Account, aws_errors, error_code

# The states in which its API responds: https://docs.aws.amazon.com/eks/latest/APIReference/API_Cluster.html
RUNNING = ("ACTIVE", "UPDATING")


@dataclass(frozen=True)
class EksCluster:
    """A cluster whose API responds."""

    name: str
    region: str
    description: Mapping[str, Any]

    @classmethod
    def found(cls, account: Account, name: str) -> EksCluster | None:
        """Return a running cluster; None if there is none with this name.

        Raises:
            OperationError: A request to AWS failed.
        """
        description = describe(account, name)
        running = description is not None and description["status"] in RUNNING
        return cls(name, account.region, description) if description and running else None

    def access(self, role_arn: str | None) -> Mapping[str, Any]:
        """Return the content of its kubeconfig."""
        certificate = self.description["certificateAuthority"]["data"]
        arn, endpoint = self.description["arn"], self.description["endpoint"]
        return dict(json.loads(kubeconfig(arn, self.name, endpoint, certificate, self.region, role_arn)))


def describe(account: Account, name: str) -> Mapping[str, Any] | None:
    """Return the description of a cluster in any state; None if it does not exist.

    Raises:
        OperationError: A request to AWS failed.
    """
    with aws_errors():
        try:
            return dict(account.client("eks").describe_cluster(name=name)["cluster"])
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return None
            raise
