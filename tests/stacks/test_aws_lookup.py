"""The resources that interrupted creations leave, in a mock of AWS."""

from types import SimpleNamespace
from typing import Any

import pytest

from ops.aws.account import Account
from ops.pulumi.pending import Created
from ops.stacks.aws_lookup import FOUND, NAMED, REPEATABLE, TAGGED, look_up
from tests.recordings import recorded

pytestmark = pytest.mark.filterwarnings("ignore:.* has been deprecated in favor of:DeprecationWarning")


def test_every_type_of_a_stack_is_found_or_can_be_created_again() -> None:
    types = {one.type for one in recorded("prod").resources if one.type.startswith("aws:")}
    assert types == {*NAMED, *TAGGED, *FOUND, *REPEATABLE}


@pytest.mark.parametrize("type_", NAMED)
def test_the_inputs_of_a_named_resource_contain_its_id(account: Account, type_: str) -> None:
    inputs = next(one.inputs for one in recorded("prod").resources if one.type == type_)
    [found] = look_up(account, type_, inputs)
    assert "{" not in found.id


def tags(kind: str, name: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}]}


def test_what_the_network_creates_is_found_by_its_name_tag(account: Account) -> None:
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", **tags("vpc", "a"))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", **tags("subnet", "a"))["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc, **tags("route-table", "a"))["RouteTable"]["RouteTableId"]
    address = ec2.allocate_address(Domain="vpc", **tags("elastic-ip", "a"))["AllocationId"]
    gateway = ec2.create_internet_gateway(**tags("internet-gateway", "a"))["InternetGateway"]["InternetGatewayId"]
    nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address, **tags("natgateway", "a"))["NatGateway"]
    group = ec2.create_security_group(GroupName="a", Description="a", VpcId=vpc, **tags("security-group", "a"))
    endpoint = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="s3", **tags("vpc-endpoint", "a"))["VpcEndpoint"]
    expected = {
        "aws:ec2/eip:Eip": address,
        "aws:ec2/internetGateway:InternetGateway": gateway,
        "aws:ec2/natGateway:NatGateway": nat["NatGatewayId"],
        "aws:ec2/routeTable:RouteTable": table,
        "aws:ec2/securityGroup:SecurityGroup": group["GroupId"],
        "aws:ec2/subnet:Subnet": subnet,
        "aws:ec2/vpc:Vpc": vpc,
        "aws:ec2/vpcEndpoint:VpcEndpoint": endpoint["VpcEndpointId"],
    }
    assert {type_: look_up(account, type_, {"tags": {"Name": "a"}}) for type_ in expected} == {
        type_: [Created(id_)] for type_, id_ in expected.items()
    }
    assert all(look_up(account, type_, {"tags": {"Name": "b"}}) == [] for type_ in TAGGED)
    ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
    assert look_up(account, "aws:ec2/natGateway:NatGateway", {"tags": {"Name": "a"}}) == []


def test_an_association_of_routes_and_a_rule_of_a_security_group_are_found(account: Account) -> None:
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    routes, association = "aws:ec2/routeTableAssociation:RouteTableAssociation", {"subnetId": subnet}
    assert look_up(account, routes, association) == []
    id_ = ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"]
    assert look_up(account, routes, association) == [Created(id_)]
    group = ec2.create_security_group(GroupName="a", Description="a", VpcId=vpc)["GroupId"]
    rule, ingress = (
        {"securityGroupId": group, "description": "SQL"},
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    )
    assert look_up(account, ingress, rule) == []
    source = {"CidrIp": "10.0.0.0/16", "Description": "SQL"}
    ports = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [source]}
    [made] = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ports])["SecurityGroupRules"]
    assert look_up(account, ingress, rule) == [Created(made["SecurityGroupRuleId"])]


def test_a_key_is_found_by_its_description_unless_it_is_scheduled_for_deletion(account: Account) -> None:
    kms, type_, inputs = account.client("kms"), "aws:kms/key:Key", {"description": "airflow-dev: data"}
    assert look_up(account, type_, inputs) == []
    tag = [{"TagKey": "project", "TagValue": "airflow"}]
    keys = [kms.create_key(Description=f"airflow-dev: {name}", Tags=tag)["KeyMetadata"] for name in ("data", "logs")]
    assert look_up(account, type_, inputs) == [Created(keys[0]["KeyId"])]
    kms.schedule_key_deletion(KeyId=keys[0]["KeyId"])
    assert look_up(account, type_, inputs) == []


def test_a_database_is_found_by_its_name_and_has_another_id(account: Account) -> None:
    type_, inputs = "aws:rds/instance:Instance", {"identifier": "airflow-dev-database"}
    assert look_up(account, type_, inputs) == []
    made = account.client("rds").create_db_instance(
        DBInstanceIdentifier="airflow-dev-database", DBInstanceClass="db.t4g.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="longenough", AllocatedStorage=20,
    )["DBInstance"]  # fmt: skip
    assert look_up(account, type_, inputs) == [Created(made["DbiResourceId"])]
    assert made["DbiResourceId"] != "airflow-dev-database"


def test_a_secret_is_found_unless_it_is_scheduled_for_deletion(account: Account) -> None:
    secrets, type_, inputs = account.client("secretsmanager"), "aws:secretsmanager/secret:Secret", {"name": "a"}
    assert look_up(account, type_, inputs) == []
    arn = secrets.create_secret(Name="a", SecretString="x")["ARN"]
    assert look_up(account, type_, inputs) == [Created(arn, {"arn": arn})]
    secrets.delete_secret(SecretId="a")
    assert look_up(account, type_, inputs) == []


def test_a_topic_is_found_by_its_name(account: Account) -> None:
    type_, inputs = "aws:sns/topic:Topic", {"name": "airflow-dev-alarms"}
    assert look_up(account, type_, inputs) == []
    arn = account.client("sns").create_topic(Name="airflow-dev-alarms")["TopicArn"]
    assert look_up(account, type_, inputs) == [Created(arn, {"arn": arn})]


def test_a_role_of_pods_is_found_by_its_service_account(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {"clusterName": "c", "namespace": "airflow", "serviceAccount": "mlflow"}
    answers = {tuple(pods.values()): {"associations": [{"associationId": "a-1"}]}}  # the mock of EKS has none
    eks = SimpleNamespace(
        list_pod_identity_associations=lambda **asked: answers.get(tuple(asked.values()), {"associations": []})
    )
    monkeypatch.setattr(Account, "client", lambda *_: eks)
    type_ = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    assert look_up(account, type_, {**pods, "roleArn": "r"}) == [Created("a-1", {"associationId": "a-1"})]
    assert look_up(account, type_, {**pods, "serviceAccount": "other"}) == []
