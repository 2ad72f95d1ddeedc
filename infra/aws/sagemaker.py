"""The AWS permissions to train on Amazon SageMaker: of the DAG, of the triggerer that waits, and of the job itself.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
"""

from collections.abc import Mapping

from infra.aws.policies import Statement
from infra.dag_declarations import DagDeclaration

SERVICE = "sagemaker.amazonaws.com"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"


def trains_on_sagemaker(dag: DagDeclaration, connections: tuple[str, ...]) -> bool:
    """Return whether a DAG trains on SageMaker in a stack with these connections."""
    return dag.external is not None and dag.external.connection in connections


def of_dag(jobs: str, role_arn: str) -> list[Statement]:
    """Return the permissions to start jobs with a role, and to wait for them.

    Args:
        jobs: The ARN of the jobs of the stack.
        role_arn: The role that the jobs get.
    """
    return [
        Statement(("sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"), (jobs,)),
        Statement(("iam:PassRole",), (role_arn,), conditions={"StringEquals": {"iam:PassedToService": SERVICE}}),
    ]


def of_triggerer(jobs: str, dags: Mapping[str, DagDeclaration], connections: tuple[str, ...]) -> list[Statement]:
    """Return the permission to wait for jobs; none if no DAG trains on SageMaker."""
    if not any(trains_on_sagemaker(dag, connections) for dag in dags.values()):
        return []
    return [Statement(("sagemaker:DescribeTrainingJob",), (jobs,))]


def of_job(region: str, account: str, repository: str) -> list[Statement]:
    """Return the permissions of a job in addition to those on buckets: to pull its image, and to write its log.

    Args:
        region: The region.
        account: The account ID.
        repository: The name of the image's repository.
    """
    return [
        # The action has no resources.
        Statement(("ecr:GetAuthorizationToken",), ("*",)),
        Statement(
            ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            (f"arn:aws:ecr:{region}:{account}:repository/{repository}",),
        ),
        Statement(
            ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (f"arn:aws:logs:{region}:{account}:log-group:{LOG_GROUP}*",),
        ),
    ]


def jobs_arn(region: str, account: str, prefix: str) -> str:
    """Return the ARN of the jobs whose names begin with the prefix of a stack."""
    return f"arn:aws:sagemaker:{region}:{account}:training-job/{prefix}-*"
