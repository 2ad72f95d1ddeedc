"""The permissions that AWS states for resources, in the schemas of CloudFormation, which cfn-lint contains."""

import json
from fnmatch import fnmatchcase
from importlib.resources import files

# CloudFormation's types by those of Pulumi.
TYPES = {
    "aws:budgets/budget:Budget": "AWS::Budgets::Budget",
    "aws:cloudwatch/logGroup:LogGroup": "AWS::Logs::LogGroup",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "AWS::CloudWatch::Alarm",
    "aws:ec2/eip:Eip": "AWS::EC2::EIP",
    "aws:ec2/flowLog:FlowLog": "AWS::EC2::FlowLog",
    "aws:ec2/internetGateway:InternetGateway": "AWS::EC2::InternetGateway",
    "aws:ec2/natGateway:NatGateway": "AWS::EC2::NatGateway",
    "aws:ec2/route:Route": "AWS::EC2::Route",
    "aws:ec2/routeTable:RouteTable": "AWS::EC2::RouteTable",
    "aws:ec2/routeTableAssociation:RouteTableAssociation": "AWS::EC2::SubnetRouteTableAssociation",
    "aws:ec2/securityGroup:SecurityGroup": "AWS::EC2::SecurityGroup",
    "aws:ec2/subnet:Subnet": "AWS::EC2::Subnet",
    "aws:ec2/vpc:Vpc": "AWS::EC2::VPC",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "AWS::EC2::VPCEndpoint",
    "aws:ecr/repository:Repository": "AWS::ECR::Repository",
    "aws:eks/accessEntry:AccessEntry": "AWS::EKS::AccessEntry",
    "aws:eks/cluster:Cluster": "AWS::EKS::Cluster",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": "AWS::EKS::PodIdentityAssociation",
    "aws:iam/role:Role": "AWS::IAM::Role",
    "aws:iam/rolePolicy:RolePolicy": "AWS::IAM::RolePolicy",
    "aws:kms/alias:Alias": "AWS::KMS::Alias",
    "aws:kms/key:Key": "AWS::KMS::Key",
    "aws:rds/instance:Instance": "AWS::RDS::DBInstance",
    "aws:rds/parameterGroup:ParameterGroup": "AWS::RDS::DBParameterGroup",
    "aws:rds/subnetGroup:SubnetGroup": "AWS::RDS::DBSubnetGroup",
    "aws:s3/bucket:Bucket": "AWS::S3::Bucket",
    "aws:s3/bucketPolicy:BucketPolicy": "AWS::S3::BucketPolicy",
    "aws:secretsmanager/secret:Secret": "AWS::SecretsManager::Secret",
    "aws:sns/topic:Topic": "AWS::SNS::Topic",
    "aws:sns/topicPolicy:TopicPolicy": "AWS::SNS::TopicPolicy",
    "aws:sns/topicSubscription:TopicSubscription": "AWS::SNS::Subscription",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": "AWS::EC2::SecurityGroupIngress",
}
# Types that CloudFormation manages as a part of others.
PARTS = (
    *("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "aws:ecr/lifecyclePolicy:LifecyclePolicy"),
    *("aws:eks/accessPolicyAssociation:AccessPolicyAssociation", "aws:iam/rolePolicyAttachment:RolePolicyAttachment"),
    *("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration", "aws:s3/bucketLogging:BucketLogging"),
    *("aws:s3/bucketOwnershipControls:BucketOwnershipControls", "aws:s3/bucketVersioning:BucketVersioning"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:secretsmanager/secretVersion:SecretVersion",
)


# Permissions for features that the stacks do not use, as patterns, and the features.
UNUSED = {
    "autoscaling:*": "flow logs of transit gateways",
    "billing:*": "billing views of other accounts",
    "ec2:*NatGatewayAddress": "secondary addresses of a NAT gateway",
    "ec2:*SubnetCidrBlock": "IPv6",
    "ec2:AcceptAddressTransfer": "addresses of other accounts",
    "ec2:AssociateAddress": "an address of an instance: NAT gateways do it themselves",
    "ec2:CreateVpcEncryptionControl": "enforced encryption in transit",
    "ec2:ModifyVpcTenancy": "dedicated hardware",
    "ecr:*RepositoryPolicy": "repositories that other accounts use",
    "eks:ActivateCertificateAuthority": "a renewed certificate authority",
    "firehose:*": "data protection",
    "iam:*InstanceProfile": "EKS' own node pools: those of the stacks are Kubernetes objects",
    "iam:DeleteRolePermissionsBoundary": "never: it would undo the boundary",
    "kms:RetireGrant": "repositories with keys of the account",
    "logs:*DataProtectionPolicy": "data protection",
    "logs:*IndexPolic*": "field indexes",
    "logs:*LogDelivery": "logs in S3 and Firehose",
    "logs:*ResourcePolic*": "log groups that other accounts use",
    "logs:PutBearerTokenAuthentication": "log ingestion over HTTP",
    "logs:PutLogGroupDeletionProtection": "protected log groups",
    "rds:*RoleToDBInstance": "extensions that use AWS",
    "rds:*RoleFromDBInstance": "extensions that use AWS",
    "rds:*DBInstanceAutomatedBackupsReplication": "backups in another region",
    "rds:*ReadReplica": "read replicas",
    "rds:RestoreDBInstance*": "a restore, which is an operator's decision: docs/runbooks",
    "s3:*Accelerate*": "transfer acceleration",
    "s3:*Analytics*": "analytics",
    "s3:*BucketAbac": "permissions by the tags of buckets",
    "s3:*BucketMetadata*": "metadata tables",
    "s3:*BucketNotification": "events",
    "s3:*BucketWebsite": "websites",
    "s3:*Cors": "browsers",
    "s3:*CORS": "browsers",
    "s3:*IntelligentTiering*": "intelligent tiering",
    "s3:*Inventory*": "inventories",
    "s3:*Metrics*": "request metrics",
    "s3:*ObjectLock*": "object lock",
    "s3:*Replication*": "replication",
    "s3:DeleteBucketEncryption": "PutEncryptionConfiguration is the permission of both",
    "s3:DeleteBucketLifecycle": "PutLifecycleConfiguration is the permission of both",
    "s3:Put*Acl": "access control lists",
    "s3:REST.PUT.OBJECT": "data protection",
    "s3tables:*": "metadata tables",
    "sns:*DataProtectionPolicy": "data protection",
    "secretsmanager:*Region*": "replicas in other regions",
    "secretsmanager:GetRandomPassword": "passwords that CloudFormation generates",
    "vpc-lattice:*": "endpoints of service networks",
    "vpce:*": "endpoints in other regions",
}


def permissions(type_: str) -> set[str]:
    """Return the permissions for all operations on a Pulumi type, without those for features that are not used."""
    folder = files("cfnlint") / "data" / "schemas"
    name = json.loads((folder / "providers" / "us-east-1.json").read_text())[TYPES[type_]]
    handlers = json.loads((folder / "resources" / f"{name}.json").read_text())["handlers"]
    found = {
        permission for name, handler in handlers.items() if name != "list" for permission in handler["permissions"]
    }
    return {permission for permission in found if not any(fnmatchcase(permission, pattern) for pattern in UNUSED)}
