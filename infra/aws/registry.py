"""The image registry: an ECR repository for each folder of `images/`, and one for its preview environments."""

import json
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.aws.account import Account
from infra.aws.names import Limit
from infra.images import content
from infra.settings import Settings
from infra.settings.preview_rules import why_no_previews

UNTAGGED_DAYS = 7
# The images of fifty releases: each comes with a signature and a provenance, which ECR counts as images.
KEPT_IMAGES = 150
# The images of preview environments, which are not signed and not part of releases.
KEPT_PREVIEW_IMAGES = 30


class Registry(pulumi.ComponentResource):
    """The ECR repositories.

    Attributes:
        urls: The repository URL of each image.
        preview_urls: The repository URL of each image for preview environments; empty if there are none.
        images: The full name of each image: with its tag, and for a release with its digest.
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
        """Create the repositories.

        Args:
            name: The component's name.
            account: The account.
            versions: The tag of each image, with its digest for a release.
            opts: The options of the component.
            has_previews: Whether the stack allows preview environments.
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

    @classmethod
    def of(cls, stack: str, settings: Settings, account: Account, versions: Mapping[str, str]) -> "Registry":
        """Create the registry of a stack; `make bootstrap` creates it before the rest of the stack."""
        in_account = pulumi.ResourceOptions(provider=account.provider)
        has_previews = why_no_previews(stack, settings) is None
        return cls("registry", account, versions, opts=in_account, has_previews=has_previews)

    def _create_repository(self, name: str, path: str, kept: int) -> pulumi.Output[str]:
        repository = aws.ecr.Repository(
            f"{name}-repository",
            name=self._account.names.path(path, Limit.REPOSITORY),
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS")],
            force_delete=not self._account.protect,
            # AWS cannot change the encryption of a repository: an older one keeps its own instead of being replaced.
            opts=pulumi.ResourceOptions.merge(
                self._child_opts, pulumi.ResourceOptions(ignore_changes=["encryptionConfigurations"])
            ),
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-lifecycle", repository=repository.name, policy=lifecycle(kept), opts=self._child_opts
        )
        return repository.repository_url


def lifecycle(kept: int) -> str:
    """Return the lifecycle policy: untagged images expire soon, tagged images by their number.

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
