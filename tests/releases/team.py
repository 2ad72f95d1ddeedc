"""A small team repository: a bare remote, a clone with three stacks, and folders as registries."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from infra.images.errors import ImageError
from infra.release import Chart, Release, ReleasedImage
from ops.console import Echo
from ops.releases.clone import Clone, Move
from ops.releases.images import Images
from ops.releases.ledger import Ledger

BRANCHES = {"dev": "dev", "staging": "staging", "prod": "main"}
BEFORE: Mapping[str, str | None] = {"dev": None, "staging": "dev", "prod": "staging"}
NO_GATES = {"tests": False, "dag_integrity": False}
IMAGES = ("airflow", "ml")
NOW = datetime.now(UTC).replace(microsecond=0)
REVISIONS = {"alembic_version": "a1", "mlflow": "m1"}

DAG = """
from airflow.sdk import DAG
with DAG("{name}", schedule={schedule!r}):
    pass
"""
# Prints resources.json instead of a plan.
PLAN = """
import json, pathlib, sys
found = json.loads(pathlib.Path("resources.json").read_text())
print(json.dumps({"project": "airflow", "stack": sys.argv[2], "exports": {}, **found}))
"""


@dataclass(frozen=True)
class FolderRegistry:
    """A registry in a folder, which survives a killed process."""

    folder: Path

    def repository(self, image: str) -> str:
        return f"{self.folder.name}.example/{image}"

    def digest(self, image: str, tag: str) -> str | None:
        file = self.folder / f"{image}:{tag}"
        return file.read_text() if file.exists() else None

    def has_digest(self, image: str, digest: str) -> bool:
        return any(file.read_text() == digest for file in self.folder.glob(f"{image}:*"))

    def put(self, image: str, tag: str, digest: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{image}:{tag}").write_text(digest)


def copy(source: Any, target: Any, image: ReleasedImage, name: str, echo: Echo) -> ReleasedImage:
    assert source.has_digest(name, image.digest)
    target.put(name, image.tag, image.digest)
    return image.model_copy(update={"repository": target.repository(name)})


def verify(image: ReleasedImage, signed_by: str) -> None:
    if signed_by not in image.tag:
        raise ImageError(f"{image.repository} bears no signature by {signed_by}")


def digest_of(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True)
class Team:
    """The team's folders: `origin.git`, `clone`, and `registries/<stack>`."""

    folder: Path

    @property
    def remote(self) -> Path:
        return self.folder / "origin.git"

    @property
    def clone(self) -> Clone:
        return Clone(self.folder / "clone")

    @property
    def images(self) -> Images:
        return Images(lambda stack, _: self.registry(stack), copy, verify)

    def registry(self, stack: str) -> FolderRegistry:
        return FolderRegistry(self.folder / "registries" / stack)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        command = ["git", "-C", str(folder or self.clone.folder), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None], message: str = "Change", *, push: str | None = "dev") -> str:
        """Commit files, where None deletes a file, and push to a branch; return the commit."""
        for name, text in files.items():
            path = self.clone.folder / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        if push:
            self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{push}")
        return self.git("rev-parse", "HEAD")

    def gates(self, stack: str, gates: Mapping[str, Any], **release: Any) -> str:
        """Commit new gates for a stack."""
        return self.commit({f"Pulumi.{stack}.yaml": stack_file(stack, gates, **release)})

    def head(self, branch: str) -> str | None:
        """Return the commit of a remote branch."""
        found = self.git("ls-remote", "origin", f"refs/heads/{branch}")
        return found.split()[0] if found else None

    def record(self, stack: str) -> Release | None:
        return Ledger(self.clone).release(stack)

    def release(self, stack: str = "dev", commit: str | None = None, **changes: Any) -> Release:
        """Record a release for a stack, as the pipeline does; return the record."""
        commit = commit or self.git("rev-parse", "HEAD")
        images = {}
        for name in IMAGES:
            image = ReleasedImage(
                repository=self.registry(stack).repository(name), tag=commit[:16], digest=digest_of(f"{name} {commit}")
            )
            self.registry(stack).put(name, image.tag, image.digest)
            images[name] = image
        release = Release(
            stack=stack,
            commit=commit,
            dags=self.git("rev-parse", f"{commit}:dags"),
            chart=Chart(version="1.22.0", sha256="0" * 64),
            airflow_version="3.3.2",
            database_revisions=REVISIONS,
            images=images,
            recorded_at=NOW,
            deployed_at=NOW - timedelta(hours=1),
        ).model_copy(update=changes)
        ledger = Ledger(self.clone, BRANCHES[stack])
        head = ledger.heads.get(BRANCHES[stack])
        move = None if head == commit else Move(BRANCHES[stack], head, commit)
        ledger.put_release(release, ledger.release(stack), f"{release.short} runs in {stack}", move)
        return release


