"""The IAM actions that the AWS provider and the tool need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Actions(NamedTuple):
    """The actions by which the AWS provider manages resources of a type."""

    create: tuple[str, ...]
    read: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()

    def every(self) -> tuple[str, ...]:
        """Return all actions."""
        return (*self.create, *self.read, *self.update, *self.delete)


def _actions(service: str, create: str, read: str = "", update: str = "", delete: str = "") -> Actions:
    return Actions(*(tuple(f"{service}:{name}" for name in names.split()) for names in (create, read, update, delete)))


# By type of resource. A test compares them with the types of all stacks, and with the permissions that AWS'
# CloudFormation schemas state for the same types.
BY_TYPE: Mapping[str, Actions] = {
    "aws:budgets/budget:Budget": _actions(
        "budgets",
        "ModifyBudget TagResource",
        "ViewBudget ListTagsForResource",
        "UntagResource",
    ),
    "aws:cloudwatch/logGroup:LogGroup": _actions(
        "logs",
        "CreateLogGroup PutRetentionPolicy TagResource",
        "DescribeLogGroups ListTagsForResource",
        "AssociateKmsKey DisassociateKmsKey DeleteRetentionPolicy UntagResource",
        "DeleteLogGroup",
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _actions(
        "cloudwatch",
        "PutMetricAlarm TagResource",
        "DescribeAlarms ListTagsForResource",
        "UntagResource",
        "DeleteAlarms",
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _actions(
        "ec2", "RevokeSecurityGroupIngress RevokeSecurityGroupEgress", "DescribeSecurityGroups DescribeVpcs"
    ),
    "aws:ec2/eip:Eip": _actions(
        "ec2",
        "AllocateAddress CreateTags",
        "DescribeAddresses DescribeAddressesAttribute",
        "DeleteTags",
        "DisassociateAddress ReleaseAddress",
    ),
    "aws:ec2/flowLog:FlowLog": _actions(
        "ec2", "CreateFlowLogs CreateTags", "DescribeFlowLogs", "DeleteTags", "DeleteFlowLogs"
    ),
    "aws:ec2/internetGateway:InternetGateway": _actions(
        "ec2",
        "CreateInternetGateway AttachInternetGateway CreateTags",
        "DescribeInternetGateways",
        "DeleteTags",
        "DetachInternetGateway DeleteInternetGateway",
    ),
    "aws:ec2/natGateway:NatGateway": _actions(
        "ec2", "CreateNatGateway CreateTags", "DescribeNatGateways", "DeleteTags", "DeleteNatGateway"
    ),
    "aws:ec2/route:Route": _actions("ec2", "CreateRoute", "DescribeRouteTables", "ReplaceRoute", "DeleteRoute"),
    "aws:ec2/routeTable:RouteTable": _actions(
        "ec2",
        "CreateRouteTable CreateTags",
        "DescribeRouteTables",
        "DeleteTags",
        "DisassociateRouteTable DeleteRouteTable",
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _actions(
        "ec2",
        "AssociateRouteTable",
        "DescribeRouteTables",
        "ReplaceRouteTableAssociation",
        "DisassociateRouteTable",
    ),
    "aws:ec2/securityGroup:SecurityGroup": _actions(
        "ec2",
        "CreateSecurityGroup CreateTags RevokeSecurityGroupEgress AuthorizeSecurityGroupIngress "
        "AuthorizeSecurityGroupEgress",
        "DescribeSecurityGroups",
        "RevokeSecurityGroupIngress UpdateSecurityGroupRuleDescriptionsIngress "
        "UpdateSecurityGroupRuleDescriptionsEgress DeleteTags",
        "DescribeNetworkInterfaces DeleteSecurityGroup",
    ),
    "aws:ec2/subnet:Subnet": _actions(
        "ec2",
        "CreateSubnet ModifySubnetAttribute CreateTags",
        "DescribeSubnets DescribeNetworkAcls",
        "DeleteTags",
        "DescribeNetworkInterfaces DeleteSubnet",
    ),
    "aws:ec2/vpc:Vpc": _actions(
        "ec2",
        "CreateVpc ModifyVpcAttribute CreateTags",
        "DescribeVpcs DescribeVpcAttribute DescribeNetworkAcls DescribeRouteTables DescribeSecurityGroups",
        "DeleteTags",
        "DeleteVpc",
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _actions(
        "ec2",
        "CreateVpcEndpoint CreateTags",
        "DescribeVpcEndpoints DescribePrefixLists DescribeSubnets DescribeSecurityGroups DescribeVpcs",
        "ModifyVpcEndpoint DeleteTags",
        "DeleteVpcEndpoints",
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": _actions(
        "ecr", "PutLifecyclePolicy", "GetLifecyclePolicy", "", "DeleteLifecyclePolicy"
    ),
    "aws:ecr/repository:Repository": _actions(
        "ecr",
        "CreateRepository TagResource",
        "DescribeRepositories ListTagsForResource",
        "PutImageTagMutability PutImageScanningConfiguration UntagResource",
        "DeleteRepository",
    ),
    "aws:eks/accessEntry:AccessEntry": _actions(
        "eks",
        "CreateAccessEntry TagResource",
        "DescribeAccessEntry",
        "UpdateAccessEntry UntagResource",
        "DeleteAccessEntry",
    ),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": _actions(
        "eks", "AssociateAccessPolicy", "ListAssociatedAccessPolicies", "", "DisassociateAccessPolicy"
    ),
    "aws:eks/cluster:Cluster": _actions(
        "eks",
        "CreateCluster TagResource",
        "DescribeCluster DescribeUpdate ListTagsForResource",
        "UpdateClusterConfig UpdateClusterVersion UntagResource",
        "DeleteCluster",
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": _actions(
        "eks",
        "CreatePodIdentityAssociation TagResource",
        "DescribePodIdentityAssociation ListPodIdentityAssociations",
        "UpdatePodIdentityAssociation UntagResource",
        "DeletePodIdentityAssociation",
    ),
    "aws:iam/role:Role": _actions(
        "iam",
        "CreateRole PassRole TagRole",
        "GetRole ListRolePolicies ListAttachedRolePolicies ListInstanceProfilesForRole",
        "UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy PutRolePermissionsBoundary UntagRole",
        "DeleteRole",
    ),
    "aws:iam/rolePolicy:RolePolicy": _actions("iam", "PutRolePolicy", "GetRolePolicy", "", "DeleteRolePolicy"),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _actions(
        "iam", "AttachRolePolicy", "ListAttachedRolePolicies", "", "DetachRolePolicy"
    ),
    "aws:kms/alias:Alias": _actions("kms", "CreateAlias", "ListAliases", "UpdateAlias", "DeleteAlias"),
    "aws:kms/key:Key": _actions(
        "kms",
        # With the last three, the caller lets AWS services encrypt with the key.
        "CreateKey TagResource EnableKeyRotation CreateGrant Decrypt GenerateDataKey",
        "DescribeKey GetKeyPolicy GetKeyRotationStatus ListResourceTags",
        "PutKeyPolicy UpdateKeyDescription EnableKey DisableKey DisableKeyRotation UntagResource",
        "ScheduleKeyDeletion",
    ),
    "aws:rds/instance:Instance": _actions(
        "rds",
        "CreateDBInstance AddTagsToResource",
        "DescribeDBInstances ListTagsForResource",
        "ModifyDBInstance RebootDBInstance RemoveTagsFromResource",
        "DeleteDBInstance CreateDBSnapshot",
    ),
    "aws:rds/parameterGroup:ParameterGroup": _actions(
        "rds",
        "CreateDBParameterGroup ModifyDBParameterGroup AddTagsToResource",
        "DescribeDBParameterGroups DescribeDBParameters ListTagsForResource",
        "ResetDBParameterGroup RemoveTagsFromResource",
        "DeleteDBParameterGroup",
    ),
    "aws:rds/subnetGroup:SubnetGroup": _actions(
        "rds",
        "CreateDBSubnetGroup AddTagsToResource",
        "DescribeDBSubnetGroups ListTagsForResource",
        "ModifyDBSubnetGroup RemoveTagsFromResource",
        "DeleteDBSubnetGroup",
    ),
    "aws:s3/bucket:Bucket": _actions(
        "s3",
        "CreateBucket PutBucketTagging",
        "ListBucket GetBucketTagging ListTagsForResource GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation "
        "GetBucketLogging GetBucketObjectLockConfiguration GetBucketPolicy GetBucketRequestPayment "
        "GetBucketVersioning GetBucketWebsite GetAccelerateConfiguration GetEncryptionConfiguration "
        "GetLifecycleConfiguration GetReplicationConfiguration",
        "TagResource UntagResource",
        "DeleteBucket ListBucketVersions DeleteObject DeleteObjectVersion",
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _actions(
        "s3", "PutLifecycleConfiguration", "GetLifecycleConfiguration"
    ),
    "aws:s3/bucketLogging:BucketLogging": _actions("s3", "PutBucketLogging", "GetBucketLogging"),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _actions(
        "s3", "PutBucketOwnershipControls", "GetBucketOwnershipControls"
    ),
    "aws:s3/bucketPolicy:BucketPolicy": _actions("s3", "PutBucketPolicy", "GetBucketPolicy", "", "DeleteBucketPolicy"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _actions(
        "s3", "PutBucketPublicAccessBlock", "GetBucketPublicAccessBlock"
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _actions(
        "s3", "PutEncryptionConfiguration", "GetEncryptionConfiguration"
    ),
    "aws:s3/bucketVersioning:BucketVersioning": _actions("s3", "PutBucketVersioning", "GetBucketVersioning"),
    "aws:secretsmanager/secret:Secret": _actions(
        "secretsmanager",
        "CreateSecret TagResource",
        "DescribeSecret GetResourcePolicy",
        "UpdateSecret UntagResource",
        "DeleteSecret",
    ),
    "aws:secretsmanager/secretVersion:SecretVersion": _actions(
        "secretsmanager", "PutSecretValue", "GetSecretValue", "UpdateSecretVersionStage"
    ),
    "aws:sns/topic:Topic": _actions(
        "sns",
        "CreateTopic SetTopicAttributes TagResource",
        "GetTopicAttributes ListTagsForResource",
        "UntagResource",
        "DeleteTopic",
    ),
    "aws:sns/topicPolicy:TopicPolicy": _actions("sns", "SetTopicAttributes", "GetTopicAttributes"),
    "aws:sns/topicSubscription:TopicSubscription": _actions(
        "sns", "Subscribe", "GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe"
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _actions(
        "ec2",
        "AuthorizeSecurityGroupIngress CreateTags",
        "DescribeSecurityGroupRules",
        "ModifySecurityGroupRules DeleteTags",
        "RevokeSecurityGroupIngress",
    ),
}


def of_types(types: Iterable[str]) -> set[str]:
    """Return all actions for resources of these types."""
    return {action for type_ in types for action in BY_TYPE[type_].every()}


def creations() -> set[str]:
    """Return the actions that create resources."""
    return {action for actions in BY_TYPE.values() for action in actions.create}


def reads() -> set[str]:
    """Return the actions that read resources, except the values of secrets."""
    return {action for actions in BY_TYPE.values() for action in actions.read} - {"secretsmanager:GetSecretValue"}
