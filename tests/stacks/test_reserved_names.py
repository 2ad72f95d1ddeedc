from infra.aws.names import Names
from ops.aws.account import Account
from ops.teardown.reserved_names import free_names

NAMES = Names("airflow", "dev")
GROUP = "/aws/eks/airflow-dev-cluster/cluster"


def groups(account: Account) -> list[str]:
    return [group["logGroupName"] for group in account.client("logs").describe_log_groups()["logGroups"]]


def test_a_log_group_that_eks_created_again_is_deleted(account: Account) -> None:
    logs = account.client("logs")
    for name in (
        GROUP,
        "/aws/rds/instance/airflow-dev-database/postgresql",
        "/aws/vpc/airflow-dev-flow-log",
        "/aws/eks/airflow-staging-cluster/cluster",
    ):
        logs.create_log_group(logGroupName=name)
    free_names(account, NAMES, ["/aws/vpc/airflow-dev-flow-log"], lambda _: None)
    assert groups(account) == ["/aws/eks/airflow-staging-cluster/cluster", "/aws/vpc/airflow-dev-flow-log"]


def test_the_log_group_of_a_cluster_that_exists_is_kept(account: Account) -> None:
    account.client("logs").create_log_group(logGroupName=GROUP)
    account.client("eks").create_cluster(
        name="airflow-dev-cluster", roleArn="arn:aws:iam::123456789012:role/x", resourcesVpcConfig={}
    )
    free_names(account, NAMES, (), lambda _: None)
    assert groups(account) == [GROUP]


def test_the_name_of_a_secret_that_is_scheduled_for_deletion_is_free_again(account: Account) -> None:
    secrets = account.client("secretsmanager")
    for name in ("airflow-dev/database/admin", "airflow-dev/database/kept", "airflow-staging/database/admin"):
        secrets.create_secret(Name=name, SecretString="x")
    secrets.delete_secret(SecretId="airflow-dev/database/admin", RecoveryWindowInDays=30)
    secrets.delete_secret(SecretId="airflow-staging/database/admin", RecoveryWindowInDays=30)
    free_names(account, NAMES, (), lambda _: None)
    found = secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]
    assert sorted(one["Name"] for one in found) == ["airflow-dev/database/kept", "airflow-staging/database/admin"]
