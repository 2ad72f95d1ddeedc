from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.errors import OperationError
from infra.previews.settings import is_expired
from infra.settings import load
from infra.settings.loading import stack_summaries
from ops.previews.rules import check_base, check_branch, check_connections, check_room, expiry

from .conftest import NOW, settings_of


@pytest.mark.parametrize(
    ("stack", "sentence"),
    [
        ("prod", "prod is protected and does not allow preview environments: set STACK=dev"),
        ("staging", "staging "),
    ],
)
def test_a_protected_stack_is_not_a_base(stack: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=f"^{sentence}"):
        check_base(stack, load(stack))


@pytest.mark.parametrize("stack", ["dev", "local"])
def test_an_unprotected_stack_is_a_base(stack: str) -> None:
    check_base(stack, load(stack))


def test_a_stack_with_promoted_releases_is_not_a_base() -> None:
    settings = load("staging").model_copy(update={"protect": False})
    with pytest.raises(OperationError, match=r"staging only runs releases of dev and .*: set STACK=dev$"):
        check_base("staging", settings)


@pytest.mark.parametrize("branch", ["dev", "staging", "main", "local"])
def test_the_branch_of_an_environment_is_refused(branch: str) -> None:
    with pytest.raises(OperationError, match=f"^{branch} is the branch of the stack "):
        check_branch(branch, stack_summaries())


@pytest.mark.parametrize("branch", ["", "-x", "a b", "a..b/", "/a", "$(reboot)", "a;b", "refs/heads/x y"])
def test_an_invalid_branch_name_is_refused(branch: str) -> None:
    with pytest.raises(OperationError, match="is not a valid branch name"):
        check_branch(branch, stack_summaries())


@pytest.mark.parametrize("branch", ["feature/x", "dev2", "feature/dev", "fix_1.2"])
def test_the_branch_of_a_change_is_accepted(branch: str) -> None:
    check_branch(branch, stack_summaries())


def test_the_limit_refuses_new_environments_only() -> None:
    check_room("dev", "c", ["a", "b"], most=3)
    check_room("dev", "b", ["a", "b"], most=2)
    with pytest.raises(OperationError, match="dev has 2 preview environments, and its max_previews is 2: remove one"):
        check_room("dev", "c", ["a", "b"], most=2)
    with pytest.raises(OperationError, match="its max_previews is 0"):
        check_room("dev", "a", [], most=0)


def test_an_environment_needs_connections_on_the_database_server_of_a_base_on_aws() -> None:
    with pytest.raises(OperationError, match=r"^dev's database, db\.t4g\.micro, .* leaves no room for c: set "):
        check_connections("dev", load("dev"), "c", [])
    check_connections("dev", load("dev"), "c", ["c"])
    check_connections("local", load("local"), "c", ["a", "b"])


def test_the_lifetime_begins_now_and_is_never_shortened() -> None:
    assert expiry(NOW, 72, None) == NOW + timedelta(hours=72)
    assert expiry(NOW, 1, NOW + timedelta(hours=2)) == NOW + timedelta(hours=2)
    assert expiry(NOW, 3, NOW + timedelta(hours=2)) == NOW + timedelta(hours=3)
    assert expiry(NOW, 3, NOW - timedelta(hours=2)) == NOW + timedelta(hours=3)


@pytest.mark.parametrize("hours", [0, -1, 721, float("nan"), float("inf")])
def test_hours_out_of_range_are_refused(hours: float) -> None:
    with pytest.raises(OperationError, match=r"choose more than 0 and at most 720$"):
        expiry(NOW, hours, None)


def test_an_environment_expires_at_its_time_in_any_time_zone() -> None:
    settings = settings_of(expires_at=NOW)
    assert not is_expired(settings, NOW - timedelta(seconds=1))
    assert is_expired(settings, NOW)
    tokyo = timezone(timedelta(hours=9))
    assert is_expired(settings, datetime(2026, 11, 21, 21, 0, tzinfo=tokyo))
    assert not is_expired(settings, datetime(2026, 11, 21, 20, 59, tzinfo=tokyo))
    late = settings_of(expires_at=datetime(2026, 11, 21, 21, 0, tzinfo=tokyo))
    assert is_expired(late, datetime(2026, 11, 21, 12, 0, tzinfo=UTC))
