import pytest

from infra.errors import OperationError
from ops.aws.account import Account
from ops.teardown.aws_teardown import report
from ops.teardown.sweep import Leftover, sweep

TAGS = [{"Key": "project", "Value": "airflow"}, {"Key": "stack", "Value": "dev"}]
OTHERS = [{"Key": "project", "Value": "airflow"}, {"Key": "stack", "Value": "staging"}]
CLUSTER = [{"Key": "eks:eks-cluster-name", "Value": "airflow-dev-cluster"}]


def volume(account: Account, tags: list[dict[str, str]]) -> str:
    specification = [{"ResourceType": "volume", "Tags": tags}]
    made = account.client("ec2").create_volume(Size=1, AvailabilityZone="us-east-1a", TagSpecifications=specification)
    return str(made["VolumeId"])


def arns(account: Account) -> list[str]:
    return [leftover.arn for leftover in sweep(account, "dev")]


def test_of_an_empty_account_nothing_is_left(account: Account) -> None:
    said: list[str] = []
    report(account, "dev", said.append)
    assert said == ["nothing of dev is left in account 123456789012, us-east-1: no resource has its tags or names"]


def test_what_has_the_stacks_tags_is_left_and_what_is_anothers_is_not(account: Account) -> None:
    mine, theirs = volume(account, TAGS), volume(account, OTHERS)
    found = arns(account)
    assert any(mine in arn for arn in found)
    assert not any(theirs in arn for arn in found)


def test_a_volume_that_the_cluster_made_is_left(account: Account) -> None:
    made = volume(account, CLUSTER)
    assert any(made in arn for arn in arns(account))


def test_a_role_and_a_log_group_are_found_by_their_names(account: Account) -> None:
    iam, logs = account.client("iam"), account.client("logs")
    for name in ("airflow-dev-task", "airflow-development", "airflow-staging-task"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    logs.create_log_group(logGroupName="/aws/eks/airflow-dev-cluster/cluster")
    logs.create_log_group(logGroupName="/aws/eks/airflow-staging-cluster/cluster")
    assert arns(account) == [
        "arn:aws:iam::123456789012:role/airflow-dev-task",
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/eks/airflow-dev-cluster/cluster",
    ]


def test_a_key_that_is_scheduled_for_deletion_is_not_left(account: Account) -> None:
    kms = account.client("kms")
    tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in TAGS]
    key = kms.create_key(Tags=tags)["KeyMetadata"]
    assert arns(account) == [key["Arn"]]
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    assert arns(account) == []


def test_a_secret_that_is_scheduled_for_deletion_is_not_left(account: Account) -> None:
    secrets = account.client("secretsmanager")
    arn = secrets.create_secret(Name="airflow-dev/database/admin", SecretString="x", Tags=TAGS)["ARN"]
    assert arns(account) == [arn]
    secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=30)
    assert arns(account) == []


def test_a_terminated_instance_is_not_left(account: Account) -> None:
    ec2 = account.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    specification = [{"ResourceType": "instance", "Tags": TAGS}]
    started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=specification)
    identity = started["Instances"][0]["InstanceId"]
    assert any(identity in arn for arn in arns(account))
    ec2.terminate_instances(InstanceIds=[identity])
    assert not any(identity in arn for arn in arns(account))


def test_a_last_snapshot_is_listed_with_what_to_do(account: Account) -> None:
    rds = account.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="airflow-dev-database", DBInstanceClass="db.t4g.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="longenough", AllocatedStorage=20,
    )  # fmt: skip
    rds.delete_db_instance(DBInstanceIdentifier="airflow-dev-database", FinalDBSnapshotIdentifier="airflow-dev-final")
    snapshot = "arn:aws:rds:us-east-1:123456789012:snapshot:airflow-dev-final"
    assert Leftover(snapshot, "the database's last data: delete it when it is no longer needed") in sweep(
        account, "dev"
    )


def test_leftovers_are_listed_and_end_in_an_error(account: Account) -> None:
    account.client("iam").create_role(RoleName="airflow-dev-task", AssumeRolePolicyDocument="{}")
    said: list[str] = []
    with pytest.raises(OperationError, match=r"^1 resources of dev are left in account 123456789012"):
        report(account, "dev", said.append)
    assert said == ["left: arn:aws:iam::123456789012:role/airflow-dev-task"]
