"""Who built an image: signatures and provenance by `cosign`, with the identity of a workflow of GitHub's and no keys.

Both lie beside the image in its registry. Their tags do not move, so what is there is not signed again.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.images.errors import ImageError
from infra.release import ReleasedImage
from ops.console import Echo
from ops.images.login import logged_in
from ops.images.registries import Registry, signature_tags

# https://docs.github.com/en/actions/concepts/security/openid-connect
ISSUER = "https://token.actions.githubusercontent.com"
TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL"  # noqa: S105 - the variable where a workflow finds its identity

# https://actions.github.io/buildtypes/workflow/v1/
BUILD_TYPE = "https://actions.github.io/buildtypes/workflow/v1"

# How cosign ends where it looked, and there is no signature, or none that counts:
# https://github.com/sigstore/cosign/blob/v2.5.3/cmd/cosign/errors/exit_codes.go
UNSIGNED = (10, 11, 12, 13)
# It says everything twice.
ERROR = re.compile(
    r"^Error: (?P<message>.*?)(?=\n(main\.go:\d+: )?error during command execution|\Z)", re.DOTALL | re.MULTILINE
)


def sign_built(
    registry: Registry,
    built: Mapping[str, ReleasedImage],
    images: Callable[[], Mapping[str, ReleasedImage]],
    echo: Echo,
) -> None:
    """Sign what this run has built; what was in the registry before must bear this workflow's signature already.

    Args:
        registry: The registry.
        built: The images that this run has built and pushed, by their names.
        images: Returns all images of the sources that lie here, as the registry has them.
        say: Shows a line of progress.

    Raises:
        ImageError: An image is another one than this run has built, or cannot be signed.
        OperationError: Images are missing, or the registry cannot be asked.
    """
    for name, image in built.items():
        if image.repository != registry.repository(name):
            raise ImageError(f"{name} was built for {image.repository}, not for {registry.repository(name)}")
    sign_all(registry, built, echo)
    identity = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_WORKFLOW_REF']}"
    for name, image in images().items():
        if image == built.get(name):
            continue
        if name in built:
            raise ImageError(
                f"{image.repository}:{image.tag} is {image.digest} by now, and this run has built "
                f"{built[name].digest}: find out who pushes there"
            )
        try:
            verify(image, f"^{re.escape(identity)}$")
        except ImageError as error:
            raise ImageError(
                f"{name} was in the registry before this run, which signs only what it has built: {error}; or delete "
                f"the tag {image.tag} of {image.repository} and run the workflow again"
            ) from error
        echo(f"{name}: signed by this workflow before")


def sign_all(registry: Registry, images: Mapping[str, ReleasedImage], echo: Echo) -> None:
    """Sign images, and say how they were built, by their names; what is signed already stays as it is.

    The provenance comes first, so that a signature says that both are there.

    Raises:
        ImageError: This is no workflow with an identity, cosign is missing, or it fails.
        OperationError: The registry cannot be asked.
    """
    _check_identity()
    for name, image in images.items():
        signature, provenance_tag = signature_tags(image.digest)
        for tag, make in ((provenance_tag, attest), (signature, sign)):
            if registry.digest(name, tag) is not None:
                echo(f"{name}: {tag} is there")
                continue
            make(image)
            if registry.digest(name, tag) is None:
                raise ImageError(f"cosign wrote no tag {tag} beside {_name(image)}: install its version 2")
            echo(f"{name}: wrote {tag}")


def sign(image: ReleasedImage) -> None:
    """Sign an image with the identity of the workflow that this runs in.

    Raises:
        ImageError: This is no workflow with an identity, cosign is missing, or it fails.
        OperationError: AWS refuses a request, or cannot be asked.
    """
    _check_identity()
    result = _cosign(image, "sign", "--yes")
    if result.returncode:
        reason = _reason(result)
        raise ImageError(f"{_name(image)} could not be signed ({reason}): mend that, then the same command again")


def attest(image: ReleasedImage) -> None:
    """Put the image's provenance beside it: the commit, the repository and the run that built it.

    Raises:
        ImageError: This is no workflow with an identity, cosign is missing, or it fails.
        OperationError: AWS refuses a request, or cannot be asked.
    """
    _check_identity()
    with TemporaryDirectory(prefix="provenance-") as folder:
        file = Path(folder, "provenance.json")
        file.write_text(json.dumps(provenance(os.environ)))
        result = _cosign(image, "attest", "--yes", "--type", "slsaprovenance1", "--predicate", str(file))
    if result.returncode:
        raise ImageError(
            f"the provenance of {_name(image)} could not be signed ({_reason(result)}): mend that, then the same "
            "command again"
        )


def verify(image: ReleasedImage, signed_by: str) -> None:
    """Refuse an image without a signature by an identity that the regular expression stands for.

    Raises:
        ImageError: It has none, cosign is missing, or the signature cannot be looked up.
        OperationError: AWS refuses a request, or cannot be asked.
    """
    result = _cosign(image, "verify", "--certificate-identity-regexp", signed_by, "--certificate-oidc-issuer", ISSUER)
    if result.returncode in UNSIGNED:
        raise ImageError(
            f"{_name(image)} bears no signature by {signed_by} ({_reason(result)}): let that workflow build and sign "
            "it, or correct airflow:release.signed_by"
        )
    if result.returncode:
        raise ImageError(
            f"the signature of {_name(image)} cannot be looked at ({_reason(result)}): see that this machine reaches "
            "the registry and https://tuf-repo-cdn.sigstore.dev"
        )


def provenance(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how an image was built, as SLSA has it, from what a workflow finds in its environment.

    https://slsa.dev/spec/v1.0/provenance
    """
    server, repository = environment["GITHUB_SERVER_URL"], environment["GITHUB_REPOSITORY"]
    workflow, _, _ = environment["GITHUB_WORKFLOW_REF"].partition("@")
    source, ref = f"{server}/{repository}", environment["GITHUB_REF"]
    run = f"{source}/actions/runs/{environment['GITHUB_RUN_ID']}/attempts/{environment['GITHUB_RUN_ATTEMPT']}"
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "workflow": {"repository": source, "ref": ref, "path": workflow.removeprefix(f"{repository}/")}
            },
            "resolvedDependencies": [
                {"uri": f"git+{source}@{ref}", "digest": {"gitCommit": environment["GITHUB_SHA"]}}
            ],
        },
        "runDetails": {
            "builder": {"id": f"{server}/{environment['GITHUB_WORKFLOW_REF']}"},
            "metadata": {"invocationId": run},
        },
    }


def _check_identity() -> None:
    if TOKEN not in os.environ:
        raise ImageError(
            "there is no identity to sign with: images are signed by a workflow of GitHub's whose job has the "
            "permission `id-token: write`"
        )


def _name(image: ReleasedImage) -> str:
    return f"{image.repository}@{image.digest}"


def _cosign(image: ReleasedImage, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("cosign") is None:
        raise ImageError(
            "cosign is not on PATH, and it signs images and knows whose signature they bear: install its version 2, "
            "see https://docs.sigstore.dev/cosign/system_config/installation/"
        )
    with logged_in(image.repository) as file:
        login = {"DOCKER_CONFIG": str(file.parent)} if file else {}
        return subprocess.run(
            ["cosign", *arguments, _name(image)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **login},
        )


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Return why cosign failed, in its own words."""
    found = ERROR.search(result.stderr.strip())
    return " ".join((found["message"] if found else result.stderr).split()) or "it says nothing"
