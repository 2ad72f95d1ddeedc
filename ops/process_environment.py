"""The environment of commands: an allowlist of the user's variables that reach a command and its child processes.

Variables for other programs must not change what a command does: PYTHONPATH, PGSSLMODE, OTEL_PROPAGATORS,
KUBERNETES_SERVICE_HOST, a proxy for local ports. This module also supports older versions of Python, because it runs
before the virtual environment exists.
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
    # Library paths on NixOS and HPC clusters, and the selection of GPUs.
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "NIX_LD*", "CUDA_*", "NVIDIA_*", "HIP_*", "ROCR_*", "HSA_*"),
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY",  # without it, macOS kills Airflow's forked processes
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
# The last ones are for kubectl's login plugins for GKE and AKS.
CLUSTERS = ("KUBECONFIG", "HELM_*", "CLOUDSDK_*", "GOOGLE_*", "USE_GKE_GCLOUD_AUTH_PLUGIN", "AZURE_*", "AAD_*")

LAPTOP = (*SYSTEM, "LAPTOP_HOME", "OPENLINEAGE_URL", "WANDB_MODE", "MODEL_APPROVAL")
PLAN = (*NETWORK, *GIT)
PACKAGES = (*NETWORK, "PIP_*", "UV_*", "NETRC", "PYENV_*", "ASDF_*")
OPERATIONS = (*NETWORK, *GIT, *IMAGES, *CLUSTERS, "AWS_*", "PULUMI_*")
TESTS = (*OPERATIONS, *PACKAGES, "LAPTOP_HOME", "PYTEST_*", "TEST_BASE_IMAGE", "MLFLOW_VENV")

# The variables of the commands' arguments and options; other programs do not get them.
PARAMETERS = (
    *("STACK", "NAME", "LIKE", "BRANCH", "HOURS", "FROM", "TO", "CONFIRM", "DRY_RUN", "CHANGE", "GATE", "YES"),
    *("AGAINST", "PULL_REQUEST", "BUILT", "PREVIEW", "REFRESH", "FORCE", "ISSUE", "WITHOUT_SECRETS"),
    *("IMAGES", "DOCUMENTS", "PARAMS", "DEMO", "S", "DAG", "KEY", "USER_NAME", "REPOSITORY", "REMOVE", "ROLE"),
    *("NEW_PASSWORD", "FILE"),
)
# Variables of shell completion: https://typer.tiangolo.com/tutorial/options-autocompletion/
COMPLETION = ("_OPS_COMPLETE", "_TYPER_COMPLETE_*", "COMP_*")
COMMANDS = {
    **dict.fromkeys(("up", "down", "clean", "login", "logs", "roll-out"), LAPTOP),
    **dict.fromkeys(("plan", "plan-comment", "scan"), PLAN),
    "gate": TESTS,  # `make gate GATE=tests` runs them
}
CERTIFICATE_FILES = (*CERTIFICATES, "AWS_CA_BUNDLE", "PIP_CERT")
PATHS = (*CERTIFICATE_FILES, "KUBECONFIG", "REGISTRY_AUTH_FILE", "PIP_FIND_LINKS", "UV_FIND_LINKS")
# Many shells do not expand `~` in `make KUBECONFIG=~/file`. These variables may contain several paths.
TILDE = re.compile(r"(?:^|(?<=[:,\s]))~(?=/|$)")
THIS_MACHINE = (LOOPBACK, "localhost")


def allowed(names: Iterable[str]) -> dict[str, str]:
    """Return the variables of this process that are on an allowlist.

    `~` in paths is expanded, variables of missing certificate files are removed, and loopback addresses are excluded
    from proxies.
    """
    patterns = tuple(names)
    found = {name: value for name, value in os.environ.items() if any(fnmatchcase(name, each) for each in patterns)}
    for name in found.keys() & set(PATHS):
        found[name] = TILDE.sub(lambda _: str(Path.home()), found[name])
    for name in CERTIFICATE_FILES:
        if name in found and not any(Path(each).exists() for each in found[name].split(os.pathsep)):
            del found[name]
    direct = found.get("no_proxy") or found.get("NO_PROXY") or ""
    hosts = dict.fromkeys((*filter(None, direct.split(",")), *THIS_MACHINE))
    return {**found, **dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts))}


def enter(names: Iterable[str]) -> None:
    """Remove the variables that are not on an allowlist from this process's environment."""
    _replace(allowed(names))


def enter_command(arguments: Sequence[str]) -> None:
    """Enter the environment of a command, given the arguments of `ops`."""
    command, *others = [each for each in arguments if not each.startswith("-")] or [""]
    names = COMMANDS.get(command, OPERATIONS)
    option = any(each.split("=")[0] == "--stack" for each in arguments)
    with_stack = {"status": bool(others), "run": option, "user": option, "connection": option}
    if command in with_stack and not with_stack[command] and not os.environ.get("STACK"):
        names = LAPTOP
    enter((*names, *PARAMETERS, *COMPLETION))


@contextmanager
def within(names: Iterable[str], **additions: str) -> Iterator[None]:
    """Enter the environment of an allowlist, plus additional variables, until the context exits."""
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
