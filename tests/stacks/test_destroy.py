import json
from typing import Any

import pytest

from infra.errors import OperationError
from infra.settings import Settings
from ops.aws.account import Account
from ops.cli.stacks import check_confirmation
from ops.console import Echo
from ops.kubernetes.watch import Watcher
from ops.pulumi.deployment import Deployment
from ops.stacks.aws_stack import AwsStack
from ops.teardown import aws_teardown, leaks
from ops.teardown.kept import BUCKET
from ops.teardown.leaks import CLUSTER_TAG


@pytest.mark.parametrize(
    ("stack", "typed", "protected", "yes"),
    [
        ("dev", "dev", False, False),
        ("dev", None, False, True),
        ("prod", "prod", True, False),
        ("prod", "prod", True, True),
    ],
)
def test_a_confirmed_destruction_proceeds(stack: str, typed: str | None, protected: bool, yes: bool) -> None:
    check_confirmation(stack, typed, protected=protected, yes=yes)


@pytest.mark.parametrize(
    ("stack", "typed", "protected", "yes", "hint"),
    [
        ("dev", None, False, False, "YES=1 or CONFIRM=dev"),
        ("dev", "prod", False, False, "YES=1 or CONFIRM=dev"),
        ("prod", None, True, True, "CONFIRM=prod"),
        ("prod", "dev", True, True, "CONFIRM=prod"),
        ("prod", None, False, True, "CONFIRM=prod"),
        ("qa", None, True, True, "CONFIRM=qa"),
    ],
)
def test_prod_and_protected_stacks_require_their_names(
    stack: str, typed: str | None, protected: bool, yes: bool, hint: str
) -> None:
    with pytest.raises(OperationError, match=f"^nothing was destroyed: type {stack} at the prompt, or set {hint}$"):
        check_confirmation(stack, typed, protected=protected, yes=yes)


class Steps(list[str]):
    """What was done, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: list[dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.said: list[str] = []
        self.volumes: list[str] = []
        self.state = state or []
        monkeypatch.setattr(Deployment, "run", self._run)
        monkeypatch.setattr(Deployment, "exported", lambda _: {"deployment": {"resources": self.state}})
        monkeypatch.setattr(aws_teardown, "delete_contents", self._delete_contents)
        monkeypatch.setattr(leaks, "POLL_INTERVAL_SECONDS", 0)

    def _run(self, *arguments: str, watch: Watcher | None = None) -> None:
        self.append(" ".join(arguments))
        if watch:
            watch()

    def _delete_contents(self, access: Any, _: Echo) -> list[str]:
        self.append(f"contents of {access['current-context']}")
        return self.volumes

    def destroy(self, account: Account, settings: Settings) -> None:
        """Destroy the stack dev."""
        stack = AwsStack("dev", settings, self.said.append)
        vars(stack).update(account=account, deployment=Deployment("dev", "pulumi", {}))
        stack.destroy()


MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []})
DESTROY = "destroy --yes --skip-preview --refresh --exclude-protected"


@pytest.fixture
def protected(settings: Settings) -> Settings:
    return settings.model_copy(update={"protect": True})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def create_cluster(account: Account) -> None:
    account.client("eks").create_cluster(
        name="airflow-dev-cluster", roleArn="arn:aws:iam::123456789012:role/x", resourcesVpcConfig={}
    )


def create_vpc(account: Account) -> tuple[str, str]:
    """Create the stack's VPC with a subnet; return their IDs."""
    ec2 = account.client("ec2")
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "airflow-dev-vpc"}]}]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    return vpc, ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]


def tagged(kind: str, **tags: str) -> list[dict[str, Any]]:
    tags = {CLUSTER_TAG: "airflow-dev-cluster", **tags}
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def volume(account: Account, **tags: str) -> str:
    ec2 = account.client("ec2")
    made = ec2.create_volume(Size=1, AvailabilityZone="us-east-1a", TagSpecifications=tagged("volume", **tags))
    return str(made["VolumeId"])


def run_instance(account: Account, tags: list[dict[str, Any]]) -> str:
    ec2 = account.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)
    return str(started["Instances"][0]["InstanceId"])


def test_the_clusters_contents_are_deleted_before_the_cluster(
    account: Account, settings: Settings, steps: Steps
) -> None:
    create_cluster(account)
    steps.destroy(account, settings)
    assert steps == ["contents of airflow-dev-cluster", DESTROY]
    assert steps.said[-1].startswith("nothing of dev is left")


def test_a_stack_whose_cluster_is_already_deleted_is_destroyed(
    account: Account, settings: Settings, steps: Steps
) -> None:
    steps.destroy(account, settings)
    assert steps == [DESTROY]


