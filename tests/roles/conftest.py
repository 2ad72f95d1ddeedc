"""The recording of a preview environment of `dev`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from infra.previews.settings import PreviewSettings, text_of
from ops.plan.cloud import ACCOUNT
from ops.plan.recording import record
from ops.plan.resources import Recording
from tests.recordings import recorded

BOUNDARY, PREVIEW_BOUNDARY = (f"arn:aws:iam::{ACCOUNT}:policy/{name}" for name in ("boundary", "preview-boundary"))


def pytest_configure(config: pytest.Config) -> None:
    # Pulumi's deprecated classes warn on import, even if they are not used.
    config.addinivalue_line("filterwarnings", "ignore:.* has been deprecated in favor of:DeprecationWarning")


@pytest.fixture(scope="session")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    root = tmp_path_factory.mktemp("project")
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (root / name).write_text((REPOSITORY / name).read_text())
    with (root / "Pulumi.dev.yaml").open("a") as file:
        file.write(f"  airflow:permissions_boundary: {BOUNDARY}\n")
        file.write(f"  airflow:preview_permissions_boundary: {PREVIEW_BOUNDARY}\n")
    (root / "infra").symlink_to(REPOSITORY / "infra")
    expires = datetime(2026, 11, 21, tzinfo=UTC)
    settings = PreviewSettings(base="dev", branch="feature/x", owner="Ada", expires_at=expires)
    (Path(root) / f"Pulumi.{settings.stack}.yaml").write_text(text_of(settings, ""))
    return record(settings.stack, root, base=recorded("dev"))
