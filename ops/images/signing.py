"""Keyless image signatures and provenance by `cosign`, with the identity of a GitHub workflow.

Both are stored next to the image in its registry. Their tags are immutable, so a signed image is not signed again.
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
TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL"  # noqa: S105 - the variable with the URL of a workflow's identity token

# https://actions.github.io/buildtypes/workflow/v1/
BUILD_TYPE = "https://actions.github.io/buildtypes/workflow/v1"

# cosign's exit codes for a missing or not matching signature:
# https://github.com/sigstore/cosign/blob/v2.5.3/cmd/cosign/errors/exit_codes.go
UNSIGNED = (10, 11, 12, 13)
# cosign prints each error twice.
ERROR = re.compile(
    r"^Error: (?P<message>.*?)(?=\n(main\.go:\d+: )?error during command execution|\Z)", re.DOTALL | re.MULTILINE
)


def sign_built(
    registry: Registry,
    built: Mapping[str, ReleasedImage],
    images: Callable[[], Mapping[str, ReleasedImage]],
    echo: Echo,
) -> None:
    """Sign the images that this run built; check that this workflow signed the images that were there before.

    Args:
        registry: The registry.
        built: The images that this run built and pushed, by name.
        images: Returns all images of this working tree in the registry.
        echo: Prints a line of progress.

    Raises:
        ImageError: An image differs from the one that this run built, or cannot be signed.
        OperationError: Images are missing, or the registry cannot be reached.
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
                f"{image.repository}:{image.tag} is now {image.digest}, but this run built {built[name].digest}: find "
                "out who else pushes to this repository"
            )
        try:
            verify(image, f"^{re.escape(identity)}$")
        except ImageError as error:
            raise ImageError(
                f"{name} was not built by this run and has no valid signature: {error}; or delete the tag {image.tag} "
                f"of {image.repository} and rerun the workflow"
            ) from error
        echo(f"{name}: already signed by this workflow")


def sign_all(registry: Registry, images: Mapping[str, ReleasedImage], echo: Echo) -> None:
    """Write the provenance and signature of images by name, unless they exist.

    The provenance is written first, so that the signature implies both.

    Raises:
        ImageError: There is no workflow identity, or cosign is missing or fails.
        OperationError: The registry cannot be reached.
    """
    _check_identity()
    for name, image in images.items():
        signature, provenance_tag = signature_tags(image.digest)
        for tag, make in ((provenance_tag, attest), (signature, sign)):
            if registry.digest(name, tag) is not None:
                echo(f"{name}: {tag} exists")
                continue
            make(image)
            if registry.digest(name, tag) is None:
                raise ImageError(f"cosign did not write the tag {tag} next to {_name(image)}: install cosign version 2")
            echo(f"{name}: wrote {tag}")


def sign(image: ReleasedImage) -> None:
    """Sign an image with the identity of the current workflow.

    Raises:
        ImageError: There is no workflow identity, or cosign is missing or fails.
        OperationError: AWS rejects a request or cannot be reached.
    """
    _check_identity()
    result = _cosign(image, "sign", "--yes")
    if result.returncode:
        reason = _reason(result)
        raise ImageError(f"{_name(image)} could not be signed ({reason}): fix the cause, then rerun this command")


def attest(image: ReleasedImage) -> None:
    """Store an image's provenance next to it: the commit, the repository and the run that built it.

    Raises:
        ImageError: There is no workflow identity, or cosign is missing or fails.
        OperationError: AWS rejects a request or cannot be reached.
    """
    _check_identity()
    with TemporaryDirectory(prefix="provenance-") as folder:
        file = Path(folder, "provenance.json")
        file.write_text(json.dumps(provenance(os.environ)))
        result = _cosign(image, "attest", "--yes", "--type", "slsaprovenance1", "--predicate", str(file))
    if result.returncode:
        raise ImageError(
            f"the provenance of {_name(image)} could not be signed ({_reason(result)}): fix the cause, then rerun this "
            "command"
        )


def verify(image: ReleasedImage, signed_by: str) -> None:
    """Refuse an image without a signature by a matching identity.

    Args:
        image: The image.
        signed_by: A regular expression for the identity.

    Raises:
        ImageError: The image has no such signature, cosign is missing, or the signature cannot be looked up.
        OperationError: AWS rejects a request or cannot be reached.
    """
    result = _cosign(image, "verify", "--certificate-identity-regexp", signed_by, "--certificate-oidc-issuer", ISSUER)
    if result.returncode in UNSIGNED:
        raise ImageError(
            f"{_name(image)} has no signature by {signed_by} ({_reason(result)}): build and sign it with that "
            "workflow, or correct airflow:release.signed_by"
        )
    if result.returncode:
        raise ImageError(
            f"the signature of {_name(image)} cannot be verified ({_reason(result)}): check that this machine reaches "
            "the registry and https://tuf-repo-cdn.sigstore.dev"
        )


def provenance(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the SLSA provenance of an image, from the environment of a GitHub workflow.

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
            "there is no identity to sign with: sign images in a GitHub workflow whose job has the permission "
            "`id-token: write`"
        )


def _name(image: ReleasedImage) -> str:
    return f"{image.repository}@{image.digest}"


def _cosign(image: ReleasedImage, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("cosign") is None:
        raise ImageError(
            "cosign, which signs images and verifies signatures, is not on PATH: install version 2, see "
            "https://docs.sigstore.dev/cosign/system_config/installation/"
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
    """Return cosign's error message."""
    found = ERROR.search(result.stderr.strip())
    return " ".join((found["message"] if found else result.stderr).split()) or "no error message"
