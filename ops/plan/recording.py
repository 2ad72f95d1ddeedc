"""Run a stack's Pulumi program without an engine or a cloud, and record the resources that it registers."""

import asyncio
import contextvars
import json
import logging
import os
import runpy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks
from pydantic import BaseModel

from infra.documents import REPOSITORY, read_yaml
from infra.errors import OperationError
from infra.images.pinned import RELEASE_FILE
from infra.preview_names import is_preview
from ops.plan.cloud import ACCOUNT
from ops.plan.recorder import Recorder
from ops.plan.resources import SECRET, Recording, Resource
from ops.process_environment import PLAN, within

__all__ = ["Recording", "Resource", "record"]


class Project(BaseModel):
    """The fields of Pulumi.yaml in use: the project's name and the folder of its program."""

    name: str
    main: str = "."


class StackFile(BaseModel):
    """The fields of a stack file in use."""

    config: dict[str, Any] | None = None


def stacks(root: Path = REPOSITORY) -> list[str]:
    """Return the names of the stacks that have a stack file, without previews."""
    names = (path.name.split(".")[1] for path in root.glob("Pulumi.*.yaml"))
    return sorted(name for name in names if not is_preview(name))


def record(
    stack: str,
    root: Path = REPOSITORY,
    *,
    reveal: bool = False,
    release_file: Path | None = None,
    base: Recording | None = None,
) -> Recording:
    """Run the program under `root` with the settings in `Pulumi.<stack>.yaml`, and return the registered resources.

    The program needs no Pulumi CLI, network or credentials. It does not see the user's AWS, Pulumi and Kubernetes
    settings.

    Args:
        stack: The name of the stack.
        root: The folder of the project.
        reveal: Whether to record secrets in plain text instead of masking them.
        release_file: The record of the release whose images the stack runs, if any.
        base: The recording of a preview environment's base stack, whose outputs it uses; recorded if it is missing.

    Raises:
        OperationError: The stack does not exist, or a file of the project cannot be read.
        Exception: Raised by the program, for example because of invalid settings.
    """
    project = read_yaml(root / "Pulumi.yaml", Project)
    config, secret_keys = engine_config(project.name, _config(root, stack))
    location, stacks = config, {}
    # A preview environment is in the account, region or cluster of its base, and refers to its outputs.
    if base_stack := config.get(f"{project.name}:base"):
        location, _ = engine_config(project.name, _config(root, base_stack))
        stacks = {base_stack: (base or record(base_stack, root)).exports}
    region = location.get("aws:region", "")
    contexts = json.loads(location.get(f"{project.name}:contexts", "[]"))
    account = location.get(f"{project.name}:account_id", ACCOUNT)
    recorder = Recorder(account, region, reveal=reveal, stacks=stacks)

    def program() -> None:
        runpy.run_path(str(root / project.main / "__main__.py"), run_name="__main__")

    environment = {RELEASE_FILE: str(release_file)} if release_file else {}
    with within(PLAN, **environment), _mock_kubeconfig(contexts):
        return record_program(program, recorder, project.name, stack, root, (config, secret_keys))


def record_program(
    program: Callable[[], None],
    recorder: Recorder,
    project: str,
    stack: str,
    root: Path = REPOSITORY,
    config: tuple[dict[str, str], list[str]] = ({}, []),
) -> Recording:
    """Run a program, and return the registered resources.

    Args:
        program: The program.
        recorder: Records its requests.
        project: The name of the project.
        stack: The name of the stack.
        root: The folder of the project.
        config: The configuration as the engine passes it, and the secret keys in it.
    """

    def run() -> None:
        settings = mocks.MockSettings(  # type: ignore[no-untyped-call]
            monitor=recorder,
            engine=mocks.MockEngine(logging.getLogger(__name__)),
            project=project,
            stack=stack,
            dry_run=False,
            organization="organization",
            root_directory=str(root),
            monitor_features=set(),
            callbacks=None,
        )
        pulumi.runtime.configure(settings)
        pulumi.runtime.set_all_config(*config)
        with _fresh_event_loop() as loop:
            loop.run_until_complete(pulumi.runtime.run_in_stack(program))

    # Use a separate context: Pulumi stores its settings, its configuration and the stack in context variables.
    contextvars.Context().run(run)
    return Recording(project, stack, recorder.cloud.region, recorder.resources_by_urn(), recorder.exports)


def _config(root: Path, stack: str) -> Mapping[str, Any]:
    file = root / f"Pulumi.{stack}.yaml"
    if not file.exists():
        known = ", ".join(stacks(root))
        raise OperationError(f"{file.name} does not exist: choose one of the stacks {known}")
    return read_yaml(file, StackFile, empty=StackFile()).config or {}


def engine_config(project: str, settings: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return a stack file's `config` as the engine passes it to a program, and the secret keys.

    Values other than text become JSON. Keys without a namespace get the project's. Encrypted values are masked.
    """
    config, secret_keys = {}, []
    for key, value in settings.items():
        name = key if ":" in key else f"{project}:{key}"
        if isinstance(value, dict) and value.keys() == {"secure"}:
            config[name] = SECRET
            secret_keys.append(name)
        else:
            config[name] = value if isinstance(value, str) else json.dumps(value)
    return config, secret_keys


@contextmanager
def _fresh_event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextmanager
def _mock_kubeconfig(contexts: list[str]) -> Iterator[None]:
    """Set KUBECONFIG to a mock cluster whose context is the first one that the settings allow."""
    name = (contexts or ["plan"])[0].replace("*", "plan")
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": "https://cluster.invalid"}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(kubeconfig, file)
        os.environ["KUBECONFIG"] = file.name
        try:
            yield
        finally:
            del os.environ["KUBECONFIG"]
