import pytest

from infra.errors import OperationError
from infra.settings import load
from ops.previews.base import check_none_left
from ops.previews.records import Records
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.resolve import stack_with

from .conftest import record_of, settings_of


@pytest.fixture
def base(records: Records) -> PlatformStack:
    base = stack_with("local", load("local"), pytest.fail)
    vars(base)["cluster"] = records.cluster
    return base


def test_a_base_with_environments_is_not_destroyed(records: Records, base: PlatformStack) -> None:
    stack = records.save(record_of(settings_of())).stack
    with pytest.raises(OperationError, match=rf"^local has preview environments \({stack}\): remove each with `make "):
        check_none_left(base)


def test_a_stack_without_environments_may_be_destroyed(base: PlatformStack) -> None:
    check_none_left(base)
