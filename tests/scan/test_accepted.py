"""The findings that are accepted."""

from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.scan.accepted import Accepted, accepted, compare
from ops.scan.checkov import Finding

REASON = "The reason is long enough."
FINDING = Finding(check="CKV_AWS_18", title="Access logs", stack="dev", resource="data")


@pytest.mark.parametrize(
    ("entry", "is_new"),
    [
        ({"check": "CKV_AWS_18"}, False),
        ({"check": "CKV_AWS_19"}, True),
        ({"check": "CKV_AWS_18", "stacks": ["dev"]}, False),
        ({"check": "CKV_AWS_18", "stacks": ["prod"]}, True),
        ({"check": "CKV_AWS_18", "resources": ["da*"]}, False),
        ({"check": "CKV_AWS_18", "resources": ["logs"]}, True),
    ],
)
def test_a_finding_is_accepted_by_check_stack_and_resource(entry: dict[str, object], is_new: bool) -> None:
    found = compare([FINDING], [Accepted.model_validate({**entry, "reason": REASON})])
    assert found.new == ([FINDING] if is_new else [])


def test_an_accepted_finding_that_no_longer_occurs_is_stale() -> None:
    one = Accepted(check="CKV_AWS_18", reason=REASON)
    assert compare([], [one]).stale == [one]
    assert compare([FINDING], [one]).stale == []


def test_every_accepted_finding_needs_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "accepted.yaml"
    file.write_text("- {check: CKV_AWS_18, reason: no}\n")
    with pytest.raises(OperationError, match=r"accepted.yaml.*reason"):
        accepted(file)


def test_no_two_entries_accept_the_same_findings() -> None:
    entries = [(one.check, stack, resource) for one in accepted() for stack in one.stacks for resource in one.resources]
    assert len(set(entries)) == len(entries)
