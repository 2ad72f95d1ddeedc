"""The ECR registry of a stack on AWS."""

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from infra.aws.names import Limit, Names
from infra.images.content import in_previews
from infra.images.errors import ImageError
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors, error_code
from ops.images.login import ecr_token
from ops.images.tools import Tool


class NoRepositoryError(ImageError):
    """The repository does not exist, because the stack was not bootstrapped yet, or the image is new."""


class Ecr:
    """The ECR repositories of a stack, or those of its preview environments.

    Every method raises OperationError if AWS rejects a request or cannot be reached.
    """

    def __init__(self, stack: str, account: Account, *, previews: bool = False) -> None:
        self._stack = stack
        self._previews = previews
        self._names = Names(PROJECT, stack)
        self._client: Any = account.client("ecr")
        self._logged_in = False

    def repository(self, image: str) -> str:
        """Return the address of an image's repository.

        Raises:
            NoRepositoryError: It does not exist yet.
        """
        path = self._path(image)
        with aws_errors():
            try:
                found = self._client.describe_repositories(repositoryNames=[path])
            except ClientError as error:
                self._refuse(error, path)
        return str(found["repositories"][0]["repositoryUri"])

    def has(self, name: str) -> bool:
        """Return whether the repository has the image with this full name."""
        repository, _, tag = name.partition("/")[2].rpartition(":")
        return self._digest(repository, imageTag=tag) is not None

    def digest(self, image: str, tag: str) -> str | None:
        """Return the digest of an image's tag, or None if the tag does not exist.

        Raises:
            NoRepositoryError: The repository does not exist yet.
        """
        return self._digest(self._path(image), imageTag=tag)

    def has_digest(self, image: str, digest: str) -> bool:
        """Return whether the repository has an image with this digest.

        Raises:
            NoRepositoryError: The repository does not exist yet.
        """
        return self._digest(self._path(image), imageDigest=digest) is not None

    def newest(self, image: str) -> tuple[datetime, Mapping[str, int] | None]:
        """Return when the newest image was pushed, and the findings of its scan by severity; None without a scan.

        Raises:
            NoRepositoryError: The repository does not exist yet.
            ImageError: It is empty.
        """
        repository = self._path(image)
        with aws_errors():
            try:
                pages = self._client.get_paginator("describe_images").paginate(repositoryName=repository)
                found = [each for page in pages for each in page["imageDetails"] if _is_image(each)]
            except ClientError as error:
                self._refuse(error, repository)
        if not found:
            raise ImageError(f"the ECR repository {repository} is empty: run `make images STACK={self._stack}`")
        last = max(found, key=lambda each: each["imagePushedAt"])
        scan = last.get("imageScanFindingsSummary")
        return last["imagePushedAt"], None if scan is None else scan.get("findingSeverityCounts", {})

    def deliver(self, tool: Tool, name: str) -> str:
        """Log in if necessary, push an image, and return its digest.

        Raises:
            ImageError: The tool cannot log in or push.
        """
        registry = name.partition("/")[0]
        if not self._logged_in:
            user, password = self._credentials
            tool.log_in(registry, user, password)
            self._logged_in = True
        return tool.push(name)

    def _path(self, image: str) -> str:
        return self._names.path(in_previews(image) if self._previews else image, Limit.REPOSITORY)

    def _digest(self, repository: str, **identifier: str) -> str | None:
        with aws_errors():
            try:
                found = self._client.describe_images(repositoryName=repository, imageIds=[identifier])
            except ClientError as error:
                if error_code(error) == "ImageNotFoundException":
                    return None
                self._refuse(error, repository)
        return str(found["imageDetails"][0]["imageDigest"])

    def _refuse(self, error: ClientError, repository: str) -> NoReturn:
        if error_code(error) == "RepositoryNotFoundException":
            raise NoRepositoryError(
                f"the ECR repository {repository} does not exist: create it with `make bootstrap STACK={self._stack}`"
            ) from None
        raise error

    @cached_property
    def _credentials(self) -> tuple[str, str]:
        with aws_errors():
            token = ecr_token(self._client)
        user, _, password = b64decode(token).decode().partition(":")
        return user, password


def _is_image(details: Mapping[str, Any]) -> bool:
    """Return whether it is an image, and not one of the signatures, which cosign names by the digest of the image."""
    return any(not tag.startswith("sha256-") for tag in details.get("imageTags", ()))
