"""Parsing Pulumi's report of a refresh. test_drift_engine.py runs Pulumi's engine."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infra.errors import OperationError
from ops.drift import drift_issue
from ops.drift.drift import Drifted, drifted, lines, show
from ops.plan.difference import Change
from ops.pulumi.deployment import Deployment
from tests.programs import put_on_path, write_program

FAKE_GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$2" in
  list) cat "$ISSUES" ;;
  create) cat >> "$CALLS"; echo https://github.com/a/b/issues/9 ;;
  edit) cat >> "$CALLS" ;;
  close) [ -z "$REFUSE" ] || { echo "HTTP 410" >&2; exit 1; } ;;
esac
"""
DIAGNOSTICS = [
    {"severity": "warning", "message": "an old plugin\n"},
    {"severity": "error", "message": "AccessDenied:\nno\n"},
]
CHANGED = Drifted("aws:s3/bucket:Bucket", "data", "dev-data", False, (Change("tags.team", "ml", "secret-team"),))
DELETED = Drifted("kubernetes:core/v1:ConfigMap", "settings", "airflow/settings", True)


def step(op: str, kind: str = "kubernetes:apps/v1:Deployment", name: str = "scheduler", **more: Any) -> dict[str, Any]:
    return {"op": op, "urn": f"urn:pulumi:dev::airflow::airflow:Airflow${kind}::{name}", **more}


def update(
    before: dict[str, Any],
    after: dict[str, Any],
    *paths: str,
    kind: str = "kubernetes:apps/v1:Deployment",
    among: str = "inputs",
) -> dict[str, Any]:
    """A step of the engine's report that changes properties."""
    return step(
        "update",
        kind,
        oldState={"id": "airflow/scheduler", among: before},
        newState={"id": "airflow/scheduler", among: after},
        detailedDiff={path: {"kind": "update", "inputDiff": among == "inputs"} for path in paths},
    )


def changes(found: dict[str, Any]) -> tuple[Change, ...]:
    (resource,) = drifted({"steps": [found]})
    return resource.changes


@pytest.mark.parametrize("op", ["same", "refresh", "read"])
def test_an_unchanged_resource_is_no_drift(op: str) -> None:
    assert drifted({"steps": [step(op, oldState={"id": "a"}, newState={"id": "a"})]}) == ()


def test_a_deleted_resource_is_named_as_the_cluster_knew_it() -> None:
    (found,) = drifted({"steps": [step("delete", oldState={"id": "airflow/scheduler", "inputs": {"a": 1}})]})
    assert found == Drifted("kubernetes:apps/v1:Deployment", "scheduler", "airflow/scheduler", True)
    assert str(found) == "kubernetes:apps/v1:Deployment scheduler [airflow/scheduler]"


def test_a_change_is_found_at_its_place_in_lists_and_behind_quoted_names() -> None:
    before = {"spec": {"containers": [{"name": "a"}, {"limits": {"nvidia.com/gpu": 1, "cpu": 1}}]}}
    after = {"spec": {"containers": [{"name": "a"}, {"limits": {"nvidia.com/gpu": 2, "cpu": 1}}]}}
    path = 'spec.containers[1].limits["nvidia.com/gpu"]'
    assert changes(update(before, after, path)) == (Change(path, "1", "2"),)


def test_below_a_path_only_differences_are_shown() -> None:
    before, after = {"tags": {"team": "ml", "stage": "dev"}}, {"tags": {"team": "data", "by": "hand", "stage": "dev"}}
    assert changes(update(before, after, "tags")) == (
        Change("tags.by", "(none)", "hand"),
        Change("tags.team", "ml", "data"),
    )


def test_removed_and_new_properties_are_marked() -> None:
    assert changes(update({"a": [1]}, {"b": 2}, "a[0]", "b")) == (
        Change("a[0]", "1", "(none)"),
        Change("b", "(none)", "2"),
    )


def test_outputs_are_compared_if_the_inputs_are_equal() -> None:
    assert changes(update({"size": 1}, {"size": 2}, "size", among="outputs")) == (Change("size", "1", "2"),)


def test_a_policy_is_compared_statement_by_statement() -> None:
    before, after = ({"policy": json.dumps({"Statement": [{"Effect": effect}]})} for effect in ("Deny", "Allow"))
    assert changes(update(before, after, "policy")) == (Change("policy.Statement.0.Effect", "Deny", "Allow"),)


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ({"key": "[secret]"}, {"key": "[secret]"}, "key"),
        ({"data": "[secret]"}, {"data": "[secret]"}, "data.password"),
    ],
)
def test_a_changed_secret_is_shown_by_name_only(before: dict[str, Any], after: dict[str, Any], path: str) -> None:
    assert changes(update(before, after, path)) == (Change(path, "[secret]", "[secret]"),)


@pytest.mark.parametrize(
    "kind",
    ["kubernetes:core/v1:Secret", "aws:secretsmanager/secretVersion:SecretVersion", "random:index/x:RandomPassword"],
)
def test_secret_types_are_shown_without_values_even_if_pulumi_does_not_mark_them(kind: str) -> None:
    found = update({"data": {"password": "hunter1"}}, {"data": {"password": "hunter2"}}, "data", kind=kind)
    assert changes(found) == (Change("data.password", "[secret]", "[secret]"),)


