"""Find the AWS resource that an interrupted creation may have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors, error_code
from ops.aws.lingering import gone
from ops.pulumi.pending import Created

Inputs = Mapping[str, Any]

# The ID of a resource that its inputs identify. If the resource does not exist, a refresh drops it from the state.
# Formats: https://registry.terraform.io/providers/hashicorp/aws/latest/docs, "Import" on the page of each resource.
NAMED = {
    "aws:budgets/budget:Budget": "{accountId}:{name}",
    "aws:cloudwatch/logGroup:LogGroup": "{name}",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "{name}",
    "aws:ec2/route:Route": "{routeTableId}_{destinationCidrBlock}",
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": "{repository}",
    "aws:ecr/repository:Repository": "{name}",
    "aws:eks/accessEntry:AccessEntry": "{clusterName}:{principalArn}",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": "{clusterName}#{principalArn}#{policyArn}",
    "aws:eks/cluster:Cluster": "{name}",
    "aws:iam/role:Role": "{name}",
    "aws:iam/rolePolicy:RolePolicy": "{role}:{name}",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "{role}/{policyArn}",
    "aws:kms/alias:Alias": "{name}",
    "aws:rds/parameterGroup:ParameterGroup": "{name}",
    "aws:rds/subnetGroup:SubnetGroup": "{name}",
    "aws:s3/bucket:Bucket": "{bucket}",
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": "{bucket}",
    "aws:s3/bucketLogging:BucketLogging": "{bucket}",
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": "{bucket}",
    "aws:s3/bucketPolicy:BucketPolicy": "{bucket}",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "{bucket}",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": "{bucket}",
    "aws:s3/bucketVersioning:BucketVersioning": "{bucket}",
    "aws:sns/topicPolicy:TopicPolicy": "{arn}",
}
# The types that are found by their tag `Name`, which contains the project and the stack. For each, EC2's name of the
# type, and the prefix of its IDs.
TAGGED = {
    "aws:ec2/eip:Eip": ("elastic-ip", "eipalloc-"),
    "aws:ec2/flowLog:FlowLog": ("vpc-flow-log", "fl-"),
    "aws:ec2/internetGateway:InternetGateway": ("internet-gateway", "igw-"),
    "aws:ec2/natGateway:NatGateway": ("natgateway", "nat-"),
    "aws:ec2/routeTable:RouteTable": ("route-table", "rtb-"),
    "aws:ec2/securityGroup:SecurityGroup": ("security-group", "sg-"),
    "aws:ec2/subnet:Subnet": ("subnet", "subnet-"),
    "aws:ec2/vpc:Vpc": ("vpc", "vpc-"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": ("vpc-endpoint", "vpce-"),
}
# Creating these again has the same result: AWS creates the group with the VPC, the value becomes the current one, and a
# second subscription is the first.
REPEATABLE = (
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "aws:secretsmanager/secretVersion:SecretVersion",
    "aws:sns/topicSubscription:TopicSubscription",
)
MISSING = ("DBInstanceNotFound", "NotFound", "ResourceNotFoundException", "InvalidGroup.NotFound")


def look_up(account: Account, type_: str, inputs: Inputs) -> list[Created]:
    """Return the resources with the type and inputs of a creation.

    Raises:
        OperationError: A request to AWS failed.
    """
    if pattern := NAMED.get(type_):
        return [Created(pattern.format(**inputs))]
    with aws_errors():
        try:
            if type_ in TAGGED:
                return list(_tagged(account, *TAGGED[type_], inputs["tags"]["Name"]))
            return list(FOUND[type_](account, inputs)) if type_ in FOUND else []
        except ClientError as error:
            if error_code(error) in MISSING:
                return []
            raise


def _tagged(account: Account, kind: str, prefix: str, name: str) -> Iterator[Created]:
    filters = [{"Name": "key", "Values": ["Name"]}, {"Name": "value", "Values": [name]}]
    ids = [tag["ResourceId"] for tag in account.client("ec2").describe_tags(Filters=filters)["Tags"]]
    return (Created(id_) for id_ in ids if id_.startswith(prefix) and not gone(account, "ec2", kind, id_))


def _databases(account: Account, inputs: Inputs) -> Iterator[Created]:
    # The provider's ID of an instance is not its name: it does not change when the instance is renamed.
    found = account.client("rds").describe_db_instances(DBInstanceIdentifier=inputs["identifier"])
    return (Created(instance["DbiResourceId"]) for instance in found["DBInstances"])


def _secrets(account: Account, inputs: Inputs) -> Iterator[Created]:
    found = account.client("secretsmanager").describe_secret(SecretId=inputs["name"])
    if "DeletedDate" not in found:
        yield Created(found["ARN"], {"arn": found["ARN"]})


def _topics(account: Account, inputs: Inputs) -> Iterator[Created]:
    arn = f"arn:aws:sns:{account.region}:{account.id}:{inputs['name']}"
    account.client("sns").get_topic_attributes(TopicArn=arn)
    yield Created(arn, {"arn": arn})


def _keys(account: Account, inputs: Inputs) -> Iterator[Created]:
    filters = {"ResourceTypeFilters": ["kms:key"], "TagFilters": [{"Key": "project", "Values": [PROJECT]}]}
    for page in account.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(**filters):
        for item in page["ResourceTagMappingList"]:
            key = account.client("kms").describe_key(KeyId=item["ResourceARN"])["KeyMetadata"]
            if key["Description"] == inputs["description"] and key["KeyState"] == "Enabled":
                yield Created(key["KeyId"])


def _subnet_routes(account: Account, inputs: Inputs) -> Iterator[Created]:
    filters = [{"Name": "association.subnet-id", "Values": [inputs["subnetId"]]}]
    for table in account.client("ec2").describe_route_tables(Filters=filters)["RouteTables"]:
        for association in table["Associations"]:
            if association.get("SubnetId") == inputs["subnetId"]:
                yield Created(association["RouteTableAssociationId"])


def _ingress_rules(account: Account, inputs: Inputs) -> Iterator[Created]:
    filters = [{"Name": "group-id", "Values": [inputs["securityGroupId"]]}]
    for rule in account.client("ec2").describe_security_group_rules(Filters=filters)["SecurityGroupRules"]:
        if not rule["IsEgress"] and rule.get("Description") == inputs["description"]:
            yield Created(rule["SecurityGroupRuleId"])


def _pod_identities(account: Account, inputs: Inputs) -> Iterator[Created]:
    words = {name: inputs[name] for name in ("clusterName", "namespace", "serviceAccount")}
    for association in account.client("eks").list_pod_identity_associations(**words)["associations"]:
        yield Created(association["associationId"], {"associationId": association["associationId"]})


FOUND: dict[str, Callable[[Account, Inputs], Iterator[Created]]] = {
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _subnet_routes,
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": _pod_identities,
    "aws:kms/key:Key": _keys,
    "aws:rds/instance:Instance": _databases,
    "aws:secretsmanager/secret:Secret": _secrets,
    "aws:sns/topic:Topic": _topics,
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ingress_rules,
}
