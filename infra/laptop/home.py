"""The folder in which the laptop mode keeps everything: data, logs, ports and generated secrets."""

import base64
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

from infra.errors import OperationError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_HOME = REPOSITORY / ".laptop"


@dataclass(frozen=True)
class Home:
    """The layout of the home folder.

    Attributes:
        root: The folder itself; created on first use, readable by its owner alone.
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
    def results(self) -> Path:
        """The folder into which the pictures and the report of the last run are written."""
        return self.root / "results"

    @cached_property
    def secrets(self) -> "Secrets":
        """The generated secrets, made on first use and kept."""
        path = self.root / "secrets.json"
        if not path.exists():
            write_atomically(path, json.dumps(Secrets.generate().__dict__), mode=0o600)
        return Secrets(**json.loads(path.read_text()))

    def create(self) -> None:
        """Make the folders.

        Raises:
            OperationError: The folder cannot be written.
        """
        try:
            # Searchable by others, because PostgreSQL runs as a user of its own where this runs as root.
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.logs, self.records, self.objects, self.airflow, self.results):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise OperationError(
                f"{self.root} cannot be written ({error.strerror}): choose another folder with HOME_DIR"
            ) from error

    def delete(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.root, ignore_errors=False)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one command at a time.

        Raises:
            OperationError: Another command holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "lock"
        with path.open("w") as file:
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
