"""Run a stack's Pulumi program without an engine or a cloud, and return every resource that it registers."""

import asyncio
import contextvars
import json
import logging
import os
import runpy
import tempfile
from collections.abc import Iterator, Mapping
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
    """What is read of Pulumi.yaml: the project's name, and the folder of its program."""

    name: str
    main: str = "."


class StackFile(BaseModel):
    """What is read of a stack file."""

    config: dict[str, Any] | None = None


def stacks(root: Path = REPOSITORY) -> list[str]:
    """Return the names of the stacks that have settings."""
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
    """Run the program under `root` with the settings of its `Pulumi.<stack>.yaml`, and return what it registered.

    It needs no Pulumi CLI, no network and no credentials, and sees no AWS, Pulumi or Kubernetes setting of the user's.
    Secrets are masked, unless `reveal` asks for them as they are. The images are those of the release whose record is
    in `release_file`, if one is given. A preview environment takes the outputs of its base, which is recorded, too, if
    it is not given.

    Raises:
        OperationError: There is no such stack, or a file of the project cannot be read.
        Exception: Whatever the program itself raises, such as a mistake in the settings.
    """
    project = read_yaml(root / "Pulumi.yaml", Project)
    config, secret_keys = engine_config(project.name, _config(root, stack))
    place, stacks = config, {}
    # A preview environment is where its base is, and refers to it.
    if base_stack := config.get(f"{project.name}:base"):
        place, _ = engine_config(project.name, _config(root, base_stack))
        stacks = {base_stack: (base or record(base_stack, root)).exports}
    region = place.get("aws:region", "")
    contexts = json.loads(place.get(f"{project.name}:contexts", "[]"))
    account = place.get(f"{project.name}:account_id", ACCOUNT)
    recorder = Recorder(account, region, reveal=reveal, stacks=stacks)

    def run() -> None:
        settings = mocks.MockSettings(  # type: ignore[no-untyped-call]
            monitor=recorder,
            engine=mocks.MockEngine(logging.getLogger(__name__)),
            project=project.name,
            stack=stack,
            dry_run=False,
            organization="organization",
            root_directory=str(root),
            monitor_features=set(),
            callbacks=None,
        )
        pulumi.runtime.configure(settings)
        pulumi.runtime.set_all_config(config, secret_keys)
        environment = {RELEASE_FILE: str(release_file)} if release_file else {}
        with _fresh_event_loop() as loop, within(PLAN, **environment), _invented_cluster(contexts):
            loop.run_until_complete(pulumi.runtime.run_in_stack(program))

    def program() -> None:
        runpy.run_path(str(root / project.main / "__main__.py"), run_name="__main__")

    # A context of its own: Pulumi keeps its settings, its configuration and the stack in context variables.
    contextvars.Context().run(run)
    return Recording(project.name, stack, region, recorder.resources_by_urn(), recorder.exports)


def _config(root: Path, stack: str) -> Mapping[str, Any]:
    file = root / f"Pulumi.{stack}.yaml"
    if not file.exists():
        known = ", ".join(stacks(root))
        raise OperationError(f"{file.name} does not exist: choose one of the stacks {known}")
    return read_yaml(file, StackFile, empty=StackFile()).config or {}


def engine_config(project: str, settings: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return a stack file's `config` as the engine hands it to a program, and the keys that are secret.

    What is not text is handed over as JSON; a key without a namespace is the project's; an encrypted value is masked.
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
def _invented_cluster(contexts: list[str]) -> Iterator[None]:
    """Let a program find a cluster, by the first name that its settings allow."""
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
