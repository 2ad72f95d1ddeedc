"""The image registry: for each folder of `images/` a repository, and where branches are tried one more for theirs."""

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
# Those of preview environments, which nobody signs and no release names.
KEPT_PREVIEW_IMAGES = 30


class Registry(pulumi.ComponentResource):
    """The ECR repositories.

    Attributes:
        urls: The address, without a tag, of each image.
        preview_urls: The same of the images of preview environments; nothing where there are none.
        images: The full name of each image, with its tag, and with its digest where a release is given.
    """

    urls: Mapping[str, pulumi.Output[str]]
    preview_urls: Mapping[str, pulumi.Output[str]]
    images: Mapping[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        account: Account,
        versions: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
        *,
        has_previews: bool = False,
    ) -> None:
        """Make the repositories.

        Args:
            name: The component's name.
            account: The account.
            versions: What follows the address of each image.
            opts: Options of the component.
            has_previews: Whether preview environments may be beside the stack.
        """
        super().__init__("airflow:aws:Registry", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account

        self.urls = {image: self._create_repository(image, image, KEPT_IMAGES) for image in content.names()}
        self.preview_urls = {
            image: self._create_repository(f"preview-{image}", content.in_previews(image), KEPT_PREVIEW_IMAGES)
            for image in content.names()
            if has_previews
        }
        self.images = {image: pulumi.Output.format("{0}:{1}", url, versions[image]) for image, url in self.urls.items()}

        self.register_outputs({"urls": self.urls})

    def _create_repository(self, name: str, path: str, kept: int) -> pulumi.Output[str]:
        repository = aws.ecr.Repository(
            f"{name}-repository",
            name=self._account.names.path(path, Limit.REPOSITORY),
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="AES256")],
            force_delete=not self._account.protect,
            opts=self._child_opts,
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-lifecycle", repository=repository.name, policy=lifecycle(kept), opts=self._child_opts
        )
        return repository.repository_url


def lifecycle(kept: int) -> str:
    """Return the rules by which images go: soon where no tag names them, else when so many are newer.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
    """
    untagged = {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": UNTAGGED_DAYS,
    }
    too_many = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": kept}
    rules = [
        {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}
        for priority, selection in enumerate((untagged, too_many), 1)
    ]
    return json.dumps({"rules": rules})
