"""The folder that holds everything the laptop mode stores: data, logs, ports and generated secrets."""

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
        root: The absolute path of the folder. It is created on first use and closed to other users.
    """

    root: Path

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs, one file per process."""
        return self.root / "logs"

    @property
    def records(self) -> Path:
        """The folder of the records of running processes, one JSON file per process."""
        return self.root / "processes"

    @property
    def database(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "postgres"

    @property
    def objects(self) -> Path:
        """The S3 server's data directory."""
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
        """The folder of the last run's pictures and report."""
        return self.root / "results"

    @cached_property
    def secrets(self) -> "Secrets":
        """The generated secrets, created on first use."""
        path = self.root / "secrets.json"
        kept = read_json(path, dict[str, str]) if path.exists() else {}
        # A home created by an earlier version may lack some of them.
        wanted = Secrets.generate().__dict__ | kept
        if wanted != kept:
            write_atomically(path, json.dumps(wanted), mode=0o600)
        return read_json(path, Secrets)

    def check(self) -> None:
        """Refuse a folder that is not a home, or to which another user may write.

        The records in a home decide which processes `make down` stops, and `make clean` deletes the whole folder.

        Raises:
            OperationError: The folder, or one of its parents, is not safe to use.
        """
        path = printable(self.root)
        if path != str(self.root):
            raise OperationError(f"LAPTOP_HOME={path} is not printable UTF-8: choose another folder")
        if os.path.expandvars(path) != path:
            raise OperationError(
                f"LAPTOP_HOME={path} contains a variable that Airflow would expand: choose another folder"
            )
        with self.writing():
            for folder in (self.root, self.records):
                if folder.exists():
                    require_own(folder)
            for folder in self.root.parents:
                if folder in (REPOSITORY, *REPOSITORY.parents):
                    break  # A user who can replace these can also replace this program.
                if folder.exists():
                    require_safe_parent(folder)
            found = {path.name for path in self.root.iterdir()} if self.root.exists() else set()
            if found - {"lock", "ports.json"} and self.records.name not in found:
                raise OperationError(
                    f"LAPTOP_HOME={self.root} has files that `make up` did not create: choose a new or empty folder"
                )

    def create(self) -> None:
        """Create the folders.

        Raises:
            OperationError: The home is not writable.
        """
        with self.writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The first folder marks this folder as a home.
            for folder in (self.records, self.logs, self.objects, self.airflow, self.mlflow, self.results):
                folder.mkdir(mode=0o700, exist_ok=True)

    def close(self, traversing_group: int | None) -> None:
        """Close the folder to other users.

        Args:
            traversing_group: The id of a group whose members may traverse but not list the home, or None.
        """
        if traversing_group is not None:
            os.chown(self.root, -1, traversing_group)
        self.root.chmod(0o700 if traversing_group is None else 0o710)

    def delete(self) -> None:
        """Delete the folder and its content; the marker of a home is deleted last."""
        for path in self.root.iterdir():
            if path.is_dir() and not path.is_symlink():
                if path != self.records:
                    shutil.rmtree(path)
            else:
                path.unlink()
        shutil.rmtree(self.root)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an OSError about this folder, such as a full disk, into an OperationError.

        Raises:
            OperationError: The home is not writable.
            OSError: The error concerns another path.
        """
        try:
            yield
        except OSError as error:
            path = Path(str(error.filename))
            here = path.is_relative_to(self.root) or path in self.root.parents
            if not here and error.errno not in DISK_ERRORS:
                raise
            raise OperationError(
                f"{self.root} cannot be written ({os.strerror(error.errno or 0)}): make it writable, or set "
                "LAPTOP_HOME to another folder"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the home, so that one command at a time changes it.

        Raises:
            OperationError: Another command holds the lock, or the home is not writable.
        """
        path = self.root / "lock"
        with self.writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = path.open("w")
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OperationError(
                    f"another command is at work on {self.root}: wait until it has finished"
                ) from error
            yield


@dataclass(frozen=True)
class Secrets:
    """Passwords and keys, generated once per home and passed to processes only in their environment."""

    postgres: str
    airflow_database: str
    mlflow_database: str
    features_database: str
    features_serving: str
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
        """Generate new secrets from the operating system's random source."""
        return cls(
            postgres=secrets.token_urlsafe(24),
            airflow_database=secrets.token_urlsafe(24),
            mlflow_database=secrets.token_urlsafe(24),
            features_database=secrets.token_urlsafe(24),
            features_serving=secrets.token_urlsafe(24),
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
    """Write a file so that readers see either the old or the new content, never a part of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
