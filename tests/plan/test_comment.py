from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.plan import comment as commenting
from ops.plan.comment import MAX_CHARACTERS, Row, check_ref, comment, post
from ops.plan.plan import comparison, plan_of
from ops.plan.resources import Recording, Resource
from tests.programs import put_on_path

STACK = Resource(urn="stack", type="pulumi:pulumi:Stack", name="airflow-dev", inputs={}, custom=False)
FAKE_GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
cat >> "$CALLS"
[ -z "$REFUSE" ] || { echo "HTTP 403: Resource not accessible by integration" >&2; exit 1; }
"""


def recording(*resources: Resource, stack: str = "dev", region: str = "us-east-1") -> Recording:
    return Recording("airflow", stack, region, (STACK, *resources))


def database(instance_class: str) -> Resource:
    inputs = {
        "identifier": "it",
        "engine": "postgres",
        "engineVersion": "17",
        "instanceClass": instance_class,
        "allocatedStorage": 20,
        "storageType": "gp3",
        "multiAz": False,
    }
    return Resource("database", "aws:rds/instance:Instance", "database", inputs, "stack")


def settings(name: str, **inputs: object) -> Resource:
    return Resource(name, "kubernetes:core/v1:ConfigMap", name, inputs, "stack")


def row(before: Recording, after: Recording) -> Row:
    plan = plan_of(after)
    return Row(after.stack, plan, comparison(plan, "origin/dev", before))


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake GitHub CLI that records its calls and its input."""
    put_on_path(monkeypatch, tmp_path / "bin" / "gh", FAKE_GH)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_each_stack_has_a_line_with_its_changes_and_their_cost() -> None:
    change = row(
        recording(database("db.t4g.micro"), *(settings(f"old-{number}") for number in range(3))),
        recording(database("db.t4g.small"), settings("new"), settings("newer")),
    )
    (line,) = [line for line in comment("origin/dev", [change]).splitlines() if line.startswith("| dev ")]
    # 0.016 and 0.032 $ per hour, 730 hours per month; in addition the disk and the key for Pulumi's secrets.
    assert line == "| dev | 2 | 1 | 3 | 26.66 (+11.68) | 26.66 (+11.68) |"


def test_an_existing_cluster_has_no_costs() -> None:
    same = recording(stack="local", region="")
    assert "| local | 0 | 0 | 0 | | |\n" in comment("origin/dev", [row(same, same)])


def test_the_reason_is_given_for_a_stack_that_cannot_be_compared() -> None:
    text = comment("origin/dev", [Row("qa", plan_of(recording()), None, "origin/dev has no stack qa")])
    assert "| qa | | | | | origin/dev has no stack qa |\n" in text


def test_the_resources_are_listed_below() -> None:
    change = row(
        recording(settings("a", path="/x"), settings("old")), recording(settings("a", path="/y"), settings("new"))
    )
    _, _, details = comment("origin/dev", [change]).partition("<details>")
    assert details.splitlines() == [
        *("<summary>dev</summary>", "", "```diff"),
        "+ kubernetes ConfigMap new",
        "- kubernetes ConfigMap old",
        "! kubernetes ConfigMap a",
        "!   path: /x -> /y",
        *("```", "", "</details>"),
    ]


def test_a_value_cannot_end_its_code_block() -> None:
    change = row(recording(settings("a", text="x")), recording(settings("a", text="y\n```\n<script>" + "z" * 900)))
    text = comment("origin/dev", [change])
    assert "!   text: x -> y\\n```\\n<script>zz" in text
    assert [line for line in text.splitlines() if line.startswith("```")] == ["```diff", "```"]
    assert max(map(len, text.splitlines())) < 300


def test_a_long_comment_is_shortened_to_githubs_limit() -> None:
    many = recording(*(settings(f"map-{number}") for number in range(6000)))
    text = comment("origin/dev", [row(recording(), many), row(recording(), recording(settings("a")))])
    assert len(text) < MAX_CHARACTERS
    assert "dev: too long for a comment; see `make plan STACK=dev AGAINST=origin/dev`" in text
    assert "+ kubernetes ConfigMap a\n" in text


def test_the_comment_replaces_the_previous_one(gh: Path) -> None:
    post("12", "the text\n")
    assert gh.read_text() == "pr comment 12 --edit-last --create-if-none --body-file -\nthe text\n"


def test_an_error_from_github_is_one_sentence(gh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE", "1")
    with pytest.raises(OperationError, match=r"^`gh pr comment 12` failed: HTTP 403: Resource not accessible"):
        post("12", "the text\n")


def test_without_githubs_command_line_the_error_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OperationError, match=r"^the GitHub CLI, gh, is not on PATH: install it, or do not set PULL_REQUEST"
    ):
        post("12", "the text\n")


def test_a_missing_ref_is_refused() -> None:
    check_ref("HEAD")
    with pytest.raises(
        OperationError, match=r"^AGAINST=origin/nope is not a git ref in this repository: fetch it, or use another one$"
    ):
        check_ref("origin/nope")


def test_a_stack_that_the_ref_does_not_have_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OperationError("no such stack there")

    monkeypatch.setattr(commenting, "record", lambda _: recording())
    monkeypatch.setattr(commenting, "recording_of", refuse)
    found = commenting.row("dev", "HEAD")
    assert (found.compared, found.reason) == (None, "no such stack there")
