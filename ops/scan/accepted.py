"""The findings that are accepted, each with its reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from infra.documents import read_yaml
from ops.scan.checkov import Finding

FILE = Path(__file__).with_name("accepted.yaml")


class Accepted(BaseModel):
    """Findings of one check, and why they are accepted.

    Attributes:
        check: The check's id.
        stacks: The stacks; all if it is empty.
        resources: Patterns of resources.
        reason: Why the stacks do not follow the check.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    stacks: tuple[str, ...] = ()
    resources: tuple[str, ...] = ("*",)
    reason: str = Field(min_length=20)

    def covers(self, finding: Finding) -> bool:
        """Return whether a finding is one of these."""
        return (
            finding.check == self.check
            and (not self.stacks or finding.stack in self.stacks)
            and any(fnmatchcase(finding.resource, pattern) for pattern in self.resources)
        )


@dataclass(frozen=True)
class Comparison:
    """Findings next to the accepted ones.

    Attributes:
        new: Findings that are not accepted.
        stale: Accepted findings that no longer occur.
    """

    new: Sequence[Finding]
    stale: Sequence[Accepted]


def accepted(file: Path = FILE) -> Sequence[Accepted]:
    """Return the accepted findings.

    Raises:
        DocumentError: The file is invalid.
    """
    return read_yaml(file, tuple[Accepted, ...])


def compare(findings: Iterable[Finding], known: Iterable[Accepted]) -> Comparison:
    """Compare findings with the accepted ones."""
    found, known = list(findings), list(known)
    return Comparison(
        new=[finding for finding in found if not any(one.covers(finding) for one in known)],
        stale=[one for one in known if not any(map(one.covers, found))],
    )
