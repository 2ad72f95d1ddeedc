import pytest

from infra.errors import OperationError
from infra.settings import ExistingClusterSettings, load
from ops.previews.deploy_checks import check_none_left
from ops.previews.records import Records
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment

from .conftest import record_of, settings_of


@pytest.fixture
def deployment(records: Records) -> ExistingClusterDeployment:
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    return ExistingClusterDeployment("local", "pulumi", {}, settings, records.cluster)


def test_a_base_with_environments_is_not_destroyed(records: Records, deployment: ExistingClusterDeployment) -> None:
    stack = records.save(record_of(settings_of())).stack
    with pytest.raises(OperationError, match=rf"^local has preview environments \({stack}\): remove each with `make "):
        check_none_left(deployment)


def test_a_stack_without_environments_may_be_destroyed(deployment: ExistingClusterDeployment) -> None:
    check_none_left(deployment)
