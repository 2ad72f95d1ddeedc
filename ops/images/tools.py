"""A common interface for the programs that build images: Docker, Podman and Buildah."""

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

# The timestamp of files and images, in seconds since 1970, so that the same sources produce the same image.
TIMESTAMP = 0

# The path of each tool's image store in the JSON output of `<tool> info`.
STORES: Mapping[str, tuple[str, ...]] = {
    "docker": ("DockerRootDir",),
    "podman": ("store", "graphRoot"),
    "buildah": ("store", "GraphRoot"),
}


@dataclass(frozen=True)
class Tool:
    """A program that builds images.

    Podman and Buildah set the time of every file, so they build the same layers from the same packages, except for some
    bytecode files that Python writes differently when it compiles in parallel. Docker sets the time of the image but
    not of the files that a command writes, so its layers differ between builds.
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
        """Build an image, and show the tool's output.

        Raises:
            ImageError: It cannot be built.
        """
        build_arguments = {"SOURCE_DATE_EPOCH": str(TIMESTAMP), **arguments} if self.name == "docker" else arguments
        command = ["build", "--tag", image, "--file", str(dockerfile)]
        command += [] if self.name == "docker" else ["--timestamp", str(TIMESTAMP), "--layers"]
        command += ["--platform", f"linux/{architecture}"] if architecture else []
        command += [word for name, value in build_arguments.items() for word in ("--build-arg", f"{name}={value}")]
        command += shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
        if self._run(*command, str(context)) != 0:
            raise ImageError(
                f"{image} could not be built (see {self.name}'s output above): fix the cause, or set IMAGE_BUILD_ARGS "
                "to the options that this network needs, such as --network host"
            )

    def has(self, image: str) -> bool:
        """Return whether an image is in the tool's store."""
        return self._capture("inspect", "--type", "image", image).returncode == 0

    def save(self, image: str, archive: Path) -> None:
        """Write an image to an archive in Docker's format.

        Raises:
            ImageError: The archive cannot be written.
        """
        commands: Mapping[str, Sequence[str]] = {
            "docker": ("save", "--output", str(archive), image),
            "podman": ("save", "--format", "docker-archive", "--output", str(archive), image),
            "buildah": ("push", image, f"docker-archive:{archive}:{image}"),
        }
        if self._run(*commands[self.name]) != 0:
            raise ImageError(
                f"{image} could not be written to {archive} (see {self.name}'s output above): free some space, or set "
                "TMPDIR to another folder"
            )

    def log_in(self, registry: str, user: str, password: str) -> None:
        """Log in to a registry, without exposing the password to other processes.

        Raises:
            ImageError: The registry rejects the login or does not answer.
        """
        command = [self.name, "login", "--username", user, "--password-stdin", registry]
        if subprocess.run(command, input=password, text=True, check=False).returncode != 0:
            raise ImageError(
                f"{self.name} could not log in to {registry} (see its output above): check that this machine reaches it"
            )

    def push(self, image: str) -> str:
        """Push an image to its registry, and return its digest there.

        Docker uses HTTP for a registry on this machine by default; the other tools need an option.

        Raises:
            ImageError: The registry rejects the image or does not answer.
        """
        with TemporaryDirectory(prefix="push-") as folder:
            file = Path(folder, "digest")
            options = [] if self.name == "docker" else ["--digestfile", str(file)]
            options += ["--tls-verify=false"] if is_loopback(image) and self.name != "docker" else []
            if self._run("push", *options, image) != 0:
                raise ImageError(
                    f"{image} could not be pushed (see {self.name}'s output above): check that this machine reaches "
                    "the registry, then rerun this command"
                )
            return file.read_text().strip() if file.exists() else self._pushed_digest(image)

    def store(self) -> Path | None:
        """Return the folder of the tool's store, or None if it is on another machine, as with Docker Desktop."""
        as_json = () if self.name == "buildah" else ("--format", "{{json .}}")
        found = json.loads(self._capture("info", *as_json).stdout)
        for key in STORES[self.name]:
            found = found[key]
        folder = Path(found)
        return folder if folder.is_dir() else None

    def works(self) -> bool:
        """Return whether the tool is installed and its server, if it needs one, is running."""
        return shutil.which(self.name) is not None and self._capture("info").returncode == 0

    def _pushed_digest(self, image: str) -> str:
        """Return the digest that Docker records for a pushed image."""
        repository = image.rpartition(":")[0]
        answer = self._capture("inspect", "--format", "{{json .RepoDigests}}", image)
        for name in json.loads(answer.stdout or "[]"):
            if name.startswith(f"{repository}@"):
                return str(name.partition("@")[2])
        raise ImageError(f"Docker recorded no digest of {image} after its push: see `docker inspect {image}`")

    def _run(self, *arguments: str) -> int:
        return subprocess.run([self.name, *arguments], check=False).returncode

    def _capture(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.name, *arguments], check=False, capture_output=True, text=True)


def available_tool() -> Tool:
    """Return the program in BUILDER, else the first of Docker, Podman and Buildah that works.

    Raises:
        ImageError: No program works.
    """
    wanted = os.environ.get("BUILDER")
    if wanted and wanted not in TOOLS:
        raise ImageError(f"BUILDER={wanted} is not supported: set it to one of {', '.join(TOOLS)}")
    for tool in map(Tool, [wanted] if wanted else TOOLS):
        if tool.works():
            return tool
    reason = f"{wanted} does not work" if wanted else "none of Docker, Podman and Buildah works"
    raise ImageError(
        f"{reason} on this machine, so no image can be built: install or start one of them, and check that "
        "`docker info` (or podman's, or buildah's) succeeds"
    )