def stack_file(stack: str, gates: Mapping[str, Any], **release: Any) -> str:
    if after := BEFORE[stack]:
        release = {"after": after, "gates": {**NO_GATES, **gates}, **release}
    config = {
        "contexts": ["kind-test"],
        "namespace": f"airflow-{stack}",
        "registry": f"{stack}.example",
        "dags": {"repository": "https://git.example/team.git", "branch": BRANCHES[stack]},
        "release": release,
        "tasks": {"max_pods": 4, "max_cpus": 4, "max_memory_gib": 4},
    }
    return yaml.safe_dump({"config": {f"airflow:{key}": value for key, value in config.items()}})


def make_team(folder: Path) -> Team:
    """Create the repository with a first commit on dev."""
    team = Team(folder)
    subprocess.run(["git", "init", "--quiet", "--bare", str(team.remote)], check=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=dev", str(team.clone.folder)], check=True)
    team.git("remote", "add", "origin", str(team.remote))
    team.commit(
        {
            **{f"Pulumi.{stack}.yaml": stack_file(stack, {}) for stack in BRANCHES},
            ".gitignore": "__pycache__/\n",
            "dags/hello/hello_dag.py": DAG.format(name="hello", schedule="@daily"),
            "helm-values/airflow.yaml": "scheduler: {replicas: 1}\n",
            "requirements/airflow.txt": "apache-airflow==3.3.2\n",
            "Makefile": "test:\n\t@test ! -e broken\n",
            "infra/__init__.py": "",
            "ops/plan/__init__.py": "",
            "ops/__main__.py": PLAN,
            "resources.json": resources(),
        },
        "Begin",
    )
    return team


def resources(*names: str, region: str = "us-east-1") -> str:
    """The plan's resources: NAT gateways, which each have a cost."""
    gateway = "aws:ec2/natGateway:NatGateway"
    stack: dict[str, Any] = {"urn": "stack", "type": "pulumi:pulumi:Stack", "name": "airflow", "custom": False}
    gateways = [{"urn": f"urn::{name}", "type": gateway, "name": name, "parent": "stack"} for name in names]
    found: list[dict[str, Any]] = [{"inputs": {}, "dependencies": [], **resource} for resource in (stack, *gateways)]
    return json.dumps({"region": region, "resources": found})


def environment() -> dict[str, str]:
    """An environment for Git without the machine's configuration, and without what keeps a large repository fast."""
    people = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in PERSON.items()}
    settings = {"GIT_CONFIG_COUNT": str(len(UNMAINTAINED))}
    for index, (key, value) in enumerate(UNMAINTAINED.items()):
        settings |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    closed = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**closed, **settings, **people}


PERSON = {"NAME": "Ada", "EMAIL": "ada@example.org"}
# Git's defaults start a program after every commit, fetch and push, and write each object through to the disk.
UNMAINTAINED = {"maintenance.auto": "false", "receive.autogc": "false", "core.fsync": "none"}
