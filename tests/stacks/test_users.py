from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from infra.errors import OperationError
from ops.airflow import users
from ops.airflow_api import AirflowApiError, accepted

API: Any = SimpleNamespace(user="admin")


@pytest.mark.parametrize("name", ["anna", "anna.b@example.com", "x" * 64])
def test_a_login_name_or_an_email_address_names_a_user(name: str) -> None:
    users.check_name(API, name)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/../admin", "ann\n", "x" * 65])
def test_a_name_that_cannot_be_part_of_an_address_is_refused(name: str) -> None:
    with pytest.raises(OperationError, match=r"cannot name a user: use up to 64 letters, digits and characters of"):
        users.check_name(API, name)


def test_the_administrator_of_the_commands_is_not_changed() -> None:
    with pytest.raises(OperationError, match=r"^admin is the administrator that the other commands log in as"):
        users.check_name(API, "admin")


def test_the_reason_of_airflow_for_rejecting_a_user_is_shown() -> None:
    reason = "The email `anna` is already taken."
    answer = httpx.Response(409, json={"detail": reason}, request=httpx.Request("POST", "http://airflow"))
    with pytest.raises(AirflowApiError, match=f"HTTP 409.: {reason}$"):
        accepted(answer)
