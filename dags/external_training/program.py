"""The archive of fit.py and the modules that it imports, which Python runs as a program."""

from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from ml_common import content_keys
from ml_common.object_store import artifacts_bucket

DAGS = Path(__file__).parents[1]
MAIN = "external_training/fit.py"
MODULES = (
    *(f"{package}/__init__.py" for package in ("flight_features", "flight_model", "ml_common")),
    "flight_features/columns.py",
    "flight_model/candidates.py",
    "flight_model/models.py",
    "ml_common/errors.py",
)
FILE = "fit.pyz"


def archive() -> bytes:
    """Return the archive; the same code gives the same bytes."""
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as target:
        for name, source in {"__main__.py": MAIN, **dict(zip(MODULES, MODULES, strict=True))}.items():
            target.writestr(ZipInfo(name), (DAGS / source).read_bytes(), ZIP_DEFLATED)
    return file.getvalue()


def upload(dag_id: str) -> str:
    """Store the archive of the current code in the artifacts bucket, and return its address."""
    bucket = artifacts_bucket()
    version = content_keys.code_version([DAGS / name for name in (MAIN, *MODULES)])
    key = f"{dag_id}/programs/{version}/{FILE}"
    if not bucket.exists(key):
        bucket.put(key, archive())
    return bucket.uri(key)
