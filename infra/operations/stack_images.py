"""See, before a deployment on AWS begins, that the images that it starts are in the registry."""

from infra.images.build import full_names
from infra.images.ecr import Ecr, NoRepositoryError
from infra.images.nodes import Nodes
from infra.operations.aws_deployment import AwsDeployment
from infra.operations.deployment import Say
from infra.operations.errors import OperationError


def check_images(deployment: AwsDeployment, say: Say) -> None:
    """Refuse a deployment whose pods would find no image; the first one makes the registry itself.

    Raises:
        OperationError: Images are missing.
    """
    stack = deployment.stack
    registry = Ecr(stack, deployment.account)
    try:
        names = full_names(registry, Nodes.of(deployment.settings))
    except NoRepositoryError:
        say(f"this deployment makes the image registry first: run `make images STACK={stack}` beside it in a minute")
        return
    missing = [image for image, name in names.items() if not registry.has(name)]
    if missing:
        raise OperationError(
            f"the registry of {stack} has no images of this commit's {', '.join(missing)}: run `make images "
            f"STACK={stack}`, then the same command again"
        )
