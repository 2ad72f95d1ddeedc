"""The environment of every command: an allow-list decides which of the user's variables reach it and what it starts.

What a user has set for another program must not change what a command does: PYTHONPATH, PGSSLMODE, OTEL_PROPAGATORS,
KUBERNETES_SERVICE_HOST, a proxy in front of this machine's own ports. Runs on Pythons older than the supported ones,
because it starts before there is a virtual environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from ops.loopback import LOOPBACK

# Each list holds names of variables, and patterns of names.
SYSTEM = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TMP", "TEMP", "XDG_*"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"),
    # Where NixOS and HPC clusters keep the libraries that Python packages load, and which GPUs are meant.
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "NIX_LD*", "CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "HSA_*"),
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY",  # without it macOS kills what Airflow forks
)
CERTIFICATES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NIX_SSL_CERT_FILE"),
    *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH"),
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
NETWORK = (*SYSTEM, *CERTIFICATES, *PROXIES)
GIT = (
    *("GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_CONFIG_*", "GIT_SSH*", "GIT_SSL_*", "GIT_ASKPASS", "EMAIL"),
    *("SSH_AUTH_SOCK", "SSH_ASKPASS*", "GNUPGHOME", "GPG_TTY", "GH_*", "GITHUB_*"),
)
IMAGES = (
    *("BUILDER", "IMAGE_LOAD", "IMAGE_BUILD_ARGS", "BASE_IMAGE_*", "REGISTRY_AUTH_FILE", "DBUS_SESSION_BUS_ADDRESS"),
    *("DOCKER_*", "BUILDKIT_*", "BUILDX_*", "BUILDAH_*", "CONTAINER_*", "CONTAINERS_*", "STORAGE_*", "_CONTAINERS_*"),
    *("KIND_*", "MINIKUBE_*", "K3D_*", "COSIGN_*", "SIGSTORE_*", "TUF_*", "ACTIONS_*"),
)
# kubectl's login plugins for clusters of Google and Azure read the last ones.
CLUSTERS = ("KUBECONFIG", "HELM_*", "CLOUDSDK_*", "GOOGLE_*", "USE_GKE_GCLOUD_AUTH_PLUGIN", "AZURE_*", "AAD_*")

LAPTOP = (*SYSTEM, "LAPTOP_HOME")
PLAN = (*NETWORK, *GIT)
PACKAGES = (*NETWORK, "PIP_*", "UV_*", "NETRC", "PYENV_*", "ASDF_*")
OPERATIONS = (*NETWORK, *GIT, *IMAGES, *CLUSTERS, "AWS_*", "PULUMI_*")
TESTS = (*OPERATIONS, *PACKAGES, "LAPTOP_HOME", "PYTEST_*", "TEST_BASE_IMAGE", "MLFLOW_VENV")

# The variables of the commands' arguments and options, which no other program gets.
PARAMETERS = (
    *("STACK", "NAME", "LIKE", "BRANCH", "HOURS", "FROM", "TO", "CONFIRM", "DRY_RUN", "CHANGE", "GATE", "YES"),
    *("AGAINST", "PULL_REQUEST", "BUILT", "PREVIEW", "REFRESH", "FORCE", "ISSUE", "WITHOUT_SECRETS"),
    *("IMAGES", "PARAMS", "S", "KEY", "USER_NAME"),
)
# Of the shell's completion: https://typer.tiangolo.com/tutorial/options-autocompletion/
COMPLETION = ("_OPS_COMPLETE", "_TYPER_COMPLETE_*", "COMP_*")
COMMANDS = {
    **dict.fromkeys(("up", "down", "clean", "login", "logs", "roll-out"), LAPTOP),
    **dict.fromkeys(("plan", "plan-comment"), PLAN),
    "gate": TESTS,  # `make gate GATE=tests` runs them
}
CERTIFICATE_FILES = (*CERTIFICATES, "AWS_CA_BUNDLE", "PIP_CERT")
PATHS = (*CERTIFICATE_FILES, "KUBECONFIG", "REGISTRY_AUTH_FILE", "PIP_FIND_LINKS", "UV_FIND_LINKS")
# Many shells leave `~` as it is in `make KUBECONFIG=~/file`; these variables may hold several paths.
TILDE = re.compile(r"(?:^|(?<=[:,\s]))~(?=/|$)")
THIS_MACHINE = (LOOPBACK, "localhost")


def allowed(names: Iterable[str]) -> dict[str, str]:
    """Return the variables of this process that an allow-list lets pass.

    `~` in a path is the home folder, a file of certificates that does not exist is left out, and no proxy is asked for
    this machine's own addresses.
    """
    patterns = tuple(names)
    found = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, each) for each in patterns)}
    for name in found.keys() & set(PATHS):
        found[name] = TILDE.sub(lambda _: str(Path.home()), found[name])
    for name in CERTIFICATE_FILES:
        if name in found and not any(Path(place).exists() for place in found[name].split(os.pathsep)):
            del found[name]
    direct = found.get("no_proxy") or found.get("NO_PROXY") or ""
    hosts = dict.fromkeys((*filter(None, direct.split(",")), *THIS_MACHINE))
    return {**found, **dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts))}


def enter(names: Iterable[str]) -> None:
    """Leave in this process's environment what an allow-list lets pass, and nothing else."""
    _replace(allowed(names))


def enter_command(arguments: Sequence[str]) -> None:
    """Enter the environment of the command that the arguments of `ops` start."""
    command, *others = [each for each in arguments if not each.startswith("-")] or [""]
    names = COMMANDS.get(command, OPERATIONS)
    if command == "status" and not others and not os.environ.get("STACK"):
        names = LAPTOP
    enter((*names, *PARAMETERS, *COMPLETION))


@contextmanager
def within(names: Iterable[str], **additions: str) -> Iterator[None]:
    """Be in the environment of an allow-list, with these variables on top, for a while."""
    before = dict(os.environ)
    _replace({**allowed(names), **additions})
    try:
        yield
    finally:
        _replace(before)


def _replace(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
