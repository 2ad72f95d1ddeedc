"""Print, as JSON, the resources of this clone's program for the release that `make deploy` would deploy."""

import sys
import tempfile
from pathlib import Path

import yaml

from infra.settings import load
from ops.plan.recording import record
from ops.releases import deploy_checks
from ops.releases.clone import Clone
from ops.releases.images import REGISTRIES

if __name__ == "__main__":
    stack = sys.argv[1]
    release = deploy_checks.checked_release(Clone(), stack, load(stack), REGISTRIES)
    assert release
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "release.yaml"
        file.write_text(yaml.safe_dump(release.model_dump(mode="json")))
        print(record(stack, reveal=True, release_file=file).to_json())
