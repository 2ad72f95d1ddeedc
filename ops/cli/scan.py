"""The command that scans what the stacks create."""

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import Settings, load
from ops.console import new_console
from ops.plan.recording import record, stacks
from ops.roles import github_roles
from ops.scan.accepted import FILE, accepted, compare
from ops.scan.checkov import scan as scan_all


def scan() -> None:
    """Scan what the stacks create with checkov; exit code 1 for a finding that is not accepted.

    `ops/scan/accepted.yaml` lists the accepted findings and why they are accepted.
    """
    console = new_console(soft_wrap=True)
    names = stacks()
    console.print(f"scanning {', '.join(names)} (a minute)")
    settings = {name: load(name) for name in names}
    roles = [github_roles.recording(name, one) for name, one in settings.items() if isinstance(one, Settings)]
    result = scan_all([*map(record, names), *roles])
    found = compare(result.findings, accepted())
    for finding in found.new:
        console.print(f"new    {finding.check} {finding.stack} {finding.resource}: {finding.title}")
    for one in found.stale:
        console.print(f"stale  {one.check} {', '.join(one.resources)}: no longer found")
    console.print(f"{result.passed} checks passed, {len(result.findings) - len(found.new)} findings are accepted")
    if found.new or found.stale:
        raise OperationError(
            f"{len(found.new)} findings are new and {len(found.stale)} no longer occur: fix the new ones, or accept "
            f"them with a reason in {FILE.relative_to(REPOSITORY)}; delete the others there"
        )