def test_what_a_deleted_cluster_left_is_deleted(account: Account, settings: Settings, steps: Steps) -> None:
    vpc, subnet = create_vpc(account)
    ec2, elb = account.client("ec2"), account.client("elbv2")
    interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    balancer = elb.create_load_balancer(Name="leaked", Subnets=[subnet], Type="network")["LoadBalancers"][0]
    elb.create_target_group(Name="targets", Protocol="TCP", Port=80, VpcId=vpc)
    group = ec2.create_security_group(
        GroupName="k8s", Description="x", VpcId=vpc, TagSpecifications=tagged("security-group")
    )["GroupId"]
    run_instance(account, tagged("instance"))
    disk = volume(account)
    account.client("logs").create_log_group(logGroupName="/aws/eks/airflow-dev-cluster/cluster")
    steps.destroy(account, settings)
    assert ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["NetworkInterfaces"] == []
    assert elb.describe_load_balancers()["LoadBalancers"] == elb.describe_target_groups()["TargetGroups"] == []
    assert any(f"deleted the volume {disk}" in line for line in steps.said)
    for name in (interface, group, "leaked", "targets", "/aws/eks/airflow-dev-cluster/cluster", "the node i-"):
        assert any(line.startswith("deleted ") and name in line for line in steps.said), name
    assert balancer["VpcId"] == vpc
    assert steps.said[-1].startswith("nothing of dev is left")


def test_nothing_is_a_leak_while_the_cluster_exists(account: Account, settings: Settings, steps: Steps) -> None:
    create_cluster(account)
    disk = volume(account)
    with pytest.raises(OperationError, match=r"^1 resources of dev are left"):
        steps.destroy(account, settings)
    assert steps.said[-1] == f"left: arn:aws:ec2:us-east-1:123456789012:volume/{disk}"


def test_a_leak_that_is_in_use_is_one_sentence(
    account: Account, settings: Settings, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, instance = volume(account), run_instance(account, [])
    account.client("ec2").attach_volume(VolumeId=disk, InstanceId=instance, Device="/dev/sdh")
    monkeypatch.setattr(leaks, "TIMEOUT_SECONDS", -1)
    sentence = rf"^the cluster left the volume {disk}, and AWS does not delete them: find out what uses them"
    with pytest.raises(OperationError, match=sentence):
        steps.destroy(account, settings)


def test_volumes_with_another_reclaim_policy_are_kept(account: Account, settings: Settings, steps: Steps) -> None:
    create_cluster(account)
    steps.volumes = [volume(account)]
    steps.destroy(account, settings)
    account.client("eks").delete_cluster(name="airflow-dev-cluster")
    steps.destroy(account, settings)
    assert steps.said[-2] == (
        f"kept: arn:aws:ec2:us-east-1:123456789012:volume/{steps.volumes[0]} (a volume with the reclaim policy Retain: "
        "delete it when the data is no longer needed)"
    )
    assert steps.said[-1].startswith("nothing else of dev is left")


def test_protection_is_disabled_for_a_protected_stack_only(
    account: Account, settings: Settings, protected: Settings, steps: Steps
) -> None:
    account.client("rds").create_db_instance(
        DBInstanceIdentifier="airflow-dev-database", DBInstanceClass="db.t4g.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="longenough", AllocatedStorage=20, DeletionProtection=True,
    )  # fmt: skip
    steps.destroy(account, settings)
    assert account.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"]
    steps.clear()
    steps.destroy(account, protected)
    assert steps == ["state unprotect --all --yes", DESTROY]
    assert not account.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"]


def test_a_confirmed_destruction_deletes_the_images_of_a_protected_stack(
    account: Account, protected: Settings, steps: Steps
) -> None:
    ecr = account.client("ecr")
    for name in ("airflow-dev/ml", "airflow-development/ml"):
        ecr.create_repository(repositoryName=name)
        ecr.put_image(repositoryName=name, imageManifest=MANIFEST, imageTag="1")
    steps.destroy(account, protected)
    assert [one["repositoryName"] for one in ecr.describe_repositories()["repositories"]] == ["airflow-development/ml"]


def bucket(name: str) -> list[dict[str, Any]]:
    """Return the state of a bucket and its policy."""
    parent = f"urn:{name}"
    return [
        {"urn": f"{parent}-bucket", "type": BUCKET, "parent": parent, "id": name,
         "outputs": {"bucket": name, "arn": f"arn:aws:s3:::{name}"}},
        {"urn": f"{parent}-policy", "type": "aws:s3/bucketPolicy:BucketPolicy", "parent": parent, "id": name},
    ]  # fmt: skip


def test_buckets_with_data_are_kept_with_their_settings_and_their_key_and_count_as_success(
    account: Account, protected: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, tags = account.client("s3"), [{"Key": "project", "Value": "airflow"}, {"Key": "stack", "Value": "dev"}]
    for name in ("full", "empty"):
        s3.create_bucket(Bucket=name)
    s3.put_object(Bucket="full", Key="data")
    s3.put_bucket_tagging(Bucket="full", Tagging={"TagSet": tags})
    key = account.client("kms").create_key(Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tags])
    arn = key["KeyMetadata"]["Arn"]
    state = [
        *bucket("full"),
        *bucket("empty"),
        *bucket("gone"),
        {"urn": "urn:key", "type": "", "outputs": {"arn": arn}},
    ]
    steps = Steps(monkeypatch, state)
    steps.destroy(account, protected)
    assert steps == ["state unprotect --all --yes", "state protect urn:full-bucket urn:full-policy --yes", DESTROY]
    assert steps.said[-3:-1] == [
        f"kept: {arn} (the kept data needs it)",
        "kept: arn:aws:s3:::full (a bucket that contains data: empty it and rerun this command when the data is no "
        "longer needed)",
    ]
    assert steps.said[-1].startswith("nothing else of dev is left")
