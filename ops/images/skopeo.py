"""The program `skopeo`: it reads and copies what is in registries, without a container tool's store."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from infra.images.errors import ImageError
from ops.images.login import is_loopback, logged_in

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes, and registries that send none.
ABSENT = re.compile(r"\b(manifest|name) unknown\b|\bstatus ?(code)?:? 404\b|\b404 \(?not found\b", re.IGNORECASE)
# How skopeo ends, in the form of its log.
FATAL = re.compile(r'level=fatal msg="(?P<message>.*)"$')


def digest(repository: str, reference: str) -> str | None:
    """Return the digest of a manifest, None where it is not there; the reference is `:<tag>` or `@<digest>`.

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
        f"{repository}{reference} cannot be looked up ({reason}): see that this machine reaches the registry, and that "
        "you are logged in there (`docker login`, or `skopeo login`)"
    )


def copy(source: str, target: str) -> None:
    """Copy an image as it is, with all architectures; both are full names, the source with its digest.

    Raises:
        ImageError: skopeo is missing, or a registry refuses or does not answer.
        OperationError: AWS refuses a request, or cannot be asked.
    """
    with _options(source, "src-") as source_options, _options(target, "dest-") as target_options:
        result = _run(
            *("copy", "--quiet", "--all", "--preserve-digests", *source_options, *target_options),
            *(f"docker://{source}", f"docker://{target}"),
        )
    if result.returncode != 0:
        raise ImageError(
            f"{source} could not be copied to {target} ({_reason(result.stderr)}): see that this machine reaches both "
            "registries and may write to the second, then run the same command again"
        )


@contextmanager
def _options(name: str, side: str = "") -> Iterator[Sequence[str]]:
    """Yield the options by which skopeo reaches a registry."""
    with logged_in(name) as file:
        login = [f"--{side}authfile={file}"] if file else []
        yield [*login, *([f"--{side}tls-verify=false"] if is_loopback(name) else [])]


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which("skopeo") is None:
        raise ImageError(
            "skopeo is not on PATH, and it reads and copies what is in registries: install it (`apt-get install "
            "skopeo`, `brew install skopeo`), see https://github.com/containers/skopeo/blob/main/install.md"
        )
    return subprocess.run(["skopeo", *arguments], check=False, capture_output=True)


def _reason(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it says nothing"
    found = FATAL.search(last)
    return found["message"].replace('\\"', '"') if found else last
