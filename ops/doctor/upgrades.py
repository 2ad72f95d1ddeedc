"""The checks of `make upgrade-check`: what to upgrade, and by when."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from infra.images import content
from ops.aws.account import Account
from ops.aws.eks_cluster import EksCluster
from ops.doctor import advisories, image_ages, kinds, releases, support
from ops.doctor.outcome import Check, Outcome, unknown
from ops.stacks.aws_stack import AwsStack
from ops.stacks.platform_stack import PlatformStack


def checks(stack: PlatformStack) -> Iterator[Check]:
    """Yield the checks of a stack.

    Raises:
        OperationError: The credentials of a stack on AWS are missing or of another account.
    """
    if isinstance(stack, AwsStack):
        yield from _aws_checks(stack)
    yield Check("own objects", lambda: kinds.own_apis(stack.name, stack.cluster))
    yield Check("Airflow", releases.airflow)
    yield Check("chart", releases.airflow_chart)
    for name in advisories.REQUIREMENTS:
        yield Check(f"packages {name}", partial(advisories.advisories, name))


def _aws_checks(stack: AwsStack) -> Iterator[Check]:
    account, version = stack.account, stack.settings.cluster.kubernetes_version
    yield Check("Kubernetes", lambda: support.kubernetes(account, version, stack.eks_cluster))
    yield Check("EKS insights", lambda: _insights(account, stack.eks_cluster))
    yield Check("PostgreSQL", partial(support.postgresql, account))
    for name in content.names():
        yield Check(f"image {name}", partial(_image, stack, name))


def _insights(account: Account, cluster: EksCluster | None) -> Outcome:
    return support.upgrade_insights(account, cluster) if cluster else unknown("there is no cluster yet")


def _image(stack: AwsStack, name: str) -> Outcome:
    return image_ages.image(stack.registry(), name)
