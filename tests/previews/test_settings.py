from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from infra.previews.settings import file_of, load_preview, parse, tasks_of, text_of
from infra.settings import SettingsError, load
from infra.settings.loading import stack_summaries

from .conftest import NOW, settings_of


def test_what_is_written_is_what_is_read() -> None:
    settings = settings_of(branch="feature/1", expires_at=datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5))))
    text = text_of(settings, "")
    assert parse(settings.stack, text) == settings
    assert "airflow:expires_at: '2026-01-01T22:00:00+00:00'" in text


def test_a_branch_that_looks_like_a_number_stays_text() -> None:
    settings = settings_of(branch="2026.10")
    assert parse(settings.stack, text_of(settings, "")).branch == "2026.10"


def test_the_key_of_the_secrets_is_the_bases() -> None:
    base = "secretsprovider: awskms://alias/x?region=us-east-1\nencryptedkey: AQID\nconfig:\n  aws:region: us-east-1\n"
    text = text_of(settings_of(), base)
    assert yaml.safe_load(text).keys() == {"config", "secretsprovider", "encryptedkey"}
    assert yaml.safe_load(text)["encryptedkey"] == "AQID"
    assert "region: us-east-1" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"airflow:expires_at": "2026-01-02T03:00:00"},
        {"airflow:expires_at": "soon"},
        {"airflow:branch": "a b"},
        {"airflow:owner": ""},
        {"airflow:more": 1},
    ],
    ids=str,
)
def test_a_modified_file_is_refused_in_one_sentence(change: dict[str, object]) -> None:
    settings = settings_of()
    content = yaml.safe_load(text_of(settings, ""))
    content["config"] |= change
    with pytest.raises(
        SettingsError, match=r"is not a file that `make preview-env` wrote .*: run `make preview-env` for"
    ):
        parse(settings.stack, yaml.safe_dump(content))


@pytest.mark.parametrize("text", ["", "config: 1", "config: {", "- x", "other: 1"])
def test_a_file_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a file that `make preview-env` wrote"):
        parse(settings_of().stack, text)


def test_a_file_of_another_branch_is_refused() -> None:
    with pytest.raises(SettingsError, match="names feature/y in local, but that environment is preview-feature-y-"):
        parse(settings_of().stack, text_of(settings_of(branch="feature/y"), ""))


def test_an_environment_that_this_clone_does_not_know_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^Pulumi.preview-x-123456.yaml does not exist: run `make preview-envs`"):
        load_preview("preview-x-123456", tmp_path)


def test_a_command_for_stacks_refuses_an_environment(project: Path) -> None:
    with pytest.raises(SettingsError, match="is a preview environment and has no settings file"):
        load(settings_of().stack, project)


def test_environments_do_not_count_as_stacks(project: Path) -> None:
    assert file_of(settings_of().stack, project).exists()
    assert stack_summaries(project).keys() == {"dev", "local", "private", "private-aws"}


def test_tasks_may_ask_for_little_and_never_for_more_than_those_of_the_base(project: Path) -> None:
    assert tasks_of(load("dev", project)).model_dump() == {"max_pods": 8, "max_cpus": 4, "max_memory_gib": 16}
    assert tasks_of(load("private", project)).model_dump() == {"max_pods": 2, "max_cpus": 1, "max_memory_gib": 16}


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone"):
        settings_of(expires_at=NOW.replace(tzinfo=None))
