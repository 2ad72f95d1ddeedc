"""The folder in which the laptop mode keeps everything: data, logs, ports and generated secrets."""

import base64
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from infra.documents import REPOSITORY, read_json
from infra.errors import OperationError
from ops.laptop.ownership import require_own, require_safe_parent
from ops.paths import printable

DEFAULT_HOME = REPOSITORY / ".laptop"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(frozen=True)
class Home:
    """The layout of the home folder.

    Attributes:
        root: The folder itself, an absolute path; created on first use, closed to other users.
    """

    root: Path

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs, one file each."""
        return self.root / "logs"

    @property
    def records(self) -> Path:
        """The folder of the records of running processes, one JSON file each."""
        return self.root / "processes"

    @property
    def database(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "postgres"

    @property
    def objects(self) -> Path:
        """The S3 server's data directory: a folder for each bucket."""
        return self.root / "s3"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / "airflow"

    @property
    def mlflow(self) -> Path:
        """MLflow's temporary files."""
        return self.root / "mlflow"

    @property
    def results(self) -> Path:
        """The folder into which the pictures and the report of the last run are written."""
        return self.root / "results"

    @cached_property
    def secrets(self) -> "Secrets":
        """The generated secrets, made on first use and kept."""
        path = self.root / "secrets.json"
        kept = read_json(path, dict[str, str]) if path.exists() else {}
        # A home may be older than some of them.
        wanted = Secrets.generate().__dict__ | kept
        if wanted != kept:
            write_atomically(path, json.dumps(wanted), mode=0o600)
        return read_json(path, Secrets)

    def check(self) -> None:
        """Refuse a folder that is not a home, and one into which another user may have put files.

        The records of a home decide which processes `make down` ends, and `make clean` deletes all of it.

        Raises:
            OperationError: What is wrong with the folder, or with one on the way to it.
        """
        path = printable(self.root)
        if path != str(self.root):
            raise OperationError(f"LAPTOP_HOME={path} is not plain UTF-8: name another folder")
        if os.path.expandvars(path) != path:
            raise OperationError(f"LAPTOP_HOME={path} has a variable that Airflow would expand: name another folder")
        with self.writing():
            for folder in (self.root, self.records):
                if folder.exists():
                    require_own(folder)
            for folder in self.root.parents:
                if folder in (REPOSITORY, *REPOSITORY.parents):
                    break  # A user who may replace these may replace this program too.
                if folder.exists():
                    require_safe_parent(folder)
            found = {path.name for path in self.root.iterdir()} if self.root.exists() else set()
            if found - {"lock", "ports.json"} and self.records.name not in found:
                raise OperationError(
                    f"LAPTOP_HOME={self.root} has files that `make up` did not create: name a new or an empty folder"
                )

    def create(self) -> None:
        """Make the folders.

        Raises:
            OperationError: The folder cannot be written.
        """
        with self.writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The first of them makes the folder a home.
            for folder in (self.records, self.logs, self.objects, self.airflow, self.mlflow, self.results):
                folder.mkdir(mode=0o700, exist_ok=True)

    def close(self, passing_group: int | None) -> None:
        """Keep other users out; the members of a group may pass on to what is open to them, but list nothing."""
        if passing_group is not None:
            os.chown(self.root, -1, passing_group)
        self.root.chmod(0o700 if passing_group is None else 0o710)

    def delete(self) -> None:
        """Delete the folder with all that is in it, so that it stays a home until everything else is gone."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                if path != self.records:
                    shutil.rmtree(path)
            else:
                path.unlink()
        shutil.rmtree(self.root)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one sentence why nothing can be written here, such as a full disk.

        Raises:
            OperationError: That sentence; an error that has nothing to do with this folder is passed on.
        """
        try:
            yield
        except OSError as error:
            path = Path(str(error.filename))
            here = path.is_relative_to(self.root) or path in self.root.parents
            if not here and error.errno not in DISK_ERRORS:
                raise
            raise OperationError(
                f"{self.root} cannot be written ({os.strerror(error.errno or 0)}): make it writable, or name another "
                "folder with LAPTOP_HOME"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one command at a time.

        Raises:
            OperationError: Another command holds it, or it cannot be written.
        """
        path = self.root / "lock"
        with self.writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = path.open("w")
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OperationError(f"another command is at work on {self.root}: wait until it has ended") from error
            yield


@dataclass(frozen=True)
class Secrets:
    """Passwords and keys, generated once for each home. They reach processes through their environment only."""

    postgres: str
    airflow_database: str
    mlflow_database: str
    mlflow_admin: str
    mlflow_tasks: str
    mlflow_serving: str
    s3_access_key: str
    s3_secret_key: str
    admin: str
    fernet_key: str
    jwt: str
    api: str

    @classmethod
    def generate(cls) -> "Secrets":
        """Make new ones from the system's source of randomness."""
        return cls(
            postgres=secrets.token_urlsafe(24),
            airflow_database=secrets.token_urlsafe(24),
            mlflow_database=secrets.token_urlsafe(24),
            mlflow_admin=secrets.token_urlsafe(12),
            mlflow_tasks=secrets.token_urlsafe(24),
            mlflow_serving=secrets.token_urlsafe(24),
            s3_access_key="AKIA" + secrets.token_hex(8).upper(),
            s3_secret_key=secrets.token_hex(20),
            admin=secrets.token_urlsafe(12),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            jwt=secrets.token_urlsafe(48),
            api=secrets.token_urlsafe(32),
        )


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
