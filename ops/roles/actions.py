"""The IAM actions that a deployment needs to create the resources of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from infra.aws.names import Names

# By type of resource. A test fails if a stack has a resource of another type.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "aws:cloudwatch/logGroup:LogGroup": ("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:TagResource"),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": (
        "ec2:RevokeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupEgress",
    ),
    "aws:ec2/eip:Eip": ("ec2:AllocateAddress",),
    "aws:ec2/flowLog:FlowLog": ("ec2:CreateFlowLogs",),
    "aws:ec2/internetGateway:InternetGateway": ("ec2:CreateInternetGateway", "ec2:AttachInternetGateway"),
    "aws:ec2/natGateway:NatGateway": ("ec2:CreateNatGateway",),
    "aws:ec2/route:Route": ("ec2:CreateRoute",),
    "aws:ec2/routeTable:RouteTable": ("ec2:CreateRouteTable",),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": ("ec2:AssociateRouteTable",),
    "aws:ec2/securityGroup:SecurityGroup": ("ec2:CreateSecurityGroup",),
    "aws:ec2/subnet:Subnet": ("ec2:CreateSubnet", "ec2:ModifySubnetAttribute"),
    "aws:ec2/vpc:Vpc": ("ec2:CreateVpc", "ec2:ModifyVpcAttribute", "ec2:CreateTags"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": ("ec2:CreateVpcEndpoint",),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": ("ecr:PutLifecyclePolicy",),
    "aws:ecr/repository:Repository": ("ecr:CreateRepository", "ecr:TagResource", "ecr:PutImage"),
    "aws:eks/accessEntry:AccessEntry": ("eks:CreateAccessEntry",),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": ("eks:AssociateAccessPolicy",),
    "aws:eks/cluster:Cluster": ("eks:CreateCluster", "eks:DescribeCluster", "eks:TagResource"),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": ("eks:CreatePodIdentityAssociation",),
    "aws:iam/role:Role": ("iam:CreateRole", "iam:PassRole", "iam:TagRole"),
    "aws:iam/rolePolicy:RolePolicy": ("iam:PutRolePolicy",),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ("iam:AttachRolePolicy",),
    "aws:kms/alias:Alias": ("kms:CreateAlias",),
    "aws:kms/key:Key": ("kms:CreateKey", "kms:EnableKeyRotation", "kms:TagResource", "kms:CreateGrant"),
    "aws:rds/instance:Instance": ("rds:CreateDBInstance", "rds:AddTagsToResource"),
    "aws:rds/parameterGroup:ParameterGroup": ("rds:CreateDBParameterGroup", "rds:ModifyDBParameterGroup"),
    "aws:rds/subnetGroup:SubnetGroup": ("rds:CreateDBSubnetGroup",),
    "aws:s3/bucket:Bucket": ("s3:CreateBucket", "s3:PutBucketTagging"),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "aws:s3/bucketLogging:BucketLogging": ("s3:PutBucketLogging",),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": ("s3:PutBucketOwnershipControls",),
    "aws:s3/bucketPolicy:BucketPolicy": ("s3:PutBucketPolicy",),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
        "s3:PutEncryptionConfiguration",
    ),
    "aws:s3/bucketVersioning:BucketVersioning": ("s3:PutBucketVersioning",),
    "aws:secretsmanager/secret:Secret": ("secretsmanager:CreateSecret", "secretsmanager:TagResource"),
    "aws:secretsmanager/secretVersion:SecretVersion": ("secretsmanager:PutSecretValue",),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": ("ec2:AuthorizeSecurityGroupIngress",),
}


def actions_by_resource(names: Names, account: str, region: str) -> Mapping[str, Iterable[str]]:
    """Return the actions by an ARN of the stack, so that policies for its names alone are judged correctly.

    https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
    """
    prefix, regional = names.prefix, f"{region}:{account}"
    arns = {
        "ecr": f"arn:aws:ecr:{regional}:repository/{prefix}/airflow",
        "eks": f"arn:aws:eks:{regional}:cluster/{prefix}-cluster",
        "iam": f"arn:aws:iam::{account}:role/{prefix}-cluster",
        "logs": f"arn:aws:logs:{regional}:log-group:/aws/eks/{prefix}-cluster/cluster",
        "rds": f"arn:aws:rds:{regional}:db:{prefix}-database",
        "s3": f"arn:aws:s3:::{prefix}-data-{account}",
        "secretsmanager": f"arn:aws:secretsmanager:{regional}:secret:{prefix}/database/admin-AbCdEf",
    }
    found: dict[str, list[str]] = {}
    for action in dict.fromkeys(action for actions in ACTIONS.values() for action in actions):
        found.setdefault(arns.get(action.partition(":")[0], "*"), []).append(action)
    return found
