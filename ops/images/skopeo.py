"""Read and copy images in registries with `skopeo`, without a container tool's store."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from infra.images.errors import ImageError
from ops.images.login import is_loopback, logged_in

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes, or a status without an error code.
ABSENT = re.compile(r"\b(manifest|name) unknown\b|\bstatus ?(code)?:? 404\b|\b404 \(?not found\b", re.IGNORECASE)
# The last line of skopeo's log after an error.
FATAL = re.compile(r'level=fatal msg="(?P<message>.*)"$')


def digest(repository: str, reference: str) -> str | None:
    """Return the digest of a manifest, or None if it does not exist.

    Args:
        repository: The full name of the repository.
        reference: `:<tag>` or `@<digest>`.

    Raises:
        ImageError: skopeo is missing, or the registry does not answer.
    """
    with _options(repository) as options:
        result = _run("inspect", "--raw", *options, f"docker://{repository}{reference}")
    if result.returncode == 0:
        return f"sha256:{sha256(result.stdout).hexdigest()}"
    reason = _reason(result.stderr)
    if ABSENT.search(reason):
        return None
    raise ImageError(
        f"{repository}{reference} cannot be looked up ({reason}): check that this machine reaches the registry and "
        "that you are logged in (`docker login` or `skopeo login`)"
    )


def copy(source: str, target: str) -> None:
    """Copy an image unchanged, with all architectures.

    Args:
        source: The full name of the image, with its digest.
        target: The full name of the copy, with its tag.

    Raises:
        ImageError: skopeo is missing, or a registry rejects a request or does not answer.
        OperationError: AWS rejects a request or cannot be reached.
    """
    with _options(source, "src-") as source_options, _options(target, "dest-") as target_options:
        result = _run(
            *("copy", "--quiet", "--all", "--preserve-digests", *source_options, *target_options),
            *(f"docker://{source}", f"docker://{target}"),
        )
    if result.returncode != 0:
        raise ImageError(
            f"{source} could not be copied to {target} ({_reason(result.stderr)}): check that this machine reaches "
            "both registries and may write to the second, then rerun this command"
        )


@contextmanager
def _options(name: str, side: str = "") -> Iterator[Sequence[str]]:
    """Yield skopeo's options for a registry."""
    with logged_in(name) as file:
        login = [f"--{side}authfile={file}"] if file else []
        yield [*login, *([f"--{side}tls-verify=false"] if is_loopback(name) else [])]


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which("skopeo") is None:
        raise ImageError(
            "skopeo, which reads and copies images in registries, is not on PATH: install it (`apt-get install "
            "skopeo`, `brew install skopeo`), see https://github.com/containers/skopeo/blob/main/install.md"
        )
    return subprocess.run(["skopeo", *arguments], check=False, capture_output=True)


def _reason(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "no error message"
    found = FATAL.search(last)
    return found["message"].replace('\\"', '"') if found else last