def test_an_unknown_operation_counts_as_drift() -> None:
    assert drifted({"steps": [step("replace", oldState={"id": "a"}, newState={"id": "b"})]})


def test_only_the_changed_lines_of_a_long_text_are_shown() -> None:
    text = "".join(f"line {number}\n" for number in range(50))
    assert list(lines(Change("data.airflow.cfg", text, text.replace("line 7\n", "line seven\n")))) == [
        "data.airflow.cfg:",
        "  -line 7",
        "  +line seven",
    ]


def test_the_last_line_shows_the_counts_and_what_to_do() -> None:
    output = io.StringIO()
    show(Console(file=output, highlight=False, soft_wrap=True), "dev", (CHANGED, DELETED))
    assert output.getvalue().splitlines()[-1] == (
        "dev has drifted: 1 changed, 1 deleted. `make deploy STACK=dev REFRESH=1` undoes these changes"
    )


def test_text_that_looks_like_markup_is_shown_verbatim() -> None:
    output = io.StringIO()
    odd = Drifted("a:b:C", "[red]x", "[/]", False, (Change("[bold]", "[secret]", "[/]"),))
    show(Console(file=output, highlight=False, soft_wrap=True), "dev", (odd,))
    assert output.getvalue().splitlines()[:2] == ["~ a:b:C [red]x [[/]]", "    [bold]: [secret] -> [/]"]


def cli(tmp_path: Path, text: str) -> Deployment:
    return Deployment("dev", str(write_program(tmp_path / "pulumi", text)), {})


def test_the_state_is_not_changed(tmp_path: Path) -> None:
    deployment = cli(tmp_path, f'#!/bin/sh\necho "$*" > {tmp_path}/call\necho \'{{"steps": []}}\'\n')
    assert deployment.refresh_report() == {"steps": []}
    assert (tmp_path / "call").read_text() == "refresh --preview-only --json --non-interactive --stack dev\n"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            f"printf %s '{json.dumps({'diagnostics': DIAGNOSTICS})}'",
            r"^the state of dev cannot be compared with what is deployed: AccessDenied: no$",
        ),
        (
            "echo 'error: incorrect passphrase' >&2",
            r"^the state of dev cannot be compared with what is deployed: error: incorrect pass",
        ),
        ("echo 'panic: no JSON'; echo why >&2", r"^the state of dev cannot be compared with what is deployed: why$"),
    ],
)
def test_a_comparison_that_fails_is_one_sentence(tmp_path: Path, output: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        cli(tmp_path, f"#!/bin/sh\n{output}\nexit 255\n").refresh_report()


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GitHub CLI without issues that records its calls and its input."""
    put_on_path(monkeypatch, tmp_path / "bin" / "gh", FAKE_GH)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("ISSUES", str(tmp_path / "issues"))
    (tmp_path / "issues").write_text("[]")
    return tmp_path / "calls"


def open_issue(gh: Path) -> None:
    others = {"number": 4, "title": "Drift in devx", "url": "4"}
    own = {"number": 7, "title": "Drift in dev", "url": "https://github.com/a/b/issues/7"}
    gh.with_name("issues").write_text(json.dumps([others, own]))


def test_drift_opens_an_issue_that_names_what_drifted_and_no_value(gh: Path) -> None:
    said: list[str] = []
    drift_issue.keep("dev", (CHANGED, DELETED), said.append)
    _, create, *body = gh.read_text().splitlines()
    assert create == "issue create --title Drift in dev --body-file -"
    assert body[2:] == [
        "- `aws:s3/bucket:Bucket data [dev-data]`: `tags.team`",
        "- `kubernetes:core/v1:ConfigMap settings [airflow/settings]`: deleted",
    ]
    assert "secret-team" not in gh.read_text()
    assert said == ["opened https://github.com/a/b/issues/9"]


def test_lasting_drift_keeps_one_issue(gh: Path) -> None:
    open_issue(gh)
    drift_issue.keep("dev", (CHANGED,), lambda _: None)
    assert gh.read_text().splitlines()[1] == "issue edit 7 --body-file -"


def test_the_issue_is_closed_without_drift(gh: Path) -> None:
    open_issue(gh)
    drift_issue.keep("dev", (), lambda _: None)
    assert gh.read_text().splitlines()[1:] == ["issue close 7 --comment dev has no drift."]


def test_without_drift_no_issue_is_opened(gh: Path) -> None:
    drift_issue.keep("dev", (), pytest.fail)
    assert len(gh.read_text().splitlines()) == 1


def test_a_refusal_of_github_is_one_sentence(gh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_issue(gh)
    monkeypatch.setenv("REFUSE", "1")
    with pytest.raises(OperationError, match=r"^`gh issue close` failed: HTTP 410$"):
        drift_issue.keep("dev", (), pytest.fail)


def test_a_missing_github_cli_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperationError, match=r"^the GitHub CLI gh is not on PATH"):
        drift_issue.keep("dev", (), pytest.fail)
