import pytest

from infra.errors import OperationError
from infra.operations.account import Account, account_of, aws_errors
from infra.settings import Settings


def test_the_account_is_that_of_the_credentials(account: Account) -> None:
    assert (account.id, account.region) == ("123456789012", "us-east-1")


def test_credentials_of_another_account_than_the_settings_name_are_refused(aws: str, settings: Settings) -> None:
    with pytest.raises(OperationError, match="in account 123456789012, but dev belongs to account 111111111111: use"):
        account_of("dev", settings.model_copy(update={"account_id": "111111111111"}))


def test_the_account_that_the_settings_name_is_accepted(aws: str, settings: Settings) -> None:
    assert account_of("dev", settings.model_copy(update={"account_id": "123456789012"})).id == "123456789012"


def test_without_credentials_there_is_one_sentence(
    aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(OperationError, match=r"^AWS cannot be asked \(Unable to locate credentials\): check .* works$"):
        account_of("dev", settings)


def test_without_a_network_there_is_one_sentence(aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OperationError, match=r"^AWS cannot be asked .*127.0.0.1:9.*: check the network"):
        account_of("dev", settings)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredToken", r"^AWS does not accept the credentials \(too late\): log in again$"),
        ("AccessDenied", r"^AWS refused ListRoles \(AccessDenied: too late\): see that the credentials allow it$"),
    ],
)
def test_what_aws_refuses_becomes_a_sentence(code: str, sentence: str) -> None:
    from botocore.exceptions import ClientError

    with pytest.raises(OperationError, match=sentence), aws_errors():
        raise ClientError({"Error": {"Code": code, "Message": "too late."}}, "ListRoles")
