"""The programs that build images, so that one is as good as another: Docker, Podman and Buildah."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.images.errors import ImageError
from ops.images.login import is_loopback

TOOLS = ("docker", "podman", "buildah")

# The moment that files and images are from, in seconds since 1970, so that the same sources give the same image.
TIMESTAMP = 0

# Where each keeps its images, in what `<tool> info` prints as JSON.
STORES: Mapping[str, tuple[str, ...]] = {
    "docker": ("DockerRootDir",),
    "podman": ("store", "graphRoot"),
    "buildah": ("store", "GraphRoot"),
}


@dataclass(frozen=True)
class Tool:
    """One of the programs.

    Podman and Buildah set every file's time, and so build the same layers again from the same packages, but for the odd
    file of bytecode: Python writes some differently when it compiles several at once. Docker sets the image's time but
    leaves the files that a command writes theirs, so its layers differ from build to build.
    """

    name: str

    def build(
        self,
        image: str,
        context: Path,
        dockerfile: Path,
        arguments: Mapping[str, str],
        architecture: str | None,
    ) -> None:
        """Build an image, showing the tool's own words.

        Raises:
            ImageError: It cannot be built.
        """
        given = {"SOURCE_DATE_EPOCH": str(TIMESTAMP), **arguments} if self.name == "docker" else arguments
        command = ["build", "--tag", image, "--file", str(dockerfile)]
        command += [] if self.name == "docker" else ["--timestamp", str(TIMESTAMP), "--layers"]
        command += ["--platform", f"linux/{architecture}"] if architecture else []
        command += [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
        command += shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
        if self._run(*command, str(context)) != 0:
            raise ImageError(
                f"{image} could not be built ({self.name}'s own words are above): mend what they name, or say in "
                "IMAGE_BUILD_ARGS what this network needs, such as --network host"
            )

    def has(self, image: str) -> bool:
        """Say whether an image is in the tool's store."""
        return self._asks("inspect", "--type", "image", image).returncode == 0

    def save(self, image: str, archive: Path) -> None:
        """Write an image into an archive of Docker's format.

        Raises:
            ImageError: There is no room for it.
        """
        commands: Mapping[str, Sequence[str]] = {
            "docker": ("save", "--output", str(archive), image),
            "podman": ("save", "--format", "docker-archive", "--output", str(archive), image),
            "buildah": ("push", image, f"docker-archive:{archive}:{image}"),
        }
        if self._run(*commands[self.name]) != 0:
            raise ImageError(
                f"{image} could not be written to {archive} ({self.name}'s own words are above): free some space, or "
                "name another folder in TMPDIR"
            )

    def log_in(self, registry: str, user: str, password: str) -> None:
        """Log in at a registry; no other process sees the password.

        Raises:
            ImageError: The registry refuses, or does not answer.
        """
        command = [self.name, "login", "--username", user, "--password-stdin", registry]
        if subprocess.run(command, input=password, text=True, check=False).returncode != 0:
            raise ImageError(
                f"{self.name} could not log in at {registry} (its own words are above): check that this machine "
                "reaches it"
            )

    def push(self, image: str) -> str:
        """Bring an image to its registry and return its digest there.

        Docker knows by itself that a registry on this machine speaks HTTP.

        Raises:
            ImageError: The registry refuses, or does not answer.
        """
        with TemporaryDirectory(prefix="push-") as folder:
            file = Path(folder, "digest")
            options = [] if self.name == "docker" else ["--digestfile", str(file)]
            options += ["--tls-verify=false"] if is_loopback(image) and self.name != "docker" else []
            if self._run("push", *options, image) != 0:
                raise ImageError(
                    f"{image} could not be pushed (see {self.name}'s output above): check that this machine reaches "
                    "the registry, then run the same command again"
                )
            return file.read_text().strip() if file.exists() else self._pushed_digest(image)

    def store(self) -> Path | None:
        """Return the folder of the tool's store, or None where it is on another machine, as Docker Desktop's is."""
        as_json = () if self.name == "buildah" else ("--format", "{{json .}}")
        found = json.loads(self._asks("info", *as_json).stdout)
        for key in STORES[self.name]:
            found = found[key]
        folder = Path(found)
        return folder if folder.is_dir() else None

    def works(self) -> bool:
        """Say whether the tool is installed and, if it needs a server, has one."""
        return shutil.which(self.name) is not None and self._asks("info").returncode == 0

    def _pushed_digest(self, image: str) -> str:
        """Return the digest that Docker notes of an image that it has pushed."""
        repository = image.rpartition(":")[0]
        answer = self._asks("inspect", "--format", "{{json .RepoDigests}}", image)
        for name in json.loads(answer.stdout or "[]"):
            if name.startswith(f"{repository}@"):
                return str(name.partition("@")[2])
        raise ImageError(f"docker notes no digest of {image} after its push: see `docker inspect {image}`")

    def _run(self, *arguments: str) -> int:
        return subprocess.run([self.name, *arguments], check=False).returncode

    def _asks(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.name, *arguments], check=False, capture_output=True, text=True)


def tool_at_hand() -> Tool:
    """Return the program named in BUILDER, else the first of Docker, Podman and Buildah that works.

    Raises:
        ImageError: There is none.
    """
    wanted = os.environ.get("BUILDER")
    if wanted and wanted not in TOOLS:
        raise ImageError(f"BUILDER is {wanted}: name one of {', '.join(TOOLS)}")
    for tool in map(Tool, [wanted] if wanted else TOOLS):
        if tool.works():
            return tool
    raise ImageError(
        f"{wanted or 'none of Docker, Podman and Buildah'} works on this machine, so no image can be built: install or "
        "start one, and see that `docker info` (or podman's, or buildah's) succeeds"
    )
