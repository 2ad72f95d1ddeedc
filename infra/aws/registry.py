"""The image registry: a repository for each folder of `images/`."""

import json
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.aws.account import Account
from infra.aws.names import Limit
from infra.images import content

UNTAGGED_DAYS = 7
# Those of fifty releases: each image comes with a signature and a provenance, which ECR counts as images.
KEPT_IMAGES = 150


class Registry(pulumi.ComponentResource):
    """The ECR repositories.

    Attributes:
        urls: The address, without a tag, of each image.
        images: The full name of each image, with its tag, and with its digest where a release is given.
    """

    urls: Mapping[str, pulumi.Output[str]]
    images: Mapping[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        account: Account,
        versions: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make the repositories; `versions` are what follows the address of each image."""
        super().__init__("airflow:aws:Registry", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account

        self.urls = {image: self._create_repository(image) for image in content.names()}
        self.images = {image: pulumi.Output.format("{0}:{1}", url, versions[image]) for image, url in self.urls.items()}

        self.register_outputs({"urls": self.urls})

    def _create_repository(self, image: str) -> pulumi.Output[str]:
        repository = aws.ecr.Repository(
            f"{image}-repository",
            name=self._account.names.path(image, Limit.REPOSITORY),
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="AES256")],
            force_delete=not self._account.protect,
            opts=self._child_opts,
        )
        aws.ecr.LifecyclePolicy(
            f"{image}-lifecycle", repository=repository.name, policy=lifecycle(), opts=self._child_opts
        )
        return repository.repository_url


def lifecycle() -> str:
    """Return the rules by which images go: soon where no tag names them, else when there are too many newer ones.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
    """
    untagged = {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": UNTAGGED_DAYS,
    }
    too_many = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES}
    rules = [
        {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}
        for priority, selection in enumerate((untagged, too_many), 1)
    ]
    return json.dumps({"rules": rules})
