import json

from ops.plan.iam import components, grants
from ops.plan.permissions import matrix
from ops.plan.resources import Recording, Resource

TRUST = {
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "pods.eks.amazonaws.com"}}]
}
READ = {
    "Statement": {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": "arn:aws:s3:::data/images/*",
        "Condition": {"StringEquals": {"aws:SourceAccount": ["1", "2"]}},
    }
}
TLS = {"Statement": [{"Effect": "Deny", "Action": "s3:*", "Principal": "*", "Resource": "*"}]}
ROLE_ARN = "arn:aws:iam::123456789012:role/airflow-dev-task"


def resource(type_: str, logical: str, /, **inputs: object) -> Resource:
    return Resource(urn=logical, type=type_, name=logical, inputs=inputs)


RECORDING = Recording(
    "airflow",
    "dev",
    "us-east-1",
    (
        resource("aws:iam/role:Role", "task-role", name="airflow-dev-task", assumeRolePolicy=json.dumps(TRUST)),
        resource("aws:iam/rolePolicy:RolePolicy", "task-policy", role="airflow-dev-task", policy=json.dumps(READ)),
        resource("aws:iam/policy:Policy", "shared", name="airflow-dev-shared", policy=json.dumps(READ)),
        resource("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "own", role="airflow-dev-task",
                 policyArn="arn:aws:iam::123456789012:policy/airflow-dev-shared"),
        resource("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "managed", role="airflow-dev-task",
                 policyArn="arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"),
        resource("aws:eks/podIdentityAssociation:PodIdentityAssociation", "link", roleArn=ROLE_ARN,
                 serviceAccount="task"),
        resource("aws:s3/bucketPolicy:BucketPolicy", "tls", bucket="data", policy=TLS),
    ),
)  # fmt: skip


def test_a_role_is_named_after_the_component_that_has_it() -> None:
    assert components(RECORDING) == {"airflow-dev-task": "task"}


def test_an_inline_policy_has_one_row_per_statement() -> None:
    grant = next(grant for grant in grants(RECORDING) if grant.source == "task-policy")
    assert (grant.who, grant.effect) == ("task", "Allow")
    assert grant.actions == ("s3:GetObject", "s3:ListBucket")
    assert grant.resources == ("arn:aws:s3:::data/images/*",)
    assert grant.conditions == ("StringEquals aws:SourceAccount = 1 or 2",)


def test_an_attached_policy_of_the_stack_is_expanded_and_one_of_aws_is_named() -> None:
    found = {grant.source: grant for grant in grants(RECORDING)}
    assert found["shared"].actions == ("s3:GetObject", "s3:ListBucket")
    assert found["managed"].actions == ("all of AmazonEKSClusterPolicy",)


def test_the_principals_that_may_assume_a_role_are_listed() -> None:
    grant = next(grant for grant in grants(RECORDING) if grant.source == "task-role")
    assert (grant.who, grant.resources) == ("pods.eks.amazonaws.com", ("role of task",))


def test_a_bucket_policy_is_listed_with_its_principal() -> None:
    grant = next(grant for grant in grants(RECORDING) if grant.source == "tls")
    assert (grant.who, grant.effect, grant.actions, grant.resources) == ("anyone", "Deny", ("s3:*",), ("data",))


def test_every_policy_of_every_stack_is_in_the_table(recording: Recording) -> None:
    sources = {grant.source for grant in grants(recording)}
    policies = recording.of_type(
        "aws:iam/rolePolicy:RolePolicy", "aws:iam/rolePolicyAttachment:RolePolicyAttachment", "aws:iam/role:Role",
        "aws:s3/bucketPolicy:BucketPolicy", "aws:kms/key:Key",
    )  # fmt: skip
    assert {policy.name for policy in policies} == sources


def test_every_component_has_a_row(recording: Recording) -> None:
    trusted = {resource for grant in grants(recording) for resource in grant.resources}
    for link in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation"):
        assert f"role of {link.inputs['serviceAccount']}" in trusted


def test_the_matrix_has_a_row_for_each_component_and_a_column_for_each_resource() -> None:
    assert matrix(RECORDING) == (
        ["as defined by AWS", "data/images/*"],
        {
            "task": {
                "as defined by AWS": ["all of AmazonEKSClusterPolicy"],
                "data/images/*": ["GetObject", "ListBucket"] * 2,
            }
        },
    )


def test_a_component_without_permissions_has_an_empty_row(recordings: dict[str, Recording]) -> None:
    columns, rows = matrix(recordings["prod"])
    assert rows["airflow-dag-processor"] == {}
    assert "data/images/*" in columns
    assert not [column for column in columns if "123456789012" in column]
