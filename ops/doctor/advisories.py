"""Advisories for the pinned packages of images, found with pip-audit in its own environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.doctor.outcome import Outcome, passed, unknown, warning
from ops.process_environment import NETWORK, allowed

PIP_AUDIT = REPOSITORY / ".venv-scan" / "bin" / "pip-audit"
# The requirements of images; those of `ml` contain those of `airflow`.
REQUIREMENTS = ("ml", "torch", "soda", "serving", "mlflow")
# Everything is pinned with its hash, so nothing has to be installed to resolve it.
OPTIONS = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")


def advisories(name: str) -> Outcome:
    """Look up advisories for the packages in a requirements file, in the Python Packaging Advisory Database."""
    command = [str(PIP_AUDIT), *OPTIONS, "--requirement", str(REPOSITORY / "requirements" / f"{name}.txt")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=allowed(NETWORK))
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise OperationError(f"pip-audit ends without a result ({reason}): check the network") from None
    return judge(found)


def judge(packages: Sequence[Mapping[str, Any]]) -> Outcome:
    """Judge packages, each with its `name`, and with its `version` and `vulns` or a `skip_reason`."""
    skipped = [each for each in packages if "skip_reason" in each]
    affected = [each for each in packages if each.get("vulns")]
    if affected:
        return warning(
            f"{len(affected)} of {len(packages)} packages have advisories: {'; '.join(map(_described, affected))}: run "
            "`make requirements UPGRADE=1`, then `make test`"
        )
    if skipped:
        return unknown(f"{len(skipped)} of {len(packages)} packages could not be checked: {skipped[0]['skip_reason']}")
    return passed(f"none of {len(packages)} packages has an advisory")


def _described(package: Mapping[str, Any]) -> str:
    fixes = [f"{each['id']}, {_fix(each['fix_versions'])}" for each in package["vulns"]]
    return f"{package['name']} {package['version']} ({', '.join(fixes)})"


def _fix(versions: Sequence[str]) -> str:
    return f"fixed in {versions[0]}" if versions else "no fix"
