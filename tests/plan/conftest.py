from pathlib import Path

import pytest

from ops.plan.resources import Recording
from tests.recordings import recorded

STACKS = ("dev", "staging", "prod")

SETTINGS = """
config:
  aws:region: us-east-1
  toy:size: {rooms: 2}
  toy:token: {secure: v1:abc}
"""

PROGRAM = """
import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
import pulumi_random as random

config = pulumi.Config()


class House(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("toy:index:House", "house")
        inside = pulumi.ResourceOptions(parent=self)
        self.vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16", opts=inside)
        self.subnet = aws.ec2.Subnet(
            "subnet", vpc_id=self.vpc.id, cidr_block="10.0.0.0/24",
            availability_zone=aws.get_availability_zones().names[0], opts=inside,
        )
        self.register_outputs({})


house = House()
password = random.RandomPassword("password", length=20).result
role = aws.iam.Role("role", name="toy-role", assume_role_policy="{}")
cluster = aws.eks.Cluster(
    "cluster", role_arn=role.arn, vpc_config=aws.eks.ClusterVpcConfigArgs(subnet_ids=[house.subnet.id]),
    opts=pulumi.ResourceOptions(depends_on=[house], protect=True),
)
provider = kubernetes.Provider("kubernetes", kubeconfig=cluster.endpoint)
kubernetes.core.v1.Secret(
    "secret", string_data={"plain": "hidden all the same"}, opts=pulumi.ResourceOptions(provider=provider)
)
database = aws.rds.Instance("database", identifier="toy", instance_class="db.t4g.micro", password=password)
aws.secretsmanager.SecretVersion(
    "version", secret_id="toy", secret_string=pulumi.Output.json_dumps({"password": password, "host": database.address})
)
pulumi.export("rooms", config.require_object("size")["rooms"])
pulumi.export("password", password)
pulumi.export("token", config.require_secret("token"))
pulumi.export("host", database.address)
pulumi.export("role", role.arn)
pulumi.export("account", aws.get_caller_identity().account_id)
pulumi.export("region", aws.get_region().region)
pulumi.export("partition", aws.get_partition().partition)
pulumi.export("provider_region", aws.config.region)
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A separate project with one stack, `dev`."""
    (tmp_path / "Pulumi.yaml").write_text("name: toy\nruntime: python\n")
    (tmp_path / "Pulumi.dev.yaml").write_text(SETTINGS)
    (tmp_path / "__main__.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture(scope="session")
def recordings() -> dict[str, Recording]:
    """The recordings of the repository's own stacks."""
    return {stack: recorded(stack) for stack in STACKS}


@pytest.fixture(params=STACKS)
def recording(recordings: dict[str, Recording], request: pytest.FixtureRequest) -> Recording:
    """The recording of each stack in turn."""
    return recordings[request.param]
