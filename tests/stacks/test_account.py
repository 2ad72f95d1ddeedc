from pathlib import Path

import pytest

from infra.errors import OperationError
from infra.settings import Settings, load_aws
from ops import own_s3
from ops.aws.account import Account, account_of, aws_errors


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
    sentence = r"^there are no AWS credentials: log in with `aws sso login`, or store access keys with `aws configure`$"
    with pytest.raises(OperationError, match=sentence):
        account_of("dev", settings)


def test_without_a_network_there_is_one_sentence(aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OperationError, match=r"^the request to AWS failed .*127.0.0.1:9.*: check the network"):
        account_of("dev", settings)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredToken", r"^AWS does not accept the credentials \(too late\): log in with `aws sso login`, or "),
        ("AccessDenied", r"^AWS refused ListRoles \(AccessDenied: too late\): check the permissions of the cred"),
    ],
)
def test_an_aws_refusal_is_one_sentence(code: str, sentence: str) -> None:
    from botocore.exceptions import ClientError

    with pytest.raises(OperationError, match=sentence), aws_errors():
        raise ClientError({"Error": {"Code": code, "Message": "too late."}}, "ListRoles")


# An AWS configuration file with one profile of each unusable kind.
PROFILES = """
[profile sso]
sso_session = company
sso_account_id = 123456789012
sso_role_name = reader
[sso-session company]
sso_region = us-east-1
sso_start_url = https://company.awsapps.com/start
[profile partial]
aws_access_key_id = AKIAEXAMPLE
[profile process]
credential_process = /bin/false
[profile no-json]
credential_process = echo no JSON
[profile no-program]
credential_process = /nowhere/program
[profile no-token]
role_arn = arn:aws:iam::123456789012:role/reader
web_identity_token_file = /nowhere/token
[profile no-source]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = gone
[profile no-number]
max_attempts = many
aws_access_key_id = AKIAEXAMPLE
aws_secret_access_key = secret
"""


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("sso", "run `aws sso login`"),
        ("partial", "missing: aws_secret_access_key"),
        ("process", "custom-process"),
        ("no-json", "Expecting value"),
        ("no-program", "/nowhere/program"),
        ("no-token", "/nowhere/token"),
        ("no-source", 'source_profile "gone"'),
        ("no-number", "'many'"),
    ],
)
def test_a_profile_that_cannot_be_used_is_one_sentence(
    aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, reason: str
) -> None:
    (tmp_path / "config").write_text(PROFILES)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(OperationError) as caught:
        account_of("dev", settings)
    message = str(caught.value)
    assert message.startswith(
        "the AWS login is missing or has expired (" if profile == "sso" else "the request to AWS failed ("
    )
    assert reason in message
    assert profile == "sso" or f"check the profile {profile} of AWS_PROFILE" in message
    assert "\n" not in message


def test_a_profile_that_does_not_exist_is_one_sentence(
    aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    sentence = r"^The config profile \(nope\) could not be found: set AWS_PROFILE to one that `aws configure list-prof"
    with pytest.raises(OperationError, match=sentence):
        account_of("dev", settings)


@pytest.mark.parametrize("content", [b"[profile\n", b"[profile caf\xe9]\nregion = us-east-1\n"])
def test_a_broken_configuration_file_is_one_sentence(
    aws: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "config"
    file.write_bytes(content)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    sentence = rf"^the request to AWS failed \(Unable to parse config file: {file}\): check "
    with pytest.raises(OperationError, match=sentence):
        account_of("dev", settings)


def test_a_variable_that_is_no_number_or_address_is_one_sentence(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nope")
    sentence = r"^the request to AWS failed \(Invalid endpoint: nope\): check the variables"
    with pytest.raises(OperationError, match=sentence):
        account.client("s3")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(OperationError, match=r"^the request to AWS failed \(.*'many'\): check the variables AWS_\*"):
        account_of("dev", settings)


def test_the_name_of_a_region_is_checked_without_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile\n")
    monkeypatch.setenv("AWS_PROFILE", "nope")
    assert load_aws("dev").region == "us-east-1"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert load_aws("dev").region == "us-east-1"


def test_a_server_of_the_bundles_own_is_reached_without_a_profile(
    aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_PROFILE", "AWS_MAX_ATTEMPTS", "AWS_ENDPOINT_URL", "AWS_RETRY_MODE"):
        monkeypatch.setenv(name, "nope")
    client = own_s3.client(aws, "us-east-1", "test", "test")
    client.create_bucket(Bucket="data")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["data"]
